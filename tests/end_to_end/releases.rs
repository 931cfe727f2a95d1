//! The three releases, from the roll-out's document to its end, while sessions, streams and whole answers flow.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use http::Method;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tidegate_harness::client::Answer;
use tidegate_harness::gateway::PATIENCE;
use tidegate_harness::{Client, ModelServer};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::setup::{BINARY, CHAT, Manifests, Setup, chat};

/// Clients: each asks again and again, every other one within a session, every other answer as a stream.
struct Traffic {
    stop: Arc<AtomicBool>,
    seen: Arc<Seen>,
    tasks: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Seen {
    answered: AtomicU64,
    failures: Mutex<Vec<String>>,
    /// By session, what it was answered by lately; emptied with [`Traffic::forget`].
    sessions: Mutex<BTreeMap<String, BTreeSet<String>>>,
}

impl Traffic {
    /// `who` tells from an answer by whom it was given.
    fn start(setup: &Setup, model: &'static str, who: fn(&Answer) -> String) -> Self {
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Seen::default()));
        let tasks = (0..24)
            .map(|number| {
                let (stop, seen, address) = (stop.clone(), seen.clone(), setup.address);
                tokio::spawn(async move {
                    for turn in 0_u64.. {
                        if stop.load(Ordering::Relaxed) {
                            return;
                        }
                        // A few turns a session, so that there are always new ones.
                        let session = (number % 2 == 0).then(|| format!("session-{number}-{}", turn / 8));
                        let mut client = Client::new();
                        if let Some(session) = &session {
                            client = client.header("x-session-id", session);
                        }
                        let stream = turn % 2 == 0;
                        let body = chat(model, 4, stream).to_string().into();
                        match client.send(address, Method::POST, CHAT, body).await {
                            Ok(answer) if answer.status == 200 && (!stream || answer.text().contains("[DONE]")) => {
                                seen.answered.fetch_add(1, Ordering::Relaxed);
                                if let Some(session) = session {
                                    seen.sessions.lock().entry(session).or_default().insert(who(&answer));
                                }
                            }
                            Ok(answer) => seen.failures.lock().push(format!("{} {}", answer.status, answer.text())),
                            Err(error) => seen.failures.lock().push(format!("{error:#}")),
                        }
                    }
                })
            })
            .collect();
        Self { stop, seen, tasks }
    }

    /// Ends it; every request was answered whole.
    async fn end(self) -> Arc<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.expect("what a test asked for");
        }
        let failures = self.seen.failures.lock().clone();
        assert!(
            failures.is_empty(),
            "{} of {}: {:?}",
            failures.len(),
            self.seen.answered.load(Ordering::Relaxed),
            failures.first()
        );
        self.seen
    }
}

fn server_of(answer: &Answer) -> String {
    answer.headers["x-sim-server"].to_str().expect("what a test asked for").to_owned()
}

fn model_of(answer: &Answer) -> String {
    let whole = if answer.text().starts_with("data:") {
        serde_json::from_str::<Value>(&answer.events()[0]).expect("what a test asked for")
    } else {
        answer.json()
    };
    whole["model"].as_str().unwrap_or_default().to_owned()
}

/// What all releases here have in common: three steps, each as short as its evidence allows.
fn rollout(kind: &str, spec: Value) -> Value {
    let mut rollout = json!({
    "apiVersion": "tidegate.dev/v1alpha1", "kind": "InferenceRollout", "metadata": {"name": "release"},
    "spec": {
        "type": kind,
        "assignment": {"unit": "Conversation", "keys": ["header:x-session-id"]},
        "steps": [{"weight": 10, "bake": "500ms"}, {"weight": 50, "bake": "500ms"}, {"weight": 100, "bake": "500ms"}],
        "analysis": {"harmBudget": "20pp", "guards": [{"metric": "error"}]},
        "drain": {"timeout": "10s", "minRetention": "1s"},
    }});
    for (key, value) in spec.as_object().expect("what a test asked for") {
        rollout["spec"][key] = value.clone();
    }
    rollout
}

