//! Polls model servers: which models they list, and their engines' gauges.
//!
//! One task an endpoint, on the control runtime. What is learned goes into [`tidegate_picker::EndpointState`]; a poll
//! that fails leaves what was known as it was, because a missing signal never makes a server unreachable. Decides
//! nothing.

mod client;
mod metrics;
mod models;
mod poller;

pub use metrics::parse_metrics;
pub use models::{InvalidModels, parse_models};
pub use poller::{PollTarget, Poller};
