//! The ladder: Shifting → Baking → Gating, and up a rung when evidence, gates, capacity and the checkpoint allow it.

use tidegate_evidence::{Verdict, Why as Missing};

use super::{Call, GateState, Ladder, Machine, Move, Warned, Why, notify, warn};
use crate::effect::{Cause, Effect, GateCall, NotificationKind};
use crate::event::{GateAnswer, GateResult};
use crate::plan::{GateError, Inconclusive, Step, StepWeight};
use crate::share::Share;
use crate::stage::{HoldReason, Stage};

/// What the evidence lets a step do.
enum Judgement {
    Go,
    Wait,
    TurnedBack,
}

impl Machine {
    pub(super) fn present_step(&self) -> Option<&Step> {
        self.plan.steps.get(self.ladder.step)
    }

    fn last_step(&self) -> usize {
        self.plan.steps.len().saturating_sub(1)
    }

    /// The share of a step, never less than what the candidate has. Parity stays below the next share that is written.
    fn share_of(&self, step: usize) -> Option<Share> {
        let share = match self.plan.steps.get(step)?.weight {
            StepWeight::Share(share) => share,
            StepWeight::Parity => {
                let parity = self.terms().parity(self.facts.arms.as_ref()?)?;
                let written = self.plan.steps.iter().skip(step).find_map(|later| match later.weight {
                    StepWeight::Share(share) => Some(share),
                    StepWeight::Parity => None,
                });
                parity.min(written.unwrap_or(Share::ALL))
            }
        };
        Some(share.max(self.weights.candidate))
    }

    /// The step that comes next; none after the last.
    pub(super) fn next_step(&self) -> Option<usize> {
        let next = match self.stage {
            _ if self.push.as_ref().is_some_and(|push| push.full) => self.last_step(),
            Stage::Warming | Stage::Shadowing => 0,
            _ => self.ladder.step.saturating_add(1),
        };
        let is_later = !self.stage.is_progressing() || next > self.ladder.step;
        (is_later && next < self.plan.steps.len()).then_some(next)
    }

    /// The share that comes next; everything after the last step.
    pub(super) fn next_share(&self) -> Option<Share> {
        match self.next_step() {
            Some(step) => self.share_of(step),
            None => Some(Share::ALL),
        }
    }

    /// The share that promotion bounds are asked for.
    pub(super) fn share_at_stake(&self) -> Share {
        self.next_share().unwrap_or(Share::ALL)
    }

    /// Whether both arms could carry a share; holds when not, waits while nothing is known.
    fn has_room(&mut self, share: Share, effects: &mut Vec<Effect>) -> bool {
        let Some(arms) = self.facts.arms else { return false };
        if arms.stable.ready == 0 || (arms.candidate.ready == 0 && share > Share::NONE) {
            return false;
        }
        match self.terms().carry(share, &arms) {
            Ok(()) => true,
            Err(shortage) => {
                self.guard = None;
                self.hold(HoldReason::LoadImbalance, shortage.to_string(), effects);
                false
            }
        }
    }

    /// Moves to a step once there is room for it and its checkpoint is on disk.
    pub(super) fn move_to_step(&mut self, step: usize, effects: &mut Vec<Effect>) -> bool {
        let Some(share) = self.share_of(step) else { return false };
        if !self.has_room(share, effects) {
            return false;
        }
        let reason = format!("step {} at {share}", step.saturating_add(1));
        if !self.cross(Move::Step(step), &reason, effects) {
            return false;
        }
        self.stop_preparations(effects);
        let push = self.push.take();
        let cause = if push.is_some() { Cause::Promoted } else { Cause::Step };
        let mut why = Why::new("StepStarted", format!("step {} of {} at {share}", step + 1, self.plan.steps.len()));
        if let Some(push) = &push {
            why = why.by(&push.by);
        }
        self.ladder = Ladder { step, share, since: self.clock.now, ..Ladder::default() };
        self.gate = GateState::default();
        self.warned = Warned::default();
        self.interruptions.holds.remove(&HoldReason::Inconclusive);
        self.set_share(share, cause, effects);
        self.jury.begin_step(self.clock.now, share);
        self.enter(Stage::Shifting, why, effects);
        true
    }

    /// The same step at the same share, with its bake, its gates and its bounds from the start.
    pub(super) fn begin_step_anew(&mut self, effects: &mut Vec<Effect>) {
        if !self.stage.is_progressing() && self.stage != Stage::Promoting {
            return;
        }
        self.ladder = Ladder { baked: 0, spent: 0, since: self.clock.now, ..self.ladder };
        self.gate = GateState::default();
        self.interruptions.holds.remove(&HoldReason::Inconclusive);
        self.jury.begin_step(self.clock.now, self.weights.candidate);
        self.enter(Stage::Shifting, Why::new("StepAnew", "the step begins anew"), effects);
    }

