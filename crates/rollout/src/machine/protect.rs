//! What protects users, before anything moves forward: alarms, an empty candidate, a document that is gone, and the way
//! back. The way back sets the candidate's share to 0 in the same call that decides it, whatever else is the matter.

use tidegate_evidence::{Alarm, Formula};

use super::{Machine, Why, warn};
use crate::effect::{Arm, Cause, Effect, NotificationKind};
use crate::event::Observation;
use crate::plan::OnStreams;
use crate::share::Share;
use crate::stage::{HoldReason, Stage};

/// Every bound is computed for a look; one in ten seconds is often enough for people.
const BETWEEN_LOOKS: u64 = 10_000;

impl Machine {
    /// Tells the judge; true when there is an alarm to look at.
    pub(super) fn observe(&mut self, observations: &[Observation]) -> bool {
        if !self.stage.is_exposed() {
            return false;
        }
        let clock = self.clock;
        for observation in observations {
            if let Some(alarm) = self.jury.observe(observation, clock.now, |time| clock.translate(time)) {
                self.raise_alarm(alarm);
                return true;
            }
        }
        false
    }

    /// Lets the judge see that time passed: requests that never answer are evidence too.
    pub(super) fn watch_clock(&mut self, effects: &mut Vec<Effect>) {
        self.warn_of_evidence(effects);
        if self.stage.is_exposed()
            && let Some(alarm) = self.jury.advance_time(self.clock.now)
        {
            self.raise_alarm(alarm);
        }
    }

    /// Tells people, once a step, when the evidence is half of what turns back (on its logarithm: E >= sqrt(1/alpha)).
    fn warn_of_evidence(&mut self, effects: &mut Vec<Effect>) {
        let is_due = self.clock.now.saturating_sub(self.warned.looked) >= BETWEEN_LOOKS;
        if self.warned.told || !is_due || !self.stage.is_exposed() {
            return;
        }
        self.warned.looked = self.clock.now;
        let report = self.judge_report();
        let grown = |metric: &&tidegate_evidence::MetricReport| metric.guard && metric.ln_e >= metric.ln_e_limit / 2.0;
        let Some(worst) = report.metrics.iter().find(grown) else { return };
        self.warned.told = true;
        let (word, ln_e, limit) = (worst.metric.word(), worst.ln_e, worst.ln_e_limit);
        let message = format!("{word}: ln E is {ln_e:.1}, {limit:.1} turns back");
        warn(NotificationKind::GuardWarning, message, effects);
    }

    /// The first alarm is the one that is told.
    pub(super) fn raise_alarm(&mut self, mut alarm: Alarm) {
        alarm.log_evidence = written(alarm.log_evidence);
        alarm.threshold = written(alarm.threshold);
        self.alarm.get_or_insert(alarm);
    }

    /// Acts on what endangers users; true when the stage changed.
    pub(super) fn protect(&mut self, effects: &mut Vec<Effect>) -> bool {
        if self.document_gone {
            return self.follow_deletion(effects);
        }
        if !self.stage.is_exposed() || self.promotion.settled.is_some() {
            return false;
        }
        self.protect_from_empty_candidate(effects) || self.protect_from_alarm(effects)
    }

    fn protect_from_empty_candidate(&mut self, effects: &mut Vec<Effect>) -> bool {
        let empty = self.facts.arms.is_some_and(|arms| arms.candidate.ready == 0);
        if !empty || self.weights.candidate == Share::NONE {
            return false;
        }
        let message = format!("{} has no ready endpoint left; stable serves its share", self.plan.candidate);
        if self.may_turn_back() {
            self.turn_back(Why::new("CandidateUnavailable", message), false, effects);
            return true;
        }
        if self.stage.moves_forward() {
            self.set_share(Share::NONE, Cause::CandidateEmpty, effects);
            self.guard = None;
            self.hold(HoldReason::CandidateEmpty, format!("{message}; `resume` tries this step again"), effects);
        } else if !std::mem::replace(&mut self.warned.told, true) {
            // Promoted: the data plane lends the share to stable, and a person decides whether to keep the promotion.
            warn(NotificationKind::Held, format!("{message}; `undo` makes that lasting"), effects);
        }
        false
    }

