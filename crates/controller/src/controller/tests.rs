use std::path::Path;

use serde_json::json;
use tidegate_evidence::{Arm, Arrival, Events, Sample, Stratum};
use tidegate_rollout::event::{Actor, Command, Observation, Verb};
use tidegate_routing::{PairInManifests, RolloutFacts};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::fleet::Endpoint;
use crate::seen::{Described, Found};
use crate::{Ways, handle::CommandError};

const PATIENCE: Duration = Duration::from_secs(60);

/// Two pools of one endpoint each, which answer as vLLM does.
struct Fake {
    stable: Arc<str>,
    candidate: Arc<str>,
}

impl Fleet for Fake {
    fn endpoints(&self, pool: &ObjectKey) -> Vec<Endpoint> {
        let address = if pool.name == "llm" { &self.stable } else { &self.candidate };
        vec![Endpoint { address: address.clone(), models: Some(vec!["m".into()]), ..Endpoint::default() }]
    }

    fn cut_streams(&self, _: &ObjectKey, _: bool) -> usize {
        0
    }
}

async fn server(model: &'static str) -> Arc<str> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address: Arc<str> = listener.local_addr().expect("its address").to_string().into();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = vec![0; 4096];
                let length = stream.read(&mut head).await.unwrap_or(0);
                let text = String::from_utf8_lossy(&head[..length]).into_owned();
                let body = match text.split(' ').nth(1).unwrap_or_default() {
                    "/v1/models" => json!({"data": [{"id": model, "parent": null, "max_model_len": 4096}]}),
                    "/v1/completions" => json!({"id": "c", "choices": [{"text": "x"}], "usage": {"prompt_tokens": 1}}),
                    _ => json!({}),
                };
                let body = body.to_string();
                let answer =
                    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
            });
        }
    });
    address
}

fn key() -> ObjectKey {
    ObjectKey::new("tidegate.dev", "InferenceRollout", "serving", "to-new")
}

fn document() -> Described {
    let spec = json!({
        "type": "Node",
        "target": {"routeRef": {"kind": "HTTPRoute", "name": "route"}},
        "stable": {"poolRef": {"name": "llm"}},
        "candidate": {"poolRef": {"name": "llm-new"}},
        "steps": [{"weight": 50, "bake": "1h"}, {"weight": 100, "bake": "1h"}],
    });
    Described {
        key: key(),
        document: json!({"metadata": {"name": "to-new", "namespace": "serving"}, "spec": spec}),
        spec: serde_json::from_value(spec).expect("a spec"),
        uid: None,
        generation: 1,
    }
}

/// A controller with a control loop that applies whatever is laid.
struct Play {
    handle: RolloutHandle,
    evidence: mpsc::Sender<Evidence>,
    shares: watch::Receiver<Option<u32>>,
    uid: Arc<str>,
    controller: JoinHandle<()>,
    control: JoinHandle<()>,
}

impl Play {
    fn open(state: &Path, fleet: Fake) -> Self {
        let options = Options {
            state_dir: state.to_owned(),
            fleet: Arc::new(fleet),
            clock: Clock::since(Instant::now()),
            notify: None,
        };
        let (controller, ways) = Controller::open(options).expect("a controller");
        let Ways { handle, mut link, evidence } = ways;
        let first = link.laid().rollouts.overlays.first().map(|overlay| overlay.candidate_share_ppm);
        let (share, shares) = watch::channel(first);
        let control = tokio::spawn(async move {
            loop {
                let laid = link.laid();
                share.send_replace(laid.rollouts.overlays.first().map(|overlay| overlay.candidate_share_ppm));
                let pool = |name| Some(ObjectKey::new("inference.networking.k8s.io", "InferencePool", "serving", name));
                let in_manifests = PairInManifests { stable: Some(1), candidate: None };
                let found = Found {
                    facts: RolloutFacts { in_manifests, ..RolloutFacts::default() },
                    stable_pool: pool("llm"),
                    candidate_pool: pool("llm-new"),
                };
                let described = BTreeMap::from([(key(), document())]);
                link.seen(Seen { version: laid.version, described, found: BTreeMap::from([(key(), found)]) }).await;
                link.changed().await;
            }
        });
        let controller = tokio::spawn(async move {
            let (_open, stop) = watch::channel(false);
            controller.run(stop).await;
        });
        let uid = tidegate_rollout::uid::of_release("serving", "to-new", "llm", "llm-new").into();
        Self { handle, evidence, shares, uid, controller, control }
    }

    async fn until(&mut self, share: Option<u32>) {
        let came = timeout(PATIENCE, self.shares.wait_for(|now| *now == share)).await.map(|came| came.is_ok());
        let status = self.handle.get("serving", "to-new").unwrap_or_default();
        assert!(matches!(came, Ok(true)), "{share:?} never came: {status:#}");
    }

