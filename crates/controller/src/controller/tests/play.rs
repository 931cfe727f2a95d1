//! A controller with a fleet of fake model servers, and a control loop that applies whatever is laid.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;
use serde_json::json;
use tidegate_evidence::{Arm, Arrival, EventMetric, Events, Sample, Stratum};
use tidegate_rollout::event::{Actor, Command, Observation, Verb};
use tidegate_routing::{PairInManifests, RolloutFacts};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::super::*;
use crate::Ways;
use crate::fleet::{Endpoint, Prompt};
use crate::seen::{Described, Found};

pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// Two pools of one endpoint each, which answer as vLLM does.
#[derive(Clone, Default)]
pub(super) struct Fake {
    pub(super) stable: Arc<str>,
    pub(super) candidate: Arc<str>,
    /// Requests under way on each endpoint.
    pub(super) in_flight: Arc<AtomicU32>,
    /// What clients asked of stable.
    pub(super) prompts: Arc<Mutex<Vec<Prompt>>>,
    /// Bodies that the candidate got.
    pub(super) asked: Arc<Mutex<Vec<Value>>>,
}

impl Fake {
    /// Both arms serve the same model.
    pub(super) async fn alike() -> Self {
        let asked = Arc::default();
        let (stable, candidate) = (server("m", Arc::default()).await, server("m", Arc::clone(&asked)).await);
        Self { stable, candidate, asked, ..Self::default() }
    }
}

impl Fleet for Fake {
    fn endpoints(&self, pool: &ObjectKey) -> Vec<Endpoint> {
        let address = if pool.name == "llm" { &self.stable } else { &self.candidate };
        let in_flight = self.in_flight.load(Ordering::Relaxed);
        vec![Endpoint { address: address.clone(), in_flight, models: Some(vec!["m".into()]), ..Endpoint::default() }]
    }

    fn recent_prompts(&self, rollout: &ObjectKey) -> Vec<Prompt> {
        assert_eq!(*rollout, key());
        self.prompts.lock().clone()
    }

    fn cut_streams(&self, _: &ObjectKey, _: bool) -> usize {
        0
    }
}

/// A model server that serves one model, and finds the prompts of all chats but the first in its cache.
pub(super) async fn server(model: &'static str, asked: Arc<Mutex<Vec<Value>>>) -> Arc<str> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address: Arc<str> = listener.local_addr().expect("its address").to_string().into();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let asked = asked.clone();
            tokio::spawn(async move {
                let (head, body) = request(&mut stream).await;
                if let Ok(body) = serde_json::from_str(&body) {
                    asked.lock().push(body);
                }
                let chats = asked.lock().iter().filter(|body| body["messages"].is_array()).count();
                let answer = match head.split(' ').nth(1).unwrap_or_default() {
                    "/v1/models" => json!({"data": [{"id": model, "parent": null, "max_model_len": 4096}]}).to_string(),
                    "/v1/completions" | "/v1/chat/completions" => {
                        json!({"id": "c", "choices": [{"text": "x"}], "usage": {"prompt_tokens": 1}}).to_string()
                    }
                    "/metrics" => {
                        let (queries, hits) = (100 + 100 * chats, 50 + 100 * chats.saturating_sub(1));
                        format!("vllm:prefix_cache_queries_total {queries}\nvllm:prefix_cache_hits_total {hits}\n")
                    }
                    _ => "{}".to_owned(),
                };
                let text =
                    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{answer}", answer.len());
                let _ = stream.write_all(text.as_bytes()).await;
                let _ = stream.shutdown().await;
            });
        }
    });
    address
}

/// One whole request: its head in lower case, and its body.
pub(super) async fn request(stream: &mut TcpStream) -> (String, String) {
    let mut bytes = Vec::new();
    loop {
        let mut piece = vec![0; 16 * 1024];
        let length = stream.read(&mut piece).await.unwrap_or(0);
        bytes.extend_from_slice(&piece[..length]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            assert!(length > 0, "half a request: {text}");
            continue;
        };
        let head = head.to_ascii_lowercase();
        let announced = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        if announced.unwrap_or(0) == body.len() || length == 0 {
            return (head, body.to_owned());
        }
    }
}

