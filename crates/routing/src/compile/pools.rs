//! The pools that rules name: endpoints, model tables, pickers, and the pools' own statuses.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use serde_json::json;
use tidegate_api::inference::{FailureMode, InferencePool};
use tidegate_api::model_server::ModelServerSpec;
use tidegate_api::{Condition, ConditionStatus, ObjectKey, Resource};

use super::index::{GATEWAY_GROUP, Index, Object};
use super::services;
use super::statuses::{Statuses, accepted, resolved_refs};
use crate::snapshot::{ArmTarget, Endpoint, ModelTable, PickerSource, Pool, PoolIndex, PoolKind};

/// Pools under construction.
#[derive(Debug)]
pub(super) struct Pools<'a> {
    index: &'a Index<'a>,
    tables: HashMap<ObjectKey, ModelTable>,
    list: Vec<Arc<Pool>>,
    /// By object, and port for Services.
    known: HashMap<(ObjectKey, Option<u16>), PoolIndex>,
    /// Which Gateways route to which InferencePool.
    parents: BTreeMap<ObjectKey, BTreeSet<ObjectKey>>,
}

impl<'a> Pools<'a> {
    pub(super) fn new(index: &'a Index<'a>, tables: HashMap<ObjectKey, ModelTable>) -> Self {
        Self { index, tables, list: Vec::new(), known: HashMap::new(), parents: BTreeMap::new() }
    }

    /// The position of an InferencePool, which is made when it is first named.
    pub(super) fn inference(&mut self, object: &Object<'a>, pool: &InferencePool) -> PoolIndex {
        let known = (object.key.clone(), None);
        if let Some(position) = self.known.get(&known) {
            return *position;
        }
        let mut endpoints = Endpoints::default();
        for (server, spec) in self.index.model_servers(&object.key.namespace, &pool.selector) {
            for address in addresses(&spec.address, &pool.target_ports) {
                endpoints.push(endpoint(address, &server.key.namespaced_name(), spec));
            }
        }
        let made = Pool {
            key: Arc::new(object.key.clone()),
            label: object.key.namespaced_name().into(),
            kind: PoolKind::Inference,
            protocol: pool.app_protocol,
            endpoints: endpoints.into_list(),
            models: self.tables.remove(object.key).unwrap_or_default(),
            picker: self.picker(object, pool).0,
        };
        self.put(known, made)
    }

    /// The position of a Service's port, whose pool is made when it is first named.
    pub(super) fn service(&mut self, service: &services::Found<'a>) -> PoolIndex {
        let known = (service.key().clone(), Some(service.port()));
        match self.known.get(&known) {
            Some(position) => *position,
            None => self.put(known, service.compile(self.index)),
        }
    }

    /// The position of an InferencePool that is made already.
    pub(super) fn position(&self, pool: &ObjectKey) -> Option<PoolIndex> {
        self.known.get(&(pool.clone(), None)).copied()
    }

    /// API group of the object that an arm leads to; empty for a Service, and where it leads nowhere.
    pub(super) fn group(&self, target: &ArmTarget) -> &str {
        match target {
            ArmTarget::Pool(position) => self.list.get(position.0).map_or("", |pool| &pool.key.group),
            ArmTarget::Invalid(_) => "",
        }
    }

    fn put(&mut self, known: (ObjectKey, Option<u16>), pool: Pool) -> PoolIndex {
        let position = PoolIndex(self.list.len());
        self.list.push(Arc::new(pool));
        self.known.insert(known, position);
        position
    }

    /// Whether some Gateway's listener has a rule that names the pool.
    pub(super) fn is_routed(&mut self, pool: &ObjectKey, gateway: &ObjectKey) {
        self.parents.entry(pool.clone()).or_default().insert(gateway.clone());
    }