    /// As a killed process: nothing is finished, nothing is closed.
    async fn kill(self) {
        self.control.abort();
        self.controller.abort();
        let _ = self.controller.await;
    }

    async fn ended(&self, request: u64, arm: Arm, failed: bool) {
        let arrival = Arrival {
            request,
            at_ms: request,
            arm,
            share: 0.5,
            unit: request,
            keyed: false,
            forced: false,
            warm: true,
            stratum: Stratum::default(),
        };
        let sample = Sample {
            arrival,
            end_ms: request,
            events: Events::NONE,
            first_attempt_failed: failed,
            rescued: failed,
            ttft: Some(0.1),
            tpot: None,
        };
        for observation in [Observation::Arrived(arrival), Observation::Ended(sample)] {
            let told = Evidence::Observed { uid: self.uid.clone(), observation };
            self.evidence.send(told).await.expect("the controller listens");
        }
    }
}

#[tokio::test]
async fn a_release_goes_from_its_document_to_its_step_and_back_when_its_candidate_fails() {
    let state = tempfile::tempdir().expect("a folder");
    let fleet = Fake { stable: server("m").await, candidate: server("m").await };
    let mut play = Play::open(state.path(), fleet);
    play.until(Some(500_000)).await;
    for request in (0..120).step_by(2) {
        play.ended(request, Arm::Stable, false).await;
        play.ended(request + 1, Arm::Candidate, true).await;
    }
    play.until(Some(0)).await;
    let status = play.handle.get("serving", "to-new").expect("it is there");
    let reasons: Vec<&str> = status["status"]["history"]
        .as_array()
        .expect("a history")
        .iter()
        .filter_map(|line| line["reason"].as_str())
        .collect();
    assert!(reasons.contains(&"Breaker") || reasons.iter().any(|reason| reason.starts_with("Worse")), "{reasons:?}");
    assert_eq!(play.handle.verdict("serving", "to-new").expect("a verdict")["verdict"], "fail");
    play.kill().await;
}

#[tokio::test]
async fn a_killed_gateway_serves_by_the_same_weights_from_its_first_snapshot() {
    let state = tempfile::tempdir().expect("a folder");
    let (stable, candidate) = (server("m").await, server("m").await);
    let fleet = || Fake { stable: stable.clone(), candidate: candidate.clone() };
    let mut play = Play::open(state.path(), fleet());
    play.until(Some(500_000)).await;
    for round in 0..5_u64 {
        for request in 0..round * 7 {
            play.ended(round * 1000 + request, Arm::Stable, false).await;
        }
        play.kill().await;
        play = Play::open(state.path(), fleet());
        assert_eq!(*play.shares.borrow(), Some(500_000), "round {round}");
    }
    let history = play.handle.history("serving", "to-new").expect("a history");
    assert!(history.iter().any(|line| line["type"] == "Transition"), "{history:?}");
    play.kill().await;
}

#[tokio::test]
async fn another_model_on_the_candidate_stops_it_before_any_client_meets_it() {
    let state = tempfile::tempdir().expect("a folder");
    let mut play = Play::open(state.path(), Fake { stable: server("m").await, candidate: server("other").await });
    let mut changes = play.handle.changes();
    let failed = timeout(PATIENCE, async {
        loop {
            let status = play.handle.status("serving", "to-new").unwrap_or_default();
            if status["phase"] == "Failed" {
                return status;
            }
            changes.changed().await.expect("the controller lives");
        }
    });
    let status = failed.await.expect("it fails");
    assert!(status["message"].as_str().is_some_and(|message| message.contains("--served-model-name")), "{status:#}");
    play.until(Some(0)).await;
    play.kill().await;
}

#[tokio::test]
async fn commands_are_answered_once_they_cannot_be_forgotten() {
    let state = tempfile::tempdir().expect("a folder");
    let mut play = Play::open(state.path(), Fake { stable: server("m").await, candidate: server("m").await });
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
    let fleet = Fake { stable: server("m").await, candidate: server("m").await };
    let play = Play::open(state.path(), fleet);
    assert_eq!(play.handle.status("serving", "to-new").expect("it is there")["phase"], "Paused");
    play.kill().await;
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_holds_the_roll_out_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let state = folder.path().join("file");
    std::fs::write(&state, "no folder").expect("write");
    let play = Play::open(&state, Fake { stable: server("m").await, candidate: server("m").await });
    let mut changes = play.handle.changes();
    let said = timeout(PATIENCE, async {
        loop {
            let status = play.handle.status("serving", "to-new").unwrap_or_default();
            if status["message"].as_str().is_some_and(|message| message.contains("StateNotWritable")) {
                return;
            }
            changes.changed().await.expect("the controller lives");
        }
    });
    said.await.expect("it says so");
    assert_eq!(*play.shares.borrow(), None);
    play.kill().await;
}
