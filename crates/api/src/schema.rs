//! Schema: what a kind's fields may be, as a CustomResourceDefinition says it, and the check of a document against it.
//!
//! Unlike a typed decode, which stops at the first error, the check names every wrong field with its path. Schemas
//! come as JSON Schema: derived from the types of the `gateway-api` and `k8s-openapi` crates and sharpened by
//! [`overlay`], or written out beside the kind.

mod check;
mod overlay;
mod text_format;

use std::collections::BTreeMap;

use serde_json::Value;

pub(crate) use overlay::{Overlay, derive};
pub(crate) use text_format::TextFormat;

/// What a field may be.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    kind: Kind,
    limits: Limits,
}

#[derive(Clone, Debug)]
enum Kind {
    Any,
    Text,
    Whole,
    Number,
    Truth,
    WholeOrText,
    List(Box<Shape>),
    Map(Box<Shape>),
    Object { fields: BTreeMap<String, Shape>, required: Vec<String>, open: bool },
}

/// Bounds; which of them mean something depends on the kind of shape.
#[derive(Clone, Debug, Default)]
struct Limits {
    /// Smallest number, length, or count of entries.
    least: Option<i64>,
    /// Largest.
    most: Option<i64>,
    /// The only values there are.
    choices: Vec<Value>,
    /// How a text must look.
    format: Option<&'static TextFormat>,
    /// How a mapping's keys must look.
    keys: Option<&'static TextFormat>,
    /// No item twice.
    distinct: bool,
    /// No two items that agree in all of these fields.
    distinct_by: Vec<String>,
}

impl Shape {
    /// Reads a JSON Schema (the part of it that CustomResourceDefinitions use). What it does not know allows anything.
    pub(crate) fn from_schema(schema: &Value) -> Self {
        if let Some(single) = unwrapped(schema) {
            return Self::from_schema(single);
        }
        let flag = |name: &str| schema.get(name).and_then(Value::as_bool).unwrap_or(false);
        let kind = if flag("x-kubernetes-int-or-string") {
            Kind::WholeOrText
        } else {
            match type_name(schema) {
                Some("string") => Kind::Text,
                Some("integer") => Kind::Whole,
                Some("number") => Kind::Number,
                Some("boolean") => Kind::Truth,
                Some("array") => Kind::List(Box::new(schema.get("items").map_or_else(Self::any, Self::from_schema))),
                Some("object") => object_kind(schema),
                _ if schema.get("oneOf").is_some() => Kind::Text,
                _ => Kind::Any,
            }
        };
        let limits = limits(schema, &kind);
        Self { kind, limits }
    }

    fn any() -> Self {
        Self { kind: Kind::Any, limits: Limits::default() }
    }
}

/// The one schema inside `allOf: [x]`, or inside `anyOf: [x, null]` (an optional field).
fn unwrapped(schema: &Value) -> Option<&Value> {
    let several = schema.get("anyOf").or_else(|| schema.get("allOf"))?.as_array()?;
    let mut real = several.iter().filter(|one| one.get("type").and_then(Value::as_str) != Some("null"));
    match (real.next(), real.next()) {
        (Some(single), None) => Some(single),
        _ => None,
    }
}

/// `type`, or the one that is not null in a list of types.
fn type_name(schema: &Value) -> Option<&str> {
    match schema.get("type")? {
        Value::String(name) => Some(name),
        Value::Array(names) => names.iter().filter_map(Value::as_str).find(|name| *name != "null"),
        _ => None,
    }
}

fn object_kind(schema: &Value) -> Kind {
    let open = schema.get("x-kubernetes-preserve-unknown-fields").is_some();
    if let Some(fields) = schema.get("properties").and_then(Value::as_object) {
        let required = schema.get("required").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        return Kind::Object {
            fields: fields.iter().map(|(name, field)| (name.clone(), Shape::from_schema(field))).collect(),
            required: required.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            open,
        };
    }
    match schema.get("additionalProperties") {
        Some(entry) if entry.is_object() => Kind::Map(Box::new(Shape::from_schema(entry))),
        _ => Kind::Map(Box::new(Shape::any())),
    }
}

fn limits(schema: &Value, kind: &Kind) -> Limits {
    let number = |name: &str| schema.get(name).and_then(Value::as_i64);
    let format = schema.get("format").and_then(Value::as_str);
    let (least, most) = match kind {
        Kind::Whole | Kind::Number | Kind::WholeOrText => (number("minimum"), number("maximum")),
        Kind::Text => (number("minLength"), number("maxLength")),
        Kind::List(_) => (number("minItems"), number("maxItems")),
        _ => (number("minProperties"), number("maxProperties")),
    };
    let (least, most) = match (kind, format) {
        (Kind::Whole, Some("int32")) => (least.or(Some(i32::MIN.into())), most.or(Some(i32::MAX.into()))),
        _ => (least, most),
    };
    let named_keys = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
    Limits {
        least,
        most,
        choices: choices(schema),
        format: format.and_then(TextFormat::named),
        keys: schema.get("x-key-format").and_then(Value::as_str).and_then(TextFormat::named),
        distinct: schema.get("x-kubernetes-list-type").and_then(Value::as_str) == Some("set"),
        distinct_by: named_keys
            .map(|names| names.iter().filter_map(Value::as_str).map(str::to_owned).collect())
            .unwrap_or_default(),
    }
}

/// `enum: [...]`, or `oneOf: [{const}, {enum: [x]}]` as derived for enums whose variants carry documentation.
fn choices(schema: &Value) -> Vec<Value> {
    let listed = |schema: &Value| -> Vec<Value> {
        let list = schema.get("enum").and_then(Value::as_array).cloned().unwrap_or_default();
        list.into_iter().filter(|value| !value.is_null()).chain(schema.get("const").cloned()).collect()
    };
    let alternatives = schema.get("oneOf").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let mut all = listed(schema);
    all.extend(alternatives.iter().flat_map(listed));
    all
}
