//! A tool that applies the same manifests again and again, while a roll-out moves the weights that they name.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;
use tidegate_harness::ModelServer;
use tidegate_harness::gateway::write_atomically;

use crate::releases::{Asked, Traffic, history, rollout, server_of, status, wait_phase};
use crate::setup::{BINARY, Manifests};

/// Between two rounds of the tool.
const ROUND: Duration = Duration::from_millis(100);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn applying_the_original_manifests_again_and_again_changes_nothing() {
    let old = ModelServer::start(BINARY, "m", &[], &["--name", "old"]);
    let new = ModelServer::start(BINARY, "m", &[], &["--name", "new"]);
    let manifests =
        |old_weight, new_weight| Manifests::new(&[("old", old_weight, &[&old]), ("new", new_weight, &[&new])]);
    let document = rollout(
        "Node",
        json!({
            "target": {"routeRef": {"name": "route"}},
            "stable": {"poolRef": {"name": "old"}}, "candidate": {"poolRef": {"name": "new"}}}),
    );
    let mut original = manifests(90, 10);
    let setup = original.serve().await;
    let traffic = Traffic::start(&setup, Asked::Of("m"), server_of);
    original.further.push(document.clone());
    let (stop, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (ended, counted, file, text) = (stop.clone(), rounds.clone(), setup.file(), original.text());
    let tool = tokio::spawn(async move {
        while !ended.load(Ordering::Relaxed) {
            // Some tools rename over a file, others write it in place.
            if counted.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
                write_atomically(&file, &text);
            } else {
                std::fs::write(&file, &text).expect("write");
            }
            tokio::time::sleep(ROUND).await;
        }
    });
    wait_phase(&setup, &["Settling"]).await;
    // It goes on saying 90/10, and the candidate keeps everything.
    traffic.until(300).await;
    let applied = rounds.load(Ordering::Relaxed);
    while rounds.load(Ordering::Relaxed) < applied + 20 {
        tokio::time::sleep(ROUND).await;
    }
    let settling = status(&setup).await;
    assert_eq!(settling["phase"], "Settling", "{settling:#}");
    assert_eq!(settling["effectiveWeights"]["candidate"], json!(100), "{settling:#}");
    let page = setup.gateway.admin_get("/metrics").await.text();
    for line in [
        "tidegate_rollout_phase{namespace=\"default\",rollout=\"release\",phase=\"Settling\"} 1\n",
        "tidegate_rollout_weight{namespace=\"default\",rollout=\"release\",arm=\"candidate\"} 1\n",
    ] {
        assert!(page.contains(line), "{line} in {page}");
    }
    assert!(page.ends_with("# EOF\n") && page.matches("# EOF").count() == 1, "{page}");
    traffic.clear_sessions();
    traffic.until(200).await;
    stop.store(true, Ordering::Relaxed);
    tool.await.expect("the tool's task");
    let mut after = manifests(0, 100);
    after.further.push(document);
    setup.write(&after);
    wait_phase(&setup, &["Completed"]).await;
    for (session, arms) in traffic.end_with_sessions().await {
        assert!(arms.iter().all(|arm| arm == "new"), "{session} after the promotion: {arms:?}");
    }
    let said = history(&setup).await;
    for word in ["Held", "DriftDetected", "RollbackStarted", "Superseded", "StartedAgain", "Deleted"] {
        assert!(!said.contains(word), "{word} in {said}");
    }
    assert!(rounds.load(Ordering::Relaxed) > 30, "the tool hardly ran");
}
