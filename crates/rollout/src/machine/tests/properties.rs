//! Whatever comes in whatever order: what must hold after every input, and after a kill at any byte.

use proptest::prelude::*;

use super::play::{HEALTHY, MONDAY, Nature, endpoints, pair, quick_plan, step};
use crate::effect::{Cause, Effect, WeightChange};
use crate::event::{
    Actor, Admission, CheckOutcome, CheckResult, Command, Event, GateAnswer, GateResult, InFlight, Input, Observation,
    Refusal, Running, ShadowProgress, Stamp, Verb, WarmUpProgress,
};
use crate::journal;
use crate::machine::Machine;
use crate::plan::{GateError, HOUR, Inconclusive, MINUTE, ManualGate, Plan, ShadowPlan, Step, StepWeight, WebhookGate};
use crate::replay::{replay, replay_from_start};
use crate::share::{Share, WHOLE};
use crate::stage::{Phase, Stage};

/// What may happen; what refers to the machine's own numbers is filled in when it does.
#[derive(Clone, Debug)]
enum Deed {
    Wait(u64),
    Jump(i64),
    Admit(bool),
    Manifests(u32, u32),
    Arms(u32, u32),
    Checks(u8),
    Warm(f64),
    Shadow(u64, u64),
    Traffic { count: u16, nature: u8 },
    Applied,
    Durable,
    Gate(u8),
    InFlight(u64),
    Lost,
    Command(u8),
    Plan(u8),
    Deleted,
    Restarted(bool),
    Checkpoint,
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        4 => prop_oneof![Just(1000_u64), Just(MINUTE), 0..4 * HOUR].prop_map(Deed::Wait),
        1 => any::<i64>().prop_map(Deed::Jump),
        2 => prop::bool::weighted(0.8).prop_map(Deed::Admit),
        2 => (0_u32..3, 0_u32..3).prop_map(|(stable, candidate)| Deed::Manifests(stable, candidate)),
        3 => (0_u32..5, 0_u32..5).prop_map(|(stable, candidate)| Deed::Arms(stable, candidate)),
        3 => (0_u8..8).prop_map(Deed::Checks),
        3 => prop_oneof![Just(0.9), Just(f64::NAN), 0.0..1.0].prop_map(Deed::Warm),
        1 => (0_u64..20, 0_u64..20).prop_map(|(mirrored, failed)| Deed::Shadow(mirrored, failed)),
        6 => (1_u16..120, 0_u8..6).prop_map(|(count, nature)| Deed::Traffic { count, nature }),
        6 => Just(Deed::Applied),
        6 => Just(Deed::Durable),
        2 => (0_u8..4).prop_map(Deed::Gate),
        3 => (0_u64..3).prop_map(Deed::InFlight),
        1 => Just(Deed::Lost),
        5 => (0_u8..10).prop_map(Deed::Command),
        1 => (0_u8..6).prop_map(Deed::Plan),
        1 => prop::bool::weighted(0.1).prop_map(|gone| if gone { Deed::Deleted } else { Deed::Durable }),
        1 => any::<bool>().prop_map(Deed::Restarted),
        1 => Just(Deed::Checkpoint),
    ]
}

fn plan(kind: u8) -> Plan {
    let mut plan = quick_plan();
    plan.generation = i64::from(kind);
    let webhook = WebhookGate { url: "https://evals".into(), timeout: 10 * MINUTE, on_error: GateError::Hold };
    match kind {
        0 => {}
        1 => {
            plan.steps = vec![step(0, 0), step(1, 0), step(20, 0), step(100, 0)];
            plan.shadow = Some(ShadowPlan { before: MINUTE });
            plan.analysis.on_inconclusive = Inconclusive::Promote;
            plan.analysis.step_max = Some(HOUR);
        }
        2 => {
            plan.rollback.auto = false;
            plan.steps = vec![step(5, 0), Step { weight: StepWeight::Parity, ..Step::default() }, step(100, 0)];
            plan.deadline = Some(8 * HOUR);
        }
        3 => {
            plan.paused = true;
        }
        4 => {
            plan = Plan { candidate: "llm-newer".into(), ..plan };
        }
        _ => {
            plan.warm_up = None;
            plan.preflight.checks.clear();
            plan.steps = vec![step(30, 0), step(100, MINUTE)];
            plan.steps[0].manual = Some(ManualGate::default());
            plan.steps[0].webhook = Some(webhook);
            plan.freeze = vec![crate::freeze::FreezeWindow {
                cron: "0 12 * * *".parse().expect("a cron line"),
                duration: HOUR,
                zone: "Europe/Berlin".parse().expect("a zone"),
                allow_rollback: false,
            }];
        }
    }
    plan
}

