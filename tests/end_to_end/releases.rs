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

/// How a failure begins that showed after the first byte.
const BROKE_OFF: &str = "broke off";

/// Clients: each asks again and again, every other one within a session, every other answer as a stream.
pub(crate) struct Traffic {
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
    pub(crate) fn start(setup: &Setup, asked: Asked, who: fn(&Answer) -> String) -> Self {
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
                        let body = asked.body(stream).to_string().into();
                        match client.send(address, Method::POST, CHAT, body).await {
                            Ok(answer) if answer.status == 200 && (!stream || answer.text().contains("[DONE]")) => {
                                seen.answered.fetch_add(1, Ordering::Relaxed);
                                if let Some(session) = session {
                                    seen.sessions.lock().entry(session).or_default().insert(who(&answer));
                                }
                            }
                            // A stream without its end broke off.
                            Ok(answer) if answer.status == 200 => {
                                seen.failures.lock().push(format!("{BROKE_OFF}: {}", answer.text()));
                            }
                            Ok(answer) => seen.failures.lock().push(format!("{} {}", answer.status, answer.text())),
                            Err(error) => seen.failures.lock().push(format!("{BROKE_OFF}: {error:#}")),
                        }
                    }
                })
            })
            .collect();
        Self { stop, seen, tasks }
    }

    /// Returns once so many more answers came.
    pub(crate) async fn until(&self, more: u64) {
        let answered = self.seen.answered.load(Ordering::Relaxed);
        let started = Instant::now();
        while self.seen.answered.load(Ordering::Relaxed) < answered + more {
            assert!(started.elapsed() < PATIENCE, "traffic stands still");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    /// Ends it: how many were answered whole, and what became of the others.
    async fn stop(self) -> (u64, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.expect("a client's task");
        }
        (self.seen.answered.load(Ordering::Relaxed), self.seen.failures.lock().clone())
    }

    /// Forgets where sessions were answered until now.
    pub(crate) fn clear_sessions(&self) {
        self.seen.sessions.lock().clear();
    }

    /// Ends it; every request was answered whole. Gives by whom each session was answered.
    pub(crate) async fn end_with_sessions(self) -> BTreeMap<String, BTreeSet<String>> {
        self.end().await.sessions.lock().clone()
    }

    /// Ends it; every request was answered whole.
    async fn end(self) -> Arc<Seen> {
        let seen = self.seen.clone();
        let (answered, failures) = self.stop().await;
        assert!(failures.is_empty(), "{} of {answered}: {:?}", failures.len(), failures.first());
        seen
    }
}

