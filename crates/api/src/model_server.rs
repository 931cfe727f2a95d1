//! ModelServer: what a Pod is in a cluster, described in a file.

use std::net::{IpAddr, Ipv6Addr};

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

/// Whether `text` is `host` or `host:port` (IPv6 in brackets when a port follows, or bare).
pub(crate) fn is_address(text: &str) -> bool {
    if text.parse::<IpAddr>().is_ok() {
        return true;
    }
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let Some((host, rest)) = rest.split_once(']') else { return false };
            if host.parse::<Ipv6Addr>().is_err() {
                return false;
            }
            return rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port);
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    is_host(host) && port.is_none_or(is_port)
}

/// Whether `text` is an address without brackets or a host name.
pub(crate) fn is_host(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
        || (text.len() <= 253
            && text.trim_end_matches('.').split('.').all(|label| {
                !label.is_empty()
                    && label.len() <= 63
                    && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
                    && !label.starts_with('-')
                    && !label.ends_with('-')
            }))
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok_and(|port| port > 0)
}