pub(super) fn key() -> ObjectKey {
    ObjectKey::new("tidegate.dev", "InferenceRollout", "serving", "to-new")
}

/// A Node release with these fields of its spec besides.
pub(super) fn document(further: Value) -> Described {
    let mut spec = json!({
        "type": "Node",
        "target": {"routeRef": {"kind": "HTTPRoute", "name": "route"}},
        "stable": {"poolRef": {"name": "llm"}},
        "candidate": {"poolRef": {"name": "llm-new"}},
        "steps": [{"weight": 50, "bake": "1h"}, {"weight": 100, "bake": "1h"}],
    });
    for (field, value) in further.as_object().into_iter().flatten() {
        spec[field] = value.clone();
    }
    Described {
        key: key(),
        document: json!({"metadata": {"name": "to-new", "namespace": "serving"}, "spec": spec}),
        spec: serde_json::from_value(spec).expect("a spec"),
        uid: None,
        generation: 1,
    }
}

/// What a test starts a controller with.
pub(super) struct Stage {
    pub(super) document: Described,
    /// What the manifests say of the pair.
    pub(super) manifests: PairInManifests,
    pub(super) notify: Option<NotifyTo>,
    pub(super) clock: Clock,
    pub(super) tick: Duration,
    /// The journal must say every larger share before it is served by.
    pub(super) journal_first: bool,
}

impl Stage {
    pub(super) fn with(document: Described) -> Self {
        Self {
            document,
            manifests: PairInManifests { stable: Some(1), candidate: None },
            notify: None,
            clock: Clock::since(Instant::now()),
            tick: TICK,
            journal_first: false,
        }
    }
}

/// A controller with a control loop that applies whatever is laid.
pub(super) struct Play {
    pub(super) handle: RolloutHandle,
    pub(super) evidence: mpsc::Sender<Evidence>,
    /// The candidate's share by the overlay that is in force.
    pub(super) shares: watch::Receiver<Option<u32>>,
    pub(super) manifests: watch::Sender<PairInManifests>,
    pub(super) uid: Arc<str>,
    pub(super) clock: Clock,
    highest: Arc<AtomicU32>,
    controller: JoinHandle<()>,
    control: JoinHandle<()>,
}

impl Play {
    pub(super) fn open(state: &Path, fleet: Fake) -> Self {
        Self::on(state, fleet, Stage::with(document(Value::Null)))
    }

    pub(super) fn on(state: &Path, fleet: Fake, stage: Stage) -> Self {
        let options =
            Options { state_dir: state.to_owned(), fleet: Arc::new(fleet), clock: stage.clock, notify: stage.notify };
        let (mut controller, ways) = Controller::open(options).expect("a controller");
        controller.tick = stage.tick;
        let Ways { handle, mut link, evidence } = ways;
        let share_of = |laid: &Laid| laid.rollouts.overlays.first().map(|overlay| overlay.candidate_share_ppm);
        let first = share_of(&link.laid());
        let (share, shares) = watch::channel(first);
        let (manifests, mut in_manifests) = watch::channel(stage.manifests);
        let highest = Arc::new(AtomicU32::new(first.unwrap_or(0)));
        let (top, folder, journal_first) = (highest.clone(), state.to_owned(), stage.journal_first);
        let described = BTreeMap::from([(key(), stage.document)]);
        let control = tokio::spawn(async move {
            loop {
                let laid = link.laid();
                let now = share_of(&laid);
                let before = top.fetch_max(now.unwrap_or(0), Ordering::Relaxed);
                if journal_first && now.unwrap_or(0) > before {
                    assert!(in_journal(&folder) >= now, "{now:?} is served by and not written down");
                }
                share.send_replace(now);
                let pool = |name| Some(ObjectKey::new("inference.networking.k8s.io", "InferencePool", "serving", name));
                let weights = *in_manifests.borrow_and_update();
                let found = Found {
                    facts: RolloutFacts { in_manifests: weights, ..RolloutFacts::default() },
                    stable_pool: pool("llm"),
                    candidate_pool: pool("llm-new"),
                };
                // As compile does: one that has ended is nobody's matter.
                let is_ended = laid.rollouts.ended.contains(&key());
                let found = (!is_ended).then(|| (key(), found)).into_iter().collect();
                link.seen(Seen { version: laid.version, described: described.clone(), found }).await;
                tokio::select! {
                    () = link.changed() => {}
                    Ok(()) = in_manifests.changed() => {}
                }
            }
        });
        let controller = tokio::spawn(async move {
            let (_open, stop) = watch::channel(false);
            controller.run(stop).await;
        });
        let uid = tidegate_rollout::uid::of_release("serving", "to-new", "llm", "llm-new").into();
        Self { handle, evidence, shares, manifests, uid, clock: stage.clock, highest, controller, control }
    }

