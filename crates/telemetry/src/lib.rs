//! Observations, metric families, access log.
//!
//! The data plane makes one [`Observation`] per finished request and hands it to an [`ObservationSink`]. [`Telemetry`]
//! is the sink that feeds the Prometheus families and the access log; the roll-out judge will be another. Nothing here
//! stands on the path of a byte: handing over is cheap, recording and writing are done elsewhere.

pub mod access_log;
pub mod metrics;
pub mod models;
pub mod observation;
pub mod pair;
mod recent;
pub mod telemetry;

pub use models::KnownModels;
pub use observation::{EndedBy, Event, Observation, ObservationSink, Reason};
pub use pair::{PairArrival, PairContent, PairEnd, PairEvent, PairEvents, PairOutcome, ShadowOutcome};
pub use telemetry::{Options, Telemetry};