/// Plays deeds, keeps the journal as a controller does, and looks at every decision.
#[derive(Clone)]
struct Run {
    machine: Machine,
    monotonic: u64,
    wall: i64,
    journal: Vec<u8>,
    /// Where each whole entry ends, and the candidate's share in force behind it.
    entries: Vec<(usize, Option<Share>)>,
    asked: Option<u64>,
    /// A checkpoint that was asked for since the last raise and the last restart is on disk.
    durable: bool,
    call: u64,
    epoch: u64,
    requests: u64,
    commands: u64,
}

impl Run {
    fn new(kind: u8) -> Self {
        let at = Stamp { monotonic: 0, wall: MONDAY };
        let plan = plan(kind);
        let journal = journal::opening(&plan, at).expect("a plan of numbers");
        Self {
            machine: Machine::new(plan, at),
            monotonic: 0,
            wall: MONDAY,
            entries: vec![(journal.len(), None)],
            journal,
            asked: None,
            durable: false,
            call: 0,
            epoch: 0,
            requests: 0,
            commands: 0,
        }
    }

    fn tell(&mut self, event: Event) -> Vec<Effect> {
        let before = self.machine.effective_share();
        let stage = self.machine.stage();
        let input = Input { at: Stamp { monotonic: self.monotonic, wall: self.wall }, event };
        if matches!(&input.event, Event::CheckpointDurable { id } if Some(*id) == self.asked) {
            self.durable = true;
        }
        if matches!(input.event, Event::Restarted { .. }) {
            self.asked = None;
            self.durable = false;
        }
        let effects = self.machine.handle(&input);
        self.journal.extend(journal::told(&input, &effects).expect("sound numbers"));
        self.entries.push((self.journal.len(), self.machine.effective_share()));
        let mut share = before.unwrap_or_default();
        for effect in &effects {
            match effect {
                Effect::SetWeights(change) => {
                    self.look_at(change, share, stage, &input.event);
                    share = change.candidate;
                }
                Effect::Checkpoint { id, .. } => {
                    self.asked = Some(*id);
                    self.durable = false;
                }
                Effect::CallGate(call) => self.call = call.call,
                _ => {}
            }
        }
        if let Some(now) = self.machine.effective_share() {
            assert_eq!(now, share, "what is in force is what was said last");
        }
        self.look_at_way_back(&input.event, &effects);
        effects
    }

    fn look_at(&mut self, change: &WeightChange, before: Share, stage: Stage, event: &Event) {
        assert_eq!(change.stable.ppm() + change.candidate.ppm(), WHOLE);
        assert!(change.epoch > self.epoch, "epochs count up");
        self.epoch = change.epoch;
        if change.cause == Cause::Restart {
            assert_eq!(change.candidate, before, "a restart changes no weight");
        }
        if change.candidate > before {
            assert!(change.raises && self.durable, "raised without its checkpoint, in {stage:?} by {event:?}");
            assert!(matches!(change.cause, Cause::Step | Cause::Promoted), "{change:?}");
            let phase = self.machine.phase();
            assert!(!matches!(phase, Phase::Paused | Phase::Frozen), "raised while {phase:?}");
            self.durable = false;
            self.asked = None;
        }
        if change.candidate < before {
            use Cause::{CandidateEmpty, Edit, Rollback, Superseded};
            assert!(matches!(change.cause, CandidateEmpty | Edit | Rollback | Superseded), "{change:?} from {before}");
            assert!(change.cause == Edit || change.candidate == Share::NONE, "{change:?}");
        }
    }

    fn look_at_way_back(&self, event: &Event, effects: &[Effect]) {
        if self.machine.is_forgotten() {
            return;
        }
        let taken = effects.iter().any(|effect| matches!(effect, Effect::CommandTaken { .. }));
        let verb = match event {
            Event::Command(command) if taken => Some(&command.verb),
            _ => None,
        };
        let goes_back = matches!(verb, Some(Verb::Rollback { .. } | Verb::Undo))
            || effects.iter().any(|effect| matches!(effect, Effect::Transition(line) if line.to == Phase::RollingBack));
        if goes_back {
            let released = effects.contains(&Effect::Release);
            let share = self.machine.effective_share();
            assert!(share == Some(Share::NONE) || (share.is_none() && released), "in the same call: {event:?}");
        }
        let stage = self.machine.stage();
        if matches!(stage, Stage::Preflight | Stage::Warming | Stage::Shadowing | Stage::RollingBack) {
            assert_eq!(self.machine.effective_share(), Some(Share::NONE), "{stage:?}");
        }
        if matches!(stage, Stage::RolledBack | Stage::Failed) {
            assert_eq!(self.machine.effective_share().unwrap_or_default(), Share::NONE, "{stage:?}");
        }
    }

