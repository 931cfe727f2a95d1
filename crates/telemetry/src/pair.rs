//! What the data plane tells of requests that fall on a roll-out's pair: arrival, first token, end.
//!
//! Goes the way of observations (one bounded queue, emptied every few milliseconds by the recorder), so that a request
//! wakes nobody, and comes out in order at [`PairEvents`]. What finds no room is dropped and counted: whoever judges
//! must know that evidence is missing. Holds no text of a request, only sizes, hashes and times.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

/// Events that wait for their reader at most.
pub(crate) const ROOM: usize = 65_536;

/// Something happened to a request of a pair.
#[derive(Clone, Debug)]
pub enum PairEvent {
    /// Its arm was chosen.
    Arrived(PairArrival),
    /// The first byte of its answer came, on its first attempt.
    FirstToken {
        /// Identity of the release.
        uid: Arc<str>,
        /// The request's number.
        request: u64,
        /// Since its arrival.
        ttft: Duration,
    },
    /// It ended.
    Ended(Box<PairEnd>),
    /// A copy that the candidate got was answered, or not.
    Shadowed {
        /// Identity of the release.
        uid: Arc<str>,
        /// What came of it.
        outcome: ShadowOutcome,
    },
}

/// What came of a mirrored request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShadowOutcome {
    /// An answer of the shape that was asked for.
    Answered,
    /// None, or an error.
    Failed,
    /// An answer of another shape.
    Misshapen,
}

/// A request whose arm was chosen.
#[derive(Clone, Debug)]
pub struct PairArrival {
    /// Identity of the release.
    pub uid: Arc<str>,
    /// A number that no other request of this gateway has.
    pub request: u64,
    /// When its head was complete.
    pub at: Instant,
    /// Whether its first attempt goes to the candidate.
    pub candidate: bool,
    /// The candidate's part of the pair's share at that moment, parts per million.
    pub share_ppm: u32,
    /// Hash of the session's key; the request's number where there is none.
    pub unit: u64,
    /// Whether a session key chose.
    pub keyed: bool,
    /// Chance did not choose: a header, an excluded model, an arm without endpoints.
    pub forced: bool,
    /// Hash of the model's name as the client wrote it.
    pub model: u64,
    /// Length of the request's body in bytes.
    pub body_bytes: u64,
    /// Whether a stream was asked for.
    pub stream: bool,
    /// The client's bound on the answer, in tokens.
    pub max_tokens: Option<u64>,
}

/// What came of a request. It speaks of the first attempt alone, but for [`PairEnd::rescued`].
#[derive(Clone, Debug)]
pub struct PairEnd {
    /// As it arrived.
    pub arrival: PairArrival,
    /// When it ended.
    pub at: Instant,
    /// What came of it; where the first attempt was sent again, of that other attempt.
    pub outcome: PairOutcome,
    /// The first attempt failed before its first byte and was sent again.
    pub first_attempt_failed: bool,
    /// Sent again, stable answered it.
    pub rescued: bool,
    /// `finish_reason` was `length`.
    pub finish_length: bool,
    /// `finish_reason` was `content_filter`.
    pub filtered: bool,
    /// What is wrong with its content.
    pub content: PairContent,
    /// To the first byte of the first attempt's answer.
    pub ttft: Option<Duration>,
    /// Mean time per output token after the first.
    pub tpot: Option<Duration>,
}

/// What is wrong with an answer's content, as far as that was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PairContent {
    /// A tool call whose arguments are no JSON object.
    pub tool_call: bool,
    /// JSON was asked for, and the content is none.
    pub json: bool,
    /// Think tags are not balanced.
    pub think_tag: bool,
}

/// What came of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PairOutcome {
    /// An answer.
    Answered,
    /// An answer without any output.
    Empty,
    /// A 5xx, no answer, an error inside a 200, a body that is not what its head says.
    Error,
    /// The answer was broken off, or stalled until a limit ended it.
    Aborted,
    /// A 4xx.
    RequestFault,
    /// The client left before the first byte.
    ClientLeft,
}

/// The reader's end; see [`crate::Telemetry::pair_events`].
#[derive(Debug)]
pub struct PairEvents {
    pub(crate) receiver: mpsc::Receiver<PairEvent>,
    pub(crate) lost: Arc<AtomicU64>,
}

impl PairEvents {
    /// Waits for events and appends at most `most` of them; gives how many were lost since the last call. `None` once
    /// the telemetry has ended.
    pub async fn next(&mut self, into: &mut Vec<PairEvent>, most: usize) -> Option<u64> {
        let came = self.receiver.recv_many(into, most.max(1)).await;
        (came > 0).then(|| self.lost.swap(0, Ordering::Relaxed))
    }
}
