//! Before any client meets the candidate: Pending, Preflight, Warming, Shadowing.

use super::{Machine, Started, Why, notify, warn};
use crate::effect::{Arm, Cause, Effect, NotificationKind};
use crate::event::{CheckOutcome, CheckResult, Refusal};
use crate::jury::Jury;
use crate::plan::Start;
use crate::share::Share;
use crate::stage::Stage;

/// Shadowing stops the roll-out when at least so many answers were bad, and half of all.
const BAD_SHADOWS: u64 = 5;

impl Machine {
    pub(super) fn leave_pending(&mut self, effects: &mut Vec<Effect>) -> bool {
        let (Some(admission), Some(manifests)) = (&self.facts.admission, self.facts.manifests) else { return false };
        if self.document_gone || admission.refused.is_some() || admission.unresolved.is_some() {
            return false;
        }
        if self.plan.paused || self.interruptions.paused.is_some() || self.interruptions.frozen.is_some() {
            return false;
        }
        if self.plan.start == Start::Manual && !self.facts.start {
            return false;
        }
        if manifests.says_promoted() && !self.facts.start {
            // A document that outlived its roll-out, or a gateway that lost its state: nothing to move.
            self.promotion.settled = Some(self.clock.now);
            self.promotion.promoted = Some(self.clock.now);
            let message = "the manifests already give the candidate everything";
            self.enter(Stage::Completed, Why::new("AlreadySettled", message), effects);
            return true;
        }
        if self.plan.steps.is_empty() {
            self.enter(Stage::Failed, Why::new("NoSteps", "the roll-out has no steps"), effects);
            return true;
        }
        self.begin(effects);
        true
    }

    fn begin(&mut self, effects: &mut Vec<Effect>) {
        self.attempt = self.attempt.saturating_add(1);
        self.started = Some(Started { at: self.clock.now, deadline_waived: false });
        self.facts.baseline = self.facts.manifests;
        self.facts.start = false;
        self.facts.warm = None;
        if !std::mem::take(&mut self.facts.excluded).is_empty() {
            effects.push(Effect::ExcludeModels { models: std::collections::BTreeSet::new() });
        }
        self.facts.stable_ready = self.facts.arms.map_or(0, |arms| arms.stable.ready);
        self.ladder = super::Ladder::default();
        self.promotion = super::Promotion::default();
        self.alarm = None;
        self.weights.exposed = false;
        self.jury = Jury::new(self.plan.analysis.policy.clone());
        self.set_share(Share::NONE, Cause::Start, effects);
        let message = format!("{} to {}, attempt {}", self.plan.stable, self.plan.candidate, self.attempt);
        notify(NotificationKind::RolloutStarted, message.clone(), effects);
        self.enter(Stage::Preflight, Why::new("Started", message), effects);
        self.run_preflight(effects);
    }

    pub(super) fn run_preflight(&mut self, effects: &mut Vec<Effect>) {
        self.facts.checks.clear();
        if self.plan.adapters.is_some_and(|adapters| adapters.ensure_loaded) {
            effects.push(Effect::LoadAdapter { arm: Arm::Candidate });
        }
        if !self.plan.preflight.checks.is_empty() {
            let checks = self.plan.preflight.checks.clone();
            effects.push(Effect::RunPreflight { attempt: self.attempt, checks });
        }
    }

    pub(super) fn check_answered(&mut self, result: &CheckResult, effects: &mut Vec<Effect>) {
        if self.stage != Stage::Preflight || result.attempt != self.attempt {
            return;
        }
        if let CheckOutcome::PassedWithout { models } = &result.outcome {
            let before = self.facts.excluded.len();
            self.facts.excluded.extend(models.iter().cloned());
            if self.facts.excluded.len() > before {
                effects.push(Effect::ExcludeModels { models: self.facts.excluded.clone() });
            }
        }
        self.facts.checks.insert(result.check, result.outcome.clone());
    }

