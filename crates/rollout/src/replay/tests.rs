//! Journals that were cut, damaged, shortened, or written by another version.

use super::*;
use crate::event::{Admission, Input, PairWeights, Stamp, Verb};
use crate::journal::{checkpoint, frame, opening, told};
use crate::machine::tests::play::{HEALTHY, Play, endpoints, quick_plan, step};
use crate::plan::Plan;
use crate::share::Share;
use crate::stage::{HoldReason, Phase, Stage};

/// A journal, and where each of its lines ends with the share in force behind it.
struct Written {
    bytes: Vec<u8>,
    entries: Vec<(usize, Option<Share>)>,
}

/// Writes what a play was told as a controller would: a checkpoint where one is asked for.
fn written(play: &Play) -> Written {
    let at = Stamp { monotonic: 0, wall: crate::machine::tests::play::MONDAY };
    let plan = play.machine.plan().clone();
    let mut machine = Machine::new(plan.clone(), at);
    let bytes = opening(&plan, at).expect("a plan of numbers");
    let mut written = Written { entries: vec![(bytes.len(), None)], bytes };
    for input in &play.inputs {
        let effects = machine.handle(input);
        written.bytes.extend(told(input, &effects).expect("sound numbers"));
        written.entries.push((written.bytes.len(), machine.effective_share()));
        if effects.iter().any(|effect| matches!(effect, Effect::Checkpoint { .. })) {
            written.bytes.extend(checkpoint(&machine).expect("a machine can be written"));
            written.entries.push((written.bytes.len(), machine.effective_share()));
        }
    }
    written
}

/// Margins that a few hundred requests certify: the journal is read two hundred times.
fn brief_plan() -> Plan {
    let mut plan = quick_plan();
    plan.steps = vec![step(20, 5_000), step(50, 5_000), step(100, 5_000)];
    for guard in &mut plan.analysis.policy.events {
        guard.harm_budget = Some(0.2);
    }
    plan.analysis.policy.latencies.clear();
    plan
}

fn lived() -> Play {
    let mut play = Play::on_first_step(brief_plan());
    play.traffic(400, 15, HEALTHY);
    play.wait(1000);
    play.expect(Phase::Settling, Stage::Settling);
    play
}

fn text(machine: &Machine) -> String {
    serde_json::to_string(machine).expect("a machine can be written")
}

#[test]
fn a_whole_roll_out_killed_at_two_hundred_points_resumes_where_it_was() {
    let play = lived();
    let journal = written(&play);
    let mut shares: Vec<Option<Share>> = journal.entries.iter().map(|(_, share)| *share).collect();
    shares.dedup();
    let percents = [0, 20, 50, 100].map(|percent| Some(Share::from_percent(percent)));
    assert_eq!(shares, [[None].as_slice(), &percents].concat());
    for kill in 1..=200_usize {
        let cut = journal.bytes.len() * kill / 200 - kill % 7 * usize::from(kill < 200);
        let Some((end, share)) = journal.entries.iter().rev().find(|(end, _)| *end <= cut) else {
            assert!(replay(journal.bytes.get(..cut).expect("within")).is_err(), "killed before it began");
            continue;
        };
        let replayed = replay(journal.bytes.get(..cut).expect("within")).expect("a journal that began");
        assert_eq!((replayed.end, replayed.machine.effective_share()), (*end, *share), "killed at {cut}");
        assert!(!replayed.is_damaged());
    }
    let whole = replay(&journal.bytes).expect("whole");
    assert_eq!(text(&whole.machine), text(&play.machine));
    assert!(whole.records < journal.entries.len() / 2, "only what is behind the last checkpoint is read");
    let from_start = replay_from_start(&journal.bytes).expect("whole");
    assert_eq!(text(&from_start.machine), text(&play.machine));
}

#[test]
fn damage_before_whole_lines_is_told_and_holds_the_roll_out() {
    let mut play = Play::on_first_step(quick_plan());
    play.wait(5_000);
    let journal = written(&play);
    let (begin, end) = (journal.entries[journal.entries.len() - 3].0, journal.entries[journal.entries.len() - 2].0);
    let mut bytes = journal.bytes.clone();
    bytes[begin + 40] ^= 0xff;
    let replayed = replay(&bytes).expect("the rest is whole");
    assert_eq!(replayed.damage, [Damage::Bytes { from: begin, to: end }]);
    let mut machine = replayed.machine.clone();
    machine.handle(&Input { at: play.stamp(), event: replayed.restarted() });
    assert_eq!(machine.phase(), Phase::Held);
    assert_eq!(machine.status().holds.first().map(|hold| hold.reason), Some(HoldReason::EvidenceLoss));
}

