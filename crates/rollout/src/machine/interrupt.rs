//! What lies over a stage: pauses by people, freezes by the calendar, holds by reasons. None of them touches the stage,
//! so it goes on where it stopped.

use super::{Freeze, Hold, Machine, Why, notify, warn};
use crate::capacity::{Arms, Terms};
use crate::effect::{Effect, NotificationKind};
use crate::event::PairWeights;
use crate::plan::{DriftPolicy, Inconclusive};
use crate::share::Share;
use crate::stage::{HoldReason, Phase, Stage};

/// Observations were lost: a step's evidence begins anew after this long without a further loss.
const QUIET_AFTER_LOSS: u64 = 60_000;

impl Machine {
    /// What people see.
    pub fn phase(&self) -> Phase {
        let pausable = self.stage.moves_forward() || self.stage == Stage::Pending;
        if pausable && (self.interruptions.paused.is_some() || self.plan.paused) {
            return Phase::Paused;
        }
        if self.stage.moves_forward() {
            if self.interruptions.frozen.is_some() {
                return Phase::Frozen;
            }
            if !self.interruptions.holds.is_empty() {
                return Phase::Held;
            }
        }
        self.stage.phase()
    }

    /// Nothing may move forward.
    pub(super) fn is_blocked(&self) -> bool {
        self.stands_still() || self.interruptions.frozen.is_some()
    }

    /// The clocks of bake and deadlines stand still.
    pub(super) fn stands_still(&self) -> bool {
        self.interruptions.paused.is_some()
            || self.plan.paused
            || self.interruptions.holds.keys().any(|reason| !reason.keeps_clock())
    }

    /// Holds the roll-out; the same reason again only changes its words.
    pub(super) fn hold(&mut self, reason: HoldReason, message: impl Into<String>, effects: &mut Vec<Effect>) {
        let message = message.into();
        if let Some(hold) = self.interruptions.holds.get_mut(&reason) {
            hold.message = message;
            return;
        }
        let from = self.phase();
        let since = self.clock.stamp.wall;
        self.interruptions.holds.insert(reason, Hold { since, message: message.clone() });
        if from != self.phase() {
            self.record(from, Why::new(reason.word(), message.clone()), effects);
        }
        let kind = match reason {
            HoldReason::DriftDetected => NotificationKind::DriftDetected,
            HoldReason::WeightMismatch => NotificationKind::WeightMismatch,
            HoldReason::Gate => NotificationKind::GateRejected,
            _ => NotificationKind::Held,
        };
        warn(kind, message, effects);
    }

    /// Ends a hold; false where there was none.
    pub(super) fn release(&mut self, reason: HoldReason, message: &str, effects: &mut Vec<Effect>) -> bool {
        let from = self.phase();
        if self.interruptions.holds.remove(&reason).is_none() {
            return false;
        }
        if from != self.phase() {
            self.record(from, Why::new("HoldEnded", message), effects);
        }
        notify(NotificationKind::HoldEnded, format!("{}: {message}", reason.word()), effects);
        true
    }

    /// Holds while there is something to say, releases when there is not.
    fn hold_while(&mut self, reason: HoldReason, said: Option<String>, ended: &str, effects: &mut Vec<Effect>) {
        match said {
            Some(message) => self.hold(reason, message, effects),
            None => {
                self.release(reason, ended, effects);
            }
        }
    }

    /// Sets and ends the holds that follow from what is known.
    pub(super) fn weigh_holds(&mut self, effects: &mut Vec<Effect>) {
        if !self.stage.moves_forward() {
            return;
        }
        self.weigh_references(effects);
        self.weigh_drift(effects);
        self.weigh_capacity(effects);
        self.weigh_loss(effects);
        self.weigh_deadline(effects);
    }

    fn weigh_references(&mut self, effects: &mut Vec<Effect>) {
        let admission = self.facts.admission.as_ref();
        let gone = admission.and_then(|admission| admission.unresolved.as_ref().or(admission.refused.as_ref()));
        let gone = gone.map(|refusal| refusal.message.clone());
        self.hold_while(HoldReason::Unresolved, gone, "all that is referred to is there", effects);
    }

