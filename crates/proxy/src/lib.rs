//! The data plane. [`spine`] names every stage of a request once, in order; each stage is a module.
//!
//! accept ([`listen`]) → guard → route → read → assign → rewrite → pick and forward ([`forward`], [`upstream`]) →
//! respond → observe. A request reads one [`active::Active`] from start to end. This crate knows no files, no cluster
//! and no roll-outs.

pub mod active;
pub mod forward;
pub mod upstream;