    pub(super) fn preflight(&mut self, effects: &mut Vec<Effect>) -> bool {
        let mut missing: Option<Refusal> = None;
        let mut failed: Option<Refusal> = None;
        for check in &self.plan.preflight.checks {
            match self.facts.checks.get(check) {
                Some(CheckOutcome::Passed | CheckOutcome::PassedWithout { .. }) => {}
                Some(CheckOutcome::Failed(refusal)) => failed = failed.or_else(|| Some(refusal.clone())),
                Some(CheckOutcome::Waiting(refusal)) => missing = missing.or_else(|| Some(refusal.clone())),
                None => {
                    let message = format!("the check {check:?} gave no answer");
                    missing = missing.or_else(|| Some(Refusal { reason: "NoAnswer".into(), message }));
                }
            }
        }
        if let Some(refusal) = failed {
            self.fail(refusal, effects);
            return true;
        }
        let Some(refusal) = missing else {
            if !self.plan.preflight.checks.is_empty() {
                effects.push(Effect::StopPreflight);
            }
            self.enter(Stage::Warming, Why::new("PreflightPassed", "every check passed on every endpoint"), effects);
            match self.plan.warm_up {
                Some(plan) => effects.push(Effect::StartWarmUp(plan)),
                None => self.facts.warm = Some(true),
            }
            self.facts.warm_up = None;
            return true;
        };
        if self.active < self.plan.preflight.timeout {
            return false;
        }
        self.fail(refusal, effects);
        true
    }

    /// Nobody met the candidate, and nobody will.
    fn fail(&mut self, refusal: Refusal, effects: &mut Vec<Effect>) {
        self.stop_preparations(effects);
        if self.plan.adapters.is_some_and(|adapters| adapters.ensure_loaded) {
            effects.push(Effect::UnloadAdapter { arm: Arm::Candidate });
        }
        warn(NotificationKind::PreflightFailed, format!("{}: {}", refusal.reason, refusal.message), effects);
        self.enter(Stage::Failed, Why::new(&refusal.reason, refusal.message), effects);
    }

    /// Stops what runs beside the stage.
    pub(super) fn stop_preparations(&mut self, effects: &mut Vec<Effect>) {
        match self.stage {
            Stage::Preflight => effects.push(Effect::StopPreflight),
            Stage::Warming if self.facts.warm.is_none() => effects.push(Effect::StopWarmUp),
            Stage::Shadowing => effects.push(Effect::StopShadow),
            _ => {}
        }
    }

    pub(super) fn warming(&mut self, effects: &mut Vec<Effect>) -> bool {
        if self.facts.warm.is_none() && !self.become_warm(effects) {
            return false;
        }
        if self.plan.shadow.is_some_and(|shadow| shadow.before > 0) && self.push.is_none() {
            self.facts.shadow = None;
            self.enter(Stage::Shadowing, Why::new("WarmupComplete", "requests are mirrored to the candidate"), effects);
            effects.push(Effect::StartShadow);
            return true;
        }
        self.move_to_first_step(effects)
    }

    /// The first step, or the last for a person who said so.
    fn move_to_first_step(&mut self, effects: &mut Vec<Effect>) -> bool {
        self.next_step().is_some_and(|step| self.move_to_step(step, effects))
    }

    /// Whether the candidate's caches are warm, or as warm as they are let become.
    fn become_warm(&mut self, effects: &mut Vec<Effect>) -> bool {
        let Some(plan) = self.plan.warm_up else {
            self.facts.warm = Some(true);
            return true;
        };
        let warm = self.facts.warm_up.is_some_and(|seen| {
            seen.exhausted || seen.candidate_hit_ratio >= plan.cache_hit_ratio * seen.stable_hit_ratio
        });
        let (warm, message) = if warm {
            (true, "the candidate's caches are as warm as asked".to_owned())
        } else if self.push.is_some() {
            (false, "a person moved on with cold caches".to_owned())
        } else if self.active >= plan.timeout {
            (false, format!("the candidate's caches stayed cold for {} s; going on", plan.timeout / 1000))
        } else {
            return false;
        };
        self.facts.warm = Some(warm);
        effects.push(Effect::StopWarmUp);
        notify(NotificationKind::WarmupComplete, message, effects);
        true
    }

    pub(super) fn shadowing(&mut self, effects: &mut Vec<Effect>) -> bool {
        if let Some(seen) = self.facts.shadow {
            let bad = seen.failed.saturating_add(seen.misshapen);
            if bad >= BAD_SHADOWS && bad.saturating_mul(2) >= seen.mirrored {
                let message = format!("{bad} of {} mirrored requests failed or had another shape", seen.mirrored);
                self.fail(Refusal { reason: "ShadowFailed".into(), message }, effects);
                return true;
            }
        }
        let before = self.plan.shadow.map_or(0, |shadow| shadow.before);
        if self.active < before && self.push.is_none() {
            return false;
        }
        self.move_to_first_step(effects)
    }
}
