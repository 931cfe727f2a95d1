//! From Pending to Completed, and each stage on the way.

use std::collections::BTreeSet;

use super::play::{HEALTHY, MONDAY, Play, endpoints, pair, quick_plan, step};
use crate::effect::{Arm, Effect};
use crate::event::{
    Admission, CheckOutcome, CheckResult, Event, GateAnswer, GateResult, Refusal, ShadowProgress, Verb, WarmUpProgress,
};
use crate::machine::ConditionKind;
use crate::plan::{
    AdapterPlan, Check, GateError, HOUR, Inconclusive, MINUTE, ManualGate, ShadowPlan, Start, StepWeight, WebhookGate,
};
use crate::share::Share;
use crate::stage::{HoldReason, Phase, Stage};

#[test]
fn a_healthy_candidate_goes_from_its_document_to_completed() {
    let mut play = Play::begun(quick_plan());
    play.expect(Phase::Preflight, Stage::Preflight);
    assert_eq!(play.shares(), [0], "stable serves everything while it prepares");
    play.pass_preflight();
    play.expect(Phase::Warming, Stage::Warming);
    play.warm();
    play.expect(Phase::Progressing, Stage::Shifting);
    play.run_on(3);
    play.traffic(4_000, 20, HEALTHY);
    play.expect(Phase::Draining, Stage::Draining);
    assert_eq!(play.shares(), [0, 10, 50, 100]);
    play.wait(MINUTE);
    play.expect(Phase::Draining, Stage::Draining);
    let drain = play.machine.status().drain.expect("it drains");
    assert_eq!((drain.arm, drain.inflight), (Arm::Stable, Some(3)));
    play.run_on(0);
    play.wait(1000);
    play.expect(Phase::Settling, Stage::Settling);
    play.wait(2 * HOUR);
    play.expect(Phase::Settling, Stage::Settling);
    play.tell(Event::Manifests(pair(0, 100)));
    play.expect(Phase::Completed, Stage::Completed);
    assert!(play.effects.contains(&Effect::Release));
    use Phase::{Completed, Draining, Held, Preflight, Progressing, Promoting, Settling, Warming};
    let mut phases = play.phases();
    phases.retain(|phase| *phase != Held);
    phases.dedup();
    assert_eq!(phases, [Preflight, Warming, Progressing, Promoting, Draining, Settling, Completed]);
    let status = play.machine.status();
    let holds = |kind: &str| {
        let condition = status.conditions.iter().find(|condition| condition.kind == kind);
        condition.map(|condition| format!("{:?}", condition.status))
    };
    for kind in ["Accepted", "ResolvedRefs", "PreflightPassed", "CandidateWarm", "Drained", "Settled", "Promoted"] {
        assert_eq!(holds(kind).as_deref(), Some("True"), "{kind}");
    }
    assert_eq!(holds("RolledBack").as_deref(), Some("False"));
    assert_eq!(status.conditions.len(), ConditionKind::ALL.len());
}

#[test]
fn every_step_is_decided_after_its_checkpoint_is_on_disk() {
    let mut play = Play::begun(quick_plan());
    play.disk_works = false;
    play.pass_preflight();
    play.warm();
    play.expect(Phase::Warming, Stage::Warming);
    let asked = |play: &Play| {
        let ids = play.effects.iter().filter_map(|effect| match effect {
            Effect::Checkpoint { id, .. } => Some(*id),
            _ => None,
        });
        ids.collect::<Vec<u64>>()
    };
    let ids = asked(&play);
    assert_eq!(ids.len(), 1, "asked once");
    play.wait(10_000);
    assert_eq!(asked(&play), ids);
    assert_eq!(play.shares(), [0]);
    play.tell(Event::CheckpointDurable { id: ids[0] + 1 });
    assert_eq!(play.shares(), [0], "another checkpoint says nothing");
    play.tell(Event::CheckpointDurable { id: ids[0] });
    assert_eq!(play.shares(), [0, 10]);
    assert!(play.weight_changes()[1].raises);
}