    /// Who picks for a pool, and what is to be said about it.
    fn picker(&self, object: &Object<'_>, pool: &InferencePool) -> (PickerSource, Option<Condition>) {
        let Some(reference) = &pool.endpoint_picker else { return (PickerSource::BuiltIn, None) };
        let namespace = &object.key.namespace;
        let said = |reason: &str, message: String| {
            Some(Condition::new("tidegate.dev/BuiltInPicker", ConditionStatus::True, reason, message))
        };
        let described = self.index.get(&reference.group, &reference.kind, namespace, &reference.name).is_some();
        let name = format!("{} {namespace}/{}", reference.kind, reference.name);
        match (described, reference.failure_mode) {
            (false, _) => (
                PickerSource::BuiltIn,
                said("PickerNotDescribed", format!("{name} is not described, so the built-in picker picks")),
            ),
            (true, FailureMode::FailOpen) => (
                PickerSource::BuiltIn,
                said(
                    "PickerNotSpokenTo",
                    format!("external pickers are not spoken to yet; {name} is FailOpen, so the built-in picker picks"),
                ),
            ),
            (true, FailureMode::FailClose) => {
                let message = format!("external pickers are not spoken to yet, and {name} is FailClose");
                let condition = Condition::new(
                    "tidegate.dev/BuiltInPicker",
                    ConditionStatus::False,
                    "PickerUnavailable",
                    message.clone(),
                );
                (PickerSource::Unavailable(message), Some(condition))
            }
        }
    }

    /// Says towards each Gateway what became of its pools.
    pub(super) fn report(&self, statuses: &mut Statuses) {
        for (key, gateways) in &self.parents {
            let Some(object) = self.index.get(&key.group, &key.kind, &key.namespace, &key.name) else { continue };
            let Resource::InferencePool(pool) = object.resource else { continue };
            for gateway in gateways {
                let parent = json!({"group": GATEWAY_GROUP, "kind": "Gateway", "namespace": gateway.namespace, "name": gateway.name});
                let conditions = vec![accepted("Accepted", "routed to by this Gateway"), resolved_refs(None)];
                statuses.parent(key, parent, conditions);
            }
            if let (_, Some(condition)) = self.picker(&object, pool) {
                statuses.condition(key, condition);
            }
        }
    }

    /// The finished list.
    pub(super) fn into_list(self) -> Vec<Arc<Pool>> {
        self.list
    }
}

/// Endpoints in the order in which they were found, each address once.
#[derive(Debug, Default)]
pub(super) struct Endpoints {
    list: Vec<Endpoint>,
    addresses: HashSet<Arc<str>>,
}

impl Endpoints {
    pub(super) fn push(&mut self, endpoint: Endpoint) {
        if self.addresses.insert(endpoint.address.clone()) {
            self.list.push(endpoint);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(super) fn into_list(self) -> Vec<Endpoint> {
        self.list
    }
}

/// An endpoint at a ModelServer.
pub(super) fn endpoint(address: String, name: &str, spec: &ModelServerSpec) -> Endpoint {
    Endpoint {
        address: address.into(),
        name: name.into(),
        metrics_path: spec.metrics_path.as_deref().unwrap_or("/metrics").into(),
        engine: spec.engine.as_deref().unwrap_or("vllm").into(),
    }
}

/// `host:port` as it is; a bare host with each of the ports.
pub(super) fn addresses(address: &str, ports: &[u16]) -> Vec<String> {
    let has_port = match address.rsplit_once(':') {
        // `[::1]:80`, `host:80`; a bare IPv6 address has more colons and no brackets.
        Some((host, port)) => port.parse::<u16>().is_ok() && (host.ends_with(']') || !host.contains(':')),
        None => false,
    };
    if has_port {
        return vec![address.to_owned()];
    }
    let host =
        if address.contains(':') && !address.starts_with('[') { format!("[{address}]") } else { address.to_owned() };
    ports.iter().map(|port| format!("{host}:{port}")).collect()
}

#[cfg(test)]
mod tests {
    use super::addresses;

    #[test]
    fn addresses_take_the_pools_ports_unless_they_have_one() {
        assert_eq!(addresses("h", &[1, 2]), ["h:1", "h:2"]);
        assert_eq!(addresses("h:9", &[1, 2]), ["h:9"]);
        assert_eq!(addresses("::1", &[1]), ["[::1]:1"]);
        assert_eq!(addresses("[::1]", &[1]), ["[::1]:1"]);
        assert_eq!(addresses("[::1]:9", &[1]), ["[::1]:9"]);
    }
}
