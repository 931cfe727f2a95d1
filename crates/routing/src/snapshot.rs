//! The snapshot: the immutable table that the data plane reads, sockets → listeners → rules → arms → pools → endpoints.
//!
//! Made by [`crate::compile`]; everything a request needs (regular expressions, hash tables, weights, merged limits)
//! is built here, never per request.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use foldhash::HashMap;
use http::{HeaderName, HeaderValue};
use tidegate_api::ObjectKey;
use tidegate_api::inference::{AppProtocol, Criticality};

use crate::{Pair, Router, Split};

/// Everything a request can meet, from the socket it comes in by to the endpoints it may go to.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Counts compiles, from 1.
    pub generation: u64,
    /// What to listen on.
    pub sockets: Vec<Socket>,
    /// All pools that some rule names; arms refer to them by position.
    pub pools: Vec<Arc<Pool>>,
}

/// Position of a pool in [`Snapshot::pools`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PoolIndex(pub usize);

/// One address to listen on; Gateway listeners of the same port share it.
#[derive(Debug)]
pub struct Socket {
    /// Address and port; port 0 never occurs here unless `--listen` asked for it.
    pub address: SocketAddr,
    /// What is spoken there.
    pub protocol: SocketProtocol,
    /// The listeners, most specific hostname first.
    pub listeners: Vec<Arc<Listener>>,
}

/// What is spoken on a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketProtocol {
    /// Plain HTTP/1.1 and HTTP/2 with prior knowledge.
    Http,
    /// TLS terminated here.
    Https,
}

/// One Gateway listener.
#[derive(Debug)]
pub struct Listener {
    /// Its Gateway.
    pub gateway: Arc<ObjectKey>,
    /// Its name in the Gateway; `listen` for `--listen`.
    pub name: Arc<str>,
    /// `namespace/gateway/listener`, for logs and metrics.
    pub label: Arc<str>,
    /// Hostname it is for; `None` takes every host.
    pub hostname: Option<Hostname>,
    /// Certificates to choose from by SNI; the first is the default.
    pub certificates: Vec<Arc<Certificate>>,
    /// Limits that hold before a rule is known.
    pub limits: Limits,
    /// Retry budget of the listener.
    pub retry_budget: RetryBudget,
    /// Whether requests are written to the access log.
    pub access_log: bool,
    /// Its rules.
    pub router: Router,
}

/// A hostname, lower case: exact, or with a wildcard first label.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Hostname {
    /// `api.example.com`.
    Exact(String),
    /// `*.example.com`, kept as `.example.com`; matches one or more labels in front.
    Wildcard(String),
}

/// A certificate chain with its key, in PEM already decoded.
#[derive(Debug)]
pub struct Certificate {
    /// The Secret it comes from.
    pub secret: Arc<ObjectKey>,
    /// Chain, leaf first.
    pub chain: Vec<rustls_pki_types::CertificateDer<'static>>,
    /// Private key.
    pub key: rustls_pki_types::PrivateKeyDer<'static>,
    /// DNS names of the leaf are not parsed here; the data plane reads them when it loads the certificate.
    pub fingerprint: u64,
}

/// One rule of a route, on one listener.
#[derive(Debug)]
pub struct Rule {
    /// Its HTTPRoute.
    pub route: Arc<ObjectKey>,
    /// `namespace/name`, for logs and metrics.
    pub route_label: Arc<str>,
    /// Which rule of the route, from 0.
    pub index: usize,
    /// The rule's own name.
    pub name: Option<String>,
    /// Filters of the rule.
    pub filters: Filters,
    /// Where requests go; may be empty (then 500, unless the filters redirect).
    pub arms: Vec<Arm>,
    /// Chooses among `arms`, by the weights in the manifests.
    pub split: Split,
    /// Two of the arms between which a roll-out decides in place of their weights.
    pub pair: Option<Arc<Pair>>,
    /// Limits, HTTPRoute timeouts already put in.
    pub limits: Limits,
    /// HTTPRoute `timeouts.backendRequest`: one attempt, to its end.
    pub attempt_timeout: Option<Duration>,
    /// Retries.
    pub retry: RetryPolicy,
    /// Whether any arm is an InferencePool: then bodies are read, paths guarded, headers stripped.
    pub inference: bool,
    /// `tidegate.dev/model-aware`: arms known not to serve a model give their share away.
    pub model_aware: bool,
    /// `tidegate.dev/allow-paths`, normalised.
    pub allow_paths: Vec<String>,
}