    /// Waits until the overlay in force gives the candidate this share, none: there is no overlay.
    pub(super) async fn until(&mut self, share: Option<u32>) {
        let came = timeout(PATIENCE, self.shares.wait_for(|now| *now == share)).await.map(|came| came.is_ok());
        let status = self.status();
        assert!(matches!(came, Ok(true)), "{share:?} never came: {status:#}");
    }

    /// Waits until the status is as asked.
    pub(super) async fn until_status(&self, what: &str, check: impl Fn(&Value) -> bool) -> Value {
        let mut changes = self.handle.changes();
        let came = timeout(PATIENCE, async {
            loop {
                let status = self.status();
                if check(&status) {
                    return status;
                }
                changes.changed().await.expect("the controller lives");
            }
        });
        came.await.unwrap_or_else(|_| panic!("{what} never came: {:#}", self.status()))
    }

    /// Everything that was told before it is on disk when this is answered: a command that is refused changes nothing.
    pub(super) async fn written_down(&self, id: u64) {
        let resume = Command { id: format!("nothing-{id}"), writer: Actor::named("ann"), verb: Verb::Resume };
        let refused = self.handle.command("serving", "to-new", resume).await;
        assert!(matches!(refused, Err(CommandError::Refused(_))), "{refused:?}");
    }

    pub(super) fn status(&self) -> Value {
        self.handle.status("serving", "to-new").unwrap_or_default()
    }

    /// The largest share that the candidate ever had in this process.
    pub(super) fn highest(&self) -> u32 {
        self.highest.load(Ordering::Relaxed)
    }

    /// As a killed process: nothing is finished, nothing is closed.
    pub(super) async fn kill(self) {
        self.control.abort();
        self.controller.abort();
        let _ = self.controller.await;
        if let Err(error) = self.control.await {
            assert!(!error.is_panic(), "the control loop found something wrong");
        }
    }

    /// One request: it arrived, and it ended.
    pub(super) async fn ended(&self, request: u64, arm: Arm, share: f64, failed: bool) {
        let arrival = self.arrived(request, arm, share).await;
        self.end(arrival, failed).await;
    }

    /// A request arrives.
    pub(super) async fn arrived(&self, request: u64, arm: Arm, share: f64) -> Arrival {
        let arrival = Arrival {
            request,
            at_ms: self.clock.now().monotonic,
            arm,
            share,
            unit: request,
            keyed: false,
            forced: false,
            warm: true,
            stratum: Stratum::default(),
        };
        self.observe(Observation::Arrived(arrival)).await;
        arrival
    }

    /// A request ends; what fails on the candidate is answered by stable.
    pub(super) async fn end(&self, arrival: Arrival, failed: bool) {
        let sample = Sample {
            arrival,
            end_ms: self.clock.now().monotonic,
            events: if failed { Events::NONE.with(EventMetric::Error) } else { Events::NONE },
            first_attempt_failed: failed,
            rescued: failed,
            ttft: Some(0.1),
            tpot: None,
        };
        self.observe(Observation::Ended(sample)).await;
    }

    async fn observe(&self, observation: Observation) {
        let told = Evidence::Observed { uid: self.uid.clone(), observation };
        self.evidence.send(told).await.expect("the controller listens");
    }
}

/// The candidate's share by the only journal in a folder, as a process that starts now would read it.
pub(super) fn in_journal(state: &Path) -> Option<u32> {
    let folder = state.join("rollouts/serving/to-new");
    let mut files = std::fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    let journal = files.find(|path| path.extension().is_some_and(|ending| ending == "journal"))?;
    let replayed = tidegate_rollout::replay::replay(&std::fs::read(journal).ok()?).ok()?;
    replayed.machine.effective_share().map(|share| share.ppm())
}
