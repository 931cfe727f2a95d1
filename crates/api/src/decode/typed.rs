//! From a checked value to a typed object.

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use serde_path_to_error::{Path, Segment};

use super::Input;
use crate::FieldPath;
use crate::report::Report;
use crate::schema::Shape;

/// The schema of a custom resource around the schema of its `spec`; `metadata` is checked apart, `status` is ours to
/// write and never read.
pub(super) fn envelope(spec: &Value) -> Value {
    json!({
        "type": "object",
        "properties": {"apiVersion": {}, "kind": {}, "metadata": {}, "spec": spec, "status": {}},
        "required": ["spec"],
    })
}

/// Checks a value against its shape.
pub(super) fn check(input: &Input<'_>, shape: &Shape, report: &mut Report) {
    shape.check(input.value, &FieldPath::root(), report);
}

/// The typed object, when nothing was found to be wrong.
pub(super) fn typed<T: DeserializeOwned>(value: &Value, shape: &Shape, report: &mut Report) -> Option<T> {
    if report.has_errors() {
        return None;
    }
    let mut pruned = shape.prune(value);
    if let Some(mapping) = pruned.as_object_mut() {
        mapping.remove("status");
        let metadata = mapping.get("metadata").map(|metadata| super::metadata::shape().prune(metadata));
        if let Some(metadata) = metadata {
            mapping.insert("metadata".to_owned(), metadata);
        }
    }
    from_value(pruned, &FieldPath::root(), report)
}

/// Decodes a value; what the shape let through and the type does not take is still an error with its path.
pub(super) fn from_value<T: DeserializeOwned>(value: Value, at: &FieldPath, report: &mut Report) -> Option<T> {
    match serde_path_to_error::deserialize(value) {
        Ok(object) => Some(object),
        Err(error) => {
            let path = field_path(at, error.path());
            report.error("WrongType", &path, format!("cannot be read: {}", error.inner()));
            None
        }
    }
}

fn field_path(at: &FieldPath, path: &Path) -> FieldPath {
    path.iter().fold(at.clone(), |path, segment| match segment {
        Segment::Seq { index } => path.index(*index),
        Segment::Map { key } => path.key(key),
        Segment::Enum { variant } => path.key(variant),
        Segment::Unknown => path,
    })
}
