//! Envoy Gateway's ClientTrafficPolicy and BackendTrafficPolicy, as far as they mean something here.
//!
//! What does not is kept (compile sees it in `rest`) and named in a warning each.

use std::sync::LazyLock;

use serde_json::{Value, json};

use super::Input;
use super::ours::spec;
use super::typed::{check, envelope};
use crate::Resource;
use crate::node::Node;
use crate::report::Report;
use crate::schema::Shape;

/// A mapping of which only some fields are known here.
fn open(fields: &Value) -> Value {
    json!({"type": "object", "properties": fields, "x-kubernetes-preserve-unknown-fields": true})
}

fn policy(fields: &[(&str, Value)], http: &[&str]) -> Shape {
    let target = json!({
        "type": "object",
        "properties": {
            "group": {"type": "string", "maxLength": 253, "format": "group"},
            "kind": {"type": "string", "minLength": 1, "maxLength": 63, "format": "kind"},
            "name": {"type": "string", "minLength": 1, "maxLength": 253},
            "sectionName": {"type": "string", "minLength": 1, "maxLength": 253, "format": "subdomain"},
        },
        "required": ["group", "kind", "name"],
    });
    let duration = json!({"type": "string", "format": "duration"});
    let http: Value = http.iter().map(|name| ((*name).to_owned(), duration.clone())).collect();
    let mut properties = json!({
        "targetRef": target,
        "targetRefs": {"type": "array", "maxItems": 16, "items": target},
        "timeout": open(&json!({"http": open(&http)})),
    });
    if let Some(properties) = properties.as_object_mut() {
        for (name, schema) in fields {
            properties.insert((*name).to_owned(), schema.clone());
        }
    }
    Shape::from_schema(&envelope(&open(&properties)))
}

static CLIENT: LazyLock<Shape> = LazyLock::new(|| {
    let buffer_limit = json!({"x-kubernetes-int-or-string": true, "format": "quantity", "minimum": 0});
    let connection = open(&json!({"bufferLimit": buffer_limit}));
    policy(&[("connection", connection)], CLIENT_HTTP)
});
static BACKEND: LazyLock<Shape> = LazyLock::new(|| policy(&[], BACKEND_HTTP));

const CLIENT_HTTP: &[&str] = &["requestReceivedTimeout", "requestTimeout", "idleTimeout", "streamIdleTimeout"];
const BACKEND_HTTP: &[&str] = &["requestTimeout", "connectionIdleTimeout", "streamIdleTimeout"];

pub(super) fn client(input: &Input<'_>, report: &mut Report) -> Option<Resource> {
    check(input, &CLIENT, report);
    require_target(input, report);
    let known: &[(&str, &[&str])] = &[
        ("spec", &["targetRef", "targetRefs", "connection", "timeout"]),
        ("spec.connection", &["bufferLimit"]),
        ("spec.timeout", &["http"]),
        ("spec.timeout.http", CLIENT_HTTP),
    ];
    name_unsupported(input, known, report);
    spec(input, &CLIENT, report).map(|spec| Resource::ClientTrafficPolicy(Box::new(spec)))
}

pub(super) fn backend(input: &Input<'_>, report: &mut Report) -> Option<Resource> {
    check(input, &BACKEND, report);
    require_target(input, report);
    let known: &[(&str, &[&str])] = &[
        ("spec", &["targetRef", "targetRefs", "timeout"]),
        ("spec.timeout", &["http"]),
        ("spec.timeout.http", BACKEND_HTTP),
    ];
    name_unsupported(input, known, report);
    spec(input, &BACKEND, report).map(|spec| Resource::BackendTrafficPolicy(Box::new(spec)))
}

fn require_target(input: &Input<'_>, report: &mut Report) {
    let spec = Node::root(input.value).key("spec");
    let many = spec.key("targetRefs");
    match (spec.key("targetRef").present(), many.present()) {
        (true, true) => report.error("Conflict", many.path(), "stands beside targetRef; write only targetRefs"),
        // A selector is named as not supported already.
        (false, false) if !spec.key("targetSelectors").present() => {
            report.error("RequiredField", many.path(), "is missing; it must list the Gateways the policy is for");
        }
        _ => {}
    }
}

fn name_unsupported(input: &Input<'_>, known: &[(&str, &[&str])], report: &mut Report) {
    for (place, names) in known {
        let verb = if names.len() == 1 { "is" } else { "are" };
        let node = place.split('.').fold(Node::root(input.value), |node, name| node.key(name));
        for (_, field) in node.entries().into_iter().filter(|(name, _)| !names.contains(name)) {
            let sentence =
                format!("is not supported and has no effect; of {place}, {} {verb} supported", names.join(", "));
            report.warn("NotSupported", field.path(), sentence);
        }
    }
}
