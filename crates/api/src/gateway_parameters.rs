//! GatewayParameters: the one home of our own settings, named by a Gateway's `infrastructure.parametersRef` or a
//! GatewayClass's `parametersRef`.

use std::collections::BTreeMap;
use std::time::Duration;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Settings of a data plane. Durations are Gateway API durations (GEP-2257: `10s`, `1h30m`), sizes are Kubernetes
/// quantities (`20Mi`).
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "tidegate.dev",
    version = "v1alpha1",
    kind = "GatewayParameters",
    plural = "gatewayparameters",
    namespaced
)]
#[serde(rename_all = "camelCase")]
pub struct GatewayParametersSpec {
    /// Limits of every listener.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<LimitsSpec>,
    /// Limits of single listeners by name; what is not said there is taken from `limits`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub listeners: BTreeMap<String, ListenerSpec>,
    /// Retries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<RetriesSpec>,
    /// Access log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_log: Option<AccessLogSpec>,
}

/// Settings of one listener.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListenerSpec {
    /// Its limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<LimitsSpec>,
}

/// Limits; each absent one keeps its default. `0s` switches a time limit off.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LimitsSpec {
    /// To connect to a model server; default 5s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect: Option<String>,
    /// To the first byte of an answer to `stream: true`; default 300s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream_first_byte: Option<String>,
    /// To the first byte of any other answer; default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_byte: Option<String>,
    /// Between two bytes of a stream, measured at the model server; default 300s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle: Option<String>,
    /// For the whole request; default 24h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<String>,
    /// For a client to send a request's head; default 30s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_header: Option<String>,
    /// For a client to send a request's body; default 300s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_body: Option<String>,
    /// Largest request body; default 20Mi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
}

/// Retries of attempts that failed before the first response byte.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetriesSpec {
    /// Attempts after the first; 0 to 10, default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// Attempts after a failed connection; 0 to 10, default 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_attempts: Option<u32>,
    /// Retries under way at most, as a share of active requests in percent; 0 to 100, default 20.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget_percent: Option<u32>,
    /// Retries under way that the budget always allows; default 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget_minimum: Option<u32>,
}

/// The access log.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessLogSpec {
    /// Whether to write one; default true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
}

/// A limit in time that someone set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeLimit {
    /// Switched off (`0s`).
    Off,
    /// After this long.
    After(Duration),
}

impl TimeLimit {
    /// Reads a Gateway API duration; `None` when the text is none.
    pub fn parse(text: &str) -> Option<Self> {
        crate::duration::parse(text).map(|limit| if limit.is_zero() { Self::Off } else { Self::After(limit) })
    }

    /// How long, when it is not switched off.
    pub fn duration(self) -> Option<Duration> {
        match self {
            Self::Off => None,
            Self::After(limit) => Some(limit),
        }
    }
}

/// Limits with their values read; `None` where nothing is said and the default stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResolvedLimits {
    /// [`LimitsSpec::connect`].
    pub connect: Option<TimeLimit>,
    /// [`LimitsSpec::stream_first_byte`].
    pub stream_first_byte: Option<TimeLimit>,
    /// [`LimitsSpec::first_byte`].
    pub first_byte: Option<TimeLimit>,
    /// [`LimitsSpec::idle`].
    pub idle: Option<TimeLimit>,
    /// [`LimitsSpec::total`].
    pub total: Option<TimeLimit>,
    /// [`LimitsSpec::request_header`].
    pub request_header: Option<TimeLimit>,
    /// [`LimitsSpec::request_body`].
    pub request_body: Option<TimeLimit>,
    /// [`LimitsSpec::body`], in bytes.
    pub body_bytes: Option<u64>,
}

impl ResolvedLimits {
    /// These where they say something, else `fallback`'s.
    #[must_use]
    pub fn or(self, fallback: Self) -> Self {
        Self {
            connect: self.connect.or(fallback.connect),
            stream_first_byte: self.stream_first_byte.or(fallback.stream_first_byte),
            first_byte: self.first_byte.or(fallback.first_byte),
            idle: self.idle.or(fallback.idle),
            total: self.total.or(fallback.total),
            request_header: self.request_header.or(fallback.request_header),
            request_body: self.request_body.or(fallback.request_body),
            body_bytes: self.body_bytes.or(fallback.body_bytes),
        }
    }
}

impl LimitsSpec {
    /// Reads the values. Decoding has refused what cannot be read; such a value counts as not said.
    pub fn resolve(&self) -> ResolvedLimits {
        let time = |text: &Option<String>| text.as_deref().and_then(TimeLimit::parse);
        ResolvedLimits {
            connect: time(&self.connect),
            stream_first_byte: time(&self.stream_first_byte),
            first_byte: time(&self.first_byte),
            idle: time(&self.idle),
            total: time(&self.total),
            request_header: time(&self.request_header),
            request_body: time(&self.request_body),
            body_bytes: self.body.as_deref().and_then(|text| crate::quantity::parse_bytes(text).ok()),
        }
    }
}

impl GatewayParametersSpec {
    /// The limits of the listener of that name: its own, and where it says nothing those of all listeners.
    pub fn limits_of(&self, listener: &str) -> ResolvedLimits {
        let general = self.limits.as_ref().map(LimitsSpec::resolve).unwrap_or_default();
        let own = self.listeners.get(listener).and_then(|listener| listener.limits.as_ref());
        own.map(LimitsSpec::resolve).unwrap_or_default().or(general)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_wins_over_the_general_limits() {
        let spec: GatewayParametersSpec = serde_json::from_value(serde_json::json!({
            "limits": {"connect": "2s", "total": "0s", "body": "1Mi"},
            "listeners": {"http": {"limits": {"connect": "1s"}}},
        }))
        .unwrap();
        let own = spec.limits_of("http");
        assert_eq!(own.connect, Some(TimeLimit::After(Duration::from_secs(1))));
        assert_eq!(own.total, Some(TimeLimit::Off));
        assert_eq!(own.body_bytes, Some(1 << 20));
        assert_eq!(own.idle, None);
        assert_eq!(spec.limits_of("other").connect, Some(TimeLimit::After(Duration::from_secs(2))));
    }
}
