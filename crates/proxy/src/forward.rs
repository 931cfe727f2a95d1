//! Forward: pick, send, and send again elsewhere while no byte has gone to the client.
//!
//! [`Run`] holds one request from its first attempt to the answer that is passed on. Must not give a client's byte or
//! an endpoint's byte away while another attempt may follow.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Version;
use hyper::body::Incoming;
use tidegate_body::answer::AnswerKind;
use tidegate_picker::{PickRequest, Reservation};
use tidegate_routing::snapshot::{PickerSource, Rule};
use tidegate_telemetry::Reason;
use tidegate_telemetry::observation::EjectionReason;
use tokio::time::{Instant, sleep_until};

use crate::active::ActivePool;
use crate::upstream::answer::AnswerStream;
use crate::upstream::body::Streaming;
use crate::upstream::outgoing::{Outgoing, OutgoingBody};
use crate::upstream::{CameFrom, Upstream};

mod attempt;
mod budget;
mod peek;

use attempt::{Begun, FailureKind, Terms, attempt};
use budget::ActiveRequest;
pub use budget::BudgetState;
use peek::Verdict;

/// What is to be forwarded.
#[derive(Debug)]
pub struct Forwarding<'a> {
    /// To which pool.
    pub pool: &'a Arc<ActivePool>,
    /// By which rule (limits, retries).
    pub rule: &'a Rule,
    /// The listener's budget and its counters.
    pub budget: &'a Arc<BudgetState>,
    /// The head, all filters applied, hop-by-hop headers removed, origin-form target, Host set.
    pub head: http::request::Parts,
    /// Where it came from.
    pub came_from: CameFrom,
    /// The body.
    pub body: ForwardBody,
    /// The target model.
    pub model: Option<&'a str>,
    /// `stream: true` was asked for.
    pub stream: bool,
    /// When the total limit passes.
    pub deadline: Option<Instant>,
    /// One attempt and no other, whatever the rule says: who asked has another place to go to.
    pub once: bool,
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
    /// How its body is read.
    pub kind: AnswerKind,
    /// Its Content-Length.
    pub length: Option<u64>,
    /// Body bytes already read (a stream's first event; a peeked error body).
    pub first: Bytes,
    /// Whether `first` is the whole body.
    pub complete: bool,
    /// The rest; `None` when complete.
    pub(crate) body: Option<AnswerStream>,
    /// When the first byte of the body (or the head, if there is none) came.
    pub first_byte: Instant,
    /// The place on the endpoint; dropped when the answer ends.
    pub reservation: Reservation,
    /// The endpoint.
    pub upstream: Arc<Upstream>,
    /// Attempts after the first.
    pub retries: u32,
    /// What ends with the answer, for whoever reads it to hold.
    pub holds: Holds,
}

/// The place in the retry budget that an answer under way holds.
#[derive(Debug)]
pub struct Holds {
    _active: ActiveRequest,
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

/// One request from its first attempt on.
struct Run<'a> {
    pool: &'a Arc<ActivePool>,
    budget: &'a Arc<BudgetState>,
    model: Option<&'a str>,
    terms: Terms<'a>,
    outgoing: Outgoing,
    /// Positions of the endpoints that were tried.
    tried: Vec<usize>,
    retries: u32,
    connections_left: u32,
    attempts_left: u32,
    /// Requests that waited for a dead engine are sent again once, whatever the rule and the budget say.
    dead_left: u32,
    /// A refusal that passes if nothing better comes.
    refusal: Option<Box<Passable>>,
}

/// An answer that may be passed on.
struct Passable {
    begun: Begun,
    reservation: Reservation,
    upstream: Arc<Upstream>,
}

/// Gets a request answered by an endpoint of its pool.
///
/// # Errors
/// No endpoint gave an answer that can be passed on.
pub async fn forward(forwarding: Forwarding<'_>) -> Result<Forwarded, ForwardError> {
    let Forwarding { pool, rule, budget, mut head, came_from, body, model, stream, deadline, once } = forwarding;
    if let PickerSource::Unavailable(why) = &pool.pool.picker {
        return Err(refused(Reason::PickerUnavailable, why.clone()));
    }
    head.version = Version::HTTP_11;
    let active = ActiveRequest::begin(budget);
    let run = Run {
        pool,
        budget,
        model,
        terms: Terms { rule, kind: pool.pool.kind, stream, deadline },
        outgoing: outgoing(head, came_from, body, rule),
        tried: Vec::new(),
        retries: 0,
        connections_left: if once { 0 } else { rule.retry.connection_attempts },
        attempts_left: if once { 0 } else { rule.retry.attempts },
        dead_left: u32::from(!once),
        refusal: None,
    };
    run.answer(active).await
}

fn refused(reason: Reason, message: String) -> ForwardError {
    ForwardError { reason, message, endpoint: None, retries: 0, retry_after: None }
}

