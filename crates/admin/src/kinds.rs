//! The kinds that can be asked for, by every name that kubectl takes.
//!
//! One table for both ends of the admin API: `/objects` filters by it, and `tidegate get` prints by it. Must not decide
//! what is accepted; a document of a kind that is not here is kept and shown all the same.

use serde_json::Value;

/// A kind.
#[derive(Debug)]
pub struct Kind {
    /// As manifests write it.
    pub name: &'static str,
    plural: &'static str,
    short: &'static [&'static str],
    groups: &'static [&'static str],
    /// Whether its objects are in namespaces.
    pub namespaced: bool,
}

impl Kind {
    /// `httproutes.gateway.networking.k8s.io`, as kubectl names it in errors.
    pub fn full_plural(&self) -> String {
        match self.groups.first() {
            Some(group) if !group.is_empty() => format!("{}.{group}", self.plural),
            _ => self.plural.to_owned(),
        }
    }
}

const GATEWAY: &[&str] = &["gateway.networking.k8s.io"];
const INFERENCE: &[&str] = &["inference.networking.k8s.io", "inference.networking.x-k8s.io"];
const EXTENSION: &[&str] = &["inference.networking.x-k8s.io"];
const LLM_D: &[&str] = &["llm-d.ai", "inference.networking.x-k8s.io"];
const ENVOY: &[&str] = &["gateway.envoyproxy.io"];
const OURS: &[&str] = &["tidegate.dev"];
const CORE: &[&str] = &[""];
const APPS: &[&str] = &["apps"];

const fn kind(
    name: &'static str,
    plural: &'static str,
    short: &'static [&'static str],
    groups: &'static [&'static str],
) -> Kind {
    Kind { name, plural, short, groups, namespaced: true }
}

const fn cluster_kind(
    name: &'static str,
    plural: &'static str,
    short: &'static [&'static str],
    groups: &'static [&'static str],
) -> Kind {
    Kind { name, plural, short, groups, namespaced: false }
}

static KINDS: &[Kind] = &[
    cluster_kind("GatewayClass", "gatewayclasses", &["gc"], GATEWAY),
    kind("Gateway", "gateways", &["gtw"], GATEWAY),
    kind("HTTPRoute", "httproutes", &[], GATEWAY),
    kind("ReferenceGrant", "referencegrants", &["refgrant"], GATEWAY),
    kind("InferencePool", "inferencepools", &["infpool"], INFERENCE),
    kind("InferenceModel", "inferencemodels", &[], EXTENSION),
    kind("InferenceModelRewrite", "inferencemodelrewrites", &[], LLM_D),
    kind("InferenceObjective", "inferenceobjectives", &[], LLM_D),
    kind("ModelServer", "modelservers", &["msrv"], OURS),
    kind("GatewayParameters", "gatewayparameters", &["gatewayparameter"], OURS),
    kind("InferenceRollout", "inferencerollouts", &["infrollout"], OURS),
    kind("ClientTrafficPolicy", "clienttrafficpolicies", &["ctp"], ENVOY),
    kind("BackendTrafficPolicy", "backendtrafficpolicies", &["btp"], ENVOY),
    kind("Service", "services", &["svc"], CORE),
    kind("EndpointSlice", "endpointslices", &[], &["discovery.k8s.io"]),
    kind("Secret", "secrets", &[], CORE),
    cluster_kind("Namespace", "namespaces", &["ns"], CORE),
    kind("Deployment", "deployments", &["deploy"], APPS),
    kind("StatefulSet", "statefulsets", &["sts"], APPS),
    kind("DaemonSet", "daemonsets", &["ds"], APPS),
    kind("Pod", "pods", &["po"], CORE),
    kind("ConfigMap", "configmaps", &["cm"], CORE),
    kind("ServiceAccount", "serviceaccounts", &["sa"], CORE),
    kind("PersistentVolumeClaim", "persistentvolumeclaims", &["pvc"], CORE),
    kind("Job", "jobs", &[], &["batch"]),
    kind("HorizontalPodAutoscaler", "horizontalpodautoscalers", &["hpa"], &["autoscaling"]),
    kind("LeaderWorkerSet", "leaderworkersets", &["lws"], &["leaderworkerset.x-k8s.io"]),
];

/// The kind meant by `asked`, and the group where one is named (`kind.group` or `kind.version.group`).
pub fn find(asked: &str) -> Option<(&'static Kind, Option<&'static str>)> {
    let asked = asked.to_ascii_lowercase();
    let (word, suffix) = match asked.split_once('.') {
        Some((word, suffix)) => (word, Some(suffix)),
        None => (asked.as_str(), None),
    };
    let kind = KINDS
        .iter()
        .find(|kind| kind.name.eq_ignore_ascii_case(word) || kind.plural == word || kind.short.contains(&word))?;
    let Some(suffix) = suffix else { return Some((kind, None)) };
    let without_version = suffix.split_once('.').map_or("", |(_, group)| group);
    let group =
        kind.groups.iter().find(|group| **group == suffix || (!group.is_empty() && **group == without_version))?;
    Some((kind, Some(group)))
}

/// Whether the object is of the group that was named.
pub fn is_of(object: &Value, group: Option<&str>) -> bool {
    let Some(group) = group else { return true };
    let api_version = object.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
    api_version.split_once('/').map_or("", |(found, _)| found) == group
}

/// Every kind, for messages.
pub fn names() -> String {
    KINDS.iter().map(|kind| kind.plural).collect::<Vec<_>>().join(", ")
}
