//! Runs roll-outs: one [`Machine`](tidegate_rollout::Machine) for each InferenceRollout.
//!
//! Stands beside the data plane. In come documents with what compiling found of them ([`Seen`]), observations of requests
//! ([`Evidence`]), answers of model servers and services, commands and time; out go overlays for the next compile
//! ([`Laid`]), calls to model servers and services, journals, and what people are shown ([`RolloutHandle`]). Decides
//! nothing by itself: every decision is a machine's.

mod adapters;
mod board;
mod client;
mod clock;
mod controller;
mod evidence;
mod fleet;
mod flight;
mod forecast;
mod gates;
mod handle;
mod jobs;
mod liveness;
mod load;
mod metrics;
mod notices;
mod preflight;
mod run;
mod seen;
mod store;
mod verdict;
mod warm_up;

pub use clock::Clock;
pub use controller::{Controller, Options, Ways};
pub use evidence::Evidence;
pub use fleet::{Endpoint, Fleet, Prompt};
pub use handle::{CommandError, RolloutHandle};
pub use notices::{NotifyTo, SIGNATURE, Signer};
pub use seen::{Described, Found, Laid, Link, Seen};
