//! The data plane. [`spine`] names every stage of a request once, in order; each stage is a module.
//!
//! accept ([`listen`]) → guard → route → read → assign → rewrite → pick and forward ([`forward`], [`upstream`]) →
//! respond → observe. A request reads one [`active::Active`] from start to end. This crate knows no files, no cluster
//! and of roll-outs
//! only the pairs that the snapshot holds.

pub mod active;
mod admin_path;
mod assign;
mod connection;
mod cuts;
mod error;
mod evidence;
pub mod forward;
mod guard;
mod listen;
mod mirror;
mod models;
mod observe;
mod proxy;
mod read;
mod recent;
mod redirect;
mod respond;
mod rewrite;
mod shadow;
mod shield;
mod spine;
mod table;
#[cfg(test)]
mod testing;
pub mod upstream;

pub use listen::BindResult;
pub(crate) use proxy::Shared;
pub use proxy::{Proxy, ProxyOptions};
pub use recent::RecentPrompt;
