//! What the controller asks of the data plane: which endpoints a pool has, and what is known of each.

use std::sync::Arc;

use bytes::Bytes;

use tidegate_api::ObjectKey;

/// One endpoint, as the data plane knows it now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Endpoint {
    /// `host:port`.
    pub address: Arc<str>,
    /// Passed over after repeated failures.
    pub ejected: bool,
    /// Requests of ours that are under way.
    pub in_flight: u32,
    /// Requests ever sent there.
    pub picked: u64,
    /// How full its engine is, 0 to 1: its KV cache in use, 1 while requests wait; none: it does not say.
    pub full: Option<f64>,
    /// Names that it lists in `/v1/models`; none: it has not answered.
    pub models: Option<Vec<String>>,
}

/// A request that came lately, to be replayed.
#[derive(Clone, PartialEq, Eq)]
pub struct Prompt {
    /// Its path.
    pub path: String,
    /// Its JSON body.
    pub body: Bytes,
}

impl std::fmt::Debug for Prompt {
    /// Never shows what people wrote.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Prompt").field("path", &self.path).field("bytes", &self.body.len()).finish()
    }
}

/// The data plane, as the controller knows it. Methods are called about once a second and must not block.
pub trait Fleet: Send + Sync + 'static {
    /// The endpoints of a pool; none when no snapshot has it.
    fn endpoints(&self, pool: &ObjectKey) -> Vec<Endpoint>;

    /// Prompts that came lately and fell on a roll-out's pair, the newest first. Never logged, never written down.
    fn recent_prompts(&self, rollout: &ObjectKey) -> Vec<Prompt>;

    /// Cuts the streams of a roll-out's candidate (`true`) or stable (`false`) that are under way; how many.
    fn cut_streams(&self, rollout: &ObjectKey, candidate: bool) -> usize;
}
