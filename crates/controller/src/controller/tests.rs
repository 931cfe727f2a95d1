//! The controller at work: its clock, its fleet and its control loop are the test's.

mod hard_times;
mod hooks;
mod kills;
mod play;

use tidegate_evidence::Arm;
use tidegate_rollout::event::{Actor, Command, Verb};
use tidegate_routing::PairInManifests;

use super::*;
use play::{Fake, Play, Stage, document, server};

#[tokio::test]
async fn a_release_goes_from_its_document_to_its_step_and_back_when_its_candidate_fails() {
    let state = tempfile::tempdir().expect("a folder");
    let mut play = Play::open(state.path(), Fake::alike().await);
    play.until(Some(500_000)).await;
    for request in (0..120).step_by(2) {
        play.ended(request, Arm::Stable, 0.5, false).await;
        play.ended(request + 1, Arm::Candidate, 0.5, true).await;
    }
    let rolled_back = play.until_status("a roll-back", |status| status["phase"] == "RolledBack").await;
    let lines = rolled_back["history"].as_array().expect("a history").iter();
    let reasons: Vec<&str> = lines.filter_map(|line| line["reason"].as_str()).collect();
    assert!(reasons.contains(&"Breaker") || reasons.iter().any(|reason| reason.starts_with("Worse")), "{reasons:?}");
    assert_eq!(play.handle.verdict("serving", "to-new").expect("a verdict")["verdict"], "fail");
    // The manifests give stable everything: nothing changes by stepping aside.
    play.until(None).await;
    play.kill().await;
}

#[tokio::test]
async fn a_killed_gateway_serves_by_the_same_weights_from_its_first_snapshot() {
    let state = tempfile::tempdir().expect("a folder");
    let fleet = Fake::alike().await;
    let mut play = Play::open(state.path(), fleet.clone());
    play.until(Some(500_000)).await;
    for round in 0..5_u64 {
        for request in 0..round * 7 {
            play.ended(round * 1000 + request, Arm::Stable, 0.5, false).await;
        }
        play.kill().await;
        play = Play::open(state.path(), fleet.clone());
        assert_eq!(*play.shares.borrow(), Some(500_000), "round {round}");
    }
    let history = play.handle.history("serving", "to-new").expect("a history");
    assert!(history.iter().any(|line| line["type"] == "Transition"), "{history:?}");
    play.kill().await;
}

/// Manifests that give the candidate a tenth, whatever a roll-out says.
fn nine_to_one() -> Stage {
    let manifests = PairInManifests { stable: Some(90), candidate: Some(10) };
    Stage { manifests, ..Stage::with(document(Value::Null)) }
}

#[tokio::test]
async fn another_model_on_the_candidate_stops_it_and_keeps_its_clients_on_stable() {
    let state = tempfile::tempdir().expect("a folder");
    let fleet = Fake {
        stable: server("m", Arc::default()).await,
        candidate: server("other", Arc::default()).await,
        ..Fake::default()
    };
    let mut play = Play::on(state.path(), fleet.clone(), nine_to_one());
    let status = play.until_status("a failure", |status| status["phase"] == "Failed").await;
    assert!(status["message"].as_str().is_some_and(|message| message.contains("--served-model-name")), "{status:#}");
    play.until(Some(0)).await;
    play.written_down(1).await;
    play.kill().await;
    let mut play = Play::on(state.path(), fleet.clone(), nine_to_one());
    assert_eq!(*play.shares.borrow(), Some(0), "from its first snapshot on");
    play.manifests.send_replace(PairInManifests { stable: Some(100), candidate: Some(0) });
    play.until(None).await;
    assert_eq!((play.status()["phase"].as_str(), play.highest()), (Some("Failed"), 0));
    play.written_down(2).await;
    play.kill().await;
    // It has stepped aside, and stays there.
    let play = Play::on(state.path(), fleet, nine_to_one());
    assert_eq!(*play.shares.borrow(), None);
    play.kill().await;
}

#[tokio::test]
async fn a_roll_back_keeps_what_the_manifests_give_the_candidate_on_stable() {
    let state = tempfile::tempdir().expect("a folder");
    let fleet = Fake::alike().await;
    let mut play = Play::on(state.path(), fleet.clone(), nine_to_one());
    play.until(Some(500_000)).await;
    let back = Command {
        id: "1".into(),
        writer: Actor::named("ann"),
        verb: Verb::Rollback { reason: String::new(), cut_streams: false },
    };
    play.handle.command("serving", "to-new", back).await.expect("taken");
    play.until_status("a roll-back", |status| status["phase"] == "RolledBack").await;
    play.kill().await;
    let mut play = Play::on(state.path(), fleet, nine_to_one());
    assert_eq!((*play.shares.borrow(), play.highest()), (Some(0), 0));
    play.manifests.send_replace(PairInManifests { stable: Some(1), candidate: None });
    play.until(None).await;
    play.kill().await;
}

#[tokio::test]
async fn commands_are_answered_once_they_cannot_be_forgotten() {
    let state = tempfile::tempdir().expect("a folder");
    let mut play = Play::open(state.path(), Fake::alike().await);
    play.until(Some(500_000)).await;
    let command = |id: &str, verb| Command { id: id.into(), writer: Actor::named("ann"), verb };
    let unknown = play.handle.command("serving", "nobody", command("0", Verb::Pause)).await;
    assert!(matches!(unknown, Err(CommandError::NotFound { .. })));
    let taken = play.handle.command("serving", "to-new", command("1", Verb::Pause)).await.expect("taken");
    assert_eq!(taken["id"], "1");
    let refused = play.handle.command("serving", "to-new", command("2", Verb::Undo)).await;
    assert!(matches!(refused, Err(CommandError::Refused(_))), "{refused:?}");
    let again = play.handle.command("serving", "to-new", command("1", Verb::Pause)).await.expect("no harm");
    assert!(again["message"].as_str().is_some_and(|message| message.contains("before")), "{again}");
    play.kill().await;
    let fleet = Fake::alike().await;
    let play = Play::open(state.path(), fleet);
    assert_eq!(play.handle.status("serving", "to-new").expect("it is there")["phase"], "Paused");
    play.kill().await;
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_holds_the_roll_out_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let state = folder.path().join("file");
    std::fs::write(&state, "no folder").expect("write");
    let play = Play::open(&state, Fake::alike().await);
    play.until_status("the reason", |status| {
        status["message"].as_str().is_some_and(|message| message.contains("StateNotWritable"))
    })
    .await;
    assert_eq!(*play.shares.borrow(), None);
    play.kill().await;
}
