//! Every family: its name, its labels, its buckets, and what it means.
//!
//! Names and labels are an interface that dashboards and alerts are built on; they change only with a note in the
//! changelog.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

/// Whole requests: from refusals of a few milliseconds to answers of an hour.
const DURATION_BUCKETS: [f64; 19] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0, 1280.0,
    3600.0,
];
/// First byte of a stream: a cached prefix gives tens of milliseconds, a long queue minutes.
const FIRST_TOKEN_BUCKETS: [f64; 20] = [
    0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.15, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0,
    300.0,
];
/// Between two events of a stream: from speculative decoding to a stall that ends at the idle limit.
const GAP_BUCKETS: [f64; 20] = [
    0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
    300.0,
];

/// A label from the configuration; absent in Prometheus' sense (empty) where a request got no route or arm.
pub(super) type Name = Option<Arc<str>>;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RequestLabels {
    pub(super) listener: Arc<str>,
    pub(super) route: Name,
    pub(super) arm: Name,
    pub(super) model: Name,
    pub(super) target_model: Name,
    pub(super) class: &'static str,
    pub(super) code: Arc<str>,
    pub(super) reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct DurationLabels {
    pub(super) route: Name,
    pub(super) arm: Name,
    pub(super) target_model: Name,
    pub(super) class: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ModelLabels {
    pub(super) route: Name,
    pub(super) arm: Name,
    pub(super) target_model: Name,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct TokenLabels {
    pub(super) route: Name,
    pub(super) arm: Name,
    pub(super) target_model: Name,
    pub(super) kind: &'static str,
    pub(super) estimated: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct BytesLabels {
    pub(super) listener: Arc<str>,
    pub(super) route: Name,
    pub(super) arm: Name,
    pub(super) direction: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ArmLabels {
    pub(super) route: Name,
    pub(super) arm: Name,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct EndedLabels {
    pub(super) route: Name,
    pub(super) arm: Name,
    pub(super) ended_by: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct FinishLabels {
    pub(super) route: Name,
    pub(super) arm: Name,
    pub(super) target_model: Name,
    pub(super) finish_reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RedistributedLabels {
    pub(super) route: Name,
    pub(super) arm: Arc<str>,
    pub(super) reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct EndpointRequestLabels {
    pub(super) arm: Name,
    pub(super) endpoint: Arc<str>,
    pub(super) class: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct EndpointLabels {
    pub(super) pool: Arc<str>,
    pub(super) endpoint: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct EjectionLabels {
    pub(super) pool: Arc<str>,
    pub(super) endpoint: Arc<str>,
    pub(super) reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OutcomeLabels {
    pub(super) result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct SeverityLabels {
    pub(super) severity: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct CauseLabels {
    pub(super) cause: &'static str,
}

/// Makes the histograms of one family; a named type, so that families can be stored and debug-printed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Buckets(&'static [f64]);

impl prometheus_client::metrics::family::MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(self.0.iter().copied())
    }
}

pub(super) type Histograms<L> = Family<L, Histogram, Buckets>;

/// All families that are written to, as opposed to asked for at a scrape.
#[derive(Debug)]
pub(super) struct Families {
    pub(super) requests: Family<RequestLabels, Counter>,
    pub(super) duration: Histograms<DurationLabels>,
    pub(super) first_token: Histograms<ModelLabels>,
    pub(super) gap_mean: Histograms<ModelLabels>,
    pub(super) gap_max: Histograms<ModelLabels>,
    pub(super) tokens: Family<TokenLabels, Counter>,
    pub(super) bytes: Family<BytesLabels, Counter>,
    pub(super) retries: Family<ArmLabels, Counter>,
    pub(super) in_flight: Gauge,
    pub(super) ended: Family<EndedLabels, Counter>,
    pub(super) finished: Family<FinishLabels, Counter>,
    pub(super) error_events: Family<ModelLabels, Counter>,
    pub(super) redistributed: Family<RedistributedLabels, Counter>,
    pub(super) endpoint_requests: Family<EndpointRequestLabels, Counter>,
    pub(super) ejections: Family<EjectionLabels, Counter>,
    pub(super) returns: Family<EndpointLabels, Counter>,
    pub(super) reloads: Family<OutcomeLabels, Counter>,
    pub(super) config_generation: Gauge,
    pub(super) config_applied: Gauge,
    pub(super) config_findings: Family<SeverityLabels, Gauge>,
    pub(super) dropped_observations: Counter,
    pub(super) written_lines: Counter,
    pub(super) dropped_lines: Family<CauseLabels, Counter>,
}

impl Families {
    /// Makes them and registers them in `registry`, which brings the prefix.
    pub(super) fn register(registry: &mut Registry, version: &str) -> Self {
        let families = Self::new();
        families.register_requests(registry);
        families.register_streams(registry);
        families.register_gateway(registry);
        registry.register("build", "The program that serves", Info::new([("version", version.to_owned())]));
        families
    }

    fn new() -> Self {
        Self {
            requests: Family::default(),
            duration: Family::new_with_constructor(Buckets(&DURATION_BUCKETS)),
            first_token: Family::new_with_constructor(Buckets(&FIRST_TOKEN_BUCKETS)),
            gap_mean: Family::new_with_constructor(Buckets(&GAP_BUCKETS)),
            gap_max: Family::new_with_constructor(Buckets(&GAP_BUCKETS)),
            tokens: Family::default(),
            bytes: Family::default(),
            retries: Family::default(),
            in_flight: Gauge::default(),
            ended: Family::default(),
            finished: Family::default(),
            error_events: Family::default(),
            redistributed: Family::default(),
            endpoint_requests: Family::default(),
            ejections: Family::default(),
            returns: Family::default(),
            reloads: Family::default(),
            config_generation: Gauge::default(),
            config_applied: Gauge::default(),
            config_findings: Family::default(),
            dropped_observations: Counter::default(),
            written_lines: Counter::default(),
            dropped_lines: Family::default(),
        }
    }

    fn register_requests(&self, registry: &mut Registry) {
        registry.register(
            "requests",
            "Finished requests. reason is empty when a request simply passed; code is 0 when the client left before \
             an answer; model is what the client asked for, target_model what the endpoint was asked for",
            self.requests.clone(),
        );
        registry.register_with_unit(
            "request_duration",
            "From the head of a request to the end of its answer",
            Unit::Seconds,
            self.duration.clone(),
        );
        registry.register_with_unit(
            "body",
            "Body bytes from (in) and to (out) clients",
            Unit::Bytes,
            self.bytes.clone(),
        );
        registry.register("retries", "Attempts after the first", self.retries.clone());
        registry.register("requests_in_flight", "Requests under way", self.in_flight.clone());
        registry.register("requests_ended", "Finished requests by who ended them", self.ended.clone());
        registry.register(
            "endpoint_requests",
            "Finished requests by the endpoint of their last attempt",
            self.endpoint_requests.clone(),
        );
        registry.register(
            "arm_redistributed",
            "Requests that an arm gave to the others, and why",
            self.redistributed.clone(),
        );
    }

    fn register_streams(&self, registry: &mut Registry) {
        registry.register_with_unit(
            "time_to_first_token",
            "From the head of a streaming request to the first body byte of its answer, when the answer was no error",
            Unit::Seconds,
            self.first_token.clone(),
        );
        registry.register_with_unit(
            "inter_token_gap_mean",
            "Mean gap between two events of a stream, one sample a stream",
            Unit::Seconds,
            self.gap_mean.clone(),
        );
        registry.register_with_unit(
            "inter_token_gap_max",
            "Longest gap between two events of a stream, one sample a stream",
            Unit::Seconds,
            self.gap_max.clone(),
        );
        registry.register(
            "tokens",
            "Tokens where the server told them (estimated=false) or as counted from stream events (estimated=true); \
             cached tokens are part of the prompt's",
            self.tokens.clone(),
        );
        registry.register("finish_reasons", "Finished answers by finish_reason", self.finished.clone());
        registry.register(
            "stream_error_events",
            "Answers that held an error event although their status was good",
            self.error_events.clone(),
        );
    }

    fn register_gateway(&self, registry: &mut Registry) {
        registry.register("endpoint_ejections", "Times an endpoint was ejected, and why", self.ejections.clone());
        registry.register("endpoint_returns", "Times an ejected endpoint came back into use", self.returns.clone());
        registry.register("config_reloads", "Readings of the configuration by how they ended", self.reloads.clone());
        registry.register(
            "config_generation",
            "Generation of the snapshot that serves",
            self.config_generation.clone(),
        );
        registry.register_with_unit(
            "config_last_applied_timestamp",
            "When the snapshot that serves was applied",
            Unit::Seconds,
            self.config_applied.clone(),
        );
        registry.register("config_findings", "Findings on the documents in force", self.config_findings.clone());
        registry.register(
            "observations_dropped",
            "Requests that are in no other metric because the recorder fell behind",
            self.dropped_observations.clone(),
        );
        registry.register("access_log_lines", "Access log lines written", self.written_lines.clone());
        registry.register(
            "access_log_lines_dropped",
            "Access log lines not written: no room (full), or refused by the output (failed)",
            self.dropped_lines.clone(),
        );
    }
}
