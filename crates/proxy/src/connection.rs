//! A client's connection: who it is, and how long it may be silent.
//!
//! The clock replaces hyper's header timer, which would be armed anew for each request and would close idle
//! connections at the header limit; here one timer per connection looks when it fires.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use http::{HeaderValue, Version};
use tidegate_routing::snapshot::Limits;
use tokio::time::Instant;

use crate::Shared;

/// One connection of a client.
pub(crate) struct Connection {
    pub(crate) shared: Arc<Shared>,
    /// The socket it came in by, as the snapshot names it.
    pub(crate) socket: SocketAddr,
    /// The port that is listened on.
    pub(crate) port: u16,
    /// The client's address as text, for `x-forwarded-for`.
    pub(crate) peer: HeaderValue,
    /// Server name of the TLS handshake; `None` without TLS or without a name.
    pub(crate) server_name: Option<String>,
    /// Whether TLS was terminated here.
    pub(crate) tls: bool,
    pub(crate) clock: Clock,
    pub(crate) stop: Stop,
}

/// How a connection is told to end.
#[derive(Default)]
pub(crate) struct Stop {
    stage: AtomicU8,
    waker: AtomicWaker,
}

/// Whether a connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// It does.
    Serve,
    /// It ends when the request under way has ended.
    Drain,
    /// It ends now.
    Cut,
}

impl Stop {
    /// Moves on to `stage`; never back.
    pub(crate) fn advance(&self, stage: Stage) {
        self.stage.fetch_max(stage as u8, Ordering::AcqRel);
        self.waker.wake();
    }

    pub(crate) fn stage(&self) -> Stage {
        match self.stage.load(Ordering::Acquire) {
            0 => Stage::Serve,
            1 => Stage::Drain,
            _ => Stage::Cut,
        }
    }

    /// Which task to wake at the next stage; a task's waker stays the same, so that once per stage is enough.
    pub(crate) fn register(&self, waker: &std::task::Waker) {
        self.waker.register(waker);
    }
}

/// What a connection waits for, and since when.
pub(crate) struct Clock {
    opened: Instant,
    in_flight: AtomicU32,
    /// A head has begun to come in and is not complete.
    head: AtomicBool,
    http2: AtomicBool,
    /// Milliseconds from `opened` to when the present wait began.
    since: AtomicU64,
    /// Milliseconds from `opened` (and one more) to when a write to the client began to wait; 0 when none does.
    write_blocked: AtomicU64,
}

/// What the clock says when the timer fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Look again then.
    Until(Instant),
    /// Nothing under way for too long: end in good order.
    Drain,
    /// A head or a read takes too long: end at once.
    Cut,
}

/// How often a connection without any limit is looked at.
const AT_LEAST: Duration = Duration::from_secs(60);

impl Clock {
    /// A connection that has just been opened and owes a head.
    pub(crate) fn new(opened: Instant) -> Self {
        Self {
            opened,
            in_flight: AtomicU32::new(0),
            head: AtomicBool::new(true),
            http2: AtomicBool::new(false),
            since: AtomicU64::new(0),
            write_blocked: AtomicU64::new(0),
        }
    }

