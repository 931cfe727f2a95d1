//! What the judge is told about a request: once when it arrives and once when it has ended. Built by whoever observes
//! the data plane; nothing here decides anything.

use serde::{Deserialize, Serialize};

/// The two sides of a roll-out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arm {
    /// What serves today.
    Stable,
    /// What is being rolled out.
    Candidate,
}

/// Something that did or did not happen to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventMetric {
    /// A 5xx, a failed connection, a first-byte time-out, an error event inside a 200.
    Error,
    /// The model server ended an answer in the middle, or stalled until a limit ended it.
    UpstreamAbort,
    /// An answer without any output.
    Empty,
    /// `finish_reason` was `length`.
    FinishLength,
    /// A tool call that does not parse.
    ToolParseFail,
    /// An answer that breaks the JSON schema it was asked for.
    SchemaFail,
    /// A think tag opened and not closed, or closed and not opened.
    ThinkTagUnbalanced,
    /// `finish_reason` was `content_filter`, or the answer is a refusal.
    Refusal,
    /// A judge outside preferred stable's answer.
    JudgeLoss,
    /// The client left before the first byte. Observed in both directions, never a guard by default.
    ClientCancel,
    /// A 4xx caused by the request. Observed in both directions, never a guard by default.
    RequestFault,
}

impl EventMetric {
    /// All of them, in the order of reports.
    pub const ALL: [Self; 11] = [
        Self::Error,
        Self::UpstreamAbort,
        Self::Empty,
        Self::FinishLength,
        Self::ToolParseFail,
        Self::SchemaFail,
        Self::ThinkTagUnbalanced,
        Self::Refusal,
        Self::JudgeLoss,
        Self::ClientCancel,
        Self::RequestFault,
    ];

    /// The word, as in policies, reports and metric labels.
    pub fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::UpstreamAbort => "upstream_abort",
            Self::Empty => "empty",
            Self::FinishLength => "finish_length",
            Self::ToolParseFail => "tool_parse_fail",
            Self::SchemaFail => "schema_fail",
            Self::ThinkTagUnbalanced => "think_tag_unbalanced",
            Self::Refusal => "refusal",
            Self::JudgeLoss => "judge_loss",
            Self::ClientCancel => "client_cancel",
            Self::RequestFault => "request_fault",
        }
    }

    /// Whether the breaker counts it as a failed request.
    pub fn is_failure(self) -> bool {
        matches!(self, Self::Error | Self::UpstreamAbort)
    }

    fn bit(self) -> u16 {
        1 << (self as u16)
    }
}

/// The latencies that are compared between the arms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LatencyMetric {
    /// Time to the first token, seconds.
    Ttft,
    /// Mean time per output token after the first, seconds.
    Tpot,
}

impl LatencyMetric {
    /// The word, as in policies, reports and metric labels.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ttft => "ttft",
            Self::Tpot => "tpot",
        }
    }
}

/// A small set of [`EventMetric`]s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Events(u16);

impl Events {
    /// Nothing happened.
    pub const NONE: Self = Self(0);

    /// This set and `metric`.
    #[must_use]
    pub fn with(self, metric: EventMetric) -> Self {
        Self(self.0 | metric.bit())
    }

    /// Adds `metric`.
    pub fn insert(&mut self, metric: EventMetric) {
        self.0 |= metric.bit();
    }

    /// Whether `metric` happened.
    pub fn contains(self, metric: EventMetric) -> bool {
        self.0 & metric.bit() != 0
    }

    /// Whether nothing happened.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl FromIterator<EventMetric> for Events {
    fn from_iter<I: IntoIterator<Item = EventMetric>>(metrics: I) -> Self {
        metrics.into_iter().fold(Self::NONE, Self::with)
    }
}

/// Requests that may be compared with each other. Only what is known before an arm is chosen may stand here: never the
/// queue, the output's length or the load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Stratum {
    /// Hash of the model's name as the client wrote it.
    pub model: u64,
    /// Prompt size class, see [`Stratum::prompt_class`].
    pub prompt: u8,
    /// Whether a stream was asked for.
    pub stream: bool,
    /// Class of the client's `max_tokens`, see [`Stratum::output_class`].
    pub max_tokens: u8,
}

impl Stratum {
    /// The class of a prompt of so many tokens (uncached ones while warming, all of them afterwards): up to 128, 512, 2k,
    /// 8k, 32k, and more.
    pub fn prompt_class(tokens: u64) -> u8 {
        match tokens {
            0..=128 => 0,
            129..=512 => 1,
            513..=2_048 => 2,
            2_049..=8_192 => 3,
            8_193..=32_768 => 4,
            _ => 5,
        }
    }

    /// The class of a client's `max_tokens`: not given, up to 64, 512, 4k, and more.
    pub fn output_class(max_tokens: Option<u64>) -> u8 {
        match max_tokens {
            None => 0,
            Some(0..=64) => 1,
            Some(65..=512) => 2,
            Some(513..=4_096) => 3,
            Some(_) => 4,
        }
    }
}

/// A request at the moment its arm is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Arrival {
    /// A number no other request of this gateway has.
    pub request: u64,
    /// When it arrived: milliseconds of the gateway's monotonic clock.
    pub at_ms: u64,
    /// The arm of its FIRST attempt.
    pub arm: Arm,
    /// The probability with which the candidate was to be chosen at that moment, 0..=1.
    pub share: f64,
    /// What was assigned: the hash of the session's key, or a number no other request has.
    pub unit: u64,
    /// Whether `unit` is a session, so that its requests all go to one arm.
    pub keyed: bool,
    /// The arm was demanded (header, response id), not drawn.
    pub forced: bool,
    /// The arm counts as warmed up. Cold ones count for events, not for latency.
    pub warm: bool,
    /// What it may be compared with.
    pub stratum: Stratum,
}

/// A request that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The request as it was told by [`Judge::arrived`](crate::Judge::arrived).
    pub arrival: Arrival,
    /// When it ended: milliseconds of the gateway's monotonic clock.
    pub end_ms: u64,
    /// What happened on the FIRST attempt: what a later attempt on another endpoint or arm did is not evidence.
    pub events: Events,
    /// The first attempt failed before its first byte and was sent again, to another endpoint or to stable: counts as an
    /// error of `arrival.arm`.
    pub first_attempt_failed: bool,
    /// Sent again, it was answered by the other arm: that arm works.
    pub rescued: bool,
    /// Seconds to the first token, when the first attempt gave one.
    pub ttft: Option<f64>,
    /// Mean seconds per output token after the first, when there were at least two.
    pub tpot: Option<f64>,
}

impl Sample {
    /// What happened, with the failed first attempt counted as an error.
    pub fn outcome(&self) -> Events {
        if self.first_attempt_failed { self.events.with(EventMetric::Error) } else { self.events }
    }

    /// Whether the request says nothing about its arm: the client left, or the request was at fault.
    pub fn is_clients_doing(&self) -> bool {
        !self.first_attempt_failed
            && (self.events.contains(EventMetric::ClientCancel) || self.events.contains(EventMetric::RequestFault))
    }
}
