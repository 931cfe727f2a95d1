//! The inference extension's kinds, in one form for all their versions.
//!
//! Sources of the fields, defaults and rules: gateway-api-inference-extension `api/v1/inferencepool_types.go` (v1),
//! `apix/v1alpha2/inferencepool_types.go@v1.4.0`, `api/v1alpha2/inferencemodel_types.go@v0.5.1`, and llm-d-router
//! `apix/v1alpha2` (InferenceModelRewrite, InferenceObjective).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Group of InferencePool v1.
pub const GROUP_V1: &str = "inference.networking.k8s.io";
/// Group of InferencePool v1alpha2, InferenceModel, and the older InferenceModelRewrite and InferenceObjective.
pub const GROUP_ALPHA: &str = "inference.networking.x-k8s.io";
/// Group of the current InferenceModelRewrite and InferenceObjective.
pub const GROUP_LLMD: &str = "llm-d.ai";

/// An InferencePool, v1 or v1alpha2.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct InferencePool {
    /// Labels that a model server (pod) must carry, all of them; never empty.
    pub selector: BTreeMap<String, String>,
    /// 1 to 8 ports, each 1 to 65535, unique; each server × port is an endpoint.
    pub target_ports: Vec<u16>,
    /// How to speak to them.
    pub app_protocol: AppProtocol,
    /// The external endpoint picker; always named in v1alpha2.
    pub endpoint_picker: Option<EndpointPickerRef>,
}

/// How a pool's servers are spoken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub enum AppProtocol {
    /// HTTP/1.1.
    #[default]
    Http,
    /// HTTP/2 with prior knowledge (`kubernetes.io/h2c`).
    H2c,
}

/// `endpointPickerRef` (v1) or `extensionRef` (v1alpha2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EndpointPickerRef {
    /// API group, empty for a Service.
    pub group: String,
    /// Kind, `Service`.
    pub kind: String,
    /// Name, in the pool's namespace.
    pub name: String,
    /// Service port; 9002 for v1alpha2 where none is given.
    pub port: Option<u16>,
    /// What happens when the picker fails.
    pub failure_mode: FailureMode,
}

/// What happens when an endpoint picker fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureMode {
    /// The gateway picks by itself.
    FailOpen,
    /// The request fails.
    #[default]
    FailClose,
}

/// A reference to a pool in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PoolRef {
    /// Group as written; `None` when the author left it out.
    pub group: Option<String>,
    /// Kind, `InferencePool`.
    pub kind: String,
    /// Name.
    pub name: String,
}

/// InferenceModel v1alpha2, also in the form that the GKE guide prints (`spec.versions`).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct InferenceModel {
    /// The name clients ask for. In the printed form, the object's own name.
    pub model_name: String,
    /// How much its requests matter; unset means Standard.
    pub criticality: Option<Criticality>,
    /// Its pool.
    pub pool: PoolRef,
    /// Models it is split over; empty means `model_name` itself.
    pub targets: Vec<ModelTarget>,
    /// The printed form (`spec.versions`): each target can then also be asked for by its own name.
    pub printed_versions: bool,
}

/// How much a model's requests matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Criticality {
    /// Never shed before others.
    Critical,
    /// The default.
    Standard,
    /// Shed first.
    Sheddable,
}

/// One model of a split, with its weight (1 to 1,000,000; `None` = not given).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ModelTarget {
    /// Model or adapter name on the server.
    pub name: String,
    /// Weight as written.
    pub weight: Option<u32>,
}

/// InferenceModelRewrite.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct InferenceModelRewrite {
    /// Its pool.
    pub pool: PoolRef,
    /// Its rules, in order.
    pub rules: Vec<RewriteRule>,
}

/// One rule of an InferenceModelRewrite.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RewriteRule {
    /// Exact model names; empty matches every request.
    pub models: Vec<String>,
    /// What they become.
    pub targets: Vec<ModelTarget>,
}

/// InferenceObjective.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct InferenceObjective {
    /// Its pool.
    pub pool: PoolRef,
    /// Higher first; 0 when absent, negative is sheddable.
    pub priority: i32,
}
