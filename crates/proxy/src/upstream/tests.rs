//! Ejection, return and dead engines, over real sockets and through `forward`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{Request, Response, StatusCode};
use parking_lot::Mutex;
use tidegate_picker::{LeastRequests, PickRequest, Picker};
use tidegate_telemetry::observation::EjectionReason;
use tidegate_telemetry::{Event, Observation, ObservationSink};
use tokio::sync::watch;
use tokio::time::Instant;

use super::*;
use crate::active::{Active, Upstreams};
use crate::forward::{BudgetState, ForwardBody, ForwardError, Forwarded, Forwarding, forward};
use crate::testing::{PATIENCE, arm, endpoint, full, pool, rule, snapshot};

const SETTINGS: HealthSettings = HealthSettings {
    tick: Duration::from_millis(5),
    probe_first: Duration::from_millis(20),
    probe_longest: Duration::from_millis(80),
    probe_answer: Duration::from_secs(5),
    silence: Duration::from_millis(100),
    token_answer: Duration::from_secs(1),
};

/// Keeps events.
#[derive(Default)]
struct Told {
    events: Mutex<Vec<Event>>,
    more: tokio::sync::Notify,
}

impl ObservationSink for Told {
    fn observe(&self, _: Observation) {}

    fn event(&self, event: Event) {
        self.events.lock().push(event);
        self.more.notify_one();
    }
}

impl Told {
    /// Waits for events of a kind and gives all there were.
    async fn wait(&self, wanted: impl Fn(&Event) -> bool) -> Vec<Event> {
        let found = async {
            loop {
                let events = self.events.lock().clone();
                if events.iter().any(&wanted) {
                    return events;
                }
                self.more.notified().await;
            }
        };
        tokio::time::timeout(PATIENCE, found).await.expect("an event")
    }
}

/// A model server that can be switched off in three ways.
#[derive(Clone, Default)]
struct Switches {
    /// Answers 500 to everything, `/health` too.
    broken: Arc<AtomicBool>,
    /// Completions are never answered while this is true; `/health` stays well.
    stuck: Arc<watch::Sender<bool>>,
    asked: Arc<Mutex<Vec<String>>>,
}

async fn server(name: &'static str, switches: &Switches) -> std::net::SocketAddr {
    let switches = switches.clone();
    endpoint(move |request| {
        let switches = switches.clone();
        async move {
            let path = request.uri().path().to_owned();
            switches.asked.lock().push(path.clone());
            if switches.broken.load(Ordering::SeqCst) {
                let mut response = Response::new(full("EngineDeadError"));
                *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                return response;
            }
            if path != "/health" {
                let mut stuck = switches.stuck.subscribe();
                let _free = stuck.wait_for(|stuck| !stuck).await;
            }
            Response::new(full(name))
        }
    })
    .await
}

struct Setting {
    active: Arc<Active>,
    told: Arc<Told>,
    rule: tidegate_routing::snapshot::Rule,
    budget: Arc<BudgetState>,
}

impl Setting {
    fn new(endpoints: &[std::net::SocketAddr]) -> Self {
        let told = Arc::new(Told::default());
        let picker: Arc<dyn Picker> = Arc::new(LeastRequests);
        let snapshot = Arc::new(snapshot(vec![pool("a", endpoints)], vec![]));
        let active = Arc::new(Upstreams::new(told.clone()).activate(snapshot, &picker));
        Self { active, told, rule: rule(vec![arm(0, 1)]), budget: Arc::default() }
    }

    fn watch(&self) -> tokio::task::JoinHandle<()> {
        self.watch_with(SETTINGS)
    }

    fn watch_with(&self, settings: HealthSettings) -> tokio::task::JoinHandle<()> {
        let active = self.active.clone();
        tokio::spawn(watch_health(move || active.clone(), settings))
    }

    fn upstream(&self, index: usize) -> &Arc<Upstream> {
        &self.active.pools[0].upstreams[index]
    }

