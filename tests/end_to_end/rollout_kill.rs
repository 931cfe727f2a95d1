//! kill -9 in the middle of a release, again and again: the same step, the same weights, the same sessions.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use http::Method;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tidegate_harness::gateway::PATIENCE;
use tidegate_harness::{Client, ModelServer};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::releases::{rollout, server_of, status};
use crate::setup::{BINARY, CHAT, Manifests, Setup, chat};

/// Kills in an ordinary run; `TIDEGATE_KILLS` says otherwise.
const KILLS: u32 = 10;
/// Sessions that come back again and again, over all kills.
const SESSIONS: u64 = 40;

fn kills() -> u32 {
    std::env::var("TIDEGATE_KILLS").ok().and_then(|count| count.parse().ok()).unwrap_or(KILLS)
}

/// Where each session was answered, and answers that no kill explains.
#[derive(Default)]
struct Seen {
    answered: AtomicU64,
    candidates: Mutex<BTreeSet<String>>,
    went_back: Mutex<Vec<String>>,
    refused: Mutex<BTreeMap<String, u64>>,
}

/// Clients that come back when the gateway is there again.
struct Traffic {
    stop: Arc<AtomicBool>,
    seen: Arc<Seen>,
    tasks: Vec<JoinHandle<()>>,
}

impl Traffic {
    fn start(address: SocketAddr) -> Self {
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Seen::default()));
        let tasks = (0..8).map(|number| tokio::spawn(ask(address, number, stop.clone(), seen.clone()))).collect();
        Self { stop, seen, tasks }
    }

    async fn end(self) -> Arc<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.expect("a client's task");
        }
        self.seen
    }
}

async fn ask(address: SocketAddr, number: u64, stop: Arc<AtomicBool>, seen: Arc<Seen>) {
    let mut turn = number;
    while !stop.load(Ordering::Relaxed) {
        turn += 8;
        // Most sessions are new ones, which are evidence; some come back for as long as the test lasts.
        let returns = turn.is_multiple_of(3);
        let session = if returns { format!("returns-{}", turn % SESSIONS) } else { format!("new-{turn}") };
        // Whether it had been on the candidate before it was asked this time.
        let was_candidate = seen.candidates.lock().contains(&session);
        let client = Client::new().header("x-session-id", &session);
        match client.send(address, Method::POST, CHAT, chat("m", 2, turn.is_multiple_of(2)).to_string().into()).await {
            Ok(answer) if answer.status == 200 => {
                seen.answered.fetch_add(1, Ordering::Relaxed);
                let is_candidate = server_of(&answer) == "new";
                if is_candidate && returns {
                    seen.candidates.lock().insert(session);
                } else if was_candidate && !is_candidate {
                    seen.went_back.lock().push(session);
                }
            }
            Ok(answer) => *seen.refused.lock().entry(format!("{} {}", answer.status, answer.text())).or_default() += 1,
            // Killed, or not there again yet.
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// Step and weight of the candidate, in percent.
fn place(status: &Value) -> (u64, f64) {
    let weight = status["effectiveWeights"]["candidate"].as_f64();
    (status["stepIndex"].as_u64().unwrap_or_default(), weight.unwrap_or_default())
}

async fn wait(setup: &Setup, what: &str, check: impl Fn(&Value) -> bool) -> Value {
    let started = Instant::now();
    loop {
        let status = status(setup).await;
        if check(&status) {
            return status;
        }
        let is_over = ["Failed", "RolledBack", "RollingBack"].contains(&status["phase"].as_str().unwrap_or_default());
        assert!(!is_over && started.elapsed() < PATIENCE, "never came: {what}: {status:#}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What the route says is laid over it, `90/10 by default/release`.
async fn laid_over(setup: &Setup) -> String {
    let routes = setup.gateway.objects("HTTPRoute", Some("route")).await;
    let said = routes.first().map(|route| route["status"].to_string()).unwrap_or_default();
    let Some((before, _)) = said.split_once(" by default/release") else { return said };
    before.rsplit('"').next().unwrap_or_default().to_owned()
}

/// One release from its document to Settling, killed at random moments at most so often; gives how often it was.
async fn killed_under_way(most: u32, seed: u64) -> u32 {
    let old = ModelServer::start(BINARY, "m", &[], &["--name", "old"]);
    let new = ModelServer::start(BINARY, "m", &[], &["--name", "new"]);
    let manifests =
        |old_weight, new_weight| Manifests::new(&[("old", old_weight, &[&old]), ("new", new_weight, &[&new])]);
    let mut before = manifests(100, 0);
    let mut setup = before.serve().await;
    let traffic = Traffic::start(setup.address);
    let weights = [10, 30, 50, 70, 90, 100];
    let steps: Vec<Value> = weights.iter().map(|weight| json!({"weight": weight, "bake": "1s"})).collect();
    let document = rollout(
        "Node",
        json!({
            "target": {"routeRef": {"name": "route"}},
            "stable": {"poolRef": {"name": "old"}}, "candidate": {"poolRef": {"name": "new"}},
            "steps": steps,
        }),
    );
    before.further.push(document.clone());
    setup.write(&before);
    wait(&setup, "the first step", |status| status["phase"] == "Progressing").await;
    let mut dice = seed;
    let mut killed = 0;
    while killed < most {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        tokio::time::sleep(Duration::from_millis((dice >> 33) % 700)).await;
        let known = status(&setup).await;
        if known["phase"] == "Settling" {
            break;
        }
        setup.gateway.kill();
        setup.gateway.restart().await;
        killed += 1;
        let resumed = status(&setup).await;
        let (said, (step, weight)) = (laid_over(&setup).await, place(&resumed));
        let (step_before, weight_before) = place(&known);
        let is_step = |step: u64, weight: f64| {
            weights
                .get(usize::try_from(step).unwrap_or(usize::MAX))
                .is_some_and(|written| f64::from(*written) == weight)
        };
        // What was decided between the look and the kill counts; it is the next step and no other.
        assert!(step == step_before || step == step_before + 1, "kill {killed}: from {known:#} to {resumed:#}");
        assert!(weight >= weight_before && is_step(step, weight), "kill {killed}: from {known:#} to {resumed:#}");
        assert_eq!(resumed["rolloutUID"], known["rolloutUID"]);
        assert_eq!(resumed["attempt"], known["attempt"], "kill {killed}: it began anew");
        // The next look may find it a step further.
        let now = place(&status(&setup).await).1;
        let laid: Vec<String> = [weight, now].iter().map(|weight| format!("{}/{weight}", 100.0 - weight)).collect();
        assert!(laid.contains(&said), "kill {killed}: {said} is laid over the route, not {laid:?}");
    }
    let settling = wait(&setup, "the promotion", |status| status["phase"] == "Settling").await;
    assert_eq!(settling["effectiveWeights"]["candidate"], json!(100), "{settling:#}");
    let mut after = manifests(0, 100);
    after.further.push(document);
    setup.write(&after);
    wait(&setup, "the end", |status| status["phase"] == "Completed").await;
    let seen = traffic.end().await;
    assert!(seen.answered.load(Ordering::Relaxed) > 100, "there was hardly any traffic");
    assert_eq!(*seen.went_back.lock(), Vec::<String>::new(), "sessions that the candidate had lost their conversation");
    assert_eq!(*seen.refused.lock(), BTreeMap::new(), "answers that no kill explains");
    killed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_killed_again_and_again_goes_on_where_it_was() {
    let (wanted, mut killed, mut seed) = (kills(), 0, 1);
    while killed < wanted {
        killed += killed_under_way(wanted - killed, seed).await;
        seed += 1;
    }
}
