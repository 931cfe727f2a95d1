//! What the control loop tells after each compile, and what it is told before the next.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use tidegate_api::ObjectKey;
use tidegate_api::rollout::InferenceRolloutSpec;
use tidegate_rollout::event::{Admission, PairWeights, Refusal};
use tidegate_routing::{RolloutFacts, Rollouts};
use tokio::sync::{mpsc, watch};

/// One InferenceRollout that is in force.
#[derive(Clone, Debug)]
pub struct Described {
    /// Which.
    pub key: ObjectKey,
    /// Its whole newest document, with its namespace filled in.
    pub document: Value,
    /// The spec in force.
    pub spec: InferenceRolloutSpec,
    /// `metadata.uid` from a cluster; none from files.
    pub uid: Option<String>,
    /// `metadata.generation`, 0 where there is none.
    pub generation: i64,
}

/// What compiling found out about one roll-out, with the pools' names.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// As compile tells it.
    pub facts: RolloutFacts,
    /// Stable's pool, when the snapshot has it.
    pub stable_pool: Option<ObjectKey>,
    /// The candidate's.
    pub candidate_pool: Option<ObjectKey>,
}

/// A snapshot is in force.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// [`Laid::version`] that it was compiled with.
    pub version: u64,
    /// Every InferenceRollout that is described, by name.
    pub described: BTreeMap<ObjectKey, Described>,
    /// What was found out about each that is described or active.
    pub found: BTreeMap<ObjectKey, Found>,
}

/// The overlays for the next compile.
#[derive(Clone, Debug, Default)]
pub struct Laid {
    /// Counts up.
    pub version: u64,
    /// Active and ended roll-outs.
    pub rollouts: Rollouts,
}

/// The control loop's end of the way to the controller.
#[derive(Debug)]
pub struct Link {
    pub(crate) seen: mpsc::Sender<Seen>,
    pub(crate) laid: watch::Receiver<Arc<Laid>>,
}

impl Link {
    /// The newest overlays; marks them as read.
    pub fn laid(&mut self) -> Arc<Laid> {
        self.laid.borrow_and_update().clone()
    }

    /// Returns when there are newer overlays than those last read; never, once the controller has ended.
    pub async fn changed(&mut self) {
        if self.laid.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Tells that a snapshot is in force.
    pub async fn seen(&self, seen: Seen) {
        // A controller that has ended needs no news.
        let _ = self.seen.send(seen).await;
    }
}

/// What a machine is told of the facts.
pub(crate) fn admission(facts: &RolloutFacts) -> Admission {
    Admission {
        refused: facts.conflict.as_ref().map(|found| refusal(found.reason, &found.message)),
        unresolved: facts.unresolved.as_ref().map(|found| refusal(found.reason, &found.message)),
    }
}

fn refusal(reason: &str, message: &str) -> Refusal {
    Refusal { reason: reason.into(), message: message.into() }
}

/// What the manifests say of the pair, as the machine has it.
pub(crate) fn pair_weights(facts: &RolloutFacts) -> PairWeights {
    PairWeights { stable: facts.in_manifests.stable, candidate: facts.in_manifests.candidate }
}