    /// Sends while all endpoints but one are busy, so that this one is picked unless it is passed over.
    async fn send_to(&self, first: usize) -> Result<Forwarded, ForwardError> {
        let pool = &self.active.pools[0];
        let busy: Vec<_> = (1..pool.upstreams.len())
            .map(|_| pool.picker.pick(&pool.state, &PickRequest { model: None, tried: &[first], random: 1 }))
            .collect();
        let (head, ()) = Request::post("/v1/completions").header("host", "x").body(()).unwrap().into_parts();
        let forwarding = Forwarding {
            pool,
            rule: &self.rule,
            budget: &self.budget,
            head,
            came_from: crate::upstream::CameFrom::default(),
            body: ForwardBody::Buffered(vec!["{}".into()]),
            model: None,
            stream: false,
            deadline: Some(Instant::now() + PATIENCE),
            once: false,
        };
        let outcome = forward(forwarding).await;
        drop(busy);
        outcome
    }
}

fn returned(event: &Event) -> bool {
    matches!(event, Event::Returned { .. })
}

fn reasons(events: &[Event]) -> Vec<Option<EjectionReason>> {
    let reason = |event: &Event| match event {
        Event::Ejected { reason, .. } => Some(*reason),
        Event::Returned { .. } => None,
    };
    events.iter().map(reason).collect()
}