/// What clients ask for.
#[derive(Clone, Copy)]
pub(crate) enum Asked {
    /// Four tokens of `m`.
    Short,
    /// Answers of `m` as long as they become.
    Natural,
    /// Four tokens of `m`, from servers that are as slow as real ones.
    RealTime,
    /// Four tokens of another model.
    Of(&'static str),
}

impl Asked {
    fn body(self, stream: bool) -> Value {
        let mut body = chat(if let Self::Of(model) = self { model } else { "m" }, 4, stream);
        if let (Self::Natural, Some(fields)) = (self, body.as_object_mut()) {
            fields.remove("max_tokens");
        }
        body
    }
}

pub(crate) fn server_of(answer: &Answer) -> String {
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
pub(crate) fn rollout(kind: &str, spec: Value) -> Value {
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

pub(crate) async fn status(setup: &Setup) -> Value {
    let objects = setup.gateway.objects("InferenceRollout", Some("release")).await;
    objects.first().map(|object| object["status"].clone()).unwrap_or_default()
}

pub(crate) async fn history(setup: &Setup) -> String {
    let path = "/rollouts/default/release/history";
    Client::new().get(setup.gateway.admin, path).await.text()
}

pub(crate) async fn wait_phase(setup: &Setup, wanted: &[&str]) -> Value {
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
    let traffic = Traffic::start(setup, Asked::Of(model), who);
    before.further.push(rollout.clone());
    setup.write(&before);
    let settling = wait_phase(setup, &["Settling"]).await;
    assert_eq!(settling["effectiveWeights"]["candidate"], json!(100), "{settling:#}");
    traffic.seen.sessions.lock().clear();
    traffic.until(300).await;
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

/// Steps that stand still long enough for a fault to be found at the first.
fn patient(kind: &str, spec: Value) -> Value {
    let mut document = rollout(kind, spec);
    document["spec"]["steps"] = json!([{"weight": 50, "bake": "10m"}, {"weight": 100, "bake": "10m"}]);
    document
}

fn between_pools(guards: Value) -> Value {
    json!({
        "target": {"routeRef": {"name": "route"}},
        "stable": {"poolRef": {"name": "old"}}, "candidate": {"poolRef": {"name": "new"}},
        "analysis": {"guards": guards}})
}

/// A candidate that grows faulty under way is turned back for that reason. With the shield no client sees an error before
/// its first byte; `broken` says how many answers may break off in the middle, which nothing can mend.
async fn turns_back(
    asked: Asked,
    guards: Value,
    fault: impl AsyncFnOnce(&mut ModelServer),
    reasons: &[&str],
    broken: bool,
) {
    let speed: &[&str] = if matches!(asked, Asked::RealTime) { &["--speed", "1"] } else { &[] };
    let old = ModelServer::start(BINARY, "m", &[], &[&["--name", "old"], speed].concat());
    let mut new = ModelServer::start(BINARY, "m", &[], &[&["--name", "new"], speed].concat());
    let mut manifests = Manifests::new(&[("old", 100, &[&old]), ("new", 0, &[&new])]);
    let setup = manifests.serve().await;
    let traffic = Traffic::start(&setup, asked, server_of);
    manifests.further.push(patient("Node", between_pools(guards)));
    setup.write(&manifests);
    wait_phase(&setup, &["Progressing"]).await;
    fault(&mut new).await;
    let status = wait_phase(&setup, &["RolledBack"]).await;
    let (answered, failures) = traffic.stop().await;
    let said = status["message"].to_string() + &history(&setup).await;
    assert!(reasons.iter().any(|reason| said.contains(reason)), "{reasons:?} in {said}");
    let early: Vec<&String> = failures.iter().filter(|failure| !(broken && failure.contains(BROKE_OFF))).collect();
    assert!(early.is_empty(), "{} of {answered}: {:?}", early.len(), early.first());
}

const ERRORS: fn() -> Value = || json!([{"metric": "error"}]);

async fn faults(new: &mut ModelServer, faults: Value) {
    new.faults(&faults).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_candidate_that_only_fails_is_turned_back_by_the_breaker() {
    let fault = async |new: &mut ModelServer| faults(new, json!({"error_rate": 1.0})).await;
    turns_back(Asked::Short, ERRORS(), fault, &["Breaker"], false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_candidate_with_three_errors_in_a_hundred_is_turned_back_by_its_evidence() {
    let fault = async |new: &mut ModelServer| faults(new, json!({"error_rate": 0.03})).await;
    turns_back(Asked::Short, ERRORS(), fault, &["error"], false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_candidate_that_refuses_inside_its_streams_is_turned_back() {
    let fault = async |new: &mut ModelServer| faults(new, json!({"refuse_in_stream_rate": 0.5})).await;
    turns_back(Asked::Short, ERRORS(), fault, &["error", "Breaker"], false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_candidate_that_refuses_connections_is_turned_back() {
    let fault = async |new: &mut ModelServer| faults(new, json!({"refuse_connections": true})).await;
    turns_back(Asked::Short, ERRORS(), fault, &["Breaker", "error", "Unavailable"], false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_candidate_that_dies_is_turned_back() {
    let fault = async |new: &mut ModelServer| new.kill();
    turns_back(Asked::Short, ERRORS(), fault, &["Breaker", "error", "Unavailable"], true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_candidate_that_breaks_its_streams_off_is_turned_back() {
    let fault =
        async |new: &mut ModelServer| faults(new, json!({"reset_mid_stream_rate": 0.5, "reset_after": 1})).await;
    turns_back(Asked::Short, json!([{"metric": "abort"}]), fault, &["abort", "Breaker"], true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_candidate_that_stalls_is_turned_back() {
    let fault = async |new: &mut ModelServer| faults(new, json!({"stall_rate": 0.3, "stall_seconds": 1.0})).await;
    turns_back(Asked::Short, json!([{"metric": "ttft"}]), fault, &["ttft"], false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_candidate_that_is_slower_by_a_third_is_turned_back() {
    // At the speed of a real server: what the machine under the test adds is little beside it.
    let fault = async |new: &mut ModelServer| faults(new, json!({"latency_factor": 1.3})).await;
    turns_back(Asked::RealTime, json!([{"metric": "ttft"}]), fault, &["ttft"], false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_candidate_without_words_is_turned_back() {
    let fault = async |new: &mut ModelServer| faults(new, json!({"empty_rate": 0.2})).await;
    turns_back(Asked::Short, json!([{"metric": "empty"}]), fault, &["empty"], false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_candidate_that_stops_in_the_middle_of_its_answers_is_turned_back() {
    let fault = async |new: &mut ModelServer| faults(new, json!({"truncated_rate": 0.5})).await;
    let guards = json!([{"metric": "finish_reason:length"}]);
    turns_back(Asked::Natural, guards, fault, &["finish", "length"], false).await;
}

/// A candidate that preflight finds unfit: the roll-out fails before any client meets it.
async fn fails_at_preflight(kind: &str, candidate: ModelServer, spec: Value, reasons: &[&str]) {
    let old = ModelServer::start(BINARY, "m", &["helper"], &["--name", "old"]);
    let mut manifests = Manifests::new(&[("old", 100, &[&old]), ("new", 0, &[&candidate])]);
    let setup = manifests.serve().await;
    let traffic = Traffic::start(&setup, Asked::Of("helper"), server_of);
    traffic.until(100).await;
    let mut document = rollout(kind, spec);
    document["spec"]["preflight"] = json!({"timeout": "3s"});
    manifests.further.push(document);
    setup.write(&manifests);
    let status = wait_phase(&setup, &["Failed"]).await;
    let seen = traffic.end().await;
    assert!(reasons.iter().any(|reason| status.to_string().contains(reason)), "{reasons:?} in {status:#}");
    for arms in seen.sessions.lock().values() {
        assert!(arms.iter().all(|arm| arm == "old"), "{arms:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_model_behind_the_candidate_fails_at_preflight() {
    let other = ModelServer::start(BINARY, "other", &["helper"], &["--name", "new"]);
    fails_at_preflight("Node", other, between_pools(ERRORS()), &["--served-model-name"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_adapter_fails_at_preflight() {
    let bare = ModelServer::start(BINARY, "m", &[], &["--name", "new"]);
    fails_at_preflight("Node", bare, between_pools(ERRORS()), &["helper"]).await;
}

/// Requests that a server has answered, however they ended.
async fn answered_by(server: &ModelServer) -> f64 {
    let page = Client::new().get(server.address, "/metrics").await.text();
    let counts = page.lines().filter(|line| line.starts_with("vllm:request_success_total{"));
    counts.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_candidate_is_warmed_and_mirrored_to_before_a_client_meets_it() {
    let old = ModelServer::start(BINARY, "m", &[], &["--name", "old"]);
    let new = ModelServer::start(BINARY, "m", &[], &["--name", "new"]);
    let mut manifests = Manifests::new(&[("old", 100, &[&old]), ("new", 0, &[&new])]);
    let setup = manifests.serve().await;
    let traffic = Traffic::start(&setup, Asked::Short, server_of);
    let mut document = rollout("Node", between_pools(ERRORS()));
    document["spec"]["warmup"] = json!({"timeout": "30s"});
    document["spec"]["shadow"] = json!({"before": "10m", "budget": {"tokensPerSecond": 20_000}});
    manifests.further.push(document);
    setup.write(&manifests);
    wait_phase(&setup, &["Shadowing"]).await;
    // Preflight's probe, that of the warm-up, and the two bodies that these clients send.
    let warmed = answered_by(&new).await;
    assert!(warmed >= 4.0, "{warmed} requests");
    // Requests of clients go on at stable; copies reach the candidate.
    let started = Instant::now();
    while answered_by(&new).await < warmed + 20.0 {
        assert!(started.elapsed() < PATIENCE, "nothing is mirrored");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    new.faults(&json!({"error_rate": 1.0})).await;
    let status = wait_phase(&setup, &["Failed"]).await;
    assert!(status.to_string().contains("ShadowFailed"), "{status:#}");
    let seen = traffic.end().await;
    for arms in seen.sessions.lock().values() {
        assert!(arms.iter().all(|arm| arm == "old"), "{arms:?}");
    }
}
