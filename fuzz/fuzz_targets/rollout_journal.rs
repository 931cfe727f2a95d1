//! Whatever a journal holds: reading it ends, gives the same twice, and the machine that comes out of it lives on. The
//! checksum would keep a fuzzer out, so most inputs are records whose lines are made here.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate_rollout::Machine;
use tidegate_rollout::event::{Event, Input, Stamp};
use tidegate_rollout::journal::{checkpoint, frame, told};
use tidegate_rollout::replay::{replay, replay_from_start};

fn text(machine: &Machine) -> String {
    serde_json::to_string(machine).expect("a machine can be written")
}

fuzz_target!(|input: &[u8]| {
    let Some((kind, bytes)) = input.split_first() else { return };
    let mut journal = Vec::new();
    if kind % 4 == 0 {
        journal.extend_from_slice(bytes);
    } else {
        for json in bytes.split(|byte| *byte == b'\n') {
            journal.extend(frame(json));
        }
    }
    let _ = replay_from_start(&journal);
    let Ok(replayed) = replay(&journal) else { return };
    assert!(replayed.end + replayed.torn == journal.len());
    let again = replay(&journal).expect("the same bytes read twice");
    assert_eq!(text(&again.machine), text(&replayed.machine));

    let share = replayed.machine.effective_share();
    let mut machine = replayed.machine.clone();
    let at = Stamp { monotonic: 0, wall: 1_793_606_400_000 };
    machine.handle(&Input { at, event: replayed.restarted() });
    assert!(machine.effective_share().unwrap_or_default() <= share.unwrap_or_default(), "a restart raises nothing");
    for minute in 1..4 {
        let at = Stamp { monotonic: minute * 60_000, wall: at.wall };
        let input = Input { at, event: Event::Tick };
        let effects = machine.handle(&input);
        told(&input, &effects).expect("a tick can be written");
    }
    let _ = (machine.status(), machine.explain());
    if let Ok(line) = checkpoint(&machine) {
        let restored = replay(&line).expect("a checkpoint is a journal");
        assert_eq!(text(&restored.machine), text(&machine));
    }
});
