//! The document appears, changes or changes its release; and the gateway starts anew.

use super::{Machine, Why, notify};
use crate::effect::{Cause, Effect, GateCall, NotificationKind, WeightChange};
use crate::plan::{Plan, StepWeight};
use crate::share::Share;
use crate::stage::Stage;

impl Machine {
    pub(super) fn document(&mut self, plan: &Plan, effects: &mut Vec<Effect>) {
        self.document_gone = false;
        if self.plan.is_other_release(plan) {
            self.other_release(plan, effects);
            return;
        }
        let from = self.phase();
        let paused_before = self.plan.paused;
        let steps_changed = self.plan.steps != plan.steps;
        self.plan = plan.clone();
        if self.jury.policy() != &self.plan.analysis.policy {
            self.jury.adopt(self.plan.analysis.policy.clone());
        }
        if paused_before != self.plan.paused && from != self.phase() {
            let (kind, reason, message) = if self.plan.paused {
                (NotificationKind::Paused, "Paused", "spec.paused is true")
            } else {
                (NotificationKind::Resumed, "Resumed", "spec.paused is false")
            };
            self.record(from, Why::new(reason, message), effects);
            notify(kind, message, effects);
        }
        if steps_changed && self.stage.is_progressing() {
            self.find_step_again(effects);
        } else if steps_changed && self.stage == Stage::Promoting {
            self.begin_step_anew(effects);
        }
    }

    /// The ladder was edited underfoot: the rung with this share, or the highest below it. An edit never gives the
    /// candidate more.
    fn find_step_again(&mut self, effects: &mut Vec<Effect>) {
        let present = self.ladder.share;
        let weight = self.present_step().map(|step| step.weight);
        if weight == Some(StepWeight::Parity) || weight == Some(StepWeight::Share(present)) {
            return;
        }
        let below = self.plan.steps.iter().rposition(|step| match step.weight {
            StepWeight::Share(share) => share <= present,
            StepWeight::Parity => false,
        });
        let step = below.unwrap_or(0);
        let share = match self.plan.steps.get(step).map(|step| step.weight) {
            Some(StepWeight::Share(share)) => share.min(present),
            _ => Share::NONE,
        };
        self.ladder.step = step;
        self.ladder.share = share;
        if share < self.weights.candidate {
            self.set_share(share, Cause::Edit, effects);
        }
        self.begin_step_anew(effects);
    }

    fn other_release(&mut self, plan: &Plan, effects: &mut Vec<Effect>) {
        let is_settled = self.promotion.settled.is_some();
        if self.stage != Stage::Superseded {
            if self.stage.is_at_rest() || self.stage == Stage::Pending || is_settled {
                // Nothing of it runs any more; what the manifests hold is where the new one starts.
                self.weights.exposed = false;
            } else {
                self.stop_preparations(effects);
                self.set_share(Share::NONE, Cause::Superseded, effects);
                self.facts.in_flight = None;
            }
            let message = format!("the document describes another release now: {}", plan.candidate);
            notify(NotificationKind::Superseded, message.clone(), effects);
            self.enter(Stage::Superseded, Why::new("Superseded", message), effects);
        }
        effects.push(Effect::Successor(Box::new(plan.clone())));
    }

    /// The journal was read; what the outside has lost with the old process is asked for again. Nothing moves forward on
    /// what was known of the outside before, and no promotion on a checkpoint that was not acknowledged.
    pub(super) fn restarted(&mut self, damaged: bool, effects: &mut Vec<Effect>) {
        self.guard = None;
        self.facts.arms = None;
        self.facts.in_flight = None;
        self.jury.forget_in_flight();
        if self.weights.in_force {
            self.set_share(self.weights.candidate, Cause::Restart, effects);
        }
        match self.stage {
            Stage::Preflight => self.run_preflight(effects),
            Stage::Warming if self.facts.warm.is_none() => {
                effects.extend(self.plan.warm_up.map(Effect::StartWarmUp));
            }
            Stage::Shadowing => effects.push(Effect::StartShadow),
            _ => {}
        }
        if !self.facts.excluded.is_empty() && !self.stage.is_at_rest() {
            effects.push(Effect::ExcludeModels { models: self.facts.excluded.clone() });
        }
        let (step, candidate) = (self.ladder.step, self.weights.candidate);
        let webhook = self.present_step().and_then(|step| step.webhook.clone());
        if self.stage == Stage::Gating
            && let Some(call) = self.gate.call.as_ref().filter(|call| call.answer.is_none())
            && let Some(gate) = webhook
        {
            effects.push(Effect::CallGate(GateCall { call: call.number, step, candidate, gate }));
        }
        if damaged {
            self.lose_evidence("the journal was damaged before its end".into(), effects);
        }
    }

    /// What was lived counts where a replay says more: the candidate gets no more than the journal says was set. True
    /// when that took something away.
    pub(crate) fn fall_back_to(&mut self, lived: &WeightChange) -> bool {
        self.weights.epoch = self.weights.epoch.max(lived.epoch);
        if !self.weights.in_force || lived.candidate >= self.weights.candidate {
            return false;
        }
        self.weights.candidate = lived.candidate;
        self.guard = None;
        if matches!(lived.cause, Cause::Rollback | Cause::Superseded) && self.stage.is_exposed() {
            self.enter(
                Stage::RollingBack,
                Why::new("Diverged", "the journal says it had turned back"),
                &mut Vec::new(),
            );
        } else if self.stage.is_progressing() || self.stage == Stage::Promoting {
            self.ladder.share = self.ladder.share.max(lived.candidate);
            self.begin_step_anew(&mut Vec::new());
        }
        true
    }
}
