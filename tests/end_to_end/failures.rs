//! Model servers that die, hang or leave, under load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use http::Method;
use serde_json::json;
use tidegate_harness::gateway::PATIENCE;
use tidegate_harness::{Client, ModelServer};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::setup::{BINARY, CHAT, Manifests, Setup, chat};

/// What a load saw.
#[derive(Debug, Default)]
struct Seen {
    whole: AtomicU64,
    /// Failed with a status, that is before the first byte of an answer.
    refused: AtomicU64,
    /// Broke off after its first byte.
    cut: AtomicU64,
}

/// Streams on `connections` connections until told to stop.
fn load(setup: &Setup, connections: usize) -> (Arc<Seen>, Arc<AtomicBool>, Vec<JoinHandle<()>>) {
    let (seen, stop) = (Arc::new(Seen::default()), Arc::new(AtomicBool::new(false)));
    let tasks = (0..connections)
        .map(|_| {
            let (seen, stop, address) = (seen.clone(), stop.clone(), setup.address);
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let body = chat("m", 16, true).to_string().into();
                    match Client::new().begin(address, Method::POST, CHAT, body).await {
                        Ok(response) if response.status() == 200 => {
                            match tidegate_harness::client::whole(response).await {
                                Ok(answer) if answer.events().last().is_some_and(|event| event == "[DONE]") => {
                                    seen.whole.fetch_add(1, Ordering::Relaxed)
                                }
                                _ => seen.cut.fetch_add(1, Ordering::Relaxed),
                            };
                        }
                        refused => {
                            eprintln!("refused: {refused:?}");
                            seen.refused.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            })
        })
        .collect();
    (seen, stop, tasks)
}

async fn wait_until(what: &str, mut check: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !check().await {
        assert!(started.elapsed() < PATIENCE, "never came: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Killed with SIGKILL: only requests whose first byte had been sent may fail; it is used again after its return.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_costs_only_answers_that_had_begun() {
    let mut first = ModelServer::start(BINARY, "m", &[], &[]);
    let second = ModelServer::start(BINARY, "m", &[], &[]);
    let setup = Manifests::new(&[("pool", 1, &[&first, &second])]).serve().await;
    let (seen, stop, tasks) = load(&setup, 16);
    wait_until("a first hundred answers", async || seen.whole.load(Ordering::Relaxed) > 100).await;
    first.kill();
    let before = seen.whole.load(Ordering::Relaxed);
    wait_until("two hundred answers without it", async || seen.whole.load(Ordering::Relaxed) > before + 200).await;
    first.restart();
    wait_until("its use after its return", async || first.metric("vllm:generation_tokens_total").await > 0.0).await;
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(seen.refused.load(Ordering::Relaxed), 0, "{seen:?}");
    assert!(seen.cut.load(Ordering::Relaxed) <= 16, "no more than were under way: {seen:?}");
}

/// Terminated while streams run (trap 8): it refuses connections at once and leaves its streams silent for ever. The
/// streams end at the idle limit, new requests go elsewhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminated_server_hangs_nothing_beyond_the_idle_limit() {
    let first = ModelServer::start(BINARY, "m", &[], &[]);
    let second = ModelServer::start(BINARY, "m", &[], &[]);
    let mut manifests = Manifests::new(&[("pool", 1, &[&first, &second])]);
    manifests.parameters = Some(json!({"limits": {"idle": "1s"}}));
    let setup = manifests.serve().await;
    let (seen, stop, tasks) = load(&setup, 16);
    wait_until("a first hundred answers", async || seen.whole.load(Ordering::Relaxed) > 100).await;
    first.signal("TERM");
    let before = seen.whole.load(Ordering::Relaxed);
    wait_until("two hundred answers without it", async || seen.whole.load(Ordering::Relaxed) > before + 200).await;
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        tokio::time::timeout(PATIENCE, task).await.expect("nothing hangs").unwrap();
    }
    assert_eq!(seen.refused.load(Ordering::Relaxed), 0, "{seen:?}");
    assert!(seen.cut.load(Ordering::Relaxed) <= 16, "{seen:?}");
}

/// Stopped with SIGSTOP: the kernel still accepts its connections, and it answers nothing. With the first-byte and idle
/// limits at a second, nothing hangs, and only answers that had begun are lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_server_hangs_nothing_beyond_the_limits() {
    let first = ModelServer::start(BINARY, "m", &[], &[]);
    let second = ModelServer::start(BINARY, "m", &[], &[]);
    let mut manifests = Manifests::new(&[("pool", 1, &[&first, &second])]);
    manifests.parameters = Some(json!({"limits": {"idle": "1s", "streamFirstByte": "1s"}}));
    let setup = manifests.serve().await;
    let (seen, stop, tasks) = load(&setup, 16);
    wait_until("a first hundred answers", async || seen.whole.load(Ordering::Relaxed) > 100).await;
    first.signal("STOP");
    let before = seen.whole.load(Ordering::Relaxed);
    wait_until("two hundred answers without it", async || seen.whole.load(Ordering::Relaxed) > before + 200).await;
    first.signal("CONT");
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        tokio::time::timeout(PATIENCE, task).await.expect("nothing hangs").unwrap();
    }
    assert_eq!(seen.refused.load(Ordering::Relaxed), 0, "{seen:?}");
    assert!(seen.cut.load(Ordering::Relaxed) <= 16, "no more than were under way: {seen:?}");
}

/// A client that leaves stops the generation at once (trap 6), streaming or not.
#[tokio::test]
async fn a_client_that_leaves_stops_the_generation() {
    let server = ModelServer::start(BINARY, "m", &[], &["--speed", "1"]);
    let setup = Manifests::new(&[("pool", 1, &[&server])]).serve().await;
    for stream in [true, false] {
        let body = chat("m", 400, stream).to_string().into();
        let client = Client::new();
        let request = client.begin(setup.address, Method::POST, CHAT, body);
        let running = async {
            wait_until("a running request", async || server.metric("vllm:num_requests_running").await > 0.0).await;
        };
        if stream {
            let response = request.await.unwrap();
            running.await;
            drop(response);
        } else {
            tokio::select! { _ = request => panic!("answered too early"), () = running => {} }
        }
        wait_until("the end of the generation", async || server.metric("vllm:num_requests_running").await == 0.0).await;
        assert!(server.metric("vllm:generation_tokens_total").await < 400.0);
    }
    let lines = setup.gateway.wait_log(2, |line| line["reason"] == "client_left").await;
    assert!(lines.iter().all(|line| line["ended_by"] == "client"), "{lines:?}");
}
