//! One endpoint's connections and health: keep-alive pool, one attempt, ejection, the watch for dead engines.
//!
//! Lives as long as some snapshot names the endpoint. Decides nothing about which endpoint is used.

use std::sync::Arc;

use tidegate_api::ObjectKey;
use tidegate_api::inference::AppProtocol;
use tidegate_picker::EndpointState;

pub(crate) mod answer;
pub(crate) mod body;
pub(crate) mod connections;
mod exchange;
pub(crate) mod health;
pub(crate) mod outgoing;
mod watch;

use connections::Connections;
pub(crate) use health::Events;
use health::Health;
pub use outgoing::CameFrom;
pub use watch::{HealthSettings, watch_health};

/// What makes two endpoints of two snapshots the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UpstreamKey {
    /// The pool.
    pub pool: Arc<ObjectKey>,
    /// `host:port`.
    pub address: Arc<str>,
    /// How it is spoken to.
    pub protocol: AppProtocol,
}

/// One endpoint.
#[derive(Debug)]
pub struct Upstream {
    /// Which.
    pub key: UpstreamKey,
    /// Load, models, ejection.
    pub state: Arc<EndpointState>,
    pub(crate) connections: Connections,
    health: Health,
}

impl Upstream {
    /// An endpoint without connections; its ejections and returns are told to `events`.
    pub(crate) fn new(key: UpstreamKey, state: Arc<EndpointState>, events: Events) -> Self {
        Self { key, state, connections: Connections::new(), health: Health::new(events) }
    }

    /// The same endpoint with connections of its own, for probes.
    fn apart(&self) -> Self {
        Self::new(self.key.clone(), self.state.clone(), self.health.events())
    }
}

#[cfg(test)]
mod tests;
