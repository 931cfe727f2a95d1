//! The metrics by which a roll-out is judged, under the names that documents use.

use std::fmt;

/// A metric that can turn a roll-out back.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Metric {
    /// 5xx, a failed connection, an error inside a 200 stream: `error`.
    Error,
    /// An answer that broke off or stalled: `abort`.
    Abort,
    /// An answer without text: `empty`.
    Empty,
    /// An answer that refuses: `refusal`.
    Refusal,
    /// An answer that ended for this reason: `finish_reason:length`.
    FinishReason(String),
    /// A think tag without its other half: `think_tag_unbalanced`.
    ThinkTagUnbalanced,
    /// A tool call that cannot be read: `tool_parse_fail`.
    ToolParseFail,
    /// JSON that was asked for and cannot be read: `schema_fail`.
    SchemaFail,
    /// Time to the first token: `ttft`.
    Ttft,
    /// Time per output token: `tpot`.
    Tpot,
}

/// What kind of thing a metric counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Something that happens to a request or does not; `r0` is its tolerance.
    Event,
    /// A time; `tolerance` and `margin` are its bounds.
    Latency,
}

/// Names that a guard may have, for messages.
pub const METRICS: [&str; 10] = [
    "error",
    "abort",
    "empty",
    "refusal",
    "finish_reason:length",
    "think_tag_unbalanced",
    "tool_parse_fail",
    "schema_fail",
    "ttft",
    "tpot",
];

/// What `observe` may name beside the metrics of guards: reported, never gates.
pub const OBSERVED_ONLY: [&str; 4] = ["output_tokens", "cached_tokens", "total_time", "cost_per_1k"];

impl Metric {
    /// Reads a name; `upstream_abort` and `finish:length`, as the literature has them, mean the same.
    pub fn parse(name: &str) -> Option<Self> {
        if let Some(reason) = name.strip_prefix("finish_reason:").or_else(|| name.strip_prefix("finish:")) {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            return (!reason.is_empty() && reason.len() <= 64 && reason.bytes().all(plain))
                .then(|| Self::FinishReason(reason.to_owned()));
        }
        Some(match name {
            "error" => Self::Error,
            "abort" | "upstream_abort" => Self::Abort,
            "empty" => Self::Empty,
            "refusal" => Self::Refusal,
            "think_tag_unbalanced" => Self::ThinkTagUnbalanced,
            "tool_parse_fail" => Self::ToolParseFail,
            "schema_fail" => Self::SchemaFail,
            "ttft" => Self::Ttft,
            "tpot" => Self::Tpot,
            _ => return None,
        })
    }

    /// Event or latency.
    pub const fn kind(&self) -> MetricKind {
        match self {
            Self::Ttft | Self::Tpot => MetricKind::Latency,
            _ => MetricKind::Event,
        }
    }
}

/// The name that documents use.
impl fmt::Display for Metric {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Error => "error",
            Self::Abort => "abort",
            Self::Empty => "empty",
            Self::Refusal => "refusal",
            Self::FinishReason(reason) => return write!(formatter, "finish_reason:{reason}"),
            Self::ThinkTagUnbalanced => "think_tag_unbalanced",
            Self::ToolParseFail => "tool_parse_fail",
            Self::SchemaFail => "schema_fail",
            Self::Ttft => "ttft",
            Self::Tpot => "tpot",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_and_written_the_same() {
        for name in METRICS {
            assert_eq!(Metric::parse(name).unwrap().to_string(), name);
        }
        for other in OBSERVED_ONLY.into_iter().chain(["", "p99", "finish_reason:", "finish_reason:a b"]) {
            assert_eq!(Metric::parse(other), None, "{other}");
        }
        assert_eq!(Metric::parse("finish:length"), Metric::parse("finish_reason:length"));
    }
}
