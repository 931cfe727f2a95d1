//! The machine: what is told goes in with its time, what is to be done comes out.
//!
//! It does no I/O, reads no clock and draws no random numbers: the same inputs give the same effects, in a replay and in a
//! simulation as in life. An input first changes what is *known*; then [`Machine::settle`] moves the roll-out as far as
//! what is known allows. Whatever protects users (alarms, an empty candidate, a deletion) is looked at before whatever
//! moves forward, in every round.

mod clock;
mod commands;
mod conditions;
mod documents;
mod early;
mod explain;
mod finish;
mod interrupt;
mod protect;
mod status;
mod steps;

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};
use tidegate_evidence::Alarm;

pub use conditions::{ConditionKind, Mark};
pub use explain::{Explanation, Formula, Number};
pub use status::{
    Counts, DrainStatus, EffectiveWeights, EvidenceStatus, HoldStatus, ObservedShare, RatioStatus, Status, StepPhase,
};

use clock::Clock;

use crate::effect::{Cause, Effect, Notification, NotificationKind, Transition, WeightChange};
use crate::event::{Actor, Event, Input, Stamp};
use crate::jury::Jury;
use crate::plan::Plan;
use crate::share::Share;
use crate::stage::{HoldReason, Phase, Stage};

/// How many transitions the status remembers.
pub const HISTORY: usize = 20;
/// How many command ids are remembered as taken.
const TAKEN: usize = 256;
/// More rounds than any input can need; a bound, so that a defect stands still instead of spinning.
const MOST_ROUNDS: usize = 64;

/// A roll-out from its document to its end.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Machine {
    plan: Plan,
    clock: Clock,
    stage: Stage,
    /// When the stage was entered, by the machine's clock.
    entered: u64,
    /// Uninterrupted time in this stage.
    active: u64,
    /// How many times it began.
    attempt: u32,
    started: Option<Started>,
    ladder: Ladder,
    weights: Weights,
    interruptions: Interruptions,
    facts: Facts,
    gate: GateState,
    guard: Option<Guard>,
    push: Option<Push>,
    jury: Jury,
    alarm: Option<Alarm>,
    warned: Warned,
    promotion: Promotion,
    document_gone: bool,
    forgotten: bool,
    next_number: u64,
    taken: VecDeque<String>,
    history: VecDeque<Transition>,
    marks: BTreeMap<ConditionKind, Mark>,
}

/// How this attempt began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Started {
    at: u64,
    /// The deadline was waived by `resume`.
    deadline_waived: bool,
}

/// Where on the ladder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Ladder {
    step: usize,
    /// Share of the step, parity resolved.
    share: Share,
    /// Uninterrupted time at this share.
    baked: u64,
    /// Uninterrupted time on this step, waiting for evidence included.
    spent: u64,
    /// When the step began.
    since: u64,
}

/// The effective weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Weights {
    candidate: Share,
    epoch: u64,
    applied: u64,
    /// The overlay is in force: some weights were set and not released.
    in_force: bool,
    /// The candidate had traffic in this attempt.
    exposed: bool,
}

/// What lies over the stage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Interruptions {
    paused: Option<Actor>,
    frozen: Option<Freeze>,
    holds: BTreeMap<HoldReason, Hold>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Freeze {
    until: i64,
    allow_rollback: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Hold {
    /// By the wall.
    since: i64,
    message: String,
}

/// What was told and still counts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Facts {
    admission: Option<crate::event::Admission>,
    manifests: Option<crate::event::PairWeights>,
    /// What the manifests said when the roll-out began.
    baseline: Option<crate::event::PairWeights>,
    /// `start` was commanded.
    start: bool,
    checks: BTreeMap<crate::plan::Check, crate::event::CheckOutcome>,
    excluded: std::collections::BTreeSet<String>,
    warm_up: Option<crate::event::WarmUpProgress>,
    warm: Option<bool>,
    shadow: Option<crate::event::ShadowProgress>,
    arms: Option<crate::capacity::Arms>,
    /// Most ready endpoints of stable since the start.
    stable_ready: u32,
    in_flight: Option<crate::event::InFlight>,
    lost: u64,
    lost_at: Option<u64>,
}

/// The gates of the present step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct GateState {
    approved: Option<Actor>,
    asked_people: bool,
    call: Option<Call>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Call {
    number: u64,
    /// By the machine's clock.
    at: u64,
    answer: Option<crate::event::GateAnswer>,
}

/// A move that waits until its checkpoint is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Guard {
    checkpoint: u64,
    to: Move,
    durable: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Move {
    Step(usize),
    Promote,
}

/// A person moves it on, past bake, evidence and webhook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Push {
    full: bool,
    by: Actor,
}

