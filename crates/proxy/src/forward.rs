//! Forward: pick, send, and send again elsewhere while no byte has gone to the client.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use tidegate_picker::Reservation;
use tidegate_routing::snapshot::{RetryBudget, Rule};
use tidegate_telemetry::Reason;
use tokio::time::Instant;

use crate::active::ActivePool;
use crate::upstream::Upstream;

/// What is to be forwarded.
#[derive(Debug)]
pub struct Forwarding<'a> {
    /// To which pool.
    pub pool: &'a Arc<ActivePool>,
    /// By which rule (limits, retries).
    pub rule: &'a Rule,
    /// The listener's budget and its counters.
    pub budget: &'a BudgetState,
    /// The head, all filters applied, hop-by-hop headers removed, origin-form target, Host set.
    pub head: http::request::Parts,
    /// The body.
    pub body: ForwardBody,
    /// The target model.
    pub model: Option<&'a str>,
    /// `stream: true` was asked for.
    pub stream: bool,
    /// When the total limit passes.
    pub deadline: Option<Instant>,
}

/// A body to forward.
#[derive(Debug)]
pub enum ForwardBody {
    /// None.
    Empty,
    /// In memory: can be sent again. Content-Length is the sum.
    Buffered(Vec<Bytes>),
    /// As it comes from the client: one attempt once any of it was read.
    Streaming {
        /// The client's body.
        body: Incoming,
        /// More than this many bytes end the request with 413.
        limit: u64,
        /// Content-Length where the client said it.
        length: Option<u64>,
    },
}

/// An answer that began.
#[derive(Debug)]
pub struct Forwarded {
    /// Its head as the endpoint sent it.
    pub head: http::response::Parts,
    /// Body bytes already read (a stream's first event; a peeked error body).
    pub first: Bytes,
    /// Whether `first` is the whole body.
    pub complete: bool,
    /// The rest; `None` when complete.
    pub body: Option<Incoming>,
    /// When the first byte of the body (or the head, if there is none) came.
    pub first_byte: Instant,
    /// The place on the endpoint; dropped when the answer ends.
    pub reservation: Reservation,
    /// The endpoint.
    pub upstream: Arc<Upstream>,
    /// Attempts after the first.
    pub retries: u32,
}

/// No answer could be had.
#[derive(Debug)]
pub struct ForwardError {
    /// Why; decides the status.
    pub reason: Reason,
    /// A sentence for the client, without internal addresses.
    pub message: String,
    /// The last endpoint tried.
    pub endpoint: Option<Arc<str>>,
    /// Attempts after the first.
    pub retries: u32,
    /// For Retry-After.
    pub retry_after: Option<Duration>,
}

/// Active requests and retries under way on a listener; lives across snapshots.
#[derive(Debug, Default)]
pub struct BudgetState {
    /// Requests under way.
    pub active: std::sync::atomic::AtomicU32,
    /// Retries under way.
    pub retrying: std::sync::atomic::AtomicU32,
    /// The bounds.
    pub bounds: RetryBudget,
}
