//! What protects users: the way back, holds, freezes, deletions, restarts.

use super::play::{HEALTHY, MONDAY, Nature, Play, endpoints, pair, quick_plan, step};
use crate::capacity::{ArmCapacity, Arms};
use crate::effect::{Arm, Effect, NotificationKind};
use crate::event::{Event, Input, PairWeights, Stamp, Verb};
use crate::freeze::FreezeWindow;
use crate::plan::{DriftPolicy, HOUR, MINUTE, OnStreams, Plan};
use crate::share::Share;
use crate::stage::{HoldReason, Phase, Stage};

const BROKEN: Nature = Nature { errors: 1.0, slower: 1.0 };

fn holds(play: &Play) -> Vec<HoldReason> {
    play.machine.status().holds.iter().map(|hold| hold.reason).collect()
}

#[test]
fn a_dead_candidate_is_rolled_back_in_the_call_that_tells_of_it() {
    let mut play = Play::on_first_step(quick_plan());
    play.traffic(30, 20, HEALTHY);
    play.run_on(4);
    let mut failing = 0;
    while play.machine.phase() == Phase::Progressing {
        play.request(BROKEN, HEALTHY);
        failing += 1;
        assert!(failing < 2_000, "{:#?}", play.machine.explain());
    }
    assert_eq!(play.machine.effective_share(), Some(Share::NONE));
    play.expect(Phase::RollingBack, Stage::RollingBack);
    play.wait(MINUTE);
    play.expect(Phase::RollingBack, Stage::RollingBack);
    play.run_on(0);
    play.wait(1000);
    play.expect(Phase::RolledBack, Stage::RolledBack);
    assert_eq!(play.shares(), [0, 10, 0]);
    assert!(!play.effects.iter().any(|effect| matches!(effect, Effect::CutStreams { .. })));
    assert_eq!(play.machine.effective_share(), None, "the manifests say the same, and another roll-out may begin");
    assert!(play.machine.has_ended());
}

#[test]
fn a_worse_candidate_is_rolled_back_with_the_metric_as_the_reason() {
    let mut play = Play::on_first_step(quick_plan());
    play.traffic(3_000, 20, Nature { errors: 0.002, slower: 1.3 });
    play.expect(Phase::RolledBack, Stage::RolledBack);
    let history = play.machine.status().history;
    let back = history.iter().find(|transition| transition.to == Phase::RollingBack).expect("it turned back");
    assert!(back.reason == "Worse:ttft" || back.reason == "Worse:tpot", "{back:?}");
    assert!(back.numbers.contains_key("logEvidence"), "{back:?}");
    let warnings = play.effects.iter().filter(
        |effect| matches!(effect, Effect::Notify(told) if told.kind == NotificationKind::GuardWarning && told.warning),
    );
    assert_eq!(warnings.count(), 1, "told once, before it turned back");
}

#[test]
fn stable_is_held_at_everything_while_the_manifests_say_otherwise() {
    let mut play = Play::on_first_step(quick_plan());
    play.tell(Event::Manifests(pair(90, 10)));
    play.command(Verb::Rollback { reason: String::new(), cut_streams: false });
    play.wait(HOUR);
    play.expect(Phase::RolledBack, Stage::RolledBack);
    assert_eq!(play.machine.effective_share(), Some(Share::NONE));
    play.tell(Event::Manifests(PairWeights { stable: None, candidate: None }));
    assert_eq!(play.machine.effective_share(), Some(Share::NONE), "a route that is being written anew says nothing");
    play.tell(Event::Manifests(pair(100, 0)));
    assert_eq!(play.effects.last(), Some(&Effect::Release));
    play.tell(Event::Manifests(pair(90, 10)));
    assert_eq!(play.machine.effective_share(), None, "what people write afterwards counts");
}

#[test]
fn streams_are_cut_only_where_the_document_or_the_command_says_so() {
    let mut plan = quick_plan();
    plan.rollback.on_streams = OnStreams::Cut;
    let mut play = Play::on_first_step(plan);
    play.command(Verb::Rollback { reason: String::new(), cut_streams: false });
    assert!(play.effects.contains(&Effect::CutStreams { arm: Arm::Candidate }));
    let mut play = Play::on_first_step(quick_plan());
    play.command(Verb::Rollback { reason: "wrong prices".into(), cut_streams: true });
    assert!(play.effects.contains(&Effect::CutStreams { arm: Arm::Candidate }));
}

