//! Documents with their statuses, as `kubectl get` would give them.
//!
//! The binary replaces everything after each compile; what stays from one to the next is the time at which a condition
//! last changed. Reading takes no lock that an update holds while it works.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use tidegate_api::status::Condition;
use tidegate_api::{Document, ObjectKey, ObjectStatus};

use crate::kinds::{self, Kind};

/// Stands where a Secret's values would.
const HIDDEN: &str = "(not shown)";

/// One document and what became of it.
#[derive(Debug)]
struct Stored {
    document: Arc<Document>,
    status: ObjectStatus,
}

type Table = BTreeMap<ObjectKey, Arc<Stored>>;

/// Which objects to give; what is `None` is not asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectFilter {
    /// Kind as kubectl takes it: `httproute`, `HTTPRoutes`, `gtw`, `inferencepools.inference.networking.k8s.io`.
    pub kind: Option<String>,
    /// Exact namespace.
    pub namespace: Option<String>,
    /// Exact name.
    pub name: Option<String>,
    /// Also give `findings`, beside `status`.
    pub findings: bool,
}

impl ObjectFilter {
    fn takes(&self, kind: Option<&AskedKind<'_>>, key: &ObjectKey) -> bool {
        let same = |asked: &Option<String>, found: &str| asked.as_deref().is_none_or(|asked| asked == found);
        kind.is_none_or(|kind| kind.takes(key)) && same(&self.namespace, &key.namespace) && same(&self.name, &key.name)
    }
}

/// A kind that is asked for.
enum AskedKind<'a> {
    /// By one of the names that kubectl takes, perhaps of one group alone.
    Known(&'static Kind, Option<&'static str>),
    /// Documents of any kind can be kept, and are found by its name.
    Other(&'a str),
}

impl<'a> AskedKind<'a> {
    fn new(asked: &'a str) -> Self {
        kinds::find(asked).map_or(Self::Other(asked), |(kind, group)| Self::Known(kind, group))
    }

    fn takes(&self, key: &ObjectKey) -> bool {
        match self {
            Self::Known(kind, group) => kind.name == key.kind && group.is_none_or(|group| group == key.group),
            Self::Other(asked) => {
                let singular = asked.strip_suffix(['s', 'S']).unwrap_or(asked);
                [*asked, singular].iter().any(|asked| asked.eq_ignore_ascii_case(&key.kind))
            }
        }
    }
}

/// Keeps the documents in force and their statuses.
#[derive(Debug, Default)]
pub struct ObjectStore {
    table: ArcSwap<Table>,
    /// Lets one update work at a time.
    updating: Mutex<()>,
}

impl ObjectStore {
    /// Replaces everything. `now` (RFC 3339) becomes the `lastTransitionTime` of each condition that is new or whose
    /// status differs from before; the others keep theirs. A document without a status gets an empty one; where two
    /// documents describe one object, the later is shown.
    pub fn update(
        &self,
        documents: impl IntoIterator<Item = Arc<Document>>,
        mut statuses: BTreeMap<ObjectKey, ObjectStatus>,
        now: &str,
    ) {
        let _one_at_a_time = self.updating.lock();
        let before = self.table.load();
        let by_key: BTreeMap<ObjectKey, Arc<Document>> =
            documents.into_iter().map(|document| (document.key.clone(), document)).collect();
        let table = by_key
            .into_iter()
            .map(|(key, document)| {
                let mut status = statuses.remove(&key).unwrap_or_default();
                keep_times(&mut status, before.get(&key).map(|stored| &stored.status), now);
                (key, Arc::new(Stored { document, status }))
            })
            .collect();
        self.table.store(Arc::new(table));
    }

    /// The objects that the filter takes, in the order of group, kind, namespace and name.
    pub fn list(&self, filter: &ObjectFilter) -> Vec<Value> {
        let table = self.table.load();
        let kind = filter.kind.as_deref().map(AskedKind::new);
        let taken = table.iter().filter(|(key, _)| filter.takes(kind.as_ref(), key));
        taken.map(|(_, stored)| object(stored, filter.findings)).collect()
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.table.load().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.table.load().is_empty()
    }
}

/// Sets `lastTransitionTime` on every condition.
fn keep_times(status: &mut ObjectStatus, before: Option<&ObjectStatus>, now: &str) {
    let nothing = ObjectStatus::default();
    let before = before.unwrap_or(&nothing);
    transition(&mut status.conditions, &before.conditions, now);
    for parent in &mut status.parents {
        let old = before.parents.iter().find(|old| old.parent_ref == parent.parent_ref);
        transition(&mut parent.conditions, old.map_or(&[], |old| &old.conditions), now);
    }
    let listeners: HashMap<&str, &[Condition]> =
        before.listeners.iter().map(|old| (old.name.as_str(), old.conditions.as_slice())).collect();
    for listener in &mut status.listeners {
        transition(&mut listener.conditions, listeners.get(listener.name.as_str()).copied().unwrap_or_default(), now);
    }
}

fn transition(conditions: &mut [Condition], before: &[Condition], now: &str) {
    for condition in conditions {
        let old = before.iter().find(|old| old.kind == condition.kind && old.status == condition.status);
        condition.last_transition_time = old.map_or(now, |old| &old.last_transition_time).to_owned();
    }
}

fn object(stored: &Stored, findings: bool) -> Value {
    let Stored { document, status } = stored;
    let mut object = match &document.value {
        Value::Object(fields) => fields.clone(),
        // A source only gives mappings; whatever else comes must not bring the page down.
        other => Map::from_iter([("value".to_owned(), other.clone())]),
    };
    fill_metadata(&mut object, &document.key);
    if document.key.kind == "Secret" && document.key.group.is_empty() {
        hide_secret(&mut object);
    }
    let singular_parent = document.key.kind == "InferencePool" && document.api_version.ends_with("/v1alpha2");
    let status_value = status.to_value(singular_parent);
    if status_value.as_object().is_some_and(|fields| !fields.is_empty()) {
        // What the author's copy said of a status was another controller's; ours stands at the end, as Kubernetes
        // prints it.
        object.shift_remove("status");
        object.insert("status".into(), status_value);
    }
    if findings {
        object.insert("findings".into(), json!(status.findings));
    }
    Value::Object(object)
}

fn fill_metadata(object: &mut Map<String, Value>, key: &ObjectKey) {
    let metadata = object.entry("metadata").or_insert_with(|| json!({}));
    let Some(metadata) = metadata.as_object_mut() else { return };
    metadata.entry("name").or_insert_with(|| key.name.clone().into());
    if !key.namespace.is_empty() {
        metadata.insert("namespace".into(), key.namespace.clone().into());
    }
}

/// Anyone on the machine can read the admin port; private keys are for nobody.
fn hide_secret(object: &mut Map<String, Value>) {
    for field in ["data", "stringData"] {
        match object.get_mut(field) {
            Some(Value::Object(values)) => values.values_mut().for_each(|value| *value = HIDDEN.into()),
            Some(value) => *value = HIDDEN.into(),
            None => {}
        }
    }
    let annotations = object.get_mut("metadata").and_then(|metadata| metadata.get_mut("annotations"));
    if let Some(annotations) = annotations.and_then(Value::as_object_mut) {
        // kubectl keeps a whole copy of the object here.
        annotations.shift_remove("kubectl.kubernetes.io/last-applied-configuration");
    }
}

#[cfg(test)]
mod tests;
