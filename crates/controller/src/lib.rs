//! Runs roll-outs: one [`Machine`](tidegate_rollout::Machine) for each InferenceRollout.
//!
//! Stands beside the data plane. In come documents with what compiling found of them, observations of requests, answers of
//! model servers and services, commands and time; out go overlays for the next compile, calls to model servers and
//! services, journals, and what people are shown. Decides nothing by itself: every decision is a machine's.

mod board;
mod forecast;
mod handle;
mod verdict;

pub use handle::{CommandError, RolloutHandle};