    fn millis(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.opened).as_millis()).unwrap_or(u64::MAX)
    }

    /// A head is complete.
    pub(crate) fn request_began(&self, version: Version) {
        self.in_flight.fetch_add(1, Ordering::AcqRel);
        self.head.store(false, Ordering::Release);
        if version == Version::HTTP_2 {
            self.http2.store(true, Ordering::Relaxed);
        }
    }

    /// An answer has ended.
    pub(crate) fn request_ended(&self, now: Instant) {
        self.since.store(self.millis(now), Ordering::Release);
        self.in_flight.fetch_sub(1, Ordering::AcqRel);
    }

    /// Bytes came in. On HTTP/2 they may be control frames, so that a head is not told from them.
    pub(crate) fn bytes_came(&self) {
        if self.in_flight.load(Ordering::Acquire) == 0
            && !self.http2.load(Ordering::Relaxed)
            && !self.head.swap(true, Ordering::AcqRel)
        {
            self.since.store(self.millis(Instant::now()), Ordering::Release);
        }
    }

    /// The client takes no bytes for now.
    pub(crate) fn write_waits(&self) {
        if self.write_blocked.load(Ordering::Relaxed) == 0 {
            self.write_blocked.store(self.millis(Instant::now()).saturating_add(1), Ordering::Relaxed);
        }
    }

    /// The client took bytes.
    pub(crate) fn write_went(&self) {
        if self.write_blocked.load(Ordering::Relaxed) != 0 {
            self.write_blocked.store(0, Ordering::Relaxed);
        }
    }

    /// What to do at `now`.
    pub(crate) fn verdict(&self, now: Instant, limits: &Limits) -> Verdict {
        let blocked = self.write_blocked.load(Ordering::Relaxed);
        let (began, limit, late) = if blocked > 0 {
            (blocked.saturating_sub(1), limits.idle, Verdict::Cut)
        } else if self.in_flight.load(Ordering::Acquire) > 0 {
            (self.millis(now), None, Verdict::Cut)
        } else if self.head.load(Ordering::Acquire) {
            (self.since.load(Ordering::Acquire), limits.request_header, Verdict::Cut)
        } else {
            (self.since.load(Ordering::Acquire), limits.client_idle, Verdict::Drain)
        };
        let shortest = [limits.request_header, limits.client_idle, limits.idle].into_iter().flatten().min();
        let look = now + shortest.unwrap_or(AT_LEAST).clamp(Duration::from_millis(10), AT_LEAST);
        let Some(limit) = limit else { return Verdict::Until(look) };
        let end = self.opened + Duration::from_millis(began) + limit;
        if end <= now { late } else { Verdict::Until(end.min(look)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            request_header: Some(Duration::from_secs(30)),
            client_idle: Some(Duration::from_secs(90)),
            idle: Some(Duration::from_secs(300)),
            ..Limits::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_owes_a_head_and_may_then_be_idle() {
        let second = Duration::from_secs(1);
        let clock = Clock::new(Instant::now());
        tokio::time::advance(29 * second).await;
        assert_eq!(clock.verdict(Instant::now(), &limits()), Verdict::Until(Instant::now() + second));
        tokio::time::advance(second).await;
        assert_eq!(clock.verdict(Instant::now(), &limits()), Verdict::Cut);
        clock.request_began(Version::HTTP_11);
        tokio::time::advance(10_000 * second).await;
        assert!(matches!(clock.verdict(Instant::now(), &limits()), Verdict::Until(_)));
        clock.request_ended(Instant::now());
        tokio::time::advance(60 * second).await;
        assert!(matches!(clock.verdict(Instant::now(), &limits()), Verdict::Until(_)));
        tokio::time::advance(30 * second).await;
        assert_eq!(clock.verdict(Instant::now(), &limits()), Verdict::Drain);
        clock.bytes_came();
        assert!(matches!(clock.verdict(Instant::now(), &limits()), Verdict::Until(_)));
        tokio::time::advance(20 * second).await;
        clock.bytes_came();
        tokio::time::advance(10 * second).await;
        assert_eq!(clock.verdict(Instant::now(), &limits()), Verdict::Cut, "a head a byte at a time");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_cut_at_the_idle_limit() {
        let clock = Clock::new(Instant::now());
        clock.request_began(Version::HTTP_11);
        clock.write_waits();
        tokio::time::advance(Duration::from_secs(299)).await;
        clock.write_waits();
        assert!(matches!(clock.verdict(Instant::now(), &limits()), Verdict::Until(_)));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(clock.verdict(Instant::now(), &limits()), Verdict::Cut);
        clock.write_went();
        assert!(matches!(clock.verdict(Instant::now(), &limits()), Verdict::Until(_)));
    }

    #[test]
    fn a_stop_never_goes_back() {
        let stop = Stop::default();
        assert_eq!(stop.stage(), Stage::Serve);
        stop.advance(Stage::Cut);
        stop.advance(Stage::Drain);
        assert_eq!(stop.stage(), Stage::Cut);
    }
}
