//! The machine played from its document to its end.

mod commands;
mod lifecycle;
mod play;
mod safety;