impl Rule {
    /// Whether an arm gets any requests: by its weight, or by a roll-out's share of what the pair has together.
    pub fn has_share(&self, position: usize) -> bool {
        let weight = |position: usize| self.arms.get(position).map_or(0, |arm| arm.weight);
        match self.pair.as_deref() {
            Some(pair) if pair.holds(position) => pair.has_share(position) && pair.members().any(|at| weight(at) > 0),
            _ => weight(position) > 0,
        }
    }
}

/// One alternative of a rule's split.
#[derive(Debug)]
pub struct Arm {
    /// The backend's `namespace/name`, for logs and metrics.
    pub label: Arc<str>,
    /// Weight as written, 0 to 1,000,000.
    pub weight: u32,
    /// Where it leads.
    pub target: ArmTarget,
    /// Filters of the backendRef.
    pub filters: Filters,
    /// `tidegate.dev/empty-arm: redistribute`.
    pub redistribute_when_empty: bool,
    /// `tidegate.dev/response-model: requested`.
    pub answer_requested_model: bool,
}

/// Where an arm leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ArmTarget {
    /// To a pool.
    Pool(PoolIndex),
    /// Nowhere: its share gets 500 (Gateway API, HTTPBackendRef); the text says why.
    Invalid(String),
}

/// Filters in the order in which they apply.
#[derive(Clone, Debug, Default)]
pub struct Filters {
    /// Changes to the request's headers.
    pub request_headers: HeaderChanges,
    /// Changes to the answer's headers.
    pub response_headers: HeaderChanges,
    /// Answer with a redirect instead of forwarding.
    pub redirect: Option<Redirect>,
    /// Change host or path before forwarding.
    pub rewrite: Option<UrlRewrite>,
    /// Copies of the request to other backends; answers are dropped.
    pub mirrors: Vec<Mirror>,
}

/// Header changes, applied in the order set, add, remove.
#[derive(Clone, Debug, Default)]
pub struct HeaderChanges {
    /// Replaces all values.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Adds a value.
    pub add: Vec<(HeaderName, HeaderValue)>,
    /// Removes.
    pub remove: Vec<HeaderName>,
}

impl HeaderChanges {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.add.is_empty() && self.remove.is_empty()
    }
}

/// `requestRedirect`.
#[derive(Clone, Debug)]
pub struct Redirect {
    /// `http` or `https`; `None` keeps the request's.
    pub scheme: Option<String>,
    /// Host; `None` keeps the request's.
    pub hostname: Option<String>,
    /// Path; `None` keeps the request's.
    pub path: Option<PathRewrite>,
    /// Port; `None` follows from scheme and listener as the specification says.
    pub port: Option<u16>,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
}

/// `urlRewrite`.
#[derive(Clone, Debug)]
pub struct UrlRewrite {
    /// New Host header.
    pub hostname: Option<HeaderValue>,
    /// New path.
    pub path: Option<PathRewrite>,
}

/// A change of path.
#[derive(Clone, Debug)]
pub enum PathRewrite {
    /// The whole path.
    Full(String),
    /// The prefix that the rule matched.
    Prefix(String),
}

/// `requestMirror`.
#[derive(Clone, Debug)]
pub struct Mirror {
    /// Where the copies go.
    pub pool: PoolIndex,
    /// Mirrored share = numerator / denominator; 1/1 is all.
    pub numerator: u32,
    /// Never 0.
    pub denominator: u32,
}

/// Time and size limits in force; `None` means unlimited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// To connect to an endpoint.
    pub connect: Option<Duration>,
    /// To the first byte of an answer to `stream: true`.
    pub stream_first_byte: Option<Duration>,
    /// To the first byte of any other answer.
    pub first_byte: Option<Duration>,
    /// Between two bytes of an answer, measured at the endpoint.
    pub idle: Option<Duration>,
    /// The whole request.
    pub total: Option<Duration>,
    /// For a client to send a head.
    pub request_header: Option<Duration>,
    /// For a client to send a body.
    pub request_body: Option<Duration>,
    /// Client connections without a request under way (ClientTrafficPolicy `idleTimeout`).
    pub client_idle: Option<Duration>,
    /// Kept upstream connections without a request (BackendTrafficPolicy `connectionIdleTimeout`).
    pub upstream_idle: Option<Duration>,
    /// Largest request body in bytes.
    pub body_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Some(Duration::from_secs(5)),
            stream_first_byte: Some(Duration::from_secs(300)),
            first_byte: None,
            idle: Some(Duration::from_secs(300)),
            total: Some(Duration::from_secs(24 * 3600)),
            request_header: Some(Duration::from_secs(30)),
            request_body: Some(Duration::from_secs(300)),
            client_idle: None,
            upstream_idle: Some(Duration::from_secs(60)),
            body_bytes: 20 * 1024 * 1024,
        }
    }
}