#[test]
fn a_step_shifts_until_every_replica_serves_by_it_and_traffic_shows_it() {
    let mut play = Play::begun(quick_plan());
    play.pass_preflight();
    play.replicas_answer = false;
    play.warm();
    play.traffic(120, 20, HEALTHY);
    play.expect(Phase::Progressing, Stage::Shifting);
    let epoch = play.weight_changes().last().expect("a change").epoch;
    play.tell(Event::WeightsApplied { epoch: epoch + 7 });
    play.expect(Phase::Progressing, Stage::Shifting);
    play.tell(Event::WeightsApplied { epoch });
    play.wait(1000);
    play.expect(Phase::Progressing, Stage::Baking);
    // Without traffic nobody knows whether the share is applied.
    let mut silent = Play::on_first_step(quick_plan());
    silent.wait(HOUR);
    silent.expect(Phase::Progressing, Stage::Shifting);
}

#[test]
fn preflight_fails_at_once_on_what_will_not_come_and_in_time_on_what_does_not() {
    let refusal = Refusal { reason: "AdapterMissing".into(), message: "10.0.0.7:8000 does not serve it".into() };
    let answer = |attempt, outcome| Event::Preflight(CheckResult { attempt, check: Check::SameModels, outcome });
    let mut play = Play::begun(quick_plan());
    play.tell(answer(7, CheckOutcome::Failed(refusal.clone())));
    play.expect(Phase::Preflight, Stage::Preflight);
    play.tell(answer(1, CheckOutcome::Failed(refusal.clone())));
    play.expect(Phase::Failed, Stage::Failed);
    assert_eq!(play.reason(), "AdapterMissing");
    assert_eq!(play.shares(), [0], "nobody met the candidate");
    let mut play = Play::begun(quick_plan());
    play.tell(answer(1, CheckOutcome::Waiting(refusal)));
    play.wait(9 * MINUTE);
    play.expect(Phase::Preflight, Stage::Preflight);
    play.wait(MINUTE);
    play.expect(Phase::Failed, Stage::Failed);
    play.command(Verb::Start);
    play.expect(Phase::Preflight, Stage::Preflight);
    assert_eq!(play.machine.status().attempt, 2);
}

#[test]
fn models_that_the_candidate_lacks_stay_on_stable() {
    let mut play = Play::begun(quick_plan());
    let models: BTreeSet<String> = ["travel-helper".to_owned()].into();
    let outcome = CheckOutcome::PassedWithout { models: models.clone() };
    let effects = play.tell(Event::Preflight(CheckResult { attempt: 1, check: Check::SameModels, outcome }));
    assert_eq!(effects, [Effect::ExcludeModels { models: models.clone() }]);
    assert_eq!(play.machine.status().excluded_models, models);
}

#[test]
fn a_cold_candidate_goes_on_when_its_time_is_over() {
    let mut play = Play::begun(quick_plan());
    play.pass_preflight();
    let cold = WarmUpProgress { candidate_hit_ratio: 0.1, stable_hit_ratio: 0.6, ..WarmUpProgress::default() };
    play.tell(Event::WarmUp(cold));
    play.wait(19 * MINUTE);
    play.expect(Phase::Warming, Stage::Warming);
    assert!(!play.machine.is_warm());
    play.wait(MINUTE);
    play.expect(Phase::Progressing, Stage::Shifting);
    assert_eq!(play.effects.iter().filter(|effect| **effect == Effect::StopWarmUp).count(), 1);
}

#[test]
fn shadowing_mirrors_for_its_time_and_stops_at_a_candidate_that_answers_nonsense() {
    let mut plan = quick_plan();
    plan.shadow = Some(ShadowPlan { before: 30 * MINUTE });
    let mut play = Play::begun(plan.clone());
    play.pass_preflight();
    play.warm();
    play.expect(Phase::Shadowing, Stage::Shadowing);
    play.tell(Event::Shadow(ShadowProgress { mirrored: 500, failed: 2, misshapen: 1 }));
    play.wait(30 * MINUTE);
    play.expect(Phase::Progressing, Stage::Shifting);
    let mut play = Play::begun(plan);
    play.pass_preflight();
    play.warm();
    play.tell(Event::Shadow(ShadowProgress { mirrored: 8, failed: 3, misshapen: 4 }));
    play.expect(Phase::Failed, Stage::Failed);
    assert_eq!(play.reason(), "ShadowFailed");
    assert!(play.effects.contains(&Effect::StopShadow));
}

