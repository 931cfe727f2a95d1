//! The roll-out: plan → step → gate → advance, hold or turn back.
//!
//! A [`Machine`](machine::Machine) is told what happens ([`event::Input`]) and says what to do about it
//! ([`effect::Effect`]). It does no I/O, reads no clock and draws no random numbers, so that a journal of its inputs
//! replays to the same decisions and a simulation runs thousands of roll-outs in seconds. Whether a candidate is worse is
//! judged in `tidegate-evidence`; who carries the effects out is the controller.

pub mod capacity;
pub mod effect;
pub mod event;
pub mod freeze;
mod from_settings;
pub mod journal;
mod jury;
pub mod machine;
pub mod plan;
pub mod replay;
pub mod share;
pub mod stage;
pub mod uid;

pub use from_settings::{Origin, PlanError};

pub use machine::Machine;
