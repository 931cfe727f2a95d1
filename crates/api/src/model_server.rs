//! ModelServer: what a Pod is in a cluster, described in a file.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A running model server. Its `metadata.labels` are matched by a pool's selector.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(group = "tidegate.dev", version = "v1alpha1", kind = "ModelServer", namespaced, shortname = "msrv")]
#[serde(rename_all = "camelCase")]
pub struct ModelServerSpec {
    /// `host` or `host:port` (IPv6 in brackets); without a port, the pool's target ports are used.
    pub address: String,
    /// Where its Prometheus metrics are; `/metrics` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics_path: Option<String>,
    /// What runs there: `vllm` (default), `sglang`, `trtllm`, `triton`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
}
