//! The record of one finished request.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::PairEvent;

/// Why a request did not simply pass: stable words, the same in error bodies, metric labels and log fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// 404: no listener or rule takes it.
    NoRoute,
    /// 400: two top-level `model` keys.
    DuplicateModel,
    /// 400: the model's name is not valid UTF-8, or not a string.
    InvalidModel,
    /// 400: the body is not one complete JSON object.
    InvalidJson,
    /// 400: a multipart body that cannot be read.
    InvalidMultipart,
    /// 400: a malformed request.
    BadRequest,
    /// 403: a path that only operators may reach.
    AdminPath,
    /// 408: the client did not send its body in time.
    RequestTimeout,
    /// 413: body over the limit.
    BodyTooLarge,
    /// 415: compressed body.
    CompressedBody,
    /// 500: the arm's backend is invalid.
    InvalidBackend,
    /// 500: the rule has no backend.
    NoBackend,
    /// 502: no endpoint could be connected to.
    ConnectFailed,
    /// 502: the endpoint closed or reset before an answer.
    UpstreamReset,
    /// 502: the endpoint's answer cannot be understood.
    UpstreamProtocol,
    /// 503: the arm's pool has no endpoint.
    NoEndpoint,
    /// 503: the pool's external picker cannot be asked.
    PickerUnavailable,
    /// 503: the gateway is shutting down or out of room.
    Overloaded,
    /// 504: an HTTPRoute, policy or first-byte limit passed.
    UpstreamTimeout,
    /// The stream was ended at the idle limit.
    IdleTimeout,
    /// The stream was ended at the total limit.
    TotalTimeout,
    /// The endpoint ended a stream in the middle.
    UpstreamAborted,
    /// The answer held an error event although its status was 200.
    ErrorEvent,
    /// A roll-out that turned back cut the answer, as its document says.
    RolloutCut,
    /// The client left.
    ClientLeft,
    /// A 421 or another refusal at the listener.
    Misdirected,
}

impl Reason {
    /// The word, as in bodies, labels and logs.
    pub fn word(self) -> &'static str {
        match self {
            Self::NoRoute => "no_route",
            Self::DuplicateModel => "duplicate_model",
            Self::InvalidModel => "invalid_model",
            Self::InvalidJson => "invalid_json",
            Self::InvalidMultipart => "invalid_multipart",
            Self::BadRequest => "bad_request",
            Self::AdminPath => "admin_path",
            Self::RequestTimeout => "request_timeout",
            Self::BodyTooLarge => "body_too_large",
            Self::CompressedBody => "compressed_body",
            Self::InvalidBackend => "invalid_backend",
            Self::NoBackend => "no_backend",
            Self::ConnectFailed => "connect_failed",
            Self::UpstreamReset => "upstream_reset",
            Self::UpstreamProtocol => "upstream_protocol",
            Self::NoEndpoint => "no_endpoint",
            Self::PickerUnavailable => "picker_unavailable",
            Self::Overloaded => "overloaded",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::IdleTimeout => "idle_timeout",
            Self::TotalTimeout => "total_timeout",
            Self::UpstreamAborted => "upstream_aborted",
            Self::ErrorEvent => "error_event",
            Self::RolloutCut => "rollout_cut",
            Self::ClientLeft => "client_left",
            Self::Misdirected => "misdirected",
        }
    }
}

/// Who ended a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EndedBy {
    /// The endpoint, by completing its answer.
    #[default]
    Completion,
    /// The endpoint, by breaking off.
    Upstream,
    /// The client, by leaving.
    Client,
    /// The gateway, by an answer or a limit of its own.
    Gateway,
}

impl EndedBy {
    /// The word, as in labels and logs.
    pub fn word(self) -> &'static str {
        match self {
            Self::Completion => "completion",
            Self::Upstream => "upstream",
            Self::Client => "client",
            Self::Gateway => "gateway",
        }
    }
}

/// Why an arm gave a request away that the split had drawn for it, or could have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RedistributionReason {
    /// Its pool is known not to serve the requested model.
    ModelNotServed,
    /// Its pool has no endpoint in use, and `tidegate.dev/empty-arm: redistribute` says what then.
    EmptyArm,
}

impl RedistributionReason {
    /// The word, as in labels and logs.
    pub fn word(self) -> &'static str {
        match self {
            Self::ModelNotServed => "model_not_served",
            Self::EmptyArm => "empty_arm",
        }
    }
}

/// A request that an arm gave to the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Redistribution {
    /// The arm that gave it away, `namespace/name` of its backend.
    pub from: Arc<str>,
    /// Why.
    pub reason: RedistributionReason,
}

/// Token counts; `None` is unknown, never 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tokens {
    /// Of the prompt.
    pub prompt: Option<u64>,
    /// Of the answer.
    pub completion: Option<u64>,
    /// Of the prompt, from the prefix cache.
    pub cached: Option<u64>,
    /// `completion` was counted from stream chunks, not told by the server.
    pub estimated: bool,
}

