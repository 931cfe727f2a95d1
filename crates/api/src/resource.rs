//! A document decoded: the typed object, with everything checked that can be checked by looking at it alone.

use gateway_api::experimental::{
    gatewayclasses::GatewayClass, gateways::Gateway, httproutes::HttpRoute, referencegrants::ReferenceGrant,
};
use k8s_openapi::api::core::v1::{Namespace, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::gateway_parameters::GatewayParametersSpec;
use crate::inference::{InferenceModel, InferenceModelRewrite, InferenceObjective, InferencePool};
use crate::model_server::ModelServerSpec;
use crate::policy::{BackendTrafficPolicySpec, ClientTrafficPolicySpec};
use crate::rollout::InferenceRolloutSpec;
use crate::{Document, Finding, ObjectKey};

/// What compile needs of an object's metadata.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    /// Labels.
    pub labels: std::collections::BTreeMap<String, String>,
    /// Annotations.
    pub annotations: std::collections::BTreeMap<String, String>,
    /// `metadata.creationTimestamp` where written (RFC 3339, kept as text: it sorts as time in UTC form).
    pub created: Option<String>,
    /// `metadata.generation`, 0 where not written.
    pub generation: i64,
}

/// A decoded object.
#[derive(Clone, Debug, PartialEq)]
pub enum Resource {
    /// `gateway.networking.k8s.io` GatewayClass.
    GatewayClass(Box<GatewayClass>),
    /// `gateway.networking.k8s.io` Gateway.
    Gateway(Box<Gateway>),
    /// `gateway.networking.k8s.io` HTTPRoute.
    HttpRoute(Box<HttpRoute>),
    /// `gateway.networking.k8s.io` ReferenceGrant.
    ReferenceGrant(Box<ReferenceGrant>),
    /// InferencePool of either group.
    InferencePool(InferencePool),
    /// InferenceModel.
    InferenceModel(InferenceModel),
    /// InferenceModelRewrite of either group.
    InferenceModelRewrite(InferenceModelRewrite),
    /// InferenceObjective of either group.
    InferenceObjective(InferenceObjective),
    /// Core Service.
    Service(Box<Service>),
    /// EndpointSlice.
    EndpointSlice(Box<EndpointSlice>),
    /// Secret.
    Secret(Box<Secret>),
    /// Namespace (its labels, for `allowedRoutes.namespaces.from: Selector`).
    Namespace(Box<Namespace>),
    /// Envoy Gateway's ClientTrafficPolicy.
    ClientTrafficPolicy(Box<ClientTrafficPolicySpec>),
    /// Envoy Gateway's BackendTrafficPolicy.
    BackendTrafficPolicy(Box<BackendTrafficPolicySpec>),
    /// Our ModelServer.
    ModelServer(ModelServerSpec),
    /// Our GatewayParameters.
    GatewayParameters(Box<GatewayParametersSpec>),
    /// Our InferenceRollout.
    InferenceRollout(Box<InferenceRolloutSpec>),
    /// A kind that is accepted and not used (Deployment and the like).
    Unused,
}

/// What decoding gives: the object unless a finding is an error, its metadata, and all findings.
#[derive(Clone, Debug)]
pub struct Decoded {
    /// Which object.
    pub key: ObjectKey,
    /// Labels, annotations, age.
    pub metadata: Metadata,
    /// The object; `None` when a finding is an error.
    pub resource: Option<Resource>,
    /// What there is to say, positions filled in from the document's origin.
    pub findings: Vec<Finding>,
}

/// Decodes and validates one document by itself: types, required fields, ranges, patterns, regular expressions,
/// everything a CRD's schema and rules would refuse. References to other objects are compile's matter.
pub fn decode(document: &Document) -> Decoded {
    crate::decode::decode(document)
}