async fn status(setup: &Setup) -> Value {
    let objects = setup.gateway.objects("InferenceRollout", Some("release")).await;
    objects.first().map(|object| object["status"].clone()).unwrap_or_default()
}

async fn wait_phase(setup: &Setup, wanted: &[&str]) -> Value {
    let started = Instant::now();
    loop {
        let status = status(setup).await;
        let phase = status["phase"].as_str().unwrap_or_default().to_owned();
        if wanted.contains(&phase.as_str()) {
            return status;
        }
        let refused =
            status["conditions"].as_array().into_iter().flatten().find(|one| one["type"] == "tidegate.dev/Broken");
        assert!(refused.is_none(), "{refused:#?}");
        let over = ["Failed", "RolledBack", "Completed"].contains(&phase.as_str());
        assert!(!over && started.elapsed() < PATIENCE, "{phase}, not {wanted:?}: {status:#}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// A release from the document to its end.
struct Release<'a> {
    before: Manifests,
    rollout: Value,
    /// What settles it.
    after: Manifests,
    model: &'static str,
    who: fn(&Answer) -> String,
    /// What `who` says of the candidate.
    candidate: &'a str,
}

/// From the document to Completed: manifests are edited once, when the roll-out waits for them.
async fn release(setup: &Setup, release: Release<'_>) {
    let Release { mut before, rollout, after, model, who, candidate } = release;
    let traffic = Traffic::start(setup, model, who);
    before.further.push(rollout.clone());
    setup.write(&before);
    let settling = wait_phase(setup, &["Settling"]).await;
    assert_eq!(settling["effectiveWeights"]["candidate"], json!(100), "{settling:#}");
    traffic.seen.sessions.lock().clear();
    let answered = traffic.seen.answered.load(Ordering::Relaxed);
    let started = Instant::now();
    while traffic.seen.answered.load(Ordering::Relaxed) < answered + 300 {
        assert!(started.elapsed() < PATIENCE, "traffic stands still");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let mut after = after;
    after.further.push(rollout);
    setup.write(&after);
    wait_phase(setup, &["Completed"]).await;
    let seen = traffic.end().await;
    let sessions = seen.sessions.lock().clone();
    assert!(sessions.len() > 10, "{sessions:?}");
    for (session, arms) in &sessions {
        assert!(arms.iter().all(|arm| arm == candidate), "{session} after settling: {arms:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_nodes_take_over_and_nobody_notices() {
    let old = ModelServer::start(BINARY, "m", &[], &["--name", "old"]);
    let new = ModelServer::start(BINARY, "m", &[], &["--name", "new"]);
    let manifests =
        |old_weight, new_weight| Manifests::new(&[("old", old_weight, &[&old]), ("new", new_weight, &[&new])]);
    let setup = manifests(100, 0).serve().await;
    let document = rollout(
        "Node",
        json!({
        "target": {"routeRef": {"name": "route"}},
        "stable": {"poolRef": {"name": "old"}}, "candidate": {"poolRef": {"name": "new"}}}),
    );
    release(
        &setup,
        Release {
            before: manifests(100, 0),
            rollout: document,
            after: manifests(0, 100),
            model: "m",
            who: server_of,
            candidate: "new",
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_base_model_takes_over_under_the_same_name() {
    let old = ModelServer::start(BINARY, "mymodel", &["helper"], &["--name", "v1", "--model", "qwen"]);
    let new = ModelServer::start(BINARY, "mymodel", &["helper"], &["--name", "v2", "--model", "deepseek"]);
    let manifests =
        |old_weight, new_weight| Manifests::new(&[("v1", old_weight, &[&old]), ("v2", new_weight, &[&new])]);
    let setup = manifests(1, 0).serve().await;
    let document = rollout(
        "BaseModel",
        json!({
        "target": {"routeRef": {"name": "route"}},
        "stable": {"poolRef": {"name": "v1"}}, "candidate": {"poolRef": {"name": "v2"}}}),
    );
    release(
        &setup,
        Release {
            before: manifests(1, 0),
            rollout: document,
            after: manifests(0, 1),
            model: "mymodel",
            who: server_of,
            candidate: "v2",
        },
    )
    .await;
}

fn rewrite(targets: &[(&str, u32)]) -> Value {
    let targets: Vec<Value> =
        targets.iter().map(|(model, weight)| json!({"modelRewrite": model, "weight": weight})).collect();
    json!({
        "apiVersion": "llm-d.ai/v1alpha2", "kind": "InferenceModelRewrite", "metadata": {"name": "helper"},
        "spec": {"poolRef": {"name": "pool"},
                 "rules": [{"matches": [{"model": {"value": "helper"}}], "targets": targets}]}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_adapter_takes_over_inside_its_pool() {
    let server = ModelServer::start(BINARY, "base", &["helper-v1", "helper-v2"], &["--max-loras", "4"]);
    let manifests = |targets: &[(&str, u32)]| {
        let mut manifests = Manifests::new(&[("pool", 1, &[&server])]);
        manifests.further.push(rewrite(targets));
        manifests
    };
    let setup = manifests(&[("helper-v1", 100)]).serve().await;
    let document = rollout(
        "LoRA",
        json!({
        "target": {"model": "helper", "poolRef": {"name": "pool"}, "rewriteRef": {"name": "helper"}},
        "stable": {"model": "helper-v1"}, "candidate": {"model": "helper-v2"}}),
    );
    let (before, after) = (manifests(&[("helper-v1", 100)]), manifests(&[("helper-v2", 100)]));
    release(
        &setup,
        Release { before, rollout: document, after, model: "helper", who: model_of, candidate: "helper-v2" },
    )
    .await;
}

/// A candidate that is at fault from the start or grows faulty: rolled back, for that reason, and with the shield no
/// client sees an error before its first byte.
async fn turns_back(faults: Value, reasons: &[&str]) {
    let old = ModelServer::start(BINARY, "m", &[], &["--name", "old"]);
    let new = ModelServer::start(BINARY, "m", &[], &["--name", "new"]);
    let mut manifests = Manifests::new(&[("old", 100, &[&old]), ("new", 0, &[&new])]);
    let setup = manifests.serve().await;
    let traffic = Traffic::start(&setup, "m", server_of);
    manifests.further.push(rollout(
        "Node",
        json!({
        "target": {"routeRef": {"name": "route"}},
        "stable": {"poolRef": {"name": "old"}}, "candidate": {"poolRef": {"name": "new"}},
        "steps": [{"weight": 50, "bake": "10m"}, {"weight": 100, "bake": "10m"}]}),
    ));
    setup.write(&manifests);
    wait_phase(&setup, &["Progressing"]).await;
    new.faults(&faults).await;
    let status = wait_phase(&setup, &["RolledBack"]).await;
    traffic.end().await;
    let said = status.to_string();
    assert!(reasons.iter().any(|reason| said.contains(reason)), "{reasons:?} in {status:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_candidate_that_only_fails_is_turned_back_by_the_breaker() {
    turns_back(json!({"error_rate": 1.0}), &["Breaker"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_candidate_with_some_errors_is_turned_back_by_its_evidence() {
    turns_back(json!({"error_rate": 0.1}), &["error"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_candidate_that_refuses_inside_its_streams_is_turned_back() {
    turns_back(json!({"refuse_in_stream_rate": 0.5}), &["error", "Breaker"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_candidate_that_is_gone_is_turned_back() {
    turns_back(json!({"refuse_connections": true}), &["Breaker", "error", "Unavailable"]).await;
}