/// Whether people were warned in this step, and when it was last looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Warned {
    told: bool,
    looked: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Promotion {
    promoted: Option<u64>,
    settled: Option<u64>,
    /// Stable's adapter was unloaded.
    unloaded: bool,
    /// The drain ended at its timeout, not at zero.
    timed_out: bool,
    drained: bool,
}

/// Why something happened, for the record.
#[derive(Clone, Debug, Default)]
struct Why {
    reason: String,
    message: String,
    by: Option<Actor>,
    numbers: BTreeMap<String, f64>,
}

impl Why {
    fn new(reason: &str, message: impl Into<String>) -> Self {
        Self { reason: reason.into(), message: message.into(), ..Self::default() }
    }

    fn by(mut self, actor: &Actor) -> Self {
        self.by = Some(actor.clone());
        self
    }

    fn number(mut self, name: &str, value: f64) -> Self {
        self.numbers.insert(name.into(), value);
        self
    }
}

impl Machine {
    /// A roll-out that has not begun. It waits for its first [`Event::Admission`] and [`Event::Manifests`].
    pub fn new(plan: Plan, at: Stamp) -> Self {
        let jury = Jury::new(plan.analysis.policy.clone());
        Self {
            plan,
            clock: Clock { now: 0, stamp: at },
            stage: Stage::Pending,
            entered: 0,
            active: 0,
            attempt: 0,
            started: None,
            ladder: Ladder::default(),
            weights: Weights::default(),
            interruptions: Interruptions::default(),
            facts: Facts::default(),
            gate: GateState::default(),
            guard: None,
            push: None,
            jury,
            alarm: None,
            warned: Warned::default(),
            promotion: Promotion::default(),
            document_gone: false,
            forgotten: false,
            next_number: 1,
            taken: VecDeque::new(),
            history: VecDeque::new(),
            marks: BTreeMap::new(),
        }
    }

    /// Takes one input and says what to do about it. Never fails: what does not fit the moment changes nothing.
    pub fn handle(&mut self, input: &Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.forgotten {
            return effects;
        }
        let input = input.sound();
        if matches!(input.event, Event::Restarted { .. }) {
            self.clock.restart(input.at);
        } else {
            let elapsed = self.clock.advance(input.at);
            self.count(elapsed);
        }
        if let Event::InFlight(in_flight) = &input.event {
            self.facts.in_flight = Some(*in_flight);
            if !self.stage.drains() {
                return effects;
            }
        } else if let Event::Observed(observations) = &input.event {
            // The one input that comes by the thousand: unless an alarm rings, nothing else changes by it at once.
            if !self.observe(observations) {
                return effects;
            }
        } else {
            self.learn(&input.event, &mut effects);
        }
        self.settle(&mut effects);
        self.mark_conditions();
        effects
    }

    fn learn(&mut self, event: &Event, effects: &mut Vec<Effect>) {
        match event {
            Event::Document(plan) => self.document(plan, effects),
            Event::Deleted => self.document_gone = true,
            Event::Admission(admission) => self.facts.admission = Some(admission.clone()),
            Event::Manifests(weights) => self.facts.manifests = Some(*weights),
            Event::Command(command) => self.command(command, effects),
            Event::Preflight(result) => self.check_answered(result, effects),
            Event::WarmUp(progress) => self.facts.warm_up = Some(*progress),
            Event::Shadow(progress) => self.facts.shadow = Some(*progress),
            Event::Gate(result) => self.gate_answered(result),
            Event::Arms(arms) => self.arms_seen(arms),
            Event::WeightsApplied { epoch } => {
                // An epoch that was never given out says nothing.
                if *epoch <= self.weights.epoch {
                    self.weights.applied = self.weights.applied.max(*epoch);
                }
            }
            Event::EvidenceLost { count } => self.evidence_lost(*count, effects),
            Event::CheckpointDurable { id } => {
                if let Some(guard) = self.guard.as_mut().filter(|guard| guard.checkpoint == *id) {
                    guard.durable = true;
                }
            }
            Event::Restarted { damaged } => self.restarted(*damaged, effects),
            Event::Tick => self.watch_clock(effects),
            Event::Observed(_) | Event::InFlight(_) => {}
        }
    }

    /// Moves as far as what is known allows.
    fn settle(&mut self, effects: &mut Vec<Effect>) {
        self.look_at_calendar(effects);
        for _ in 0..MOST_ROUNDS {
            let protected = self.protect(effects);
            if self.forgotten {
                return;
            }
            self.weigh_holds(effects);
            if !protected && !self.advance(effects) {
                return;
            }
        }
    }

