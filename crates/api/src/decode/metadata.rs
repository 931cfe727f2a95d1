//! `metadata` of every kind.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use crate::node::Node;
use crate::report::Report;
use crate::schema::Shape;
use crate::{Document, Metadata};

static SHAPE: LazyLock<Shape> = LazyLock::new(|| {
    let names = json!({"type": "object", "additionalProperties": {"type": "string"}, "x-key-format": "label-key"});
    let mut labels = names.clone();
    if let Some(value) = labels.pointer_mut("/additionalProperties") {
        *value = json!({"type": "string", "format": "label-value"});
    }
    Shape::from_schema(&json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "minLength": 1, "maxLength": 253, "format": "subdomain"},
            "generateName": {"type": "string"},
            "namespace": {"type": "string", "minLength": 1, "maxLength": 63, "format": "label"},
            "labels": labels,
            "annotations": names,
            "creationTimestamp": {"type": "string", "format": "date-time"},
            "generation": {"type": "integer", "minimum": 0},
            "deletionGracePeriodSeconds": {"type": "integer"},
            "deletionTimestamp": {"type": "string", "format": "date-time"},
            "finalizers": {"type": "array", "items": {"type": "string"}},
            "managedFields": {},
            "ownerReferences": {},
            "resourceVersion": {"type": "string"},
            "selfLink": {"type": "string"},
            "uid": {"type": "string"},
        },
        "required": ["name"],
    }))
});

/// The shape of `metadata`.
pub(super) fn shape() -> &'static Shape {
    &SHAPE
}

/// Checks `metadata` of a kind that we read. Other kinds may be named by other rules (a ClusterRole `system:node`).
pub(super) fn check(document: &Document, report: &mut Report) {
    let node = Node::root(&document.value).key("metadata");
    match node.value() {
        Some(value) => SHAPE.check(value, node.path(), report),
        None => report.error("RequiredField", node.path(), "is missing; it must name the object: metadata: {name: …}"),
    }
}

/// Reads what can be read of `metadata`.
pub(super) fn read(document: &Document) -> Metadata {
    let node = Node::root(&document.value).key("metadata");
    Metadata {
        labels: texts(&node.key("labels")),
        annotations: texts(&node.key("annotations")),
        created: node.key("creationTimestamp").value().and_then(utc),
        generation: node.key("generation").whole().unwrap_or(0),
    }
}

fn texts(node: &Node<'_>) -> BTreeMap<String, String> {
    node.entries().into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.text()?.to_owned()))).collect()
}

/// The time in UTC form, in which texts sort as times do.
fn utc(value: &Value) -> Option<String> {
    let time: Time = serde_json::from_value(value.clone()).ok()?;
    serde_json::to_value(time).ok()?.as_str().map(str::to_owned)
}