    fn observe(&mut self, count: u16, nature: u8) {
        let candidate = match nature {
            0 => Nature { errors: 1.0, slower: 1.0 },
            1 => Nature { errors: 0.05, slower: 1.3 },
            2 => Nature { errors: 0.0, slower: f64::NAN },
            _ => HEALTHY,
        };
        let share = self.machine.effective_share().unwrap_or_default().fraction();
        let mut dice = super::play::Dice(self.requests.wrapping_mul(0x9E37_79B9) | 1);
        let mut observations = Vec::new();
        for _ in 0..count {
            self.requests += 1;
            let (at, request) = (self.monotonic, self.requests);
            let (arrival, sample) = super::play::request_of(&mut dice, request, at, share, [candidate, HEALTHY]);
            observations.push(Observation::Arrived(arrival));
            observations.push(Observation::Ended(sample));
        }
        self.tell(Event::Observed(observations));
    }

    fn act(&mut self, deed: &Deed) {
        match *deed {
            Deed::Wait(milliseconds) => {
                self.monotonic += milliseconds;
                self.wall = self.wall.saturating_add_unsigned(milliseconds);
                self.tell(Event::Tick);
            }
            Deed::Jump(wall) => {
                // The wall clock is set; the other clock knows nothing of it.
                self.wall = wall;
                self.tell(Event::Tick);
                self.wall = MONDAY.saturating_add_unsigned(self.monotonic);
            }
            Deed::Admit(accepted) => {
                let refused = (!accepted).then(Refusal::default);
                self.tell(Event::Admission(Admission { refused, unresolved: None }));
            }
            Deed::Manifests(stable, candidate) => drop(self.tell(Event::Manifests(pair(stable, candidate)))),
            Deed::Arms(stable, candidate) => drop(self.tell(endpoints(stable, candidate))),
            Deed::Checks(outcome) => self.check(outcome),
            Deed::Warm(candidate_hit_ratio) => {
                let seen = WarmUpProgress { candidate_hit_ratio, stable_hit_ratio: 0.8, ..WarmUpProgress::default() };
                self.tell(Event::WarmUp(seen));
            }
            Deed::Shadow(mirrored, failed) => {
                self.tell(Event::Shadow(ShadowProgress { mirrored, failed, misshapen: 0 }));
            }
            Deed::Traffic { count, nature } => self.observe(count, nature),
            Deed::Applied => drop(self.tell(Event::WeightsApplied { epoch: self.epoch })),
            Deed::Durable => {
                if let Some(id) = self.asked {
                    self.tell(Event::CheckpointDurable { id });
                }
            }
            Deed::Gate(answer) => self.answer_gate(answer),
            Deed::InFlight(count) => {
                let running = Running { count, oldest: 5 };
                self.tell(Event::InFlight(InFlight { stable: running, candidate: running }));
            }
            Deed::Lost => drop(self.tell(Event::EvidenceLost { count: 3 })),
            Deed::Command(verb) => self.command(verb),
            Deed::Plan(kind) => drop(self.tell(Event::Document(Box::new(plan(kind))))),
            Deed::Deleted => drop(self.tell(Event::Deleted)),
            Deed::Restarted(damaged) => {
                self.monotonic = 7;
                self.tell(Event::Restarted { damaged });
            }
            Deed::Checkpoint => {
                let line = journal::checkpoint(&self.machine).expect("a machine can be written");
                self.journal.extend(line);
                self.entries.push((self.journal.len(), self.machine.effective_share()));
            }
        }
    }

    fn check(&mut self, outcome: u8) {
        let attempt = self.machine.status().attempt;
        for check in self.machine.plan().preflight.checks.clone() {
            let outcome = match outcome {
                0 => CheckOutcome::Failed(Refusal::default()),
                1 => CheckOutcome::Waiting(Refusal::default()),
                2 => CheckOutcome::PassedWithout { models: ["adapter".to_owned()].into() },
                _ => CheckOutcome::Passed,
            };
            self.tell(Event::Preflight(CheckResult { attempt, check, outcome }));
        }
    }

    fn answer_gate(&mut self, answer: u8) {
        let message = String::new();
        let answer = match answer {
            0 => GateAnswer::Fail { message },
            1 => GateAnswer::Error { message },
            _ => GateAnswer::Pass,
        };
        self.tell(Event::Gate(GateResult { call: self.call, answer }));
    }

    fn command(&mut self, verb: u8) {
        self.commands += 1;
        let verb = match verb {
            0 => Verb::Pause,
            1 => Verb::Rollback { reason: String::new(), cut_streams: self.commands.is_multiple_of(2) },
            2 => Verb::Undo,
            3 | 4 => Verb::Start,
            5 => Verb::Approve,
            6 => Verb::PromoteFull,
            7 => Verb::PromoteStep,
            _ => Verb::Resume,
        };
        let id = self.commands.to_string();
        self.tell(Event::Command(Command { id, writer: Actor::named("ana"), verb }));
    }

