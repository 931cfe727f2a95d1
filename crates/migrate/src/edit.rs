//! Small changes to documents that keep everything else, and the order of fields, as it was written.

use serde_json::{Map, Value, json};
use tidegate_routing::Admitted;

/// Sets a field of a mapping where it stands, or at its end.
pub(crate) fn set(value: &mut Value, name: &str, new: Value) {
    if let Some(mapping) = value.as_object_mut() {
        mapping.insert(name.to_owned(), new);
    }
}

/// Sets a field of a mapping before all others, unless it is there already: then where it stands.
pub(crate) fn set_first(mapping: &mut Map<String, Value>, name: &str, new: Value) {
    if let Some(field) = mapping.get_mut(name) {
        *field = new;
        return;
    }
    let rest = std::mem::take(mapping);
    mapping.insert(name.to_owned(), new);
    mapping.extend(rest);
}

/// A new object with the metadata that its author wrote, without what only the old object's server knows.
pub(crate) fn object(one: &Admitted, api_version: &str, kind: &str, name: &str, spec: Value) -> Value {
    let mut metadata = one.document.value.get("metadata").cloned().unwrap_or_else(|| json!({}));
    if let Some(metadata) = metadata.as_object_mut() {
        // creationTimestamp stays: of two objects that claim one name, the older wins.
        for field in ["uid", "resourceVersion", "generation", "managedFields", "selfLink", "ownerReferences"] {
            metadata.shift_remove(field);
        }
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.shift_remove("kubectl.kubernetes.io/last-applied-configuration");
        }
        metadata.insert("name".to_owned(), name.into());
    }
    json!({"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec})
}
