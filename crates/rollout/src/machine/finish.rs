//! The ends: the losing arm empties, the manifests come to say it, or stable stays.

use super::{Machine, Why, notify, warn};
use crate::effect::{Arm, Effect, NotificationKind};
use crate::event::{PairWeights, Running};
use crate::stage::Stage;

impl Machine {
    /// Whether the losing arm is empty, or its time is up. The timeout is written down.
    fn is_drained(&mut self, running: Option<Running>, effects: &mut Vec<Effect>) -> bool {
        let is_empty = self.weights_are_applied() && running.is_some_and(|running| running.count == 0);
        if is_empty {
            self.promotion.drained = true;
            return true;
        }
        if self.in_stage() < self.plan.drain.timeout {
            return false;
        }
        let left = running.map_or_else(|| "an unknown number of".to_owned(), |running| running.count.to_string());
        let message = format!("{left} requests still ran {} s after the last was sent", self.plan.drain.timeout / 1000);
        warn(NotificationKind::DrainTimeout, message, effects);
        self.promotion.timed_out = true;
        self.promotion.drained = true;
        true
    }

    pub(super) fn draining(&mut self, effects: &mut Vec<Effect>) -> bool {
        let running = self.facts.in_flight.map(|in_flight| in_flight.stable);
        if !self.is_drained(running, effects) {
            return false;
        }
        let message = format!("{} has nothing left to finish", self.plan.stable);
        self.enter(Stage::Settling, Why::new("Drained", message), effects);
        if !self.facts.manifests.is_some_and(|manifests| manifests.says_promoted()) {
            let message = "the manifests do not give the candidate everything yet; `emit-patch` prints the change";
            notify(NotificationKind::SettlePending, message, effects);
        }
        true
    }

    pub(super) fn settling(&mut self, effects: &mut Vec<Effect>) -> bool {
        let says = self.facts.manifests.is_some_and(|manifests| manifests.says_promoted());
        match self.promotion.settled {
            None if says => {
                self.promotion.settled = Some(self.clock.now);
                notify(NotificationKind::Settled, "the manifests give the candidate everything", effects);
                true
            }
            None => false,
            Some(_) if !says => {
                let message = "the manifests were changed after they had settled it; they rule";
                self.complete("ManifestsChanged", message, effects);
                true
            }
            Some(_) => {
                let promoted = self.promotion.promoted.unwrap_or(self.clock.now);
                if self.clock.now.saturating_sub(promoted) < self.plan.drain.min_retention {
                    return false;
                }
                self.complete("Settled", "the manifests say it, and the retention is over", effects);
                true
            }
        }
    }

    fn complete(&mut self, reason: &str, message: &str, effects: &mut Vec<Effect>) {
        self.weights.in_force = false;
        effects.push(Effect::Release);
        notify(NotificationKind::Completed, message, effects);
        self.enter(Stage::Completed, Why::new(reason, message), effects);
    }

    pub(super) fn rolling_back(&mut self, effects: &mut Vec<Effect>) -> bool {
        let running = self.facts.in_flight.map(|in_flight| in_flight.candidate);
        if self.weights.exposed && !self.is_drained(running, effects) {
            return false;
        }
        if self.plan.adapters.is_some_and(|adapters| adapters.ensure_loaded) {
            effects.push(Effect::UnloadAdapter { arm: Arm::Candidate });
        }
        let message = format!("{} serves alone", self.plan.stable);
        notify(NotificationKind::RolledBack, message.clone(), effects);
        self.enter(Stage::RolledBack, Why::new("RolledBack", message), effects);
        true
    }

    /// What is left to do at the end.
    pub(super) fn resting(&mut self, effects: &mut Vec<Effect>) -> bool {
        match self.stage {
            Stage::Completed => {
                let after = self.plan.adapters.and_then(|adapters| adapters.unload_stable_after);
                let due = self.promotion.settled.zip(after);
                let due = due.is_some_and(|(settled, after)| self.clock.now.saturating_sub(settled) >= after);
                if due && !self.promotion.unloaded {
                    self.promotion.unloaded = true;
                    effects.push(Effect::UnloadAdapter { arm: Arm::Stable });
                }
                false
            }
            // Stable is held at everything until the manifests give it everything: then nothing changes by stepping
            // aside, and the pair is free for another roll-out. Manifests in which neither arm is found are no word on
            // it: a route that is being written anew is gone for a moment.
            Stage::RolledBack | Stage::Failed => {
                if self.facts.manifests.is_some_and(PairWeights::says_stable) && self.weights.in_force {
                    self.weights.in_force = false;
                    effects.push(Effect::Release);
                }
                false
            }
            // The old candidate empties; then nothing is left of this release.
            Stage::Superseded => {
                let running = self.facts.in_flight.map(|in_flight| in_flight.candidate);
                if self.weights.exposed && !self.is_drained(running, effects) {
                    return false;
                }
                self.forget(effects)
            }
            _ => false,
        }
    }
}