#[test]
fn it_waits_for_what_it_needs_before_it_begins() {
    let mut plan = quick_plan();
    plan.start = Start::Manual;
    let mut play = Play::new(plan);
    play.tell(Event::Admission(Admission::default()));
    play.tell(Event::Manifests(pair(100, 0)));
    play.wait(HOUR);
    play.expect(Phase::Pending, Stage::Pending);
    let conflict = Refusal { reason: "Conflict".into(), message: "serving/older holds the pair".into() };
    play.tell(Event::Admission(Admission { refused: Some(conflict), unresolved: None }));
    play.command(Verb::Start);
    play.expect(Phase::Pending, Stage::Pending);
    assert_eq!(play.machine.status().message, "Conflict: serving/older holds the pair");
    play.tell(Event::Admission(Admission::default()));
    play.expect(Phase::Preflight, Stage::Preflight);
}

#[test]
fn a_document_that_outlived_its_roll_out_moves_nothing() {
    let mut play = Play::new(quick_plan());
    play.tell(Event::Admission(Admission::default()));
    play.tell(Event::Manifests(pair(0, 100)));
    play.expect(Phase::Completed, Stage::Completed);
    assert!(play.weight_changes().is_empty());
}

#[test]
fn a_manual_gate_asks_people_and_takes_only_its_approvers() {
    let mut plan = quick_plan();
    plan.steps = vec![step(0, 0), step(100, 0)];
    plan.steps[0].manual = Some(ManualGate { approvers: vec!["bo".into()] });
    let mut play = Play::on_first_step(plan.clone());
    play.wait(HOUR);
    play.expect(Phase::Progressing, Stage::Gating);
    assert!(matches!(play.command(Verb::Approve), Effect::CommandRefused { .. }), "ana is no approver");
    assert!(matches!(play.command(Verb::PromoteStep), Effect::CommandRefused { .. }), "and cannot go around it");
    plan.steps[0].manual = Some(ManualGate { approvers: vec!["bo".into(), "ana".into()] });
    play.tell(Event::Document(Box::new(plan)));
    play.command(Verb::Approve);
    play.wait(1000);
    assert_eq!(play.shares(), [0, 100]);
}

fn with_webhook(on_error: GateError) -> Play {
    let mut plan = quick_plan();
    plan.steps = vec![step(0, 0), step(100, 0)];
    plan.steps[0].webhook = Some(WebhookGate { url: "https://evals/judge".into(), timeout: 5 * MINUTE, on_error });
    let mut play = Play::on_first_step(plan);
    play.wait(MINUTE);
    play.expect(Phase::Progressing, Stage::Gating);
    play
}

fn call(play: &Play) -> u64 {
    let call = play.effects.iter().rev().find_map(|effect| match effect {
        Effect::CallGate(call) => Some(call.call),
        _ => None,
    });
    call.expect("the gate was asked")
}

#[test]
fn a_webhook_gate_opens_refuses_or_stays_silent() {
    let mut play = with_webhook(GateError::Hold);
    let answer = GateResult { call: call(&play), answer: GateAnswer::Pass };
    play.tell(Event::Gate(answer));
    assert_eq!(play.shares(), [0, 100]);

    let mut play = with_webhook(GateError::Hold);
    let message = "loses 70 % of its comparisons".to_owned();
    let answer = GateResult { call: call(&play), answer: GateAnswer::Fail { message } };
    play.tell(Event::Gate(answer));
    play.expect(Phase::RolledBack, Stage::RolledBack);

    let mut play = with_webhook(GateError::Hold);
    let first = call(&play);
    play.wait(5 * MINUTE);
    play.expect(Phase::Held, Stage::Gating);
    play.command(Verb::Resume);
    play.wait(1000);
    assert!(call(&play) > first, "asked again");
    play.tell(Event::Gate(GateResult { call: first, answer: GateAnswer::Pass }));
    assert_eq!(play.shares(), [0], "an answer to the first question comes too late");

    let mut play = with_webhook(GateError::Promote);
    play.wait(5 * MINUTE);
    assert_eq!(play.shares(), [0, 100]);
    let mut play = with_webhook(GateError::Rollback);
    play.wait(5 * MINUTE);
    play.expect(Phase::RolledBack, Stage::RolledBack);
}

#[test]
fn parity_gives_the_candidate_its_part_of_the_capacity() {
    let mut plan = quick_plan();
    plan.relative_capacity = Some(2.0);
    plan.warm_up = None;
    plan.steps = vec![step(0, 0), step(100, 0)];
    plan.steps.insert(1, crate::plan::Step { weight: StepWeight::Parity, ..Default::default() });
    let mut play = Play::begun(plan);
    play.tell(endpoints(6, 3));
    play.pass_preflight();
    play.wait(1000);
    assert_eq!(play.shares(), [0, 50]);
}

