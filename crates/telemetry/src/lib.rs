//! Observations, metric families, access log.
//!
//! The data plane makes one [`Observation`] per finished request and hands it to an [`ObservationSink`]. This crate's
//! sink feeds the Prometheus families and the access log; the roll-out judge will be another. Nothing here stands on
//! the path of a byte: recording is cheap, writing is done elsewhere.

pub mod access_log;
pub mod metrics;
pub mod observation;

pub use observation::{EndedBy, Event, Observation, ObservationSink, Reason};