    fn protect_from_alarm(&mut self, effects: &mut Vec<Effect>) -> bool {
        let Some(alarm) = self.alarm.clone() else { return false };
        if alarm.formula == Formula::SampleRatio {
            self.alarm = None;
            if self.stage.moves_forward() {
                self.guard = None;
                let message = format!("{}; `resume` begins the step anew", alarm.detail);
                self.hold(HoldReason::WeightMismatch, message, effects);
            }
            return false;
        }
        if self.may_turn_back() {
            self.turn_back(alarm_says(&alarm), false, effects);
            return true;
        }
        self.guard = None;
        if self.stage.moves_forward() {
            let message = format!("{}; `rollback`, or `resume` to judge anew", alarm.detail);
            self.hold(HoldReason::Alarm, message, effects);
        } else {
            self.alarm = None;
            warn(NotificationKind::GuardWarning, format!("{}; `undo` turns back", alarm.detail), effects);
        }
        false
    }

    /// Whether the roll-out may turn back without a person.
    pub(super) fn may_turn_back(&self) -> bool {
        self.plan.rollback.auto && self.interruptions.frozen.is_none_or(|freeze| freeze.allow_rollback)
    }

    /// Gives stable everything, in this call, and lets the candidate empty.
    pub(super) fn turn_back(&mut self, why: Why, cut: bool, effects: &mut Vec<Effect>) {
        self.stop_preparations(effects);
        self.set_share(Share::NONE, Cause::Rollback, effects);
        if self.weights.exposed && (cut || self.plan.rollback.on_streams == OnStreams::Cut) {
            effects.push(Effect::CutStreams { arm: Arm::Candidate });
        }
        self.facts.in_flight = None;
        self.promotion = super::Promotion::default();
        warn(NotificationKind::RollbackStarted, format!("{}: {}", why.reason, why.message), effects);
        self.enter(Stage::RollingBack, why, effects);
    }

    /// The document is gone: whatever is not settled turns back, the rest steps aside.
    fn follow_deletion(&mut self, effects: &mut Vec<Effect>) -> bool {
        match self.stage {
            Stage::RollingBack => false,
            Stage::Draining | Stage::Settling if self.promotion.settled.is_some() => self.forget(effects),
            stage if stage.moves_forward() || stage.is_exposed() => {
                let message = "the document was deleted before the roll-out was settled";
                self.turn_back(Why::new("Deleted", message), false, effects);
                true
            }
            _ => self.forget(effects),
        }
    }

    /// Steps aside for good; false, as nothing follows.
    pub(super) fn forget(&mut self, effects: &mut Vec<Effect>) -> bool {
        if self.forgotten {
            return false;
        }
        if self.weights.in_force {
            self.weights.in_force = false;
            effects.push(Effect::Release);
        }
        self.forgotten = true;
        effects.push(Effect::Forget);
        false
    }
}

/// The alarm as the history writes it.
fn alarm_says(alarm: &Alarm) -> Why {
    let reason = match (alarm.formula, alarm.metric) {
        (Formula::Breaker, _) => "Breaker".to_owned(),
        (_, Some(metric)) => format!("Worse:{}", metric.word()),
        (_, None) => "Worse".to_owned(),
    };
    Why::new(&reason, format!("{} ({})", alarm.detail, alarm.formula.name()))
        .number("logEvidence", written(alarm.log_evidence))
        .number("threshold", written(alarm.threshold))
}

/// JSON has no infinity.
fn written(number: f64) -> f64 {
    if number.is_nan() { 0.0 } else { number.clamp(f64::MIN, f64::MAX) }
}