    fn weigh_drift(&mut self, effects: &mut Vec<Effect>) {
        let (Some(baseline), Some(seen)) = (self.facts.baseline, self.facts.manifests) else { return };
        let mut drift = None;
        // Who gives the candidate everything while it has everything settles; that is no drift.
        let settles = self.weights.candidate == Share::ALL && seen.says_promoted();
        if !settles && !same_split(baseline, seen) {
            match self.plan.drift {
                DriftPolicy::Ignore => {}
                DriftPolicy::Adopt => self.facts.baseline = Some(seen),
                DriftPolicy::Hold => {
                    drift = Some(format!(
                        "the manifests' own weights of the pair changed from {} to {}; take the edit back, or accept it with `resume`",
                        written(baseline),
                        written(seen),
                    ));
                }
            }
        }
        self.hold_while(HoldReason::DriftDetected, drift, "the manifests say what they said at the start", effects);
    }

    fn weigh_capacity(&mut self, effects: &mut Vec<Effect>) {
        let Some(arms) = self.facts.arms else { return };
        let stable_empty = (arms.stable.ready == 0).then(|| {
            format!("{} has no ready endpoint; the candidate's share does not grow until it has", self.plan.stable)
        });
        self.hold_while(HoldReason::StableEmpty, stable_empty, "stable has ready endpoints", effects);
        if self.weights.candidate == Share::NONE && matches!(self.stage, Stage::Warming | Stage::Shadowing) {
            let empty =
                (arms.candidate.ready == 0).then(|| format!("{} has no ready endpoint yet", self.plan.candidate));
            self.hold_while(HoldReason::CandidateEmpty, empty, "the candidate has ready endpoints", effects);
        }
        let terms = self.terms();
        let exposed = self.weights.candidate > Share::NONE;
        let back = terms.take_back(&arms).err().filter(|_| exposed && arms.stable.ready > 0);
        let back = back.map(|shortage| shortage.to_string());
        self.hold_while(HoldReason::RollbackCapacity, back, "stable can take everything back", effects);
        // A hold by the next step's share lasts until that share can be carried too.
        let mut tight = terms.carry(self.weights.candidate, &arms).err().filter(|_| exposed);
        if tight.is_none() && self.interruptions.holds.contains_key(&HoldReason::LoadImbalance) {
            tight = self.next_share().and_then(|share| terms.carry(share, &arms).err());
        }
        let tight = tight.map(|shortage| shortage.to_string());
        self.hold_while(HoldReason::LoadImbalance, tight, "both arms carry their share", effects);
    }

    fn weigh_loss(&mut self, effects: &mut Vec<Effect>) {
        if !self.interruptions.holds.contains_key(&HoldReason::EvidenceLoss) {
            return;
        }
        let quiet = self.facts.lost_at.is_none_or(|at| self.clock.now.saturating_sub(at) >= QUIET_AFTER_LOSS);
        if quiet && self.release(HoldReason::EvidenceLoss, "no further loss; the step begins anew", effects) {
            self.begin_step_anew(effects);
        }
    }

    fn weigh_deadline(&mut self, effects: &mut Vec<Effect>) {
        let (Some(started), Some(deadline)) = (self.started, self.plan.deadline) else { return };
        if started.deadline_waived || self.clock.now.saturating_sub(started.at) < deadline {
            return;
        }
        let message = format!("not promoted within {} s; `resume` waives the deadline", deadline / 1000);
        if self.plan.analysis.on_inconclusive == Inconclusive::Rollback && self.may_turn_back() {
            self.turn_back(Why::new("DeadlineExceeded", message), false, effects);
        } else {
            self.hold(HoldReason::Deadline, message, effects);
        }
    }

