//! One endpoint's connections and health: keep-alive pool, one attempt, ejection, the watch for dead engines.
//!
//! Lives as long as some snapshot names the endpoint. Decides nothing about which endpoint is used.

use std::sync::Arc;

use tidegate_api::ObjectKey;
use tidegate_api::inference::AppProtocol;
use tidegate_picker::EndpointState;

pub(crate) mod body;
pub(crate) mod connections;

use connections::Connections;

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
}

impl Upstream {
    /// An endpoint without connections.
    pub fn new(key: UpstreamKey, state: Arc<EndpointState>) -> Self {
        Self { key, state, connections: Connections::new() }
    }
}
