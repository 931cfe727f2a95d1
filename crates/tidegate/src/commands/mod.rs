//! One module a subcommand: its arguments, and `run`, which gives the exit code. Beside them `server`, which asks a
//! running gateway.

pub(crate) mod check;
pub(crate) mod get;
pub(crate) mod migrate;
pub(crate) mod rollout;
pub(crate) mod serve;
mod server;
