//! What is known of endpoints and pools while they live; it outlives snapshots.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::Mutex;

/// One model that an endpoint lists in `/v1/models`.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct ModelCard {
    /// Name.
    pub id: String,
    /// Base model of an adapter.
    pub parent: Option<String>,
    /// The whole card as the server sent it.
    pub card: serde_json::Value,
}

/// What an endpoint answered to `/v1/models`.
pub type ModelList = Vec<ModelCard>;

/// An engine's own gauges, as last read.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct EngineMetrics {
    /// Requests in the batch.
    pub running: f64,
    /// Requests that wait.
    pub waiting: f64,
    /// KV cache in use, 0 to 1.
    pub kv_usage: f64,
}

/// One endpoint.
#[derive(Debug)]
pub struct EndpointState {
    /// `host:port`.
    pub address: Arc<str>,
    /// Requests of ours that are under way.
    in_flight: AtomicU32,
    /// All requests ever reserved.
    picked: AtomicU64,
    ejected: AtomicBool,
    models: ArcSwapOption<ModelList>,
    metrics: ArcSwapOption<EngineMetrics>,
}

impl EndpointState {
    /// An endpoint of which nothing is known yet.
    pub fn new(address: Arc<str>) -> Self {
        Self {
            address,
            in_flight: AtomicU32::new(0),
            picked: AtomicU64::new(0),
            ejected: AtomicBool::new(false),
            models: ArcSwapOption::empty(),
            metrics: ArcSwapOption::empty(),
        }
    }

    /// Requests of ours that are under way.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Acquire)
    }

    /// All requests ever reserved here.
    pub fn picked(&self) -> u64 {
        self.picked.load(Ordering::Relaxed)
    }

    /// Whether it is passed over after repeated failures.
    pub fn ejected(&self) -> bool {
        self.ejected.load(Ordering::Acquire)
    }

    /// Ejects it or takes it back. Whether it is the last of its pool is the caller's question
    /// ([`PoolState::eject`]).
    pub fn set_ejected(&self, ejected: bool) {
        self.ejected.store(ejected, Ordering::Release);
    }

    /// What it answered to `/v1/models`; `None` while it has not.
    pub fn models(&self) -> Option<Arc<ModelList>> {
        self.models.load_full()
    }

    /// Keeps an answer to `/v1/models`.
    pub fn set_models(&self, models: ModelList) {
        self.models.store(Some(Arc::new(models)));
    }

    /// Its engine's gauges; `None` while unknown.
    pub fn metrics(&self) -> Option<Arc<EngineMetrics>> {
        self.metrics.load_full()
    }

    /// Keeps gauges, or forgets them when they are stale.
    pub fn set_metrics(&self, metrics: Option<EngineMetrics>) {
        self.metrics.store(metrics.map(Arc::new));
    }

    /// Whether it lists a model: `None` while it has not answered.
    pub fn lists(&self, model: &str) -> Option<bool> {
        self.models.load().as_ref().map(|models| models.iter().any(|card| card.id == model))
    }

    /// Adds one request if exactly `seen` were under way; pick and reserve are one step through this.
    pub(crate) fn reserve_if(&self, seen: u32) -> bool {
        let reserved =
            self.in_flight.compare_exchange(seen, seen.saturating_add(1), Ordering::AcqRel, Ordering::Acquire).is_ok();
        if reserved {
            self.picked.fetch_add(1, Ordering::Relaxed);
        }
        reserved
    }
}

/// A place on an endpoint; given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    /// The endpoint.
    pub endpoint: Arc<EndpointState>,
    /// Its position in the pool.
    pub index: usize,
}

impl Reservation {
    /// For pickers: wraps a place that [`EndpointState::reserve_if`] took.
    pub(crate) fn taken(endpoint: Arc<EndpointState>, index: usize) -> Self {
        Self { endpoint, index }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.endpoint.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What a pool's endpoints list together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PoolModels {
    /// Whether every endpoint has answered `/v1/models` (false for a pool without endpoints: unknown is not absent).
    pub all_answered: bool,
    /// Every name that any endpoint lists.
    pub names: BTreeSet<String>,
}

/// A pool's endpoints and what they list together.
#[derive(Debug)]
pub struct PoolState {
    /// In the snapshot's order.
    pub endpoints: Vec<Arc<EndpointState>>,
    models: ArcSwap<PoolModels>,
    /// One ejection at a time: two at once could each take the other for the one that is left.
    ejecting: Mutex<()>,
}

impl PoolState {
    /// A pool of endpoints, some of which may be known from earlier snapshots.
    pub fn new(endpoints: Vec<Arc<EndpointState>>) -> Self {
        let pool = Self { endpoints, models: ArcSwap::default(), ejecting: Mutex::new(()) };
        pool.refresh_models();
        pool
    }

    /// Gathers anew what the endpoints list; to be called after any [`EndpointState::set_models`].
    pub fn refresh_models(&self) {
        let mut models = PoolModels { all_answered: !self.endpoints.is_empty(), names: BTreeSet::new() };
        for endpoint in &self.endpoints {
            match endpoint.models() {
                Some(list) => models.names.extend(list.iter().map(|card| card.id.clone())),
                None => models.all_answered = false,
            }
        }
        self.models.store(Arc::new(models));
    }

    /// What the endpoints list together.
    pub fn models(&self) -> Arc<PoolModels> {
        self.models.load_full()
    }

    /// Whether the pool serves a model: `Some(true)` when an endpoint lists it, `Some(false)` when all have answered
    /// and none does, `None` when that is not known.
    pub fn serves(&self, model: &str) -> Option<bool> {
        let models = self.models.load();
        if models.names.contains(model) {
            Some(true)
        } else if models.all_answered {
            Some(false)
        } else {
            None
        }
    }

    /// Ejects an endpoint unless it is the last one in use; whether it is ejected now.
    pub fn eject(&self, index: usize) -> bool {
        let _turn = self.ejecting.lock();
        let others = self.endpoints.iter().enumerate().any(|(other, endpoint)| other != index && !endpoint.ejected());
        match self.endpoints.get(index) {
            Some(endpoint) if others => {
                endpoint.set_ejected(true);
                true
            }
            _ => false,
        }
    }
}
