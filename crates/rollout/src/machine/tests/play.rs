//! A stage for the machine: time, traffic, and a controller that does what it is told.

use tidegate_evidence::{Arm as EvidenceArm, Arrival, EventMetric, Events, Sample, Stratum};

use crate::capacity::{ArmCapacity, Arms};
use crate::effect::{Effect, WeightChange};
use crate::event::{
    Actor, Admission, CheckOutcome, CheckResult, Command, Event, InFlight, Input, Observation, PairWeights, Running,
    Stamp, Verb, WarmUpProgress,
};
use crate::machine::Machine;
use crate::plan::{MINUTE, Plan, Step, StepWeight};
use crate::share::Share;
use crate::stage::{Phase, Stage};

/// Monday, 2026-11-02 08:00 UTC.
pub(crate) const MONDAY: i64 = 1_793_606_400_000;

/// Draws the same numbers in every run.
#[derive(Clone, Copy)]
pub(crate) struct Dice(pub(super) u64);

impl Dice {
    pub(crate) fn roll(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// How the arms answer.
#[derive(Clone, Copy)]
pub(crate) struct Nature {
    pub(crate) errors: f64,
    pub(crate) slower: f64,
}

pub(crate) const HEALTHY: Nature = Nature { errors: 0.002, slower: 1.0 };

pub(crate) struct Play {
    pub(crate) machine: Machine,
    pub(crate) inputs: Vec<Input>,
    pub(crate) effects: Vec<Effect>,
    pub(crate) now: u64,
    pub(crate) running: InFlight,
    /// The controller acknowledges checkpoints.
    pub(crate) disk_works: bool,
    /// The replicas acknowledge weights.
    pub(crate) replicas_answer: bool,
    dice: Dice,
    requests: u64,
    epoch: u64,
    share: Share,
}

pub(crate) fn pair(stable: u32, candidate: u32) -> PairWeights {
    PairWeights { stable: Some(stable), candidate: Some(candidate) }
}

pub(crate) fn step(percent: u32, bake: u64) -> Step {
    Step { weight: StepWeight::Share(Share::from_percent(percent)), bake, ..Step::default() }
}

/// A plan whose margins a few thousand requests certify.
pub(crate) fn quick_plan() -> Plan {
    let mut plan = Plan::new("serving", "llm-to-h200", "llm", "llm-new");
    plan.steps = vec![step(10, MINUTE), step(50, MINUTE), step(100, MINUTE)];
    for guard in &mut plan.analysis.policy.events {
        guard.harm_budget = Some(0.03);
    }
    for guard in &mut plan.analysis.policy.latencies {
        guard.margin = Some(0.5);
    }
    plan
}

pub(crate) fn endpoints(stable: u32, candidate: u32) -> Event {
    let arm = |ready| ArmCapacity { ready, per_endpoint: None };
    Event::Arms(Arms { stable: arm(stable), candidate: arm(candidate), ..Arms::default() })
}

/// A request of a session of its own: its arrival and its end.
pub(crate) fn request_of(
    dice: &mut Dice,
    request: u64,
    at_ms: u64,
    share: f64,
    [candidate, stable]: [Nature; 2],
) -> (Arrival, Sample) {
    let is_candidate = dice.roll() < share;
    let nature = if is_candidate { candidate } else { stable };
    let arrival = Arrival {
        request,
        at_ms,
        arm: if is_candidate { EvidenceArm::Candidate } else { EvidenceArm::Stable },
        share,
        unit: request,
        keyed: false,
        forced: false,
        warm: true,
        stratum: Stratum::default(),
    };
    let failed = dice.roll() < nature.errors;
    let time = (0.5 + dice.roll()) * nature.slower;
    let latency = |scale: f64| (!failed).then_some(time * scale);
    let sample = Sample {
        arrival,
        end_ms: at_ms,
        events: if failed { Events::NONE.with(EventMetric::Error) } else { Events::NONE },
        first_attempt_failed: false,
        rescued: false,
        ttft: latency(0.2),
        tpot: latency(0.03),
    };
    (arrival, sample)
}

impl Play {
    pub(crate) fn new(plan: Plan) -> Self {
        Self {
            machine: Machine::new(plan, Stamp { monotonic: 0, wall: MONDAY }),
            inputs: Vec::new(),
            effects: Vec::new(),
            now: 0,
            running: InFlight::default(),
            disk_works: true,
            replicas_answer: true,
            dice: Dice(0x9E37_79B9_7F4A_7C15),
            requests: 0,
            epoch: 0,
            share: Share::NONE,
        }
    }

    /// A machine that was told of its document and of both arms.
    pub(crate) fn begun(plan: Plan) -> Self {
        let mut play = Self::new(plan);
        play.tell(Event::Manifests(pair(100, 0)));
        play.tell(endpoints(4, 4));
        play.tell(Event::Admission(Admission::default()));
        play
    }

    /// A machine whose first step has begun.
    pub(crate) fn on_first_step(plan: Plan) -> Self {
        let mut play = Self::begun(plan);
        play.pass_preflight();
        play.warm();
        assert_eq!(play.machine.phase(), Phase::Progressing, "{}", play.machine.status().message);
        play
    }

    pub(crate) fn pass_preflight(&mut self) {
        for check in self.machine.plan().preflight.checks.clone() {
            let attempt = self.machine.status().attempt;
            self.tell(Event::Preflight(CheckResult { attempt, check, outcome: CheckOutcome::Passed }));
        }
    }

    pub(crate) fn warm(&mut self) {
        let progress = WarmUpProgress { candidate_hit_ratio: 0.5, stable_hit_ratio: 0.6, ..WarmUpProgress::default() };
        self.tell(Event::WarmUp(progress));
    }

    pub(crate) fn stamp(&self) -> Stamp {
        Stamp { monotonic: self.now, wall: MONDAY + i64::try_from(self.now).expect("a short play") }
    }

    /// Tells the machine, and does what it says. What one call decided comes back.
    pub(crate) fn tell(&mut self, event: Event) -> Vec<Effect> {
        let input = Input { at: self.stamp(), event };
        let effects = self.machine.handle(&input);
        self.inputs.push(input);
        self.effects.extend(effects.iter().cloned());
        for effect in &effects {
            self.act(effect);
        }
        effects
    }

    fn act(&mut self, effect: &Effect) {
        match effect {
            Effect::SetWeights(change) => {
                self.share = change.candidate;
                self.epoch = change.epoch;
                if self.replicas_answer {
                    self.tell(Event::WeightsApplied { epoch: change.epoch });
                }
            }
            Effect::Checkpoint { id, .. } if self.disk_works => {
                self.tell(Event::CheckpointDurable { id: *id });
            }
            _ => {}
        }
    }

    pub(crate) fn command(&mut self, verb: Verb) -> Effect {
        let id = format!("command-{}", self.inputs.len());
        let effects = self.tell(Event::Command(Command { id, writer: Actor::named("ana"), verb }));
        let answer = |effect: &&Effect| matches!(effect, Effect::CommandTaken { .. } | Effect::CommandRefused { .. });
        effects.iter().find(answer).cloned().expect("a command is answered")
    }

    /// Lets time pass, one tick a second, with what still runs told.
    pub(crate) fn wait(&mut self, milliseconds: u64) {
        let end = self.now + milliseconds;
        while self.now < end {
            self.now = (self.now + 1000).min(end);
            self.tell(Event::InFlight(self.running));
            self.tell(Event::Tick);
        }
    }

    /// One request of a session of its own.
    pub(crate) fn request(&mut self, candidate: Nature, stable: Nature) -> Vec<Effect> {
        self.requests += 1;
        let share = self.share.fraction();
        let (arrival, sample) = request_of(&mut self.dice, self.requests, self.now, share, [candidate, stable]);
        self.tell(Event::Observed(vec![Observation::Arrived(arrival), Observation::Ended(sample)]))
    }

    /// Traffic of so many requests a second for so many seconds, or until the phase is left.
    pub(crate) fn traffic(&mut self, seconds: u64, per_second: u64, candidate: Nature) {
        let phase = self.machine.phase();
        for _ in 0..seconds {
            for _ in 0..per_second {
                self.request(candidate, HEALTHY);
            }
            self.wait(1000);
            if self.machine.phase() != phase && self.machine.phase() != Phase::Held {
                return;
            }
        }
    }

    pub(crate) fn weight_changes(&self) -> Vec<WeightChange> {
        let change = |effect: &Effect| match effect {
            Effect::SetWeights(change) => Some(change.clone()),
            _ => None,
        };
        self.effects.iter().filter_map(change).collect()
    }

    pub(crate) fn shares(&self) -> Vec<u32> {
        self.weight_changes().iter().map(|change| change.candidate.ppm() / 10_000).collect()
    }

    pub(crate) fn phases(&self) -> Vec<Phase> {
        let to = |effect: &Effect| match effect {
            Effect::Transition(transition) => Some(transition.to),
            _ => None,
        };
        self.effects.iter().filter_map(to).collect()
    }

    pub(crate) fn reason(&self) -> String {
        self.machine.status().history.last().map(|last| last.reason.clone()).unwrap_or_default()
    }

    pub(crate) fn run_on(&mut self, count: u64) {
        self.running = InFlight { stable: Running { count, oldest: 1 }, candidate: Running { count, oldest: 1 } };
    }

    #[track_caller]
    pub(crate) fn expect(&self, phase: Phase, stage: Stage) {
        let status = self.machine.status();
        assert_eq!((self.machine.phase(), self.machine.stage()), (phase, stage), "{}\n{status:#?}", status.message);
    }
}
