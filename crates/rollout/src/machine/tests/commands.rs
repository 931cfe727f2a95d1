//! What people ask for.

use super::play::{HEALTHY, Play, endpoints, pair, quick_plan, step};
use crate::effect::Effect;
use crate::event::{Actor, Command, Event, Verb};
use crate::plan::{HOUR, MINUTE};
use crate::stage::{Phase, Stage};

fn is_taken(effect: &Effect) -> bool {
    matches!(effect, Effect::CommandTaken { .. })
}

#[test]
fn a_command_is_taken_once() {
    let mut play = Play::on_first_step(quick_plan());
    let command = Command { id: "a1".into(), writer: Actor::named("ana"), verb: Verb::Pause };
    assert!(play.tell(Event::Command(command.clone())).iter().any(is_taken));
    play.command(Verb::Resume);
    assert!(play.tell(Event::Command(command)).is_empty());
    play.expect(Phase::Progressing, Stage::Shifting);
    let history = play.machine.status().history;
    let paused = history.iter().find(|line| line.to == Phase::Paused).expect("it was paused");
    assert_eq!(paused.by.as_ref().map(|by| by.name.as_str()), Some("ana"));
}

#[test]
fn a_pause_keeps_the_share_and_stops_the_clocks() {
    let mut play = Play::on_first_step(quick_plan());
    play.traffic(40, 20, HEALTHY);
    play.expect(Phase::Progressing, Stage::Baking);
    play.command(Verb::Pause);
    play.wait(HOUR);
    play.expect(Phase::Paused, Stage::Baking);
    assert_eq!(play.shares(), [0, 10]);
    assert!(!is_taken(&play.command(Verb::PromoteStep)));
    assert!(is_taken(&play.command(Verb::Resume)));
    play.expect(Phase::Progressing, Stage::Baking);
}

#[test]
fn a_pause_in_the_document_is_ended_in_the_document() {
    let mut plan = quick_plan();
    plan.paused = true;
    let mut play = Play::begun(plan);
    play.expect(Phase::Paused, Stage::Pending);
    assert!(!is_taken(&play.command(Verb::Resume)));
    play.tell(Event::Document(Box::new(quick_plan())));
    play.expect(Phase::Preflight, Stage::Preflight);
}

#[test]
fn promoting_a_step_skips_its_bake_and_promoting_fully_goes_to_the_last() {
    let mut play = Play::on_first_step(quick_plan());
    assert!(is_taken(&play.command(Verb::PromoteStep)));
    assert_eq!(play.shares(), [0, 10, 50]);
    let mut plan = quick_plan();
    plan.steps.insert(0, step(1, HOUR));
    let mut play = Play::on_first_step(plan);
    play.command(Verb::PromoteFull);
    assert_eq!(play.shares(), [0, 1, 100]);
    play.expect(Phase::Progressing, Stage::Shifting);
    assert!(!is_taken(&play.command(Verb::Undo)), "not promoted yet");
    let mut play = Play::begun(quick_plan());
    play.pass_preflight();
    play.command(Verb::PromoteFull);
    assert_eq!(play.shares(), [0, 100], "out of the warm-up");
}

#[test]
fn undo_takes_a_promotion_back_even_after_it_completed() {
    let mut plan = quick_plan();
    plan.steps = vec![step(100, 0)];
    plan.drain.min_retention = 0;
    let mut play = Play::on_first_step(plan);
    play.traffic(400, 20, HEALTHY);
    play.wait(1000);
    play.tell(Event::Manifests(pair(0, 100)));
    play.expect(Phase::Completed, Stage::Completed);
    assert!(!is_taken(&play.command(Verb::Rollback { reason: String::new(), cut_streams: false })));
    play.tell(endpoints(0, 4));
    assert!(!is_taken(&play.command(Verb::Undo)), "nobody could serve");
    play.tell(endpoints(4, 4));
    assert!(is_taken(&play.command(Verb::Undo)));
    assert_eq!(play.shares(), [0, 100, 0]);
    play.wait(MINUTE);
    play.expect(Phase::RolledBack, Stage::RolledBack);
}

#[test]
fn a_roll_back_before_any_traffic_ends_at_once() {
    let mut play = Play::begun(quick_plan());
    assert!(is_taken(&play.command(Verb::Rollback { reason: "not today".into(), cut_streams: false })));
    play.expect(Phase::RolledBack, Stage::RolledBack);
    assert!(play.effects.contains(&Effect::StopPreflight));
    assert!(is_taken(&play.command(Verb::Start)));
    play.expect(Phase::Preflight, Stage::Preflight);
}