    /// A run that got as far as a first step, so that what follows meets traffic.
    fn on_first_step(kind: u8) -> Self {
        let mut run = Self::new(kind);
        for deed in [Deed::Admit(true), Deed::Manifests(1, 0), Deed::Arms(4, 4), Deed::Command(9), Deed::Command(4)] {
            run.act(&deed);
        }
        for deed in [Deed::Checks(7), Deed::Warm(0.9), Deed::Wait(2 * MINUTE), Deed::Durable, Deed::Applied] {
            run.act(&deed);
        }
        run
    }
}

/// Kills the run at a byte of its journal, starts it again and lets everything speak for the candidate but the disk.
fn killed_at(run: &Run, cut: usize) -> Result<(), TestCaseError> {
    let bytes = run.journal.get(..cut).expect("a cut within the journal");
    let Some((end, share)) = run.entries.iter().rev().find(|(end, _)| *end <= cut) else {
        prop_assert!(replay(bytes).is_err(), "torn before it began");
        return Ok(());
    };
    let replayed = replay(bytes).expect("a journal that began");
    prop_assert_eq!(&replayed.damage, &[]);
    prop_assert_eq!((replayed.end, replayed.torn), (*end, cut - end));
    prop_assert_eq!(replayed.machine.effective_share(), *share, "the weights are those that were in force");
    let mut after = run.clone();
    let restarted = replayed.restarted();
    after.machine = replayed.machine;
    after.epoch = after.machine.epochs().0;
    after.monotonic = 0;
    after.asked = None;
    after.durable = false;
    for effect in after.tell(restarted) {
        if let Effect::SetWeights(change) = effect {
            prop_assert_eq!(Some(change.candidate), *share, "no jump");
        }
    }
    let before = after.machine.effective_share().unwrap_or_default();
    for deed in [
        Deed::Command(9),
        Deed::Command(4),
        Deed::Arms(4, 4),
        Deed::Checks(7),
        Deed::Warm(0.9),
        Deed::Applied,
        Deed::Traffic { count: 300, nature: 5 },
        Deed::Wait(MINUTE),
        Deed::Command(5),
        Deed::Command(7),
        Deed::Wait(HOUR),
    ] {
        after.act(&deed);
        let now = after.machine.effective_share().unwrap_or_default();
        prop_assert!(now <= before, "promoted without a checkpoint since the restart");
    }
    Ok(())
}

fn written(machine: &Machine) -> String {
    serde_json::to_string(machine).expect("a machine can be written")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    /// Nothing panics, and every decision keeps the promises that [`Run`] looks at.
    #[test]
    fn promises_hold_whatever_happens(kind in 0_u8..6, begun: bool, deeds in prop::collection::vec(deed(), 1..80)) {
        let mut run = if begun { Run::on_first_step(kind) } else { Run::new(kind) };
        for deed in &deeds {
            run.act(deed);
        }
        let status = run.machine.status();
        prop_assert!(status.history.len() <= crate::machine::HISTORY);
        prop_assert!(serde_json::to_string(&status).is_ok());
        prop_assert!(serde_json::to_string(&run.machine.explain()).is_ok());
    }

    /// The journal decides the same again: from its start, from a checkpoint, and for whatever comes after.
    #[test]
    fn a_replay_decides_the_same(kind in 0_u8..6, deeds in prop::collection::vec(deed(), 1..60), after in prop::collection::vec(deed(), 0..10)) {
        let mut run = Run::on_first_step(kind);
        for deed in &deeds {
            run.act(deed);
        }
        for replayed in [replay(&run.journal), replay_from_start(&run.journal)] {
            let replayed = replayed.expect("a whole journal");
            prop_assert_eq!(&replayed.damage, &[]);
            prop_assert_eq!((replayed.end, replayed.torn), (run.journal.len(), 0));
            prop_assert_eq!(written(&replayed.machine), written(&run.machine));
        }
        let mut again = run.clone();
        again.machine = replay(&run.journal).expect("a whole journal").machine;
        for deed in &after {
            run.act(deed);
            again.act(deed);
            prop_assert_eq!(written(&again.machine), written(&run.machine), "after {:?}", deed);
        }
    }

    /// A kill at any byte: the same weights, and nothing for the candidate without a new checkpoint.
    #[test]
    fn a_kill_at_any_byte_jumps_nowhere(
        kind in 0_u8..6, deeds in prop::collection::vec(deed(), 1..40), cuts in prop::collection::vec(0.0_f64..1.0, 6),
    ) {
        let mut run = Run::on_first_step(kind);
        for deed in &deeds {
            run.act(deed);
        }
        for cut in cuts {
            let cut = (run.journal.len() as f64 * cut) as usize;
            killed_at(&run, cut)?;
        }
    }
}
