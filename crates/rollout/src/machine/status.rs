//! The status of the resource, as it is printed.

use std::collections::BTreeSet;

use serde::Serialize;
use tidegate_api::Condition;
use tidegate_evidence::{ArmCounts, MetricReport};

use super::Machine;
use crate::effect::{Arm, Transition};
use crate::plan::Plan;
use crate::share::Share;
use crate::stage::{HoldReason, Phase, Stage};

/// `status` of an InferenceRollout.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Where it stands.
    pub phase: Phase,
    /// One sentence on why.
    pub message: String,
    /// The part of the step, while it is on one, whatever lies over it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step_phase: Option<StepPhase>,
    /// What a pause, a hold or a freeze interrupts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interrupted: Option<Phase>,
    /// Index of the step, from 0, once there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step_index: Option<usize>,
    /// How many steps there are.
    pub steps: usize,
    /// How often it began.
    pub attempt: u32,
    /// What the data plane serves by, in percent; none before the start. At the end the manifests say the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effective_weights: Option<EffectiveWeights>,
    /// What the candidate really got within the step, in percent.
    pub observed_share: ObservedShare,
    /// What is judged.
    pub evidence: Vec<EvidenceStatus>,
    /// The losing arm, while it empties.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain: Option<DrainStatus>,
    /// What holds it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub holds: Vec<HoldStatus>,
    /// Models that stay on stable.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub excluded_models: BTreeSet<String>,
    /// Observations that never reached the judge.
    pub lost_observations: u64,
    /// The last transitions, oldest first.
    pub history: Vec<Transition>,
    /// `metadata.generation` of the document this speaks of.
    pub observed_generation: i64,
    /// What salts the session split.
    #[serde(rename = "rolloutUID")]
    pub rollout_uid: String,
    /// The fourteen conditions.
    pub conditions: Vec<Condition>,
}

/// The part of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum StepPhase {
    /// The share is being applied and seen.
    Shifting,
    /// The least time runs.
    Baking,
    /// Verdict and gates.
    Gating,
}

/// The effective weights in percent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EffectiveWeights {
    /// Stable's.
    pub stable: serde_json::Number,
    /// The candidate's.
    pub candidate: serde_json::Number,
}

/// What the candidate really got, in percent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct ObservedShare {
    /// Of requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests: Option<f64>,
    /// Of sessions first seen within the step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sessions: Option<f64>,
}

/// One metric.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EvidenceStatus {
    /// Its word.
    pub metric: String,
    /// It can roll back; otherwise it is only reported.
    pub guard: bool,
    /// Stable's counts.
    pub stable: Counts,
    /// The candidate's.
    pub candidate: Counts,
    /// Candidate to stable, 95 % confidence sequence.
    pub ratio: RatioStatus,
    /// Natural logarithm of the evidence against the candidate.
    pub ln_e: f64,
    /// Where it rolls back.
    pub ln_e_limit: f64,
    /// The evidence itself: how many times the stake a bet against the candidate would have won.
    pub e_value: f64,
    /// Seconds until the next share would be certified, at the present rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eta: Option<u64>,
}

/// Counts of one arm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Over the whole roll-out.
    pub counted: u64,
    /// Trials within the step.
    pub step_trials: u64,
    /// Of these, with the event.
    pub step_events: u64,
}

/// A ratio and its bounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RatioStatus {
    /// Lower bound.
    pub lower: Option<f64>,
    /// Best guess.
    pub estimate: Option<f64>,
    /// Upper bound.
    pub upper: Option<f64>,
}

/// The losing arm, while it empties.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DrainStatus {
    /// Which arm.
    pub arm: Arm,
    /// Requests and streams that have not ended; none: not reported yet.
    pub inflight: Option<u64>,
    /// Age of the oldest.
    pub oldest_seconds: Option<u64>,
}

/// A hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HoldStatus {
    /// Why.
    pub reason: HoldReason,
    /// In a sentence, with what ends it.
    pub message: String,
    /// Since when, RFC 3339.
    pub since: String,
}

/// RFC 3339 of milliseconds since 1970 UTC; empty for a time that no calendar holds.
pub(super) fn rfc3339(wall: i64) -> String {
    jiff::Timestamp::from_millisecond(wall).map(|time| time.to_string()).unwrap_or_default()
}

fn counts(counts: ArmCounts) -> Counts {
    Counts { counted: counts.counted, step_trials: counts.step_trials, step_events: counts.step_events }
}