#[test]
fn a_step_that_stays_undecided_holds_and_says_what_it_needs() {
    let mut plan = quick_plan();
    for guard in &mut plan.analysis.policy.events {
        guard.harm_budget = Some(1e-6);
    }
    plan.analysis.step_max = Some(HOUR);
    let mut play = Play::on_first_step(plan.clone());
    play.traffic(300, 20, HEALTHY);
    play.expect(Phase::Held, Stage::Gating);
    let status = play.machine.status();
    assert_eq!(status.holds.iter().map(|hold| hold.reason).collect::<Vec<_>>(), [HoldReason::Inconclusive]);
    assert!(status.message.contains("percentage points"), "{}", status.message);
    assert_eq!(status.interrupted, Some(Phase::Progressing));
    play.wait(2 * HOUR);
    play.expect(Phase::Held, Stage::Gating);
    play.command(Verb::PromoteStep);
    assert_eq!(play.shares(), [0, 10, 50], "a person may decide without the evidence");

    plan.analysis.on_inconclusive = Inconclusive::Rollback;
    let mut play = Play::on_first_step(plan);
    play.traffic(300, 20, HEALTHY);
    play.wait(HOUR);
    play.expect(Phase::RolledBack, Stage::RolledBack);
    assert!(play.machine.status().history.iter().any(|transition| transition.reason == "Inconclusive"));
}

#[test]
fn promotion_waits_for_retention_and_then_unloads_the_old_adapter() {
    let mut plan = quick_plan();
    plan.steps = vec![step(100, 0)];
    plan.adapters = Some(AdapterPlan { ensure_loaded: true, unload_stable_after: Some(3 * HOUR) });
    let mut play = Play::begun(plan);
    assert!(play.effects.contains(&Effect::LoadAdapter { arm: Arm::Candidate }));
    play.pass_preflight();
    play.warm();
    play.traffic(400, 20, HEALTHY);
    play.wait(1000);
    play.expect(Phase::Settling, Stage::Settling);
    // A target that cannot weigh 0 says it by having no entry for stable.
    play.tell(Event::Manifests(crate::event::PairWeights { stable: None, candidate: Some(1) }));
    play.wait(30 * MINUTE);
    play.expect(Phase::Settling, Stage::Settling);
    assert_eq!(play.machine.status().message, "settled; the retention runs");
    play.wait(HOUR);
    play.expect(Phase::Completed, Stage::Completed);
    let unload = Effect::UnloadAdapter { arm: Arm::Stable };
    assert!(!play.effects.contains(&unload));
    play.wait(2 * HOUR);
    assert_eq!(play.effects.iter().filter(|effect| **effect == unload).count(), 1);
}

#[test]
fn a_drain_ends_at_its_timeout_and_says_so() {
    let mut plan = quick_plan();
    plan.steps = vec![step(100, 0)];
    let mut play = Play::on_first_step(plan);
    play.run_on(2);
    play.traffic(400, 20, HEALTHY);
    play.expect(Phase::Draining, Stage::Draining);
    play.wait(15 * MINUTE);
    play.expect(Phase::Settling, Stage::Settling);
    let cut = |effect: &Effect| matches!(effect, Effect::CutStreams { .. });
    assert!(!play.effects.iter().any(cut), "streams finish");
}

#[test]
fn the_status_prints_what_the_study_lists() {
    let mut play = Play::on_first_step(quick_plan());
    play.traffic(60, 20, HEALTHY);
    let status = serde_json::to_value(play.machine.status()).expect("a status is plain data");
    for key in [
        "phase",
        "stepIndex",
        "effectiveWeights",
        "observedShare",
        "evidence",
        "history",
        "observedGeneration",
        "rolloutUID",
        "conditions",
    ] {
        assert!(status.get(key).is_some(), "{key} in {status:#}");
    }
    assert_eq!(status["effectiveWeights"], serde_json::json!({"stable": 90, "candidate": 10}));
    assert_eq!(status["history"][0]["at"], MONDAY);
    assert!(status["evidence"][0].get("lnE").is_some(), "{}", status["evidence"]);
    let explanation = play.machine.explain();
    assert!(explanation.numbers.iter().any(|number| number.name == "error: ln E" && number.limit.is_some()));
    assert!(!explanation.would_change.is_empty());
    assert_eq!(play.machine.effective_share(), Some(Share::from_percent(10)));
}