#[test]
fn a_lost_alarm_leaves_the_candidate_with_what_the_journal_says_was_set() {
    let mut play = Play::on_first_step(quick_plan());
    play.command(Verb::Rollback { reason: String::new(), cut_streams: false });
    play.wait(1_000);
    let journal = written(&play);
    // The line that turned back is kept, its command is not: as if an older version had decided by something else.
    let lines: Vec<&[u8]> = split(&journal.bytes).iter().map(|line| line.json).collect();
    let mut bytes = Vec::new();
    for json in lines {
        let mut record: serde_json::Value = serde_json::from_slice(json).expect("a record");
        let rolls_back = record["told"]["decided"][0]["cause"] == "Rollback";
        if rolls_back {
            record["told"]["input"]["e"] = "tick".into();
        }
        bytes.extend(frame(&serde_json::to_vec(&record).expect("plain data")));
    }
    let replayed = replay(&bytes).expect("whole lines");
    assert_eq!(replayed.damage, [Damage::Diverged { lived: Share::NONE, replayed: Share::from_percent(10) }]);
    assert_eq!(replayed.machine.effective_share(), Some(Share::NONE));
    assert_eq!(replayed.machine.phase(), Phase::RollingBack);
}

#[test]
fn what_holds_no_machine_is_said() {
    assert_eq!(replay(b"").map(|_| ()), Err(ReplayError::NoMachine));
    assert_eq!(replay(b"nonsense\n").map(|_| ()), Err(ReplayError::NoMachine));
    let newer = frame(br#"{"opened":{"version":9,"at":{"m":0,"w":0},"plan":{}}}"#);
    assert!(replay(&newer).is_err(), "its plan cannot be read either");
    let mut opened: serde_json::Value = serde_json::from_slice(
        split(&opening(&quick_plan(), Stamp::default()).expect("a plan")).first().expect("a line").json,
    )
    .expect("a record");
    opened["opened"]["version"] = 9.into();
    let newer = frame(&serde_json::to_vec(&opened).expect("plain data"));
    assert_eq!(replay(&newer).map(|_| ()), Err(ReplayError::Version(9)));
}

#[test]
fn numbers_that_are_none_are_written_as_they_were_taken() {
    let at = Stamp { monotonic: 5, wall: 5 };
    let mut machine = Machine::new(quick_plan(), at);
    let mut bytes = opening(&quick_plan(), at).expect("a plan");
    let mut arms = match endpoints(4, 4) {
        Event::Arms(arms) => arms,
        other => panic!("{other:?}"),
    };
    arms.offered = Some(f64::NAN);
    arms.learned_ratio = Some(f64::INFINITY);
    let admitted = Event::Admission(Admission::default());
    let manifests = Event::Manifests(PairWeights { stable: Some(1), candidate: None });
    let progress = crate::event::WarmUpProgress { candidate_hit_ratio: f64::NAN, ..Default::default() };
    for event in [Event::Arms(arms), admitted, manifests, Event::WarmUp(progress)] {
        let input = Input { at, event };
        let effects = machine.handle(&input);
        bytes.extend(told(&input, &effects).expect("it is written"));
    }
    let replayed = replay(&bytes).expect("whole");
    assert!(!replayed.is_damaged());
    assert_eq!(text(&replayed.machine), text(&machine));
}

/// Records whose numbers and words were exchanged, behind checksums that hold: nothing panics, then or later.
fn exchanged(play: &Play, swaps: &[(usize, usize, i64)]) {
    let journal = written(play);
    let mut records: Vec<serde_json::Value> =
        split(&journal.bytes).iter().map(|line| serde_json::from_slice(line.json).expect("a record")).collect();
    for (record, place, value) in swaps {
        let count = records.len();
        let Some(record) = records.get_mut(record % count) else { continue };
        let mut numbers = Vec::new();
        collect(record, &mut numbers);
        let count = numbers.len().max(1);
        if let Some(number) = numbers.into_iter().nth(place % count) {
            *number = (*value).into();
        }
    }
    let mut bytes = Vec::new();
    for record in &records {
        bytes.extend(frame(&serde_json::to_vec(record).expect("plain data")));
    }
    let Ok(replayed) = replay(&bytes) else { return };
    let _ = replay_from_start(&bytes);
    let mut machine = replayed.machine.clone();
    machine.handle(&Input { at: Stamp::default(), event: replayed.restarted() });
    for minute in 1..5_u64 {
        let at = Stamp { monotonic: minute * 60_000, wall: 0 };
        machine.handle(&Input { at, event: endpoints(3, 3) });
        machine.handle(&Input { at, event: Event::Tick });
    }
    let _ = (machine.status(), machine.explain());
}

fn collect<'a>(value: &'a mut serde_json::Value, numbers: &mut Vec<&'a mut serde_json::Value>) {
    match value {
        serde_json::Value::Number(_) => numbers.push(value),
        serde_json::Value::Array(items) => items.iter_mut().for_each(|item| collect(item, numbers)),
        serde_json::Value::Object(fields) => fields.values_mut().for_each(|field| collect(field, numbers)),
        _ => {}
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 32, ..Default::default() })]

    #[test]
    fn a_journal_of_other_numbers_panics_nowhere(
        swaps in proptest::collection::vec((
            proptest::prelude::any::<usize>(),
            proptest::prelude::any::<usize>(),
            proptest::prop_oneof![-3_i64..3, proptest::prelude::Just(i64::MAX), proptest::prelude::any::<i64>()],
        ), 1..6),
    ) {
        let mut play = Play::on_first_step(quick_plan());
        play.traffic(2, 20, HEALTHY);
        play.command(Verb::PromoteStep);
        play.traffic(2, 20, HEALTHY);
        exchanged(&play, &swaps);
    }
}
