//! One module a subcommand: its arguments, and `run`, which gives the exit code.

pub(crate) mod check;
pub(crate) mod get;
pub(crate) mod migrate;
pub(crate) mod serve;
