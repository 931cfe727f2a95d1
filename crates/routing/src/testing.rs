//! Documents for tests.

use std::sync::Arc;

use serde_json::Value;
use tidegate_api::{Document, ObjectKey, Origin};

/// A document from JSON, in namespace `default` unless it says another.
pub(crate) fn document(source: &str, value: Value) -> Arc<Document> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let api_version = text(&value["apiVersion"]);
    let group = api_version.split_once('/').map(|(group, _)| group).unwrap_or_default().to_owned();
    let kind = text(&value["kind"]);
    let namespace = match (kind.as_str(), value["metadata"]["namespace"].as_str()) {
        ("GatewayClass" | "Namespace", _) => String::new(),
        (_, Some(namespace)) => namespace.to_owned(),
        _ => "default".to_owned(),
    };
    let key = ObjectKey { group, kind, namespace, name: text(&value["metadata"]["name"]) };
    let origin = Origin { source: source.into(), index: 0, positions: Arc::default() };
    Arc::new(Document { key, api_version, value, origin, findings: Vec::new() })
}
