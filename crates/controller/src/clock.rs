//! Time as machines are told it.

use std::time::Duration;

use tidegate_rollout::event::Stamp;
use tokio::time::Instant;

/// The gateway's monotonic clock, and the wall's.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    zero: Instant,
}

impl Clock {
    /// A clock whose monotonic zero is this moment of the process. Whoever stamps observations must use the same.
    pub fn since(zero: Instant) -> Self {
        Self { zero }
    }

    /// Now.
    pub fn now(&self) -> Stamp {
        Stamp { monotonic: self.at(Instant::now()), wall: jiff::Timestamp::now().as_millisecond() }
    }

    /// Milliseconds of the monotonic clock at a moment.
    pub fn at(&self, moment: Instant) -> u64 {
        milliseconds(moment.saturating_duration_since(self.zero))
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// RFC 3339 in UTC of milliseconds since 1970.
pub(crate) fn written(wall: i64) -> String {
    jiff::Timestamp::from_millisecond(wall).map(|time| time.to_string()).unwrap_or_default()
}
