//! What the connections, the engine's loop and the owner of a server share.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep_until};

use crate::config::Config;
use crate::engine::{Busy, Engine, Gauges, Id, Produced, Submission};
use crate::faults::Faults;

/// How far a server is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Serving,
    /// The port is open, requests finish, new ones are refused with 500.
    Draining,
    /// The port is closed, the engine stands still, streams are silent; ends when its clients have left.
    Leaving,
    /// The engine died.
    Died,
}

/// What the engine says to a request.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Token(Produced),
    Died,
}

/// The engine and whom its tokens are for.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) engine: Engine,
    receivers: HashMap<Id, mpsc::Sender<Event>>,
}

/// What `/metrics` shows of the engine's state: as of the end of its last step, as in vLLM.
#[derive(Debug, Default)]
pub(crate) struct Published {
    pub(crate) gauges: Gauges,
    /// Every list of adapters ever seen, with the Unix time at which it last was.
    pub(crate) adapters: Vec<(String, f64)>,
}

/// One server's state. No lock is held across an await.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) name: String,
    pub(crate) core: Mutex<Core>,
    pub(crate) published: Mutex<Published>,
    pub(crate) adapters: Mutex<Vec<(String, String)>>,
    pub(crate) random: Mutex<fastrand::Rng>,
    pub(crate) faults: watch::Sender<Faults>,
    faults_since: Mutex<Instant>,
    pub(crate) speed: watch::Sender<f64>,
    pub(crate) phase: watch::Sender<Phase>,
    pub(crate) in_flight: AtomicUsize,
    pub(crate) exchanges: Mutex<crate::metrics::Exchanges>,
    pub(crate) since: f64,
    wake: Notify,
}

/// Unix time in seconds.
pub(crate) fn unix_time() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

impl Shared {
    pub(crate) fn new(config: Config, name: String) -> Self {
        let engine = Engine::new(config.engine.clone(), config.max_model_len);
        Self {
            name,
            core: Mutex::new(Core { engine, receivers: HashMap::new() }),
            published: Mutex::default(),
            adapters: Mutex::new(config.adapters.clone()),
            random: Mutex::new(fastrand::Rng::with_seed(config.engine.seed)),
            faults: watch::Sender::new(config.faults.clone()),
            faults_since: Mutex::new(Instant::now()),
            speed: watch::Sender::new(config.speed),
            phase: watch::Sender::new(Phase::Serving),
            in_flight: AtomicUsize::new(0),
            exchanges: Mutex::default(),
            since: unix_time(),
            wake: Notify::new(),
            config,
        }
    }

    /// Draws with the server's seed whether something with this rate happens.
    pub(crate) fn happens(&self, rate: f64) -> bool {
        rate > 0.0 && self.random.lock().f64() < rate
    }

    /// Puts faults in force.
    pub(crate) fn set_faults(&self, faults: Faults) {
        *self.faults_since.lock() = Instant::now();
        self.faults.send_replace(faults);
    }

    /// Hands a request to the engine; its tokens come out of the receiver. Dropping that aborts the request.
    pub(crate) fn submit(&self, submission: Submission) -> Result<mpsc::Receiver<Event>, Busy> {
        // Room for everything the engine may ever say, so that it never waits for a slow client.
        let (sender, receiver) = mpsc::channel(submission.max_tokens.saturating_add(2));
        let mut core = self.core.lock();
        let id = core.engine.submit(submission)?;
        core.receivers.insert(id, sender);
        drop(core);
        self.wake.notify_one();
        Ok(receiver)
    }

    /// Counts a request as in flight until the guard is dropped.
    pub(crate) fn count_in(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(self.clone())
    }

    fn publish(&self, gauges: Gauges) {
        let mut published = self.published.lock();
        if !self.config.adapters.is_empty() || !self.adapters.lock().is_empty() {
            let (names, now) = (gauges.adapters.join(","), unix_time());
            match published.adapters.iter_mut().find(|(other, _)| *other == names) {
                Some((_, time)) => *time = now,
                None => published.adapters.push((names, now)),
            }
        }
        published.gauges = gauges;
    }

    /// How many times longer steps take now.
    fn slowness(&self, faults: &Faults) -> f64 {
        let ramp = if faults.slow_start_seconds > 0.0 {
            let gone = self.faults_since.lock().elapsed().as_secs_f64() / faults.slow_start_seconds;
            1.0 + (faults.slow_start_factor - 1.0) * (1.0 - gone).max(0.0)
        } else {
            1.0
        };
        faults.latency_factor * ramp
    }

    fn die(&self) {
        let receivers = std::mem::take(&mut self.core.lock().receivers);
        for sender in receivers.into_values() {
            // One that left needs no word.
            let _ = sender.try_send(Event::Died);
        }
        self.phase.send_replace(Phase::Died);
    }
}

/// Counts down when dropped.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Shared>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The engine's loop: a step, the time it takes, its tokens. Ends when the engine dies or the task is aborted.
pub(crate) async fn drive(shared: Arc<Shared>) {
    let (mut faults, mut phase) = (shared.faults.subscribe(), shared.phase.subscribe());
    let mut due = Instant::now();
    loop {
        let now = faults.borrow_and_update().clone();
        let leaving = *phase.borrow_and_update() == Phase::Leaving;
        if now.engine_killed {
            shared.die();
            return;
        }
        let step = if now.engine_stopped || leaving { None } else { next_step(&shared) };
        let Some(step) = step else {
            tokio::select! {
                () = shared.wake.notified() => {}
                _ = faults.changed() => {}
                _ = phase.changed() => {}
            }
            due = Instant::now();
            continue;
        };
        let wall = step.seconds * shared.slowness(&now) / *shared.speed.borrow();
        due += Duration::try_from_secs_f64(wall).unwrap_or_default();
        if due > Instant::now() {
            sleep_until(due).await;
        } else {
            tokio::task::yield_now().await;
        }
        deliver(&shared, step.produced);
    }
}

/// Ends requests whose clients left, then takes the engine's next step; nothing when it is idle.
fn next_step(shared: &Shared) -> Option<crate::engine::Step> {
    let mut core = shared.core.lock();
    let gone: Vec<Id> = core.receivers.iter().filter(|(_, sender)| sender.is_closed()).map(|(id, _)| *id).collect();
    for id in &gone {
        core.receivers.remove(id);
        core.engine.abort(*id);
    }
    if core.engine.is_idle() {
        let gauges = core.engine.gauges();
        drop(core);
        if !gone.is_empty() {
            shared.publish(gauges);
        }
        return None;
    }
    Some(core.engine.step())
}

fn deliver(shared: &Shared, produced: Vec<Produced>) {
    let mut core = shared.core.lock();
    for token in produced {
        let (id, last) = (token.id, token.finish.is_some());
        if let Some(sender) = core.receivers.get(&id) {
            // Fails only when the client left; the next step ends the request.
            let _ = sender.try_send(Event::Token(token));
        }
        if last {
            core.receivers.remove(&id);
        }
    }
    let gauges = core.engine.gauges();
    drop(core);
    shared.publish(gauges);
}
