//! Starts the real binary and talks to it, for end-to-end tests.
//!
//! Every gateway and every simulated server gets a loopback address of its own (127.0.0.0/8 is all local), so that
//! manifests can be used with the ports they are printed with, and tests can run side by side.
#![expect(clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test harness fails by panicking")]

pub mod client;
pub mod gateway;
pub mod loopback;
pub mod model_server;
pub mod shared;
pub mod shares;

pub use client::{Answer, Client};
pub use gateway::{Gateway, GatewayOptions};
pub use model_server::ModelServer;
pub use shares::within_binomial;