/// How often an attempt that failed before the first response byte is made again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts after the first, for answers and resets.
    pub attempts: u32,
    /// Attempts after the first, for failed connections.
    pub connection_attempts: u32,
    /// Statuses that HTTPRoute `retry.codes` adds to those that mean "this server is going away".
    pub codes: Vec<u16>,
    /// HTTPRoute `retry.backoff`: pause before another attempt.
    pub backoff: Option<Duration>,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { attempts: 1, connection_attempts: 2, codes: Vec::new(), backoff: None }
    }
}

/// Retries under way at most: `percent` of active requests, and `minimum` always.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryBudget {
    /// 0 to 100.
    pub percent: u32,
    /// Always allowed.
    pub minimum: u32,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { percent: 20, minimum: 10 }
    }
}

/// A set of endpoints: an InferencePool or a Service.
#[derive(Debug)]
pub struct Pool {
    /// The object.
    pub key: Arc<ObjectKey>,
    /// `namespace/name`, for logs and metrics.
    pub label: Arc<str>,
    /// InferencePool or Service.
    pub kind: PoolKind,
    /// How its endpoints are spoken to.
    pub protocol: AppProtocol,
    /// Its endpoints, in a stable order, without duplicates.
    pub endpoints: Vec<Endpoint>,
    /// Names in front of its models (always empty for a Service).
    pub models: ModelTable,
    /// Who picks.
    pub picker: PickerSource,
}

/// What a pool is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolKind {
    /// Model servers: bodies are read, models rewritten, `/v1/models` asked.
    Inference,
    /// Anything that speaks HTTP.
    Service,
}

/// Who picks a pool's endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PickerSource {
    /// The picker in this process.
    BuiltIn,
    /// An external picker that is described but not spoken to yet: every request gets 503 (FailClose).
    Unavailable(String),
}

/// One address of a model server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// `host:port`, host an IP address or a DNS name, IPv6 in brackets.
    pub address: Arc<str>,
    /// The ModelServer's (or EndpointSlice endpoint's) `namespace/name`.
    pub name: Arc<str>,
    /// Path of its metrics, `/metrics`.
    pub metrics_path: Arc<str>,
    /// `vllm`, `sglang`, `trtllm`, `triton`; empty for a Service's endpoint.
    pub engine: Arc<str>,
}

/// Which names clients may ask a pool for, and what becomes of them.
#[derive(Debug, Default)]
pub struct ModelTable {
    /// By exact name. The keys are the operator's, so that a fast hash is safe: clients only look up.
    pub exact: HashMap<String, Arc<ModelRule>>,
    /// For every other request, with or without a `model` (an InferenceModelRewrite rule without matches).
    pub generic: Option<Arc<ModelRule>>,
}

impl ModelTable {
    /// The rule for a requested name.
    pub fn rule(&self, model: Option<&str>) -> Option<&Arc<ModelRule>> {
        model.and_then(|model| self.exact.get(model)).or(self.generic.as_ref())
    }
}

/// What becomes of one requested name in one pool.
#[derive(Debug)]
pub struct ModelRule {
    /// The InferenceModel or InferenceModelRewrite.
    pub owner: Arc<ObjectKey>,
    /// The models it is split over; never empty.
    pub targets: Vec<Target>,
    /// Chooses among `targets`, by the weights in the manifests.
    pub split: Split,
    /// Two of the targets between which a roll-out decides in place of their weights.
    pub pair: Option<Arc<Pair>>,
    /// InferenceModel's criticality.
    pub criticality: Option<Criticality>,
}

/// One model of a split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Model or adapter name on the server.
    pub model: Arc<str>,
    /// Weight in force.
    pub weight: u32,
}