fn line(report: &MetricReport) -> EvidenceStatus {
    EvidenceStatus {
        metric: report.metric.word().into(),
        guard: report.guard,
        stable: counts(report.stable),
        candidate: counts(report.candidate),
        ratio: RatioStatus { lower: report.ratio.lower, estimate: report.ratio.estimate, upper: report.ratio.upper },
        ln_e: report.ln_e,
        ln_e_limit: report.ln_e_limit,
        // Beyond any threshold the number itself says nothing more, and JSON has no infinity.
        e_value: report.ln_e.min(700.0).exp(),
        eta: report.eta_seconds,
    }
}

impl Machine {
    /// The status now. Computes every bound: for people, not for every request.
    pub fn status(&self) -> Status {
        let report = self.judge_report();
        let phase = self.phase();
        let percent = |share: Option<f64>| share.map(|share| (share * 1e6).round() / 1e4);
        let beneath = self.stage.phase();
        Status {
            phase,
            message: self.summary(),
            step_phase: match self.stage {
                Stage::Shifting => Some(StepPhase::Shifting),
                Stage::Baking => Some(StepPhase::Baking),
                Stage::Gating => Some(StepPhase::Gating),
                _ => None,
            },
            interrupted: (beneath != phase).then_some(beneath),
            step_index: (self.ladder.since > 0 || self.stage.is_exposed()).then_some(self.ladder.step),
            steps: self.plan.steps.len(),
            attempt: self.attempt,
            effective_weights: (self.attempt > 0).then(|| EffectiveWeights {
                stable: self.weights.candidate.rest().percent(),
                candidate: self.weights.candidate.percent(),
            }),
            observed_share: ObservedShare {
                requests: percent(report.share_requests),
                sessions: percent(report.share_units),
            },
            evidence: report.metrics.iter().map(line).collect(),
            drain: self.drain_status(),
            holds: self.hold_statuses(),
            excluded_models: self.facts.excluded.clone(),
            lost_observations: self.facts.lost,
            history: self.history.iter().cloned().collect(),
            observed_generation: self.plan.generation,
            rollout_uid: self.plan.uid.clone(),
            conditions: self.conditions(),
        }
    }

    fn drain_status(&self) -> Option<DrainStatus> {
        let in_flight = self.facts.in_flight;
        let (arm, running) = match self.stage {
            Stage::Draining => (Arm::Stable, in_flight.map(|in_flight| in_flight.stable)),
            Stage::RollingBack | Stage::Superseded => (Arm::Candidate, in_flight.map(|in_flight| in_flight.candidate)),
            _ => return None,
        };
        let oldest_seconds = running.map(|running| running.oldest / 1000);
        Some(DrainStatus { arm, inflight: running.map(|running| running.count), oldest_seconds })
    }

    fn hold_statuses(&self) -> Vec<HoldStatus> {
        let status = |(reason, hold): (&HoldReason, &super::Hold)| HoldStatus {
            reason: *reason,
            message: hold.message.clone(),
            since: rfc3339(hold.since),
        };
        self.interruptions.holds.iter().map(status).collect()
    }

    /// Everything the judge knows, with bounds for the share that comes next.
    pub fn judge_report(&self) -> tidegate_evidence::Report {
        self.jury.report(self.clock.now, self.share_at_stake())
    }

    /// The judge's word on going on, for others that move weights themselves.
    pub fn verdict(&self) -> tidegate_evidence::Verdict {
        self.jury.verdict(self.clock.now, self.share_at_stake())
    }

    /// The plan it follows.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Where it is by itself, whatever lies over it.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// The candidate's effective share; none while the manifests rule.
    pub fn effective_share(&self) -> Option<Share> {
        self.weights.in_force.then_some(self.weights.candidate)
    }

    /// The newest epoch of weights, and the newest that every replica serves by.
    pub fn epochs(&self) -> (u64, u64) {
        (self.weights.epoch, self.weights.applied)
    }

    /// Whether the candidate counts as warm: latencies of requests before that are no evidence.
    pub fn is_warm(&self) -> bool {
        self.facts.warm.unwrap_or(false)
    }

    /// Whether requests that are forced to the candidate may reach it: after preflight, and not once it turns back.
    pub fn admits_forced(&self) -> bool {
        let exposed = self.stage.is_exposed() || matches!(self.stage, Stage::Warming | Stage::Shadowing);
        exposed && !self.interruptions.holds.contains_key(&HoldReason::CandidateEmpty)
    }

    /// Whether requests are mirrored to the candidate.
    pub fn mirrors(&self) -> bool {
        self.stage == Stage::Shadowing
    }

    /// Models that stay on stable.
    pub fn excluded_models(&self) -> &BTreeSet<String> {
        &self.facts.excluded
    }

    /// Whether it has ended and rules no weights any more.
    pub fn has_ended(&self) -> bool {
        self.forgotten || (self.stage.is_at_rest() && !self.weights.in_force)
    }

    /// Whether nothing is left to do and its state may be removed.
    pub fn is_forgotten(&self) -> bool {
        self.forgotten
    }
}
