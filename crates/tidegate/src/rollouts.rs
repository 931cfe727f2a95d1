//! The wires between the control loop, the data plane and the controller of roll-outs.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use tidegate_api::rollout::InferenceRolloutSpec;
use tidegate_api::{ObjectKey, ObjectStatus, Resource};
use tidegate_controller::{Described, Endpoint, Fleet, Found, Prompt, RolloutHandle, Seen};
use tidegate_proxy::{Proxy, RecentPrompt};
use tidegate_routing::snapshot::PoolIndex;
use tidegate_routing::{Admitted, FactsByRollout, Snapshot};

/// The source of documents that a cluster gave.
const CLUSTER: &str = "cluster";

/// The data plane as the controller asks it.
pub(crate) struct LiveFleet(pub(crate) Arc<Proxy>);

impl Fleet for LiveFleet {
    fn endpoints(&self, pool: &ObjectKey) -> Vec<Endpoint> {
        let active = self.0.active();
        let Some(found) = active.pools.iter().find(|one| *one.pool.key == *pool) else { return Vec::new() };
        found
            .state
            .endpoints
            .iter()
            .map(|state| Endpoint {
                address: state.address.clone(),
                ejected: state.ejected(),
                in_flight: state.in_flight(),
                picked: state.picked(),
                full: state.metrics().map(|engine| if engine.waiting >= 1.0 { 1.0 } else { engine.kv_usage }),
                models: state.models().map(|models| models.iter().map(|card| card.id.clone()).collect()),
            })
            .collect()
    }

    fn recent_prompts(&self, rollout: &ObjectKey) -> Vec<Prompt> {
        let recent = self.0.recent_prompts(&rollout.namespaced_name());
        recent.into_iter().map(|RecentPrompt { path, body }| Prompt { path, body }).collect()
    }

    fn cut_streams(&self, rollout: &ObjectKey, candidate: bool) -> usize {
        self.0.cut(&rollout.namespaced_name(), candidate)
    }
}

/// What the controller is told of a snapshot that is in force.
pub(crate) fn seen(version: u64, admitted: &[Admitted], facts: FactsByRollout, snapshot: &Snapshot) -> Seen {
    let pool = |index: Option<PoolIndex>| Some((*snapshot.pools.get(index?.0)?.key).clone());
    let found = facts.into_iter().map(|(key, facts)| {
        let (stable_pool, candidate_pool) = (pool(facts.stable_pool), pool(facts.candidate_pool));
        (key, Found { facts, stable_pool, candidate_pool })
    });
    Seen { version, described: described(admitted), found: found.collect() }
}

fn described(admitted: &[Admitted]) -> BTreeMap<ObjectKey, Described> {
    let rollouts = admitted.iter().filter_map(|one| match one.resource.as_deref()? {
        Resource::InferenceRollout(spec) => Some((one.document.key.clone(), describe(one, spec))),
        _ => None,
    });
    rollouts.collect()
}

fn describe(admitted: &Admitted, spec: &InferenceRolloutSpec) -> Described {
    let document = &admitted.document;
    let mut value = document.value.clone();
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("namespace".into(), document.key.namespace.clone().into());
    }
    // A uid in a file is another cluster's; without one, replicas agree by the names.
    let uid =
        (&*document.origin.source == CLUSTER).then(|| value.pointer("/metadata/uid")?.as_str().map(str::to_owned));
    Described {
        key: document.key.clone(),
        spec: spec.clone(),
        uid: uid.flatten(),
        generation: admitted.metadata.generation,
        document: value,
    }
}

/// Adds what runs to the statuses of roll-outs.
pub(crate) fn say_running(statuses: &mut BTreeMap<ObjectKey, ObjectStatus>, rollouts: &RolloutHandle) {
    for (key, status) in statuses.iter_mut().filter(|(key, _)| key.kind == "InferenceRollout") {
        if let Some(Value::Object(running)) = rollouts.status(&key.namespace, &key.name) {
            status.running = running;
        }
    }
}