/// One finished request. Never holds prompts, answers, credentials or cookies.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Observation {
    /// Unix time of the request's head, in microseconds.
    pub started_micros: u64,
    /// `x-request-id`, the client's or ours.
    pub request_id: String,
    /// `namespace/gateway/listener`.
    pub listener: Arc<str>,
    /// `namespace/name` of the route.
    pub route: Option<Arc<str>>,
    /// Which rule of it.
    pub rule: Option<usize>,
    /// The arm's backend, `namespace/name`.
    pub arm: Option<Arc<str>>,
    /// Model the client asked for.
    pub requested_model: Option<Arc<str>>,
    /// Model the endpoint was asked for.
    pub target_model: Option<Arc<str>>,
    /// `host:port` of the last attempt.
    pub endpoint: Option<Arc<str>>,
    /// Method.
    pub method: http_method::Method,
    /// Path without query.
    pub path: String,
    /// Status sent to the client; 0 when it left before.
    pub status: u16,
    /// Why it did not simply pass.
    pub reason: Option<Reason>,
    /// `stream: true`, or the answer was `text/event-stream`.
    pub stream: bool,
    /// Whether a session key chose the arm.
    pub session: bool,
    /// From the head's arrival to the first body byte of the answer.
    pub ttft: Option<Duration>,
    /// From the head's arrival to the end.
    pub duration: Duration,
    /// Mean gap between two stream events.
    pub gap_mean: Option<Duration>,
    /// Longest gap between two stream events.
    pub gap_max: Option<Duration>,
    /// Tokens.
    pub tokens: Tokens,
    /// `finish_reason` of the first choice.
    pub finish_reason: Option<String>,
    /// Body bytes from the client.
    pub bytes_in: u64,
    /// Body bytes to the client.
    pub bytes_out: u64,
    /// Attempts after the first.
    pub retries: u32,
    /// Who ended it.
    pub ended_by: EndedBy,
    /// The arm that gave this request to the one in `arm`, where one did.
    pub redistributed: Option<Redistribution>,
    /// The roll-out whose pair the request fell on, `namespace/name`, and whether its first attempt went to the
    /// candidate.
    pub rollout: Option<(Arc<str>, bool)>,
    /// An attempt on the candidate failed, and stable was asked instead.
    pub shielded: bool,
    /// Whether the listener asks for a line in the access log.
    pub logged: bool,
}

/// Methods as short static words, so that an observation allocates nothing for one.
pub mod http_method {
    use serde::Serialize;

    /// A request method; anything unusual is `Other`.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
    #[serde(rename_all = "UPPERCASE")]
    pub enum Method {
        /// GET
        #[default]
        Get,
        /// HEAD
        Head,
        /// POST
        Post,
        /// PUT
        Put,
        /// PATCH
        Patch,
        /// DELETE
        Delete,
        /// OPTIONS
        Options,
        /// Any other.
        Other,
    }

    impl Method {
        /// The word, as in logs.
        pub fn word(self) -> &'static str {
            match self {
                Self::Get => "GET",
                Self::Head => "HEAD",
                Self::Post => "POST",
                Self::Put => "PUT",
                Self::Patch => "PATCH",
                Self::Delete => "DELETE",
                Self::Options => "OPTIONS",
                Self::Other => "OTHER",
            }
        }
    }
}

/// Why an endpoint is passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EjectionReason {
    /// Connections to it failed again and again.
    ConnectFailed,
    /// It reset or broke off again and again.
    Reset,
    /// It answered with errors again and again.
    Errors,
    /// It held requests without a byte, and left a probe unanswered.
    Silent,
}

impl EjectionReason {
    /// The word, as in labels and logs.
    pub fn word(self) -> &'static str {
        match self {
            Self::ConnectFailed => "connect_failed",
            Self::Reset => "reset",
            Self::Errors => "errors",
            Self::Silent => "silent",
        }
    }
}

/// Something that happened beside requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An endpoint was ejected.
    Ejected {
        /// The pool, `namespace/name`.
        pool: Arc<str>,
        /// `host:port`.
        endpoint: Arc<str>,
        /// Why.
        reason: EjectionReason,
    },
    /// An ejected endpoint is in use again.
    Returned {
        /// The pool, `namespace/name`.
        pool: Arc<str>,
        /// `host:port`.
        endpoint: Arc<str>,
    },
}

/// Takes finished requests. Called on the data plane's threads: must not block.
pub trait ObservationSink: Send + Sync {
    /// A request has begun; exactly one [`ObservationSink::observe`] will follow. A sink that counts only what is
    /// finished need not write this.
    fn began(&self) {}

    /// Takes one.
    fn observe(&self, observation: Observation);

    /// Takes what is told of a roll-out's pair. A sink that feeds no judge need not write this.
    fn pair(&self, event: PairEvent) {
        drop(event);
    }

    /// Takes an event. A sink that keeps only requests need not write this.
    fn event(&self, event: Event) {
        drop(event);
    }
}
