//! One module a subcommand: its arguments, and `run`, which gives the exit code.

pub(crate) mod serve;
