//! The fourteen conditions of a roll-out. Whether each holds follows from the state; only since when is remembered.

use serde::{Deserialize, Serialize};
use tidegate_api::{Condition, ConditionStatus};

use super::Machine;
use crate::share::Share;
use crate::stage::{HoldReason, Phase, Stage};

/// The conditions, in the order they are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ConditionKind {
    /// The document is valid and nothing contradicts it.
    Accepted,
    /// All it refers to is there.
    ResolvedRefs,
    /// Every check passed on every endpoint.
    PreflightPassed,
    /// The candidate's caches are as warm as asked.
    CandidateWarm,
    /// Every replica serves by the effective weights.
    Programmed,
    /// The sample-ratio test sees the share.
    WeightVerified,
    /// Nothing speaks against the candidate.
    AnalysisHealthy,
    /// The step's gates agreed.
    GateOpen,
    /// A person stopped it.
    Paused,
    /// A calendar stopped it.
    Frozen,
    /// The losing arm is empty.
    Drained,
    /// The manifests say it.
    Settled,
    /// The candidate serves everything.
    Promoted,
    /// Stable serves alone again.
    RolledBack,
}

/// Whether a condition holds, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// None: not known (yet).
    pub holds: Option<bool>,
    /// Milliseconds since 1970 UTC.
    pub since: i64,
}

impl ConditionKind {
    /// All of them, in the order they are printed.
    pub const ALL: [Self; 14] = [
        Self::Accepted,
        Self::ResolvedRefs,
        Self::PreflightPassed,
        Self::CandidateWarm,
        Self::Programmed,
        Self::WeightVerified,
        Self::AnalysisHealthy,
        Self::GateOpen,
        Self::Paused,
        Self::Frozen,
        Self::Drained,
        Self::Settled,
        Self::Promoted,
        Self::RolledBack,
    ];
}

