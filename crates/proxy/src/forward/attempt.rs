//! One attempt: a request goes to one endpoint, and its answer's beginning or a failure comes back.

use std::sync::Arc;

use tidegate_http1::ContentFault;
use tidegate_routing::snapshot::{PoolKind, Rule};
use tidegate_telemetry::Reason;
use tidegate_telemetry::observation::EjectionReason;
use tokio::time::{Instant, sleep_until};

use super::peek::{Peeked, peek};
use crate::upstream::Upstream;
use crate::upstream::answer::AnswerFault;
use crate::upstream::connections::{ConnectionLimits, SendFault, send};
use crate::upstream::outgoing::Outgoing;

/// What all attempts of a request have in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms<'a> {
    pub(crate) rule: &'a Rule,
    pub(crate) kind: PoolKind,
    pub(crate) stream: bool,
    /// For the whole request.
    pub(crate) deadline: Option<Instant>,
}

/// An answer that began.
#[derive(Debug)]
pub(crate) struct Begun {
    pub(crate) peeked: Peeked,
    pub(crate) first_byte: Instant,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailureKind {
    /// No connection.
    Connect,
    /// The endpoint closed before the first byte.
    Reset,
    /// It sent what is not HTTP.
    Protocol,
    /// A limit for this attempt passed.
    Slow,
    /// The endpoint was found dead while the request waited.
    Dead,
    /// The whole request's limit passed.
    Total,
    /// The client's body is at fault.
    Body(Reason),
}

impl FailureKind {
    pub(crate) fn reason(self) -> Reason {
        match self {
            Self::Connect => Reason::ConnectFailed,
            Self::Reset => Reason::UpstreamReset,
            Self::Protocol => Reason::UpstreamProtocol,
            Self::Slow | Self::Dead => Reason::UpstreamTimeout,
            Self::Total => Reason::TotalTimeout,
            Self::Body(reason) => reason,
        }
    }

    /// What it says against the endpoint. A limit that passed says nothing: long answers are healthy.
    pub(crate) fn against(self) -> Option<EjectionReason> {
        match self {
            Self::Connect => Some(EjectionReason::ConnectFailed),
            Self::Reset => Some(EjectionReason::Reset),
            Self::Protocol => Some(EjectionReason::Errors),
            Self::Slow | Self::Dead | Self::Total | Self::Body(_) => None,
        }
    }

    /// For the client.
    pub(crate) fn message(self) -> &'static str {
        match self {
            Self::Connect => "no model server could be connected to; try again later",
            Self::Reset => "the model server closed the connection before it answered",
            Self::Protocol => "the model server's answer is not valid HTTP",
            Self::Slow => "the model server did not begin to answer within the limit",
            Self::Dead => "the model server stopped answering",
            Self::Total => "the request did not end within the limit for all of it",
            Self::Body(Reason::BodyTooLarge) => "the body is longer than this route takes",
            Self::Body(Reason::RequestTimeout) => "the body did not come within the limit",
            Self::Body(_) => "the body was not sent to its end",
        }
    }
}

/// Makes one attempt.
pub(crate) async fn attempt(
    terms: Terms<'_>,
    upstream: &Arc<Upstream>,
    outgoing: &mut Outgoing,
) -> Result<Begun, FailureKind> {
    let limits = &terms.rule.limits;
    let first_byte = if terms.stream { limits.stream_first_byte } else { limits.first_byte };
    let own = [first_byte, terms.rule.attempt_timeout].into_iter().flatten().min().map(|limit| Instant::now() + limit);
    let end = [own, terms.deadline].into_iter().flatten().min();
    let passed = async {
        match end {
            Some(end) => sleep_until(end).await,
            None => std::future::pending().await,
        }
    };
    let dead = upstream.found_dead();
    tokio::select! {
        biased;
        done = exchange(terms, upstream, outgoing) => done,
        () = passed => {
            Err(if end == terms.deadline { FailureKind::Total } else { FailureKind::Slow })
        }
        () = dead => Err(FailureKind::Dead),
    }
}

async fn exchange(terms: Terms<'_>, upstream: &Arc<Upstream>, outgoing: &mut Outgoing) -> Result<Begun, FailureKind> {
    let limits = ConnectionLimits { connect: terms.rule.limits.connect, idle: terms.rule.limits.upstream_idle };
    let (head, body) = send(upstream, outgoing, limits).await.map_err(FailureKind::from)?;
    let peeked = peek(head, body, &terms.rule.retry.codes, terms.kind == PoolKind::Inference)
        .await
        .map_err(FailureKind::from)?;
    Ok(Begun { peeked, first_byte: Instant::now() })
}

impl From<AnswerFault> for FailureKind {
    fn from(fault: AnswerFault) -> Self {
        tracing::debug!(%fault, "an endpoint broke off before it answered");
        match fault {
            AnswerFault::Body(fault) => Self::Body(fault.0),
            AnswerFault::Head(_) | AnswerFault::Content(ContentFault::Chunk(_) | ContentFault::Trailers) => {
                Self::Protocol
            }
            AnswerFault::Http2(error) if error.is_parse() || error.is_parse_too_large() => Self::Protocol,
            AnswerFault::Connection(_) | AnswerFault::Content(ContentFault::BrokenOff) | AnswerFault::Http2(_) => {
                Self::Reset
            }
        }
    }
}

impl From<SendFault> for FailureKind {
    fn from(fault: SendFault) -> Self {
        match fault {
            SendFault::Connect(error) => {
                tracing::debug!(%error, "an endpoint cannot be connected to");
                Self::Connect
            }
            SendFault::Exchange(fault) => fault.into(),
        }
    }
}