#[test]
fn without_automatic_roll_back_an_alarm_holds() {
    let mut plan = quick_plan();
    plan.rollback.auto = false;
    let mut play = Play::on_first_step(plan);
    play.traffic(30, 20, HEALTHY);
    for _ in 0..2_000 {
        play.request(BROKEN, HEALTHY);
    }
    play.expect(Phase::Held, Stage::Shifting.max(play.machine.stage()));
    assert_eq!(holds(&play), [HoldReason::Alarm]);
    assert_eq!(play.machine.effective_share(), Some(Share::from_percent(10)));
    play.command(Verb::Resume);
    play.expect(Phase::Progressing, Stage::Shifting);
    play.command(Verb::Rollback { reason: String::new(), cut_streams: false });
    assert_eq!(play.machine.effective_share(), Some(Share::NONE));
}

#[test]
fn a_candidate_without_endpoints_gives_its_share_back_at_once() {
    let mut play = Play::on_first_step(quick_plan());
    let effects = play.tell(endpoints(4, 0));
    assert!(
        effects.iter().any(|effect| matches!(effect, Effect::SetWeights(change) if change.candidate == Share::NONE))
    );
    assert_eq!(play.machine.status().history.iter().filter(|line| line.reason == "CandidateUnavailable").count(), 1);

    let mut plan = quick_plan();
    plan.rollback.auto = false;
    let mut play = Play::on_first_step(plan);
    play.tell(endpoints(4, 0));
    assert_eq!(play.shares(), [0, 10, 0]);
    assert_eq!(holds(&play), [HoldReason::CandidateEmpty]);
    play.tell(endpoints(4, 4));
    play.wait(MINUTE);
    assert_eq!(play.shares(), [0, 10, 0], "a person brings it back");
    play.command(Verb::Resume);
    play.wait(1000);
    assert_eq!(play.shares(), [0, 10, 0, 10]);
}

#[test]
fn a_promoted_candidate_that_empties_turns_back_only_where_that_is_automatic() {
    for auto in [true, false] {
        let mut plan = quick_plan();
        plan.steps = vec![step(100, 0)];
        plan.rollback.auto = auto;
        let mut play = Play::on_first_step(plan);
        play.traffic(400, 20, HEALTHY);
        play.wait(1000);
        play.expect(Phase::Settling, Stage::Settling);
        play.tell(endpoints(4, 0));
        play.tell(endpoints(4, 0));
        assert_eq!(play.shares(), if auto { vec![0, 100, 0] } else { vec![0, 100] });
        let warned = |effect: &&Effect| matches!(effect, Effect::Notify(told) if told.message.contains("`undo`"));
        assert_eq!(play.effects.iter().filter(warned).count(), usize::from(!auto));
    }
}

#[test]
fn an_empty_stable_never_raises_the_candidate() {
    let mut play = Play::begun(quick_plan());
    play.tell(endpoints(0, 4));
    play.pass_preflight();
    play.warm();
    play.wait(HOUR);
    assert_eq!(play.shares(), [0]);
    assert_eq!(holds(&play), [HoldReason::StableEmpty]);
    play.tell(endpoints(4, 4));
    play.warm();
    assert_eq!(play.shares(), [0, 10]);
}

fn loaded(stable: u32, candidate: u32, offered: f64) -> Event {
    let arm = |ready| ArmCapacity { ready, per_endpoint: Some(100.0) };
    Event::Arms(Arms { stable: arm(stable), candidate: arm(candidate), offered: Some(offered), learned_ratio: None })
}

#[test]
fn a_step_past_saturation_holds_until_there_is_room() {
    let mut plan = quick_plan();
    plan.steps = vec![step(0, 0), step(100, 0)];
    let mut play = Play::begun(plan);
    play.tell(loaded(10, 2, 500.0));
    play.pass_preflight();
    play.warm();
    play.wait(MINUTE);
    assert_eq!(holds(&play), [HoldReason::LoadImbalance]);
    assert_eq!(play.shares(), [0]);
    assert!(play.machine.status().message.contains("100% of 500.0 requests/s"), "{}", play.machine.status().message);
    play.tell(loaded(10, 5, 500.0));
    play.wait(1000);
    assert_eq!(play.shares(), [0, 100]);
}

#[test]
fn stable_that_could_not_take_everything_back_holds() {
    let mut plan = quick_plan();
    plan.steps = vec![step(10, 0), step(50, 0), step(100, 0)];
    let mut play = Play::on_first_step(plan);
    play.tell(loaded(5, 5, 450.0));
    assert_eq!(holds(&play), [HoldReason::RollbackCapacity], "450 and 15 % are more than 500");
    play.traffic(600, 20, HEALTHY);
    assert_eq!(play.shares(), [0, 10]);
    play.tell(loaded(6, 5, 450.0));
    assert_eq!(holds(&play), []);
}