    /// One step forward, if there is one.
    fn advance(&mut self, effects: &mut Vec<Effect>) -> bool {
        if self.stage.moves_forward() && self.is_blocked() {
            return false;
        }
        match self.stage {
            Stage::Pending => self.leave_pending(effects),
            Stage::Preflight => self.preflight(effects),
            Stage::Warming => self.warming(effects),
            Stage::Shadowing => self.shadowing(effects),
            Stage::Shifting => self.shifting(effects),
            Stage::Baking => self.baking(effects),
            Stage::Gating => self.gating(effects),
            Stage::Promoting => self.promoting(effects),
            Stage::Draining => self.draining(effects),
            Stage::Settling => self.settling(effects),
            Stage::RollingBack => self.rolling_back(effects),
            Stage::Completed | Stage::RolledBack | Stage::Superseded | Stage::Failed => self.resting(effects),
        }
    }

    /// Time that passed counts for the stage and the step, unless something stops their clocks.
    fn count(&mut self, elapsed: u64) {
        if elapsed == 0 {
            return;
        }
        if self.stands_still() {
            return;
        }
        if self.interruptions.frozen.is_none() {
            self.active = self.active.saturating_add(elapsed);
            self.ladder.spent = self.ladder.spent.saturating_add(elapsed);
        }
        // In a freeze the candidate goes on serving, and so goes on baking.
        if self.stage == Stage::Baking {
            self.ladder.baked = self.ladder.baked.saturating_add(elapsed);
        }
    }

    /// Sets the candidate's share; the same share changes nothing.
    fn set_share(&mut self, candidate: Share, cause: Cause, effects: &mut Vec<Effect>) {
        if self.weights.in_force && self.weights.candidate == candidate && cause != Cause::Restart {
            return;
        }
        let before = self.weights.candidate;
        self.weights.epoch = self.weights.epoch.saturating_add(1);
        self.weights.candidate = candidate;
        self.weights.in_force = true;
        self.weights.exposed |= candidate > Share::NONE;
        effects.push(Effect::SetWeights(WeightChange {
            epoch: self.weights.epoch,
            stable: candidate.rest(),
            candidate,
            raises: candidate > before,
            cause,
        }));
        if before != candidate {
            let message = format!("the candidate's share goes from {before} to {candidate}");
            notify(NotificationKind::WeightChanged, message, effects);
        }
    }

    /// Whether every replica serves by the newest weights.
    fn weights_are_applied(&self) -> bool {
        self.weights.applied >= self.weights.epoch
    }

    /// Enters a stage and writes it down.
    fn enter(&mut self, stage: Stage, why: Why, effects: &mut Vec<Effect>) {
        let from = self.phase();
        self.stage = stage;
        self.entered = self.clock.now;
        self.active = 0;
        self.guard = None;
        if !stage.moves_forward() {
            self.interruptions.holds.clear();
            self.push = None;
        }
        let to = self.phase();
        if from != to || stage == Stage::Shifting {
            self.record(from, why, effects);
        }
    }

    /// Writes down how the phase came to be what it is now.
    fn record(&mut self, from: Phase, why: Why, effects: &mut Vec<Effect>) {
        let to = self.phase();
        let step = self.stage.is_progressing().then_some(self.ladder.step);
        let mut numbers = why.numbers;
        numbers.insert("candidatePercent".into(), self.weights.candidate.fraction() * 100.0);
        let at = self.clock.stamp.wall;
        let transition =
            Transition { at, from, to, step, reason: why.reason, message: why.message, by: why.by, numbers };
        if self.history.len() >= HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(transition.clone());
        effects.push(Effect::Transition(transition));
    }

    fn number(&mut self) -> u64 {
        let number = self.next_number;
        self.next_number = self.next_number.saturating_add(1);
        number
    }

    /// Time since the stage was entered, interruptions included.
    fn in_stage(&self) -> u64 {
        self.clock.now.saturating_sub(self.entered)
    }

    /// Waits for the checkpoint of a move; true once, when it is on disk.
    fn cross(&mut self, to: Move, reason: &str, effects: &mut Vec<Effect>) -> bool {
        match self.guard {
            Some(guard) if guard.to == to => {
                if guard.durable {
                    self.guard = None;
                }
                guard.durable
            }
            _ => {
                let checkpoint = self.number();
                self.guard = Some(Guard { checkpoint, to, durable: false });
                effects.push(Effect::Checkpoint { id: checkpoint, reason: reason.into() });
                false
            }
        }
    }
}

fn notify(kind: NotificationKind, message: impl Into<String>, effects: &mut Vec<Effect>) {
    effects.push(Effect::Notify(Notification { kind, warning: false, message: message.into() }));
}

fn warn(kind: NotificationKind, message: impl Into<String>, effects: &mut Vec<Effect>) {
    effects.push(Effect::Notify(Notification { kind, warning: true, message: message.into() }));
}

#[cfg(test)]
pub(crate) mod tests;
