//! The snapshot in force, joined with what lives longer than a snapshot: endpoint states, connections, retry budgets.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tidegate_picker::{EndpointState, Picker, PoolState};
use tidegate_routing::Snapshot;
use tidegate_routing::snapshot::Pool;
use tidegate_telemetry::ObservationSink;

use crate::upstream::{Events, Upstream, UpstreamKey};

/// What one request reads from start to end.
#[derive(Debug)]
pub struct Active {
    /// The table.
    pub snapshot: Arc<Snapshot>,
    /// By position as [`Snapshot::pools`].
    pub pools: Vec<Arc<ActivePool>>,
}

/// A pool of the snapshot with its living state.
#[derive(Debug)]
pub struct ActivePool {
    /// As compiled.
    pub pool: Arc<Pool>,
    /// Loads, ejections, models; endpoints by position as in [`Pool::endpoints`].
    pub state: Arc<PoolState>,
    /// Connections and health, by the same position.
    pub upstreams: Vec<Arc<Upstream>>,
    /// Who picks.
    pub picker: Arc<dyn Picker>,
}

/// Keeps upstreams from one snapshot to the next.
#[derive(Debug)]
pub struct Upstreams {
    known: Mutex<HashMap<UpstreamKey, Arc<Upstream>>>,
    events: Events,
}

impl Upstreams {
    /// None yet; ejections and returns of those to come are told to `sink`.
    pub fn new(sink: Arc<dyn ObservationSink>) -> Self {
        Self { known: Mutex::default(), events: Events(sink) }
    }

    /// Joins a snapshot with the upstreams that are known, makes those that are new, and forgets those that no pool
    /// names any more (requests under way keep theirs).
    pub fn activate(&self, snapshot: Arc<Snapshot>, picker: &Arc<dyn Picker>) -> Active {
        let mut known = self.known.lock();
        let mut kept = HashMap::new();
        let pools = snapshot
            .pools
            .iter()
            .map(|pool| {
                let upstreams: Vec<Arc<Upstream>> = pool
                    .endpoints
                    .iter()
                    .map(|endpoint| {
                        let key = UpstreamKey {
                            pool: pool.key.clone(),
                            address: endpoint.address.clone(),
                            protocol: pool.protocol,
                        };
                        let upstream = known.get(&key).cloned().unwrap_or_else(|| {
                            let state = Arc::new(EndpointState::new(endpoint.address.clone()));
                            Arc::new(Upstream::new(key.clone(), state, self.events.clone()))
                        });
                        kept.insert(key, upstream.clone());
                        upstream
                    })
                    .collect();
                let states = upstreams.iter().map(|upstream| upstream.state.clone()).collect();
                Arc::new(ActivePool {
                    pool: pool.clone(),
                    state: Arc::new(PoolState::new(states)),
                    upstreams,
                    picker: picker.clone(),
                })
            })
            .collect();
        *known = kept;
        Active { snapshot, pools }
    }
}
