//! Statuses: what became of a document, in the shapes Kubernetes prints.

use serde::Serialize;
use serde_json::{Value, json};

use crate::Finding;

/// The name under which this gateway writes status.
pub const CONTROLLER_NAME: &str = "tidegate.dev/gateway-controller";

/// The status of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum ConditionStatus {
    /// The condition holds.
    True,
    /// It does not.
    False,
    /// Not known (yet).
    Unknown,
}

/// A Kubernetes condition (`meta/v1`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// `Accepted`, `Programmed`, `ResolvedRefs`, or one of ours (`tidegate.dev/Repaired`).
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// CamelCase word.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
    /// `metadata.generation` of the object it speaks of; 0 from files that name none.
    pub observed_generation: i64,
    /// RFC 3339; set by whoever keeps the statuses, when `status` changes; empty until then.
    pub last_transition_time: String,
}

impl Condition {
    /// A condition without generation and time.
    pub fn new(kind: &str, status: ConditionStatus, reason: &str, message: impl Into<String>) -> Self {
        Self {
            kind: kind.into(),
            status,
            reason: reason.into(),
            message: message.into(),
            observed_generation: 0,
            last_transition_time: String::new(),
        }
    }
}

/// A route's or pool's status towards one parent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParentStatus {
    /// The parentRef as Kubernetes prints it (`group`, `kind`, `namespace`, `name`, `sectionName`, `port`).
    pub parent_ref: Value,
    /// Conditions towards it.
    pub conditions: Vec<Condition>,
}

/// A Gateway listener's status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerStatus {
    /// Name of the listener.
    pub name: String,
    /// Route kinds it takes.
    pub supported_kinds: Vec<String>,
    /// How many routes are attached.
    pub attached_routes: u32,
    /// Accepted, Programmed, ResolvedRefs, Conflicted.
    pub conditions: Vec<Condition>,
}

/// What became of one document. Which parts are filled depends on its kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectStatus {
    /// Conditions on the object as a whole.
    pub conditions: Vec<Condition>,
    /// Per parent: HTTPRoute, InferencePool.
    pub parents: Vec<ParentStatus>,
    /// Per target: policies.
    pub ancestors: Vec<ParentStatus>,
    /// Per listener: Gateway.
    pub listeners: Vec<ListenerStatus>,
    /// Gateway: addresses a client can use, without port.
    pub addresses: Vec<String>,
    /// Everything said about the document, the source's findings among them.
    pub findings: Vec<Finding>,
    /// InferenceRollout: the status of its running release, field by field; its conditions stand in the place of those above of the same type.
    pub running: serde_json::Map<String, Value>,
}

impl ObjectStatus {
    /// Whether the document is in force: nothing says `Accepted=False`, on the object or (for a route) towards every
    /// one of its parents, and no finding is an error.
    pub fn accepted(&self) -> bool {
        let refuses = |conditions: &[Condition]| {
            conditions
                .iter()
                .any(|condition| condition.kind == "Accepted" && condition.status == ConditionStatus::False)
        };
        !refuses(&self.conditions)
            && !self.parents.iter().any(|parent| refuses(&parent.conditions))
            && !self.ancestors.iter().any(|ancestor| refuses(&ancestor.conditions))
            && !self.listeners.iter().any(|listener| refuses(&listener.conditions))
            && !self.findings.iter().any(|finding| finding.severity == crate::Severity::Error)
    }

    /// The `status` block as Kubernetes prints it. `singular_parent` selects `parent` (InferencePool v1alpha2) over
    /// `parents`.
    pub fn to_value(&self, singular_parent: bool) -> Value {
        let mut status = serde_json::Map::new();
        if !self.addresses.is_empty() {
            let addresses: Vec<Value> =
                self.addresses.iter().map(|value| json!({"type": "IPAddress", "value": value})).collect();
            status.insert("addresses".into(), addresses.into());
        }
        if !self.conditions.is_empty() {
            status.insert("conditions".into(), json!(self.conditions));
        }
        if !self.listeners.is_empty() {
            let listeners: Vec<Value> = self.listeners.iter().map(listener_value).collect();
            status.insert("listeners".into(), listeners.into());
        }
        if !self.parents.is_empty() {
            let parents: Vec<Value> = self
                .parents
                .iter()
                .map(|parent| json!({"conditions": parent.conditions, "controllerName": CONTROLLER_NAME, "parentRef": parent.parent_ref}))
                .collect();
            status.insert(if singular_parent { "parent" } else { "parents" }.into(), parents.into());
        }
        if !self.ancestors.is_empty() {
            let ancestors: Vec<Value> = self
                .ancestors
                .iter()
                .map(|ancestor| json!({"ancestorRef": ancestor.parent_ref, "conditions": ancestor.conditions, "controllerName": CONTROLLER_NAME}))
                .collect();
            status.insert("ancestors".into(), ancestors.into());
        }
        for (field, value) in &self.running {
            match (status.get_mut(field), value) {
                (Some(Value::Array(said)), Value::Array(running)) if field == "conditions" => merge(said, running),
                _ => drop(status.insert(field.clone(), value.clone())),
            }
        }
        Value::Object(status)
    }
}

/// Puts the conditions of a running release in the place of those of the same type, and the others behind them.
fn merge(said: &mut Vec<Value>, running: &[Value]) {
    for condition in running {
        match said.iter_mut().find(|other| other.get("type") == condition.get("type")) {
            Some(other) => *other = condition.clone(),
            None => said.push(condition.clone()),
        }
    }
}

fn listener_value(listener: &ListenerStatus) -> Value {
    let kinds: Vec<Value> = listener
        .supported_kinds
        .iter()
        .map(|kind| json!({"group": "gateway.networking.k8s.io", "kind": kind}))
        .collect();
    json!({
        "name": listener.name,
        "supportedKinds": kinds,
        "attachedRoutes": listener.attached_routes,
        "conditions": listener.conditions,
    })
}
