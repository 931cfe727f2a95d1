//! Documents to snapshot, route match, and split.
//!
//! [`Intake`] admits documents (decode, duplicates, last good version), [`compile`] turns what was admitted into one
//! immutable [`Snapshot`] and the status of every document, [`Router`] finds a request's rule, [`Split`] chooses an
//! arm. Nothing here does I/O, reads a clock or draws its own random numbers.

pub mod compile;
pub mod given_away;
pub mod intake;
pub mod overlay;
pub mod pair;
pub mod route_match;
pub mod snapshot;
pub mod split;
#[cfg(test)]
mod testing;

pub use compile::{Compiled, Environment, compile};
pub use given_away::{Listed, given_away, say_given_away};
pub use intake::{Admitted, Intake};
pub use overlay::{FactsByRollout, Overlay, PairInManifests, RolloutFacts, Rollouts};
pub use pair::Pair;
pub use route_match::{Matched, Router};
pub use snapshot::Snapshot;
pub use split::{Draw, Split};