    pub(super) fn shifting(&mut self, effects: &mut Vec<Effect>) -> bool {
        let share = self.ladder.share;
        if self.weights.candidate < share {
            // Back to the share of this step, after it had been taken away.
            if !self.has_room(share, effects)
                || !self.cross(Move::Step(self.ladder.step), "back to the step's share", effects)
            {
                return false;
            }
            self.set_share(share, Cause::Step, effects);
            self.jury.begin_step(self.clock.now, share);
        }
        if !self.weights_are_applied() {
            return self.out_of_time("not every replica serves by the new weights yet".into(), effects);
        }
        if share > Share::NONE && self.push.is_none() {
            match self.jury.verdict(self.clock.now, self.share_at_stake()) {
                Verdict::RollBack(alarm) => {
                    self.raise_alarm(alarm);
                    return self.protect(effects);
                }
                Verdict::Hold { why: Missing::WeightNotApplied, .. } => {
                    self.hold_for_mismatch(effects);
                    return false;
                }
                Verdict::Hold { why: Missing::WeightUnverified, .. } => {
                    let message = format!("too few requests yet to see that {share} is applied");
                    return self.out_of_time(message, effects);
                }
                Verdict::Promote | Verdict::Hold { .. } => {}
            }
        }
        self.release(HoldReason::Inconclusive, "the share is seen", effects);
        self.enter(Stage::Baking, Why::new("ShareSeen", "the share is applied and seen"), effects);
        true
    }

    fn hold_for_mismatch(&mut self, effects: &mut Vec<Effect>) {
        self.guard = None;
        let message = format!(
            "requests do not meet the share of {} that was set (sample-ratio test); `resume` begins the step anew",
            self.weights.candidate
        );
        self.hold(HoldReason::WeightMismatch, message, effects);
    }

    /// A step that is not decided within its longest time; true when the stage changed.
    fn out_of_time(&mut self, message: String, effects: &mut Vec<Effect>) -> bool {
        if self.plan.analysis.step_max.is_none_or(|longest| self.ladder.spent < longest) {
            return false;
        }
        if self.plan.analysis.on_inconclusive == Inconclusive::Rollback && self.may_turn_back() {
            self.turn_back(Why::new("Inconclusive", message), false, effects);
            return true;
        }
        self.hold(HoldReason::Inconclusive, message, effects);
        false
    }

    pub(super) fn baking(&mut self, effects: &mut Vec<Effect>) -> bool {
        let bake = self.present_step().map_or(0, |step| step.bake);
        if self.ladder.baked < bake && self.push.is_none() {
            return false;
        }
        self.enter(Stage::Gating, Why::new("Baked", "the step's least time is over"), effects);
        true
    }

    pub(super) fn gating(&mut self, effects: &mut Vec<Effect>) -> bool {
        self.ask_gates(effects);
        match self.judge_step(effects) {
            Judgement::Go => {}
            Judgement::Wait => return false,
            Judgement::TurnedBack => return true,
        }
        if self.push.is_none() {
            if let Some(changed) = self.webhook_keeps_closed(effects) {
                return changed;
            }
            let asks_people = self.present_step().is_some_and(|step| step.manual.is_some());
            if asks_people && self.gate.approved.is_none() {
                return false;
            }
        }
        match self.next_step() {
            Some(step) => self.move_to_step(step, effects),
            None => {
                self.push = None;
                self.enter(Stage::Promoting, Why::new("LastStepPassed", "every step is good"), effects);
                true
            }
        }
    }

    /// What the evidence says of going on. At 0 % and at 100 % there is nothing to compare; only alarms count there.
    fn judge_step(&mut self, effects: &mut Vec<Effect>) -> Judgement {
        let share = self.weights.candidate;
        if self.push.is_some() || share == Share::NONE || share == Share::ALL {
            return Judgement::Go;
        }
        let stake = self.share_at_stake();
        match self.jury.verdict(self.clock.now, stake) {
            Verdict::Promote => {
                self.release(HoldReason::Inconclusive, "the evidence suffices now", effects);
                Judgement::Go
            }
            Verdict::RollBack(alarm) => {
                self.raise_alarm(alarm);
                if self.protect(effects) { Judgement::TurnedBack } else { Judgement::Wait }
            }
            Verdict::Hold { why: Missing::WeightNotApplied, .. } => {
                self.hold_for_mismatch(effects);
                Judgement::Wait
            }
            Verdict::Hold { why, needs_units, eta_seconds } => {
                self.guard = None;
                let message = still_missing(&why, needs_units, eta_seconds, stake);
                if self.out_of_time(message.clone(), effects) {
                    return Judgement::TurnedBack;
                }
                let is_late = self.plan.analysis.step_max.is_some_and(|longest| self.ladder.spent >= longest);
                let lets_pass = self.plan.analysis.on_inconclusive == Inconclusive::Promote;
                if is_late && lets_pass && self.nothing_speaks_against(stake) {
                    self.release(HoldReason::Inconclusive, "nothing speaks against the candidate", effects);
                    return Judgement::Go;
                }
                self.hold(HoldReason::Inconclusive, message, effects);
                Judgement::Wait
            }
        }
    }