impl Run<'_> {
    async fn answer(mut self, active: ActiveRequest) -> Result<Forwarded, ForwardError> {
        let budget = self.budget;
        let mut retrying = None;
        loop {
            let Some((reservation, upstream)) = self.pick() else {
                return Err(self.no_endpoint());
            };
            self.tried.push(reservation.index);
            let was_ejected = upstream.begin_attempt();
            let outcome = attempt(self.terms, &upstream, &mut self.outgoing).await;
            self.report(&outcome, &upstream, reservation.index, was_ejected);
            drop(retrying.take());
            let asked = upstream.clone();
            match outcome {
                Ok(begun) => {
                    let passable = Passable { begun, reservation, upstream };
                    let again = passable.begun.peeked.verdict != Verdict::Pass && self.may_ask_another();
                    // The budget is asked last, so that nothing is taken from it in vain.
                    retrying = if again { budget.retry() } else { None };
                    if retrying.is_none() {
                        return Ok(passable.pass(self.retries, active));
                    }
                    self.attempts_left = self.attempts_left.saturating_sub(1);
                    self.refusal = Some(Box::new(passable));
                }
                Err(kind) => {
                    let again = self.may_try_again(kind);
                    retrying = if again && kind != FailureKind::Dead { budget.retry() } else { None };
                    if !again || (retrying.is_none() && kind != FailureKind::Dead) {
                        return self.give_up(kind, upstream, active);
                    }
                }
            }
            self.retries += 1;
            if !self.pause().await {
                return self.give_up(FailureKind::Total, asked, active);
            }
        }
    }

    /// Tells the endpoint's health what came of an attempt.
    fn report(&self, outcome: &Result<Begun, FailureKind>, upstream: &Upstream, index: usize, was_ejected: bool) {
        match outcome {
            Ok(begun) => {
                upstream.note_byte(begun.first_byte);
                match begun.peeked.verdict {
                    Verdict::Pass => upstream.succeeded(&self.pool.pool.label, was_ejected),
                    Verdict::Broken => upstream.failed(self.pool, index, EjectionReason::Errors),
                    // To have too much to do is no fault; to eject for it would only move the load.
                    Verdict::Refused => {}
                }
            }
            Err(kind) => {
                if let Some(reason) = kind.against() {
                    upstream.failed(self.pool, index, reason);
                }
            }
        }
    }

    fn pick(&mut self) -> Option<(Reservation, Arc<Upstream>)> {
        // With nobody else left in good health, the one that failed is asked again rather than one that is ejected.
        if !self.another_is_left() {
            self.tried.clear();
        }
        let request = PickRequest { model: self.model, tried: &self.tried, random: fastrand::u64(..) };
        let reservation = self.pool.picker.pick(&self.pool.state, &request)?;
        let upstream = self.pool.upstreams.get(reservation.index)?.clone();
        Some((reservation, upstream))
    }

    fn another_is_left(&self) -> bool {
        let endpoints = self.pool.state.endpoints.iter().enumerate();
        endpoints.into_iter().any(|(index, endpoint)| !endpoint.ejected() && !self.tried.contains(&index))
    }

    /// After an answer that another endpoint may better.
    fn may_ask_another(&self) -> bool {
        self.attempts_left > 0 && self.outgoing.is_there() && self.another_is_left()
    }

    /// After an attempt without an answer; counts it.
    fn may_try_again(&mut self, kind: FailureKind) -> bool {
        let left = match kind {
            FailureKind::Connect => &mut self.connections_left,
            FailureKind::Reset | FailureKind::Protocol | FailureKind::Slow => &mut self.attempts_left,
            FailureKind::Dead => &mut self.dead_left,
            FailureKind::Total | FailureKind::Body(_) => return false,
        };
        if *left == 0 || !self.outgoing.is_there() {
            return false;
        }
        *left -= 1;
        // Waiting once more on the same endpoint would only double the limit.
        kind != FailureKind::Slow || self.another_is_left()
    }

    /// The rule's pause between attempts; false when the request's time is over.
    async fn pause(&self) -> bool {
        let now = Instant::now();
        let until = now + self.terms.rule.retry.backoff.unwrap_or_default();
        if self.terms.deadline.is_some_and(|deadline| deadline <= until) {
            return false;
        }
        if until > now {
            sleep_until(until).await;
        }
        true
    }

    fn no_endpoint(&self) -> ForwardError {
        refused(Reason::NoEndpoint, format!("pool {} has no endpoint", self.pool.pool.label))
    }

    /// The last refusal if there was one, else an error.
    fn give_up(
        self,
        kind: FailureKind,
        upstream: Arc<Upstream>,
        active: ActiveRequest,
    ) -> Result<Forwarded, ForwardError> {
        match self.refusal {
            Some(refusal) => Ok(refusal.pass(self.retries, active)),
            None => Err(ForwardError {
                endpoint: Some(upstream.key.address.clone()),
                retries: self.retries,
                ..refused(kind.reason(), kind.message().into())
            }),
        }
    }
}

impl Passable {
    fn pass(self, retries: u32, active: ActiveRequest) -> Forwarded {
        let Self { begun: Begun { peeked, first_byte }, reservation, upstream } = self;
        Forwarded {
            head: peeked.head,
            kind: peeked.kind,
            length: peeked.length,
            first: peeked.first,
            complete: peeked.body.is_none(),
            body: peeked.body,
            first_byte,
            reservation,
            upstream,
            retries,
            holds: Holds { _active: active },
        }
    }
}

fn outgoing(head: http::request::Parts, came_from: CameFrom, body: ForwardBody, rule: &Rule) -> Outgoing {
    let body = match body {
        ForwardBody::Empty => OutgoingBody::Empty,
        ForwardBody::Buffered(parts) => OutgoingBody::Kept(parts),
        ForwardBody::Streaming { body, limit, length } => {
            let deadline = rule.limits.request_body.map(|limit| Instant::now() + limit);
            OutgoingBody::Once(Some(Box::new(Streaming::new(body, limit, length, deadline))))
        }
    };
    Outgoing::new(head, came_from, body)
}

#[cfg(test)]
mod tests;
