//! Time as machines are told it.

use std::time::Duration;

use tidegate_rollout::event::Stamp;
use tokio::time::Instant;

/// The gateway's monotonic clock, and the wall's.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    zero: Instant,
    /// How many times as fast as the world's it goes: 1, but for tests.
    speed: u32,
}

impl Clock {
    /// A clock whose monotonic zero is this moment of the process. Whoever stamps observations must use the same.
    pub fn since(zero: Instant) -> Self {
        Self { zero, speed: 1 }
    }

    /// A clock that goes faster than the world's.
    #[cfg(test)]
    pub(crate) fn faster(zero: Instant, speed: u32) -> Self {
        Self { zero, speed }
    }

    /// Now.
    pub fn now(&self) -> Stamp {
        let monotonic = self.at(Instant::now());
        let ahead = monotonic.saturating_sub(monotonic / u64::from(self.speed.max(1)));
        Stamp { monotonic, wall: jiff::Timestamp::now().as_millisecond().saturating_add_unsigned(ahead) }
    }

    /// Milliseconds of the monotonic clock at a moment.
    pub fn at(&self, moment: Instant) -> u64 {
        milliseconds(moment.saturating_duration_since(self.zero)).saturating_mul(u64::from(self.speed))
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// RFC 3339 in UTC of milliseconds since 1970.
pub(crate) fn written(wall: i64) -> String {
    jiff::Timestamp::from_millisecond(wall).map(|time| time.to_string()).unwrap_or_default()
}
