//! Kinds that are accepted and not used, with what to write instead.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::node::Node;
use crate::report::Report;
use crate::{Document, FieldPath, Finding, Severity};

/// Says that a document is not used, and for a workload gives the ModelServer that stands for one of its pods.
pub(super) fn describe(document: &Document, report: &mut Report) {
    let key = &document.key;
    let root = Node::root(&document.value);
    let Some(pod) = pod_template(&key.group, &key.kind, &root) else {
        let message = format!("{key} is not used: {} is no kind that the gateway reads", named(&key.group, &key.kind));
        report.push(Finding::new(Severity::Note, "NotUsed", FieldPath::root(), message));
        return;
    };
    let labels: BTreeMap<&str, &str> = pod
        .key("metadata")
        .key("labels")
        .entries()
        .into_iter()
        .filter_map(|(name, value)| Some((name, value.text()?)))
        .collect();
    let written: Vec<String> = labels.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    let labels_to_use =
        if written.is_empty() { String::new() } else { format!(", with the labels {}", written.join(", ")) };
    let message = format!("{key} is not used from files: describe its running servers with ModelServer{labels_to_use}");
    let finding = Finding::new(Severity::Note, "NotUsedFromFiles", FieldPath::root(), message);
    report.push(finding.with_replacement(model_server(document, &labels, container_port(&pod))));
}

fn named(group: &str, kind: &str) -> String {
    if group.is_empty() { kind.to_owned() } else { format!("{kind} of {group}") }
}

/// Where a workload describes its pods.
fn pod_template<'a>(group: &str, kind: &str, root: &Node<'a>) -> Option<Node<'a>> {
    let spec = root.key("spec");
    match (group, kind) {
        ("", "Pod") => Some(root.clone()),
        ("apps", _) | ("batch", "Job") | ("", "ReplicationController") => Some(spec.key("template")),
        ("leaderworkerset.x-k8s.io", "LeaderWorkerSet") => {
            let template = spec.key("leaderWorkerTemplate");
            // Only the leader answers requests; without an own template it is made from the workers'.
            let leader = template.key("leaderTemplate");
            Some(if leader.present() { leader } else { template.key("workerTemplate") })
        }
        _ => None,
    }
}

fn container_port(pod: &Node<'_>) -> Option<u16> {
    let containers = pod.key("spec").key("containers").items();
    containers.iter().find_map(|container| container.key("ports").items().first()?.key("containerPort").port())
}

fn model_server(document: &Document, labels: &BTreeMap<&str, &str>, port: Option<u16>) -> String {
    let mut metadata = json!({"name": document.key.name});
    if let Some(metadata) = metadata.as_object_mut() {
        if !document.key.namespace.is_empty() && document.key.namespace != "default" {
            metadata.insert("namespace".to_owned(), Value::from(document.key.namespace.clone()));
        }
        if !labels.is_empty() {
            metadata.insert("labels".to_owned(), json!(labels));
        }
    }
    crate::yaml_text::block(&json!({
        "apiVersion": "tidegate.dev/v1alpha1",
        "kind": "ModelServer",
        "metadata": metadata,
        "spec": {"address": format!("127.0.0.1:{}", port.unwrap_or(8000))},
    }))
}
