//! The poller: one task an endpoint, started and stopped as endpoints come and go.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tidegate_picker::{EndpointState, PoolState};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use crate::client::Client;
use crate::{parse_metrics, parse_models};

/// Between two readings of an engine's gauges.
const METRICS_EVERY: Duration = Duration::from_secs(1);
/// Between two readings of the models, while the endpoint has not told them.
const MODELS_AT_FIRST: Duration = Duration::from_millis(500);
/// Between two readings of the models, once it has.
const MODELS_EVERY: Duration = Duration::from_secs(5);
/// Gauges that could not be read this often in a row are forgotten: stale ones mislead a pick, none do not.
const STALE_AFTER: u32 = 5;

/// One endpoint to poll.
#[derive(Clone, Debug)]
pub struct PollTarget {
    /// Where what is learned goes.
    pub state: Arc<EndpointState>,
    /// Its pool, told when its models changed. Weak: a snapshot that is gone needs no news.
    pub pool: Weak<PoolState>,
    /// Path of its metrics, `/metrics`.
    pub metrics_path: Arc<str>,
}

/// What the task of one endpoint is told when the snapshot changes.
#[derive(Debug)]
struct Polled {
    pool: Mutex<Weak<PoolState>>,
    metrics_path: Arc<str>,
}

/// One task; stopped when dropped.
#[derive(Debug)]
struct Task {
    polled: Arc<Polled>,
    handle: JoinHandle<()>,
}

impl Drop for Task {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

/// Polls the endpoints of the snapshot in force; stops when dropped.
#[derive(Debug)]
pub struct Poller {
    runtime: Handle,
    /// By the address of the endpoint's state, which is the same as long as some snapshot names the endpoint.
    tasks: HashMap<usize, Task>,
}

impl Poller {
    /// A poller without targets, whose tasks run on `runtime`.
    pub fn new(runtime: Handle) -> Self {
        Self { runtime, tasks: HashMap::new() }
    }

    /// Polls exactly these from now on. Endpoints that stay keep their task and its rhythm.
    pub fn set_targets(&mut self, targets: Vec<PollTarget>) {
        let mut kept = HashMap::with_capacity(targets.len());
        for target in targets {
            let identity = Arc::as_ptr(&target.state).addr();
            let task = self.tasks.remove(&identity).filter(|task| task.polled.metrics_path == target.metrics_path);
            let task = match task {
                Some(task) => {
                    *task.polled.pool.lock() = target.pool;
                    task
                }
                None => self.start(target),
            };
            kept.insert(identity, task);
        }
        self.tasks = kept;
    }

    fn start(&self, target: PollTarget) -> Task {
        let polled = Arc::new(Polled { pool: Mutex::new(target.pool), metrics_path: target.metrics_path });
        let handle = self.runtime.spawn(poll(target.state, polled.clone()));
        Task { polled, handle }
    }
}

/// One endpoint, for as long as it is a target.
async fn poll(state: Arc<EndpointState>, polled: Arc<Polled>) {
    let mut client = Client::new(state.address.clone());
    let mut failures = 0_u32;
    let mut models_due = Instant::now();
    let mut metrics_due = Instant::now();
    loop {
        if models_due <= Instant::now() {
            learn_models(&mut client, &state, &polled).await;
            let pause = if state.models().is_some() { MODELS_EVERY } else { MODELS_AT_FIRST };
            models_due = Instant::now() + jittered(pause, &state.address);
        }
        if metrics_due <= Instant::now() {
            match client.get(&polled.metrics_path).await.map(|page| parse_metrics(&page)) {
                Ok(metrics) => {
                    failures = 0;
                    state.set_metrics(metrics);
                }
                Err(error) => {
                    failures = failures.saturating_add(1);
                    if failures == STALE_AFTER {
                        tracing::debug!(endpoint = %state.address, %error, "its metrics are stale and no longer used");
                        state.set_metrics(None);
                    }
                }
            }
            metrics_due = Instant::now() + jittered(METRICS_EVERY, &state.address);
        }
        sleep_until(models_due.min(metrics_due)).await;
    }
}

/// Asks for the models; a failure leaves what was known.
async fn learn_models(client: &mut Client, state: &EndpointState, polled: &Polled) {
    let answer = match client.get("/v1/models").await {
        Ok(answer) => answer,
        Err(error) => {
            tracing::debug!(endpoint = %state.address, %error, "it does not tell its models");
            return;
        }
    };
    match parse_models(&answer) {
        Ok(models) => {
            let same = state.models().is_some_and(|known| {
                known.len() == models.len() && known.iter().zip(&models).all(|(known, new)| known.id == new.id)
            });
            if !same {
                state.set_models(models);
            }
            // Also when nothing changed: the pool may be a new snapshot's.
            if let Some(pool) = polled.pool.lock().upgrade() {
                pool.refresh_models();
            }
        }
        Err(error) => tracing::warn!(endpoint = %state.address, %error, "its /v1/models cannot be read"),
    }
}

/// `pause` with up to a fifth more or less, so that many endpoints are not asked at once. The part is the endpoint's
/// own: spread is wanted, not chance.
fn jittered(pause: Duration, address: &str) -> Duration {
    let hash = address.bytes().fold(0_u32, |hash, byte| hash.wrapping_mul(31).wrapping_add(u32::from(byte)));
    pause.mul_f64(0.8 + f64::from(hash % 401) / 1000.0)
}

#[cfg(test)]
mod tests;
