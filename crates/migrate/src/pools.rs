//! InferencePools of the older group to v1.

use serde_json::{Value, json};
use tidegate_api::inference::{FailureMode, GROUP_ALPHA, InferencePool};
use tidegate_routing::Admitted;

use crate::catalogue::Catalogue;
use crate::{Migration, edit};

/// The pool in v1 form; a v1 pool stays as it is.
pub(crate) fn migrate(one: &Admitted, pool: &InferencePool, catalogue: &Catalogue, migration: &mut Migration) {
    let key = &one.document.key;
    if key.group != GROUP_ALPHA {
        migration.unchanged(&one.document.value);
        return;
    }
    if !catalogue.moves(&key.namespace, &key.name) {
        let comment =
            "stays in the older group, because a v1 InferencePool already has its name; rename one of the two"
                .to_owned();
        migration.with_comments(one, one.document.value.clone(), vec![comment]);
        return;
    }
    let api_version = "inference.networking.k8s.io/v1";
    let value = edit::object(one, api_version, "InferencePool", &key.name, spec(pool, &one.document.value));
    migration.documents.push(crate::MigratedDocument { value, comments: Vec::new() });
}

fn spec(pool: &InferencePool, written: &Value) -> Value {
    // As its author ordered them; the decoded selector is sorted.
    let selector = written.pointer("/spec/selector").cloned().unwrap_or_else(|| json!(pool.selector));
    let ports: Vec<Value> = pool.target_ports.iter().map(|port| json!({"number": port})).collect();
    let mut spec = json!({"selector": {"matchLabels": selector}, "targetPorts": ports});
    if let Some(picker) = &pool.endpoint_picker {
        let mut reference = json!({"group": picker.group, "kind": picker.kind, "name": picker.name});
        if let Some(port) = picker.port {
            edit::set(&mut reference, "port", json!({"number": port}));
        }
        let mode = match picker.failure_mode {
            FailureMode::FailOpen => "FailOpen",
            FailureMode::FailClose => "FailClose",
        };
        edit::set(&mut reference, "failureMode", mode.into());
        edit::set(&mut spec, "endpointPickerRef", reference);
    }
    spec
}
