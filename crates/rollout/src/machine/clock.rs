//! The machine's own time, made of the stamps of its inputs.

use serde::{Deserialize, Serialize};

use crate::event::Stamp;

/// A gateway that was down for longer than this counts as down for this long: 30 days.
const LONGEST_DOWN: i64 = 30 * 24 * 3_600_000;

/// The machine's own time: it stands still while inputs claim to go backwards, and goes on over restarts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Clock {
    /// Milliseconds since the machine began, the time the gateway was down included.
    pub(super) now: u64,
    /// The newest stamp.
    pub(super) stamp: Stamp,
}

impl Clock {
    /// A time of the gateway's monotonic clock by the machine's: that one goes on where a restart begins anew.
    pub(super) fn translate(&self, monotonic: u64) -> u64 {
        self.now.saturating_add(monotonic).saturating_sub(self.stamp.monotonic)
    }

    pub(super) fn advance(&mut self, at: Stamp) -> u64 {
        let elapsed = at.monotonic.saturating_sub(self.stamp.monotonic);
        self.now = self.now.saturating_add(elapsed);
        self.stamp = Stamp { monotonic: self.stamp.monotonic.max(at.monotonic), wall: at.wall };
        elapsed
    }

    /// A new monotonic clock; the time down is what the wall says, as far as that can be believed.
    pub(super) fn restart(&mut self, at: Stamp) {
        let down = at.wall.saturating_sub(self.stamp.wall).clamp(0, LONGEST_DOWN);
        self.now = self.now.saturating_add(down.unsigned_abs());
        self.stamp = at;
    }
}