#[test]
fn an_edit_of_the_weights_underneath_holds_and_says_what_it_was() {
    let mut play = Play::on_first_step(quick_plan());
    play.tell(Event::Manifests(pair(1, 0)));
    play.expect(Phase::Progressing, Stage::Shifting);
    play.tell(Event::Manifests(pair(70, 30)));
    assert_eq!(holds(&play), [HoldReason::DriftDetected]);
    assert!(play.machine.status().message.contains("from 100/0 to 70/30"), "{}", play.machine.status().message);
    play.tell(Event::Manifests(pair(100, 0)));
    play.expect(Phase::Progressing, Stage::Shifting);
    play.tell(Event::Manifests(pair(70, 30)));
    play.command(Verb::Resume);
    play.expect(Phase::Progressing, Stage::Shifting);
    assert_eq!(play.shares(), [0, 10], "the weights stayed all the while");
    let mut plan = quick_plan();
    plan.steps = vec![step(100, HOUR)];
    let mut play = Play::on_first_step(plan);
    play.tell(Event::Manifests(pair(0, 100)));
    play.expect(Phase::Progressing, Stage::Shifting);
    let mut plan = quick_plan();
    plan.drift = DriftPolicy::Ignore;
    let mut play = Play::on_first_step(plan);
    play.tell(Event::Manifests(pair(70, 30)));
    play.expect(Phase::Progressing, Stage::Shifting);
}

#[test]
fn applying_the_original_manifests_again_and_again_changes_nothing() {
    let mut play = Play::on_first_step(quick_plan());
    let before = play.effects.len();
    for _ in 0..100 {
        play.tell(Event::Manifests(pair(100, 0)));
        let plan = play.machine.plan().clone();
        play.tell(Event::Document(Box::new(plan)));
    }
    assert_eq!(play.effects.len(), before);
}

#[test]
fn lost_observations_hold_and_the_step_begins_anew() {
    let mut play = Play::on_first_step(quick_plan());
    play.traffic(40, 20, HEALTHY);
    play.expect(Phase::Progressing, Stage::Baking);
    play.tell(Event::EvidenceLost { count: 12 });
    play.expect(Phase::Held, Stage::Baking);
    assert_eq!(holds(&play), [HoldReason::EvidenceLoss]);
    play.wait(30_000);
    play.tell(Event::EvidenceLost { count: 1 });
    play.wait(59_000);
    play.expect(Phase::Held, Stage::Baking);
    play.wait(1000);
    play.expect(Phase::Progressing, Stage::Shifting);
    assert_eq!(play.machine.status().lost_observations, 13);
    assert_eq!(play.shares(), [0, 10]);
}

fn frozen(allow_rollback: bool) -> Plan {
    let mut plan = quick_plan();
    // Two hours on Mondays from 08:30.
    plan.freeze = vec![FreezeWindow {
        cron: "30 8 * * 1".parse().expect("a cron line"),
        duration: 2 * HOUR,
        zone: "UTC".parse().expect("a zone"),
        allow_rollback,
    }];
    plan
}

#[test]
fn a_freeze_lets_nothing_move_but_back() {
    let mut play = Play::on_first_step(frozen(true));
    play.wait(30 * MINUTE);
    play.expect(Phase::Frozen, Stage::Shifting);
    assert!(matches!(play.command(Verb::PromoteStep), Effect::CommandRefused { .. }));
    play.traffic(120, 20, HEALTHY);
    play.expect(Phase::Frozen, Stage::Shifting);
    play.wait(2 * HOUR);
    assert_ne!(play.machine.phase(), Phase::Frozen);

    let mut play = Play::on_first_step(frozen(true));
    play.wait(31 * MINUTE);
    play.tell(endpoints(4, 0));
    play.wait(1000);
    play.expect(Phase::RolledBack, Stage::RolledBack);

    let mut play = Play::on_first_step(frozen(false));
    play.wait(31 * MINUTE);
    play.tell(endpoints(4, 0));
    assert_eq!(play.shares(), [0, 10, 0], "stable serves its share, but the roll-out is not given up");
    play.expect(Phase::Frozen, Stage::Shifting);
    assert!(matches!(
        play.command(Verb::Rollback { reason: String::new(), cut_streams: false }),
        Effect::CommandTaken { .. }
    ));
}

