//! The two Envoy Gateway policies that the guides print (`gateway.envoyproxy.io/v1alpha1`), as far as they mean
//! something here. Every other field is kept in `rest`, to be named in a condition as not supported.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a policy is attached to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetRef {
    /// API group, `gateway.networking.k8s.io`.
    pub group: String,
    /// `Gateway` or `HTTPRoute`.
    pub kind: String,
    /// Name, in the policy's namespace.
    pub name: String,
    /// A listener, or a route's rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub section_name: Option<String>,
}

/// Spec of a ClientTrafficPolicy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClientTrafficPolicySpec {
    /// One target (deprecated upstream, still printed).
    #[serde(default)]
    pub target_ref: Option<TargetRef>,
    /// Targets.
    #[serde(default)]
    pub target_refs: Vec<TargetRef>,
    /// Connection settings.
    #[serde(default)]
    pub connection: Option<ClientConnection>,
    /// Timeouts.
    #[serde(default)]
    pub timeout: Option<ClientTimeout>,
    /// What we do not support.
    #[serde(flatten)]
    pub rest: BTreeMap<String, Value>,
}

/// `connection` of a ClientTrafficPolicy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClientConnection {
    /// Largest request body, a quantity; number or text.
    #[serde(default)]
    pub buffer_limit: Option<Value>,
    /// What we do not support.
    #[serde(flatten)]
    pub rest: BTreeMap<String, Value>,
}

/// `timeout` of a ClientTrafficPolicy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClientTimeout {
    /// HTTP timeouts.
    #[serde(default)]
    pub http: Option<HttpTimeout>,
    /// What we do not support.
    #[serde(flatten)]
    pub rest: BTreeMap<String, Value>,
}

/// `timeout.http` of either policy; durations as text.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpTimeout {
    /// ClientTrafficPolicy: to receive the request. BackendTrafficPolicy: the whole request.
    #[serde(default)]
    pub request_timeout: Option<String>,
    /// ClientTrafficPolicy: to receive the request, under Envoy Gateway's own name for it.
    #[serde(default)]
    pub request_received_timeout: Option<String>,
    /// ClientTrafficPolicy: idle client connections.
    #[serde(default)]
    pub idle_timeout: Option<String>,
    /// BackendTrafficPolicy: idle upstream connections.
    #[serde(default)]
    pub connection_idle_timeout: Option<String>,
    /// Idle streams.
    #[serde(default)]
    pub stream_idle_timeout: Option<String>,
    /// What we do not support.
    #[serde(flatten)]
    pub rest: BTreeMap<String, Value>,
}

/// Spec of a BackendTrafficPolicy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackendTrafficPolicySpec {
    /// One target (deprecated upstream, still printed).
    #[serde(default)]
    pub target_ref: Option<TargetRef>,
    /// Targets.
    #[serde(default)]
    pub target_refs: Vec<TargetRef>,
    /// Timeouts.
    #[serde(default)]
    pub timeout: Option<BackendTimeout>,
    /// What we do not support.
    #[serde(flatten)]
    pub rest: BTreeMap<String, Value>,
}

/// `timeout` of a BackendTrafficPolicy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackendTimeout {
    /// HTTP timeouts.
    #[serde(default)]
    pub http: Option<HttpTimeout>,
    /// What we do not support.
    #[serde(flatten)]
    pub rest: BTreeMap<String, Value>,
}
