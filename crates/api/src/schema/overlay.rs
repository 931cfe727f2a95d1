//! Derived schemas and what is laid over them.
//!
//! The types of `gateway-api` carry names, types and enums, but not the ranges and patterns of the CRDs they were
//! generated from; an overlay adds these by field path.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::Shape;

/// The JSON Schema of a type, without references.
pub(crate) fn derive<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::openapi3().with(|settings| settings.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<T>().to_value()
}

/// A schema on which constraints are laid.
pub(crate) struct Overlay {
    schema: Value,
    missed: Vec<String>,
}

impl Overlay {
    /// Begins with a schema.
    pub(crate) fn on(schema: Value) -> Self {
        Self { schema, missed: Vec::new() }
    }

    /// Adds keywords to the field at `path` (`[]` steps into a list's items, `{}` into a mapping's entries).
    #[must_use]
    pub(crate) fn add(mut self, path: &str, keywords: &Value) -> Self {
        match (descend(&mut self.schema, path), keywords.as_object()) {
            (Some(target), Some(keywords)) => {
                for (name, value) in keywords {
                    target.insert(name.clone(), value.clone());
                }
            }
            _ => self.missed.push(path.to_owned()),
        }
        self
    }

    /// Adds the constraints of a reference (group, kind, name, namespace, port, sectionName) to those of its fields
    /// that there are.
    #[must_use]
    pub(crate) fn reference(mut self, path: &str) -> Self {
        let name = json!({"minLength": 1, "maxLength": 253});
        let fields = [
            ("group", json!({"maxLength": 253, "format": "group"})),
            ("kind", json!({"minLength": 1, "maxLength": 63, "format": "kind"})),
            ("name", name),
            ("namespace", json!({"minLength": 1, "maxLength": 63, "format": "label"})),
            ("port", json!({"minimum": 1, "maximum": 65535})),
            ("sectionName", json!({"minLength": 1, "maxLength": 253, "format": "subdomain"})),
        ];
        for (field, keywords) in fields {
            let path = format!("{path}.{field}");
            if descend(&mut self.schema, &path).is_some() {
                self = self.add(&path, &keywords);
            } else if field == "kind" {
                self.missed.push(path);
            }
        }
        self
    }

    /// The shape. Paths that led nowhere are ignored here and found by [`Overlay::missed`] in tests.
    pub(crate) fn shape(&self) -> Shape {
        Shape::from_schema(&self.schema)
    }

    /// Paths that led nowhere: the type has changed.
    #[cfg(test)]
    pub(crate) fn missed(&self) -> &[String] {
        &self.missed
    }
}

/// The schema object at `path`, through the wrapping of optional fields.
fn descend<'a>(schema: &'a mut Value, path: &str) -> Option<&'a mut Map<String, Value>> {
    let mut current = unwrap(schema)?;
    if path.is_empty() {
        return current.as_object_mut();
    }
    for segment in path.split('.') {
        let name = segment.trim_end_matches("[]").trim_end_matches("{}");
        current = unwrap(current.get_mut("properties")?.get_mut(name)?)?;
        for step in segment.get(name.len()..)?.as_bytes().chunks(2) {
            let inner = if step == b"[]" { "items" } else { "additionalProperties" };
            current = unwrap(current.get_mut(inner)?)?;
        }
    }
    current.as_object_mut()
}

fn unwrap(schema: &mut Value) -> Option<&mut Value> {
    let wrapper = ["anyOf", "allOf"].into_iter().find(|name| schema.get(name).is_some());
    match wrapper {
        Some(name) => {
            let several = schema.get_mut(name)?.as_array_mut()?;
            several.iter_mut().find(|one| one.get("type").and_then(Value::as_str) != Some("null"))
        }
        None => Some(schema),
    }
}
