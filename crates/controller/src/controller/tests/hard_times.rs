//! Disks that fail, requests that do not end, and caches that are cold.

use std::path::Path;

use serde_json::json;
use tidegate_evidence::Arm;
use tidegate_rollout::event::{Actor, Command, Verb};

use super::play::{Fake, Play, Stage, document};
use super::*;

fn roll_back() -> Command {
    Command {
        id: "back".into(),
        writer: Actor::named("ann"),
        verb: Verb::Rollback { reason: String::new(), cut_streams: false },
    }
}

/// From now on nothing can be written anew there.
fn spoil(state: &Path) {
    let folder = state.join("rollouts/serving/to-new");
    std::fs::remove_dir_all(&folder).expect("remove");
    std::fs::write(&folder, "no folder").expect("write");
}

#[tokio::test]
async fn a_disk_that_fails_stops_what_moves_forward_and_never_the_way_back() {
    let state = tempfile::tempdir().expect("a folder");
    let spec = json!({
        "steps": [{"weight": 50, "bake": "0s"}, {"weight": 100, "bake": "1h"}],
        "analysis": {"harmBudget": "20pp", "guards": [{"metric": "error"}]},
    });
    let mut play = Play::on(state.path(), Fake::alike().await, Stage::with(document(spec)));
    play.until(Some(500_000)).await;
    spoil(state.path());
    // Evidence enough for the next step, whose checkpoint cannot be written.
    for request in 0..600 {
        play.ended(request, if request % 2 == 0 { Arm::Stable } else { Arm::Candidate }, 0.5, false).await;
    }
    let status = play.until_status("a hold", |status| status["phase"] == "Held").await;
    assert!(status["message"].as_str().is_some_and(|message| message.contains("--state-dir")), "{status:#}");
    assert_eq!(*play.shares.borrow(), Some(500_000), "the candidate keeps what it has");
    for request in 600..700 {
        play.ended(request, if request % 2 == 0 { Arm::Stable } else { Arm::Candidate }, 0.5, request % 2 == 1).await;
    }
    play.until(Some(0)).await;
    play.kill().await;
}

#[tokio::test]
async fn a_roll_back_is_over_when_the_candidates_last_request_is() {
    let state = tempfile::tempdir().expect("a folder");
    let fleet = Fake::alike().await;
    fleet.in_flight.store(1, std::sync::atomic::Ordering::Relaxed);
    let stage = Stage::with(document(json!({"drain": {"timeout": "24h"}})));
    let mut play = Play::on(state.path(), fleet, stage);
    play.until(Some(500_000)).await;
    let arrival = play.arrived(7, Arm::Candidate, 0.5).await;
    play.handle.command("serving", "to-new", roll_back()).await.expect("taken");
    let status = play.until_status("a drain", |status| status["drain"]["inflight"] == 1).await;
    assert_eq!((&status["phase"], &status["drain"]["arm"]), (&json!("RollingBack"), &json!("candidate")), "{status:#}");
    let page = play.handle.metrics();
    assert!(
        page.contains("tidegate_rollout_inflight{namespace=\"serving\",rollout=\"to-new\",arm=\"candidate\"} 1"),
        "{page}"
    );
    play.end(arrival, false).await;
    play.until_status("the end", |status| status["phase"] == "RolledBack").await;
    play.kill().await;
}

#[tokio::test]
async fn a_drain_that_takes_too_long_ends_at_its_time_and_says_so() {
    let state = tempfile::tempdir().expect("a folder");
    let fleet = Fake::alike().await;
    fleet.in_flight.store(1, std::sync::atomic::Ordering::Relaxed);
    let mut play = Play::on(state.path(), fleet, Stage::with(document(json!({"drain": {"timeout": "1s"}}))));
    play.until(Some(500_000)).await;
    play.arrived(7, Arm::Candidate, 0.5).await;
    play.handle.command("serving", "to-new", roll_back()).await.expect("taken");
    play.until_status("the end", |status| status["phase"] == "RolledBack").await;
    // What is shown is written down a moment later.
    play.written_down(1).await;
    let history = play.handle.history("serving", "to-new").expect("a history");
    assert!(history.iter().any(|line| line["kind"] == "DrainTimeout"), "{history:?}");
    play.kill().await;
}

#[tokio::test]
async fn a_candidates_caches_are_warmed_with_what_was_asked_of_stable() {
    let state = tempfile::tempdir().expect("a folder");
    let fleet = Fake::alike().await;
    let body =
        json!({"model": "m", "stream": true, "max_tokens": 500, "messages": [{"role": "user", "content": "hello"}]});
    fleet.prompts.lock().push(crate::Prompt { path: "/v1/chat/completions".into(), body: body.to_string().into() });
    let asked = fleet.asked.clone();
    let stage = Stage::with(document(json!({"warmup": {"until": {"cacheHitRatio": 0.8}, "timeout": "1h"}})));
    let mut play = Play::on(state.path(), fleet, stage);
    play.until(Some(500_000)).await;
    let replayed: Vec<Value> = asked.lock().clone();
    let chats: Vec<&Value> = replayed.iter().filter(|body| body["messages"].is_array()).collect();
    assert!(!chats.is_empty(), "{replayed:?}");
    for chat in chats {
        let expected = json!({"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "hello"}]});
        assert_eq!(*chat, expected);
    }
    let said = format!("{:?}", play.handle.history("serving", "to-new"));
    assert!(said.contains("WarmupComplete") && !said.contains("hello"), "{said}");
    play.kill().await;
}