    /// Every guard has been looked at, and leans towards the candidate.
    fn nothing_speaks_against(&self, stake: Share) -> bool {
        let report = self.jury.report(self.clock.now, stake);
        let mut guards = report.metrics.iter().filter(|metric| metric.guard).peekable();
        guards.peek().is_some() && report.ratio.verified && guards.all(|metric| metric.ln_e < 0.0)
    }

    /// Asks people and the webhook, once a step.
    fn ask_gates(&mut self, effects: &mut Vec<Effect>) {
        if self.push.is_some() {
            return;
        }
        let Some(step) = self.present_step() else { return };
        let (manual, webhook) = (step.manual.is_some(), step.webhook.clone());
        if manual && self.gate.approved.is_none() && !self.gate.asked_people {
            self.gate.asked_people = true;
            let step = self.ladder.step.saturating_add(1);
            warn(NotificationKind::GateWaiting, format!("step {step} waits for `approve`"), effects);
        }
        if let Some(gate) = webhook
            && self.gate.call.is_none()
        {
            let call = self.number();
            self.gate.call = Some(Call { number: call, at: self.clock.now, answer: None });
            let (step, candidate) = (self.ladder.step, self.weights.candidate);
            effects.push(Effect::CallGate(GateCall { call, step, candidate, gate }));
        }
    }

    pub(super) fn gate_answered(&mut self, result: &GateResult) {
        if let Some(call) = self.gate.call.as_mut().filter(|call| call.number == result.call) {
            call.answer.get_or_insert(result.answer.clone());
        }
    }

    /// None when the webhook lets the step pass; else whether the stage changed.
    fn webhook_keeps_closed(&mut self, effects: &mut Vec<Effect>) -> Option<bool> {
        let gate = self.present_step()?.webhook.clone()?;
        let call = self.gate.call.clone()?;
        let is_late = self.clock.now.saturating_sub(call.at) >= gate.timeout;
        let answer = call.answer.or_else(|| {
            let message = format!("{} gave no answer within {} s", gate.url, gate.timeout / 1000);
            is_late.then_some(GateAnswer::Error { message })
        });
        let (message, on_refusal) = match answer {
            None => return Some(false),
            Some(GateAnswer::Pass) => return None,
            Some(GateAnswer::Fail { message }) => (message, GateError::Rollback),
            Some(GateAnswer::Error { message }) => (message, gate.on_error),
        };
        match on_refusal {
            GateError::Promote => return None,
            GateError::Rollback if self.may_turn_back() => {
                warn(NotificationKind::GateRejected, message.clone(), effects);
                self.turn_back(Why::new("GateRejected", message), false, effects);
                return Some(true);
            }
            GateError::Hold | GateError::Rollback => {}
        }
        self.guard = None;
        self.hold(HoldReason::Gate, format!("{message}; `resume` asks again"), effects);
        Some(false)
    }

    pub(super) fn promoting(&mut self, effects: &mut Vec<Effect>) -> bool {
        if !self.has_room(Share::ALL, effects) || !self.cross(Move::Promote, "the promotion", effects) {
            return false;
        }
        self.set_share(Share::ALL, Cause::Promoted, effects);
        self.promotion.promoted = Some(self.clock.now);
        self.facts.in_flight = None;
        let message = format!("{} serves everything", self.plan.candidate);
        notify(NotificationKind::Promoted, message.clone(), effects);
        self.enter(Stage::Draining, Why::new("Promoted", message), effects);
        true
    }
}

/// What the evidence still lacks, and how long that takes.
pub(super) fn still_missing(why: &Missing, units: Option<u64>, eta: Option<u64>, stake: Share) -> String {
    let what = match why {
        Missing::WeightNotApplied => "requests do not meet the share that was set".to_owned(),
        Missing::WeightUnverified => "too few requests to see that the share is applied".to_owned(),
        Missing::HarmBudget { metric, increase_at_most, limit } => format!(
            "{}: an increase of up to {:.2} percentage points is still possible, {stake} allows {:.2}",
            metric.word(),
            increase_at_most * 100.0,
            limit * 100.0,
        ),
        Missing::LatencyMargin { metric, ratio_at_most, limit } => match ratio_at_most {
            Some(ratio) => {
                format!("{}: up to {ratio:.3} times stable's is still possible, {limit:.3} is allowed", metric.word())
            }
            None => format!("{}: too few comparisons yet, {limit:.3} times stable's is allowed", metric.word()),
        },
    };
    let units = units.map(|units| format!("; needs about {units} more on the candidate")).unwrap_or_default();
    let eta = eta.map(|seconds| format!(", {seconds} s at the present rate")).unwrap_or_default();
    format!("{what}{units}{eta}")
}