#[test]
fn a_deleted_document_turns_back_what_is_not_settled() {
    let mut play = Play::on_first_step(quick_plan());
    play.run_on(1);
    let effects = play.tell(Event::Deleted);
    assert!(
        effects.iter().any(|effect| matches!(effect, Effect::SetWeights(change) if change.candidate == Share::NONE))
    );
    play.expect(Phase::RollingBack, Stage::RollingBack);
    assert!(!play.effects.contains(&Effect::Release), "the overlay stays until the candidate is empty");
    play.run_on(0);
    play.wait(1000);
    assert!(play.machine.is_forgotten());
    assert_eq!(&play.effects[play.effects.len() - 2..], [Effect::Release, Effect::Forget]);

    let mut plan = quick_plan();
    plan.steps = vec![step(100, 0)];
    let mut play = Play::on_first_step(plan);
    play.traffic(400, 20, HEALTHY);
    play.wait(1000);
    play.expect(Phase::Settling, Stage::Settling);
    play.tell(Event::Manifests(pair(0, 100)));
    play.tell(Event::Deleted);
    assert!(play.machine.is_forgotten());
    assert_eq!(play.shares(), [0, 100], "settled: the manifests say the same");
}

#[test]
fn a_changed_candidate_supersedes_and_leaves_stable_alone() {
    let mut play = Play::on_first_step(quick_plan());
    let mut next = Plan::new("serving", "llm-to-h200", "llm", "llm-newer");
    next.generation = 2;
    let effects = play.tell(Event::Document(Box::new(next.clone())));
    assert!(effects.contains(&Effect::Successor(Box::new(next))));
    assert_eq!(play.shares(), [0, 10, 0]);
    play.expect(Phase::Superseded, Stage::Superseded);
    play.wait(1000);
    assert!(play.machine.is_forgotten());
}

#[test]
fn an_edited_ladder_never_gives_the_candidate_more() {
    let mut play = Play::on_first_step(quick_plan());
    let mut plan = quick_plan();
    plan.steps = vec![step(30, MINUTE), step(100, MINUTE)];
    play.tell(Event::Document(Box::new(plan.clone())));
    assert_eq!(play.shares(), [0, 10]);
    plan.steps = vec![step(2, MINUTE), step(4, MINUTE), step(100, MINUTE)];
    play.tell(Event::Document(Box::new(plan)));
    assert_eq!(play.shares(), [0, 10, 4]);
    assert_eq!(play.machine.status().step_index, Some(1));
}

#[test]
fn the_deadline_holds_until_it_is_waived() {
    let mut plan = quick_plan();
    plan.deadline = Some(HOUR);
    let mut play = Play::on_first_step(plan);
    play.wait(HOUR);
    assert_eq!(holds(&play), [HoldReason::Deadline]);
    play.command(Verb::Resume);
    play.wait(HOUR);
    play.expect(Phase::Progressing, Stage::Shifting);
}

#[test]
fn after_a_restart_the_same_weights_rule_and_nothing_moves_on_what_was_known_before() {
    let mut play = Play::on_first_step(quick_plan());
    play.traffic(40, 20, HEALTHY);
    play.expect(Phase::Progressing, Stage::Baking);
    let (epoch, _) = play.machine.epochs();
    // Ten minutes down; the new process's clock begins at 5.
    let wall = play.stamp().wall + 600_000;
    let at = Stamp { monotonic: 5, wall };
    let effects = play.machine.handle(&Input { at, event: Event::Restarted { damaged: false } });
    let [Effect::SetWeights(change)] = effects.as_slice() else { panic!("{effects:?}") };
    assert_eq!((change.candidate, change.raises), (Share::from_percent(10), false));
    assert!(change.epoch > epoch);
    play.expect(Phase::Progressing, Stage::Baking);
    let at = Stamp { monotonic: 2 * HOUR, wall: wall + 2 * 3_600_000 };
    play.machine.handle(&Input { at, event: Event::WeightsApplied { epoch: change.epoch } });
    let effects = play.machine.handle(&Input { at, event: Event::Tick });
    let raised = |effect: &Effect| matches!(effect, Effect::SetWeights(_) | Effect::Checkpoint { .. });
    assert!(!effects.iter().any(raised), "the arms have not been seen since: {effects:?}");
}

#[test]
fn a_damaged_journal_promotes_nothing_on_what_is_left() {
    let mut play = Play::on_first_step(quick_plan());
    play.traffic(40, 20, HEALTHY);
    play.tell(Event::Restarted { damaged: true });
    assert_eq!(holds(&play), [HoldReason::EvidenceLoss]);
    play.wait(MINUTE);
    play.expect(Phase::Progressing, Stage::Shifting);
}

#[test]
fn a_clock_that_runs_backwards_stands_still() {
    let mut play = Play::on_first_step(quick_plan());
    play.now = 0;
    play.tell(Event::Tick);
    let at = Stamp { monotonic: 0, wall: i64::MIN };
    play.machine.handle(&Input { at, event: Event::Tick });
    let at = Stamp { monotonic: u64::MAX, wall: MONDAY };
    play.machine.handle(&Input { at, event: Event::Tick });
    assert_eq!(play.machine.effective_share(), Some(Share::from_percent(10)));
}
