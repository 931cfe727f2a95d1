//! End-to-end tests: the real binary, real sockets, simulated model servers.
#![expect(clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
mod architecture;
mod bad_input;
mod clients;
mod commands;
mod demo;
mod examples;
mod failures;
mod guides;
mod readme;
mod releases;
mod reload;
mod rollout_gitops;
mod rollout_kill;
mod rollout_verbs;
mod routes;
mod setup;
mod traps;