#[tokio::test]
async fn failures_in_a_row_eject_and_a_trial_brings_back() {
    let switches = Switches::default();
    let bad = server("bad", &switches).await;
    let good = server("good", &Switches::default()).await;
    let setting = Setting::new(&[bad, good]);
    assert_eq!(setting.send_to(0).await.unwrap().retries, 0);
    switches.broken.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        assert!(!setting.upstream(0).state.ejected());
        assert_eq!(setting.send_to(0).await.unwrap().retries, 1);
    }
    assert!(setting.upstream(0).state.ejected());
    assert_eq!(reasons(&setting.told.events.lock()), [Some(EjectionReason::Errors)]);
    assert_eq!(setting.send_to(0).await.unwrap().retries, 0);

    let watching = setting.watch();
    switches.broken.store(false, Ordering::SeqCst);
    // Opened half by a probe; the next request is its trial.
    tokio::time::timeout(PATIENCE, async {
        while setting.upstream(0).state.ejected() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("opened half");
    assert_eq!(setting.send_to(0).await.unwrap().reservation.index, 0);
    let events = setting.told.wait(returned).await;
    assert_eq!(reasons(&events), [Some(EjectionReason::Errors), None]);
    assert!(!setting.upstream(0).state.ejected());
    assert!(switches.asked.lock().iter().any(|path| path == "/health"));
    watching.abort();
}

#[tokio::test]
async fn half_open_admits_one_request_and_a_failed_trial_ejects_again() {
    let switches = Switches::default();
    let setting = Setting::new(&[server("a", &switches).await, server("b", &Switches::default()).await]);
    let pool = &setting.active.pools[0];
    for _ in 0..3 {
        setting.upstream(0).failed(pool, 0, EjectionReason::Reset);
    }
    setting.upstream(0).probed(pool, 0, health::Check::Return, true);
    assert!(!setting.upstream(0).state.ejected());
    switches.stuck.send_replace(true);
    let trial = setting.send_to(0);
    let others = async {
        while setting.upstream(0).state.in_flight() == 0 {
            tokio::task::yield_now().await;
        }
        // The trial waits; nobody else goes there.
        for _ in 0..5 {
            assert_eq!(setting.send_to(0).await.unwrap().reservation.index, 1);
        }
        switches.broken.store(true, Ordering::SeqCst);
        assert!(setting.upstream(0).state.ejected());
        setting.upstream(0).failed(pool, 0, EjectionReason::Reset);
        assert!(setting.upstream(0).state.ejected());
        switches.stuck.send_replace(false);
    };
    let (trial, ()) = tokio::join!(trial, others);
    // The trial was answered after all: that brings it back.
    assert_eq!(trial.unwrap().reservation.index, 0);
    assert!(!setting.upstream(0).state.ejected());
}

#[tokio::test]
async fn the_last_endpoint_is_never_ejected() {
    let broken = Switches::default();
    broken.broken.store(true, Ordering::SeqCst);
    let setting = Setting::new(&[server("a", &broken).await, server("b", &broken).await]);
    for round in 0..20 {
        assert_eq!(setting.send_to(round % 2).await.unwrap().head.status, 500);
        assert!(!setting.upstream(0).state.ejected() || !setting.upstream(1).state.ejected());
    }
    assert_eq!(setting.told.events.lock().len(), 1);
}

#[tokio::test]
async fn trap_10_a_stopped_engine_is_found_and_its_requests_are_sent_again() {
    let switches = Switches::default();
    switches.stuck.send_replace(true);
    let setting = Setting::new(&[server("dead", &switches).await, server("good", &Switches::default()).await]);
    let watching = setting.watch();
    let (first, second) = tokio::join!(setting.send_to(0), setting.send_to(0));
    for forwarded in [first.unwrap(), second.unwrap()] {
        assert_eq!(forwarded.reservation.index, 1);
    }
    assert!(setting.upstream(0).state.ejected());
    assert_eq!(reasons(&setting.told.events.lock()), [Some(EjectionReason::Silent)]);
    // It says that it is healthy, but only a token brings it back.
    assert!(!switches.asked.lock().iter().any(|path| path == "/health"));
    switches.stuck.send_replace(false);
    setting.told.wait(returned).await;
    assert!(!setting.upstream(0).state.ejected());
    assert_eq!(setting.send_to(0).await.unwrap().reservation.index, 0);
    watching.abort();
}

#[tokio::test]
async fn a_slow_engine_that_answers_its_probe_stays() {
    let held = Arc::new(watch::Sender::new(true));
    let gate = held.clone();
    let (probes, mut probed) = watch::channel(0_u32);
    let slow = endpoint(move |request| {
        let (gate, probes) = (gate.clone(), probes.clone());
        async move {
            let body = http_body_util::BodyExt::collect(request.into_body()).await.unwrap().to_bytes();
            if body.starts_with(b"{\"prompt\":\"ping\"") {
                probes.send_modify(|count| *count += 1);
            } else {
                let mut held = gate.subscribe();
                let _open = held.wait_for(|held| !held).await;
            }
            Response::new(full("slow"))
        }
    })
    .await;
    let setting = Setting::new(&[slow, server("good", &Switches::default()).await]);
    let watching = setting.watch_with(HealthSettings { token_answer: PATIENCE, ..SETTINGS });
    let two_probes = async {
        tokio::time::timeout(PATIENCE, probed.wait_for(|count| *count >= 2)).await.expect("probes").unwrap();
        held.send_replace(false);
    };
    let (forwarded, ()) = tokio::join!(setting.send_to(0), two_probes);
    let forwarded = forwarded.unwrap();
    assert_eq!((forwarded.reservation.index, forwarded.retries), (0, 0));
    assert!(setting.told.events.lock().is_empty());
    watching.abort();
}

#[tokio::test]
async fn kept_connections_are_closed_at_their_limit() {
    let mut setting = Setting::new(&[server("a", &Switches::default()).await]);
    setting.rule.limits.upstream_idle = Some(Duration::from_millis(50));
    let body = setting.send_to(0).await.unwrap().body.unwrap();
    assert_eq!(setting.upstream(0).connections.kept(), 0);
    assert_eq!(body.all().await.unwrap(), "a");
    assert_eq!(setting.upstream(0).connections.kept(), 1);
    let watching = setting.watch();
    tokio::time::timeout(PATIENCE, async {
        while setting.upstream(0).connections.kept() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("closed");
    watching.abort();
}