/// Reason and message.
type Words = (&'static str, String);

fn words(reason: &'static str, message: impl Into<String>) -> Words {
    (reason, message.into())
}

impl Machine {
    /// Remembers since when each condition is what it is.
    pub(super) fn mark_conditions(&mut self) {
        let since = self.clock.stamp.wall;
        for kind in ConditionKind::ALL {
            let holds = self.holds(kind);
            let mark = self.marks.entry(kind).or_insert(Mark { holds, since });
            if mark.holds != holds {
                *mark = Mark { holds, since };
            }
        }
    }

    fn holds(&self, kind: ConditionKind) -> Option<bool> {
        let facts = &self.facts;
        match kind {
            ConditionKind::Accepted => facts.admission.as_ref().map(|admission| admission.refused.is_none()),
            ConditionKind::ResolvedRefs => facts.admission.as_ref().map(|admission| admission.unresolved.is_none()),
            ConditionKind::PreflightPassed => match self.stage {
                Stage::Pending | Stage::Preflight => None,
                Stage::Failed => Some(facts.warm.is_some()),
                _ if self.attempt == 0 => None,
                _ => Some(true),
            },
            ConditionKind::CandidateWarm => facts.warm,
            ConditionKind::Programmed => self.weights.in_force.then_some(self.weights_are_applied()),
            ConditionKind::WeightVerified => self.weight_is_verified(),
            ConditionKind::AnalysisHealthy => self.analysis_is_healthy(),
            ConditionKind::GateOpen => self.gate_is_open(),
            ConditionKind::Paused => Some(self.phase() == Phase::Paused),
            ConditionKind::Frozen => Some(self.interruptions.frozen.is_some()),
            ConditionKind::Drained => match self.stage {
                Stage::Draining | Stage::RollingBack => Some(false),
                _ => self.promotion.drained.then_some(true),
            },
            ConditionKind::Settled => match self.stage {
                Stage::Draining | Stage::Settling | Stage::Completed => Some(self.promotion.settled.is_some()),
                _ => None,
            },
            ConditionKind::Promoted => Some(self.promotion.promoted.is_some()),
            ConditionKind::RolledBack => Some(self.stage == Stage::RolledBack),
        }
    }

    fn weight_is_verified(&self) -> Option<bool> {
        if self.interruptions.holds.contains_key(&HoldReason::WeightMismatch) {
            return Some(false);
        }
        match self.stage {
            Stage::Baking | Stage::Gating | Stage::Promoting | Stage::Draining | Stage::Settling
                if self.weights.candidate > Share::NONE =>
            {
                Some(true)
            }
            _ => None,
        }
    }

    fn analysis_is_healthy(&self) -> Option<bool> {
        if self.alarm.is_some() || self.interruptions.holds.contains_key(&HoldReason::Alarm) {
            return Some(false);
        }
        let is_judged = matches!(self.stage, Stage::Baking | Stage::Gating) || self.promotion.promoted.is_some();
        let is_open = self.interruptions.holds.contains_key(&HoldReason::Inconclusive);
        ((is_judged || self.stage == Stage::Promoting) && !is_open).then_some(true)
    }

    fn gate_is_open(&self) -> Option<bool> {
        if !self.stage.is_progressing() {
            return None;
        }
        let step = self.present_step()?;
        let people = step.manual.is_none() || self.gate.approved.is_some();
        let answer = self.gate.call.as_ref().and_then(|call| call.answer.as_ref());
        let service = step.webhook.is_none() || matches!(answer, Some(crate::event::GateAnswer::Pass));
        Some(people && service)
    }

    /// The conditions as Kubernetes prints them.
    pub fn conditions(&self) -> Vec<Condition> {
        let print = |kind: ConditionKind| {
            let holds = self.holds(kind);
            let (reason, message) = self.words(kind, holds);
            let status = match holds {
                Some(true) => ConditionStatus::True,
                Some(false) => ConditionStatus::False,
                None => ConditionStatus::Unknown,
            };
            let since = self.marks.get(&kind).map_or(self.clock.stamp.wall, |mark| mark.since);
            let mut condition = Condition::new(&format!("{kind:?}"), status, reason, message);
            condition.observed_generation = self.plan.generation;
            condition.last_transition_time = super::status::rfc3339(since);
            condition
        };
        ConditionKind::ALL.into_iter().map(print).collect()
    }

    /// Reason and message of a condition.
    fn words(&self, kind: ConditionKind, holds: Option<bool>) -> Words {
        let yes = holds == Some(true);
        let admission = self.facts.admission.as_ref();
        match kind {
            ConditionKind::Accepted => match admission.and_then(|admission| admission.refused.as_ref()) {
                Some(refusal) => words("NotAccepted", format!("{}: {}", refusal.reason, refusal.message)),
                None => words(if yes { "Accepted" } else { "Pending" }, ""),
            },
            ConditionKind::ResolvedRefs => match admission.and_then(|admission| admission.unresolved.as_ref()) {
                Some(refusal) => words("NotFound", format!("{}: {}", refusal.reason, refusal.message)),
                None => words(if yes { "ResolvedRefs" } else { "Pending" }, ""),
            },
            ConditionKind::Paused if yes => match &self.interruptions.paused {
                Some(by) => words("Commanded", format!("by {}", by.name)),
                None => words("Document", "spec.paused is true"),
            },
            ConditionKind::Frozen if yes => {
                let until = self.interruptions.frozen.map(|freeze| super::status::rfc3339(freeze.until));
                words("FreezeWindow", format!("until {}", until.unwrap_or_default()))
            }
            ConditionKind::WeightVerified => match self.hold_says(HoldReason::WeightMismatch) {
                Some(message) => words("WeightMismatch", message),
                None => words(if yes { "ShareSeen" } else { "NotSeenYet" }, ""),
            },
            ConditionKind::AnalysisHealthy => self.words_of_analysis(yes),
            _ if yes => words("Done", ""),
            _ => self.words_of_delay(kind, holds),
        }
    }

    fn hold_says(&self, reason: HoldReason) -> Option<String> {
        self.interruptions.holds.get(&reason).map(|hold| hold.message.clone())
    }

    fn words_of_analysis(&self, yes: bool) -> Words {
        let alarm = self.alarm.as_ref().map(|alarm| alarm.detail.clone());
        match alarm.or_else(|| self.hold_says(HoldReason::Alarm)) {
            Some(message) => words("Worse", message),
            None if yes => words("NoAlarm", "nothing is proved against the candidate"),
            None => words("Gathering", self.hold_says(HoldReason::Inconclusive).unwrap_or_default()),
        }
    }

    /// Why a condition does not hold (yet).
    fn words_of_delay(&self, kind: ConditionKind, holds: Option<bool>) -> Words {
        match kind {
            ConditionKind::GateOpen if holds == Some(false) => {
                let waiting = || "people or the webhook have not agreed yet".to_owned();
                words("Waiting", self.hold_says(HoldReason::Gate).unwrap_or_else(waiting))
            }
            ConditionKind::Settled if holds == Some(false) => {
                words("SettlePending", "the manifests do not give the candidate everything yet")
            }
            ConditionKind::CandidateWarm if holds == Some(false) => {
                words("Timeout", "the caches stayed cold until the limit")
            }
            ConditionKind::PreflightPassed if self.stage == Stage::Failed => {
                let last = self.history.back();
                let message = last.map_or_else(String::new, |last| format!("{}: {}", last.reason, last.message));
                words("Failed", message)
            }
            _ => words("NotYet", ""),
        }
    }
}
