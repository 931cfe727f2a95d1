//! The Prometheus metric families, all under `tidegate_`, in OpenMetrics text.
//!
//! Only the recorder ([`crate::Telemetry`]) writes here, off the data plane's threads. [`families`] declares what
//! there is, [`series`] keeps the handles of one combination of labels together so that a request costs one look-up,
//! [`live`] asks for gauges at the moment of a scrape, and [`process`] tells about the process itself. Label values
//! come from the configuration, from fixed words, or from [`crate::KnownModels`]; nothing that a client sends becomes
//! one.

mod families;
mod live;
mod process;
mod series;

use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

pub use live::{EndpointGauges, LiveGauges, LiveSource};

use crate::observation::Event;
use crate::{KnownModels, Observation};
use families::{EjectionLabels, Families, OutcomeLabels, SeverityLabels};
use series::SeriesCache;

/// The content type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// How a reading of the configuration ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReloadOutcome {
    /// A new snapshot serves.
    Applied,
    /// Nothing that matters had changed.
    Unchanged,
    /// It could not be read or applied; the last good snapshot serves on.
    Failed,
}

impl ReloadOutcome {
    fn word(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Unchanged => "unchanged",
            Self::Failed => "failed",
        }
    }
}

/// What a reload leaves behind for the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConfigState {
    /// Generation of the snapshot that serves; 0 before the first.
    pub generation: u64,
    /// Unix time in seconds at which it was applied.
    pub applied_seconds: u64,
    /// Findings that are notes.
    pub notes: u64,
    /// Findings that are warnings.
    pub warnings: u64,
    /// Findings that are errors.
    pub errors: u64,
}

/// All families, their series, and the registry that prints them.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    families: Families,
    series: Mutex<SeriesCache>,
    live: Arc<LiveSource>,
    models: Arc<KnownModels>,
}

impl Metrics {
    /// Registers every family. `version` is the program's.
    pub fn new(models: Arc<KnownModels>, version: &str) -> Self {
        let mut registry = Registry::default();
        let live = Arc::new(LiveSource::default());
        registry.register_collector(Box::new(process::ProcessCollector));
        let ours = registry.sub_registry_with_prefix("tidegate");
        let families = Families::register(ours, version);
        ours.register_collector(Box::new(live.clone()));
        Self { registry, families, series: Mutex::default(), live, models }
    }

    /// Counts one request.
    pub fn record(&self, observation: &Observation) {
        self.series.lock().record(&self.families, &self.models, observation);
    }

    /// Counts one event.
    pub fn event(&self, event: &Event) {
        match event {
            Event::Ejected { pool, endpoint, reason } => {
                let labels = EjectionLabels { pool: pool.clone(), endpoint: endpoint.clone(), reason: reason.word() };
                self.families.ejections.get_or_create(&labels).inc();
            }
            Event::Returned { pool, endpoint } => {
                let labels = families::EndpointLabels { pool: pool.clone(), endpoint: endpoint.clone() };
                self.families.returns.get_or_create(&labels).inc();
            }
        }
    }

    /// Counts a reload and, where `state` is given, says what serves now.
    pub fn reload(&self, outcome: ReloadOutcome, state: Option<ConfigState>) {
        self.families.reloads.get_or_create(&OutcomeLabels { result: outcome.word() }).inc();
        let Some(state) = state else { return };
        let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        self.families.config_generation.set(signed(state.generation));
        self.families.config_applied.set(signed(state.applied_seconds));
        for (severity, count) in [("note", state.notes), ("warning", state.warnings), ("error", state.errors)] {
            self.families.config_findings.get_or_create(&SeverityLabels { severity }).set(signed(count));
        }
    }

    /// Where gauges come from that are read at each scrape.
    pub fn live(&self) -> &LiveSource {
        &self.live
    }

    /// Observations that found the recorder's queue full.
    pub(crate) fn dropped_observations(&self) -> Counter {
        self.families.dropped_observations.clone()
    }

    /// Requests under way.
    pub(crate) fn in_flight(&self) -> Gauge {
        self.families.in_flight.clone()
    }

    /// Access log lines that were not written, and those that were.
    pub(crate) fn log_counters(&self) -> LogCounters {
        let dropped = |cause| self.families.dropped_lines.get_or_create_owned(&families::CauseLabels { cause });
        LogCounters { written: self.families.written_lines.clone(), full: dropped("full"), failed: dropped("failed") }
    }

    /// Everything as OpenMetrics text.
    pub fn render(&self) -> String {
        let mut text = String::new();
        if prometheus_client::encoding::text::encode(&mut text, &self.registry).is_err() {
            tracing::error!("metrics could not be encoded");
        }
        text
    }
}

/// What the access log counts of itself.
#[derive(Clone, Debug)]
pub(crate) struct LogCounters {
    /// Lines that reached the output.
    pub(crate) written: Counter,
    /// Lines for which there was no room because the output is too slow or blocked.
    pub(crate) full: Counter,
    /// Lines that the output refused, or that came after it was closed.
    pub(crate) failed: Counter,
}

#[cfg(test)]
mod tests;