    /// Looks whether a freeze holds now. Windows begin and end on whole minutes of some zone.
    pub(super) fn look_at_calendar(&mut self, effects: &mut Vec<Effect>) {
        let wall = self.clock.stamp.wall;
        if self.plan.freeze.is_empty() && self.interruptions.frozen.is_none() {
            return;
        }
        let mut frozen: Option<Freeze> = None;
        for window in &self.plan.freeze {
            let Some(until) = window.ends_at(wall) else { continue };
            let sofar = frozen.unwrap_or(Freeze { until, allow_rollback: true });
            frozen = Some(Freeze {
                until: until.max(sofar.until),
                allow_rollback: window.allow_rollback && sofar.allow_rollback,
            });
        }
        let before = self.interruptions.frozen.is_some();
        if before == frozen.is_some() {
            self.interruptions.frozen = frozen;
            return;
        }
        let from = self.phase();
        self.interruptions.frozen = frozen;
        let (kind, reason, message) = if before {
            (NotificationKind::FreezeLeft, "FreezeLeft", "the freeze window is over")
        } else {
            (NotificationKind::FreezeEntered, "FreezeEntered", "a freeze window began; nothing moves forward in it")
        };
        if from != self.phase() {
            self.record(from, Why::new(reason, message), effects);
            notify(kind, message, effects);
        }
    }

    pub(super) fn evidence_lost(&mut self, count: u64, effects: &mut Vec<Effect>) {
        if count > 0 {
            self.facts.lost = self.facts.lost.saturating_add(count);
            self.lose_evidence(format!("{count} observations were lost"), effects);
        }
    }

    /// What is left of this step's evidence promotes nothing.
    pub(super) fn lose_evidence(&mut self, how: String, effects: &mut Vec<Effect>) {
        self.facts.lost_at = Some(self.clock.now);
        if self.stage.is_progressing() || self.stage == Stage::Promoting {
            self.guard = None;
            let message = format!("{how}; once nothing more is lost, the step's evidence begins anew");
            self.hold(HoldReason::EvidenceLoss, message, effects);
        }
    }

    pub(super) fn arms_seen(&mut self, arms: &Arms) {
        self.facts.arms = Some(*arms);
        if self.stage.moves_forward() || self.stage == Stage::Pending {
            self.facts.stable_ready = self.facts.stable_ready.max(arms.stable.ready);
        }
    }

    pub(super) fn terms(&self) -> Terms {
        Terms {
            declared_ratio: self.plan.relative_capacity,
            stable_headroom: self.plan.rollback.stable_headroom,
            stable_ready_before: self.facts.stable_ready,
        }
    }
}

/// Two ways to write the same split: no entry weighs 0, and only the ratio counts.
pub(super) fn same_split(one: PairWeights, other: PairWeights) -> bool {
    let parts = |pair: PairWeights| (u64::from(pair.stable.unwrap_or(0)), u64::from(pair.candidate.unwrap_or(0)));
    let ((stable, candidate), (other_stable, other_candidate)) = (parts(one), parts(other));
    let nothing = |stable, candidate| stable == 0 && candidate == 0;
    nothing(stable, candidate) == nothing(other_stable, other_candidate)
        && u128::from(stable) * u128::from(other_candidate) == u128::from(other_stable) * u128::from(candidate)
}

pub(super) fn written(pair: PairWeights) -> String {
    let part = |weight: Option<u32>| weight.map_or_else(|| "none".into(), |weight| weight.to_string());
    format!("{}/{}", part(pair.stable), part(pair.candidate))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_is_its_ratio() {
        let pair = |stable, candidate| PairWeights { stable, candidate };
        assert!(same_split(pair(Some(1), None), pair(Some(100), Some(0))));
        assert!(same_split(pair(Some(9), Some(1)), pair(Some(90), Some(10))));
        assert!(!same_split(pair(Some(100), Some(0)), pair(Some(0), Some(100))));
        assert!(!same_split(pair(Some(1), None), pair(None, None)));
        assert!(same_split(pair(None, None), pair(Some(0), Some(0))));
    }
}
