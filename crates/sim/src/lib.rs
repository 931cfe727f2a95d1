//! A simulated model server that answers as a real vLLM does: for the demo, tests and benchmarks.
//!
//! Stands where a model server would; knows nothing of Tidegate. Its HTTP side keeps vLLM's status codes, heads, JSON
//! shapes and bad habits; behind it one engine batches all requests in shared steps, with KV blocks, a prefix cache and
//! LoRA slots, as a pure state machine in simulated time. Text is made from a hash of model and prompt, so that at
//! temperature 0 it tells which model answered. A token is four bytes of text. Every answer names its server in
//! `x-sim-server`.

mod answer;
mod arguments;
mod catalogue;
mod config;
mod engine;
mod faults;
mod generation;
mod metrics;
mod problem;
mod request;
mod server;
mod service;
mod shared;
mod socket;
mod tokens;

pub use arguments::{Arguments, run};
pub use config::{Config, ConfigError, Costs, EngineConfig};
pub use faults::{FaultError, Faults};
pub use server::{Server, StartError, Stop};
