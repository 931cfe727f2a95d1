//! The machine played from its document to its end.

mod commands;
mod lifecycle;
pub(crate) mod play;
mod properties;
mod safety;
