//! Respond: the endpoint's answer on its way to the client.
//!
//! Bytes pass as they come. The body carries everything that ends with the request: the place on the endpoint, the
//! limits, the tap that reads usage, and the record. Must not hold a byte back, but for a model name that is to be
//! replaced.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderValue, Response};
use http_body::{Body, Frame, SizeHint};
use tidegate_body::answer::{AnswerKind, AnswerTap, ModelReplacer};
use tidegate_picker::Reservation;
use tidegate_routing::snapshot::Filters;
use tidegate_telemetry::{EndedBy, Reason};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::cuts::Cutter;
use crate::forward::{Forwarded, Holds};
use crate::guard::REQUEST_ID;
use crate::observe::Record;
use crate::rewrite::{change_headers, remove_hop_by_hop};
use crate::upstream::Upstream;
use crate::upstream::answer::AnswerStream;

/// What the rule and the arm want of an answer.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    /// The rule's filters, then the arm's.
    pub(crate) filters: [&'a Filters; 2],
    /// The name to put back, where the endpoint was asked for another.
    pub(crate) model: Option<String>,
    /// Between two bytes.
    pub(crate) idle: Option<Duration>,
    /// For the whole request.
    pub(crate) deadline: Option<Instant>,
}

/// The body of an answer.
pub(crate) enum AnswerBody {
    /// An answer of the gateway's own; the record ends with it.
    Own(Bytes, #[expect(dead_code, reason = "dropping it is its use")] Box<Record>),
    /// An endpoint's.
    Passing(Box<Passing>),
}

/// Why an answer is cut: the client must see that it is not whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer was cut: {}", .0.word())]
pub(crate) struct Cut(Reason);

/// An endpoint's answer that is under way.
pub(crate) struct Passing {
    record: Box<Record>,
    body: Option<AnswerStream>,
    first: Bytes,
    /// What the replacer let go.
    ready: VecDeque<Bytes>,
    replacer: Option<ModelReplacer>,
    trailers: Option<HeaderMap>,
    flow: Flow,
    limit: Limit,
    /// What is still to come where the length is known; tells an end from a client that left.
    remaining: Option<u64>,
    settled: bool,
    /// The answer is cut once what came before has had its chance to go out.
    cutting: Option<Cut>,
    /// For answers of a roll-out's pair.
    cutter: Option<Cutter>,
    upstream: Arc<Upstream>,
    _reservation: Reservation,
    _holds: Holds,
}

/// What passed, and when.
struct Flow {
    tap: AnswerTap,
    last_byte: Instant,
    last_event: Option<Instant>,
    first_event: Option<Instant>,
    events: u64,
    longest: Duration,
}

/// When an answer is cut. The timer is made when the answer first waits, and set anew only when it fires.
struct Limit {
    idle: Option<Duration>,
    total: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

/// An answer of the gateway's own.
pub(crate) fn own(
    mut response: Response<Bytes>,
    mut record: Box<Record>,
    reason: Option<Reason>,
) -> Response<AnswerBody> {
    if let Ok(id) = HeaderValue::from_str(&record.observation.request_id)
        && !id.is_empty()
    {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    record.answered_here(response.status().as_u16(), reason);
    record.observation.bytes_out = response.body().len() as u64;
    response.map(|bytes| AnswerBody::Own(bytes, record))
}

/// An endpoint's answer.
pub(crate) fn pass_on(forwarded: Forwarded, plan: Plan<'_>, mut record: Box<Record>) -> Response<AnswerBody> {
    let Forwarded { mut head, kind, length, first, complete, body, first_byte, reservation, upstream, retries, holds } =
        forwarded;
    let observation = &mut record.observation;
    observation.status = head.status.as_u16();
    observation.endpoint = Some(upstream.key.address.clone());
    observation.retries = retries;
    observation.ttft = Some(first_byte.saturating_duration_since(record.started));
    observation.stream |= kind == AnswerKind::EventStream;
    record.first_byte();
    record.evidence.begins(kind);
    remove_hop_by_hop(&mut head.headers);
    for filters in plan.filters {
        change_headers(&mut head.headers, &filters.response_headers);
    }
    let replacer =
        plan.model.filter(|_| kind != AnswerKind::Opaque).map(|requested| ModelReplacer::new(kind, &requested));
    if replacer.is_some() {
        head.headers.remove(CONTENT_LENGTH);
    }
    let cutter = record.cutter();
    let passing = Passing {
        record,
        body: body.filter(|_| !complete),
        first,
        ready: VecDeque::new(),
        replacer,
        trailers: None,
        flow: Flow {
            tap: AnswerTap::new(kind),
            last_byte: first_byte,
            last_event: None,
            first_event: None,
            events: 0,
            longest: Duration::ZERO,
        },
        limit: Limit { idle: plan.idle, total: plan.deadline, timer: None },
        remaining: length,
        settled: false,
        cutting: None,
        cutter,
        upstream,
        _reservation: reservation,
        _holds: holds,
    };
    let mut response = Response::new(AnswerBody::Passing(Box::new(passing)));
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers;
    response
}

impl Passing {
    /// Bytes came from the endpoint; gives what may go on at once.
    fn came(&mut self, bytes: Bytes, now: Instant) -> Option<Bytes> {
        self.flow.came(&bytes, now);
        self.record.evidence.passed(&bytes);
        self.upstream.note_byte(now);
        if let Some(remaining) = &mut self.remaining {
            *remaining = remaining.saturating_sub(bytes.len() as u64);
        }
        let Some(replacer) = &mut self.replacer else { return Some(bytes) };
        let mut out = Vec::new();
        replacer.push(bytes, &mut out);
        self.ready.extend(out);
        None
    }

    /// The endpoint ended its answer.
    fn finish(&mut self) {
        self.body = None;
        if let Some(mut replacer) = self.replacer.take() {
            let mut out = Vec::new();
            replacer.finish(&mut out);
            self.ready.extend(out);
        }
        self.settle(EndedBy::Completion, None);
    }

    /// The answer ends before its end.
    fn cut(&mut self, ended_by: EndedBy, reason: Reason) -> Cut {
        self.body = None;
        self.settle(ended_by, Some(reason));
        Cut(reason)
    }

    /// Writes down how it ended, once.
    fn settle(&mut self, ended_by: EndedBy, reason: Option<Reason>) {
        if std::mem::replace(&mut self.settled, true) {
            return;
        }
        let observation = &mut self.record.observation;
        let summary = self.flow.tap.summary();
        let told = summary.error.is_some() && observation.status < 400;
        observation.ended_by = ended_by;
        let completed = ended_by == EndedBy::Completion;
        self.record.evidence.empty = completed && summary.finish_reason.is_some() && !summary.content;
        self.record.evidence.malformed = completed && self.flow.tap.is_json() && !summary.whole;
        observation.reason = if told { Some(Reason::ErrorEvent) } else { reason };
        observation.finish_reason.clone_from(&summary.finish_reason);
        observation.tokens.prompt = summary.prompt_tokens;
        observation.tokens.completion = summary.completion_tokens;
        observation.tokens.cached = summary.cached_tokens;
        if summary.completion_tokens.is_none() && summary.content_events > 0 {
            observation.tokens.completion = Some(summary.content_events);
            observation.tokens.estimated = true;
        }
        if let (Some(first), Some(last)) = (self.flow.first_event, self.flow.last_event)
            && let Some(gaps) = u32::try_from(self.flow.events.saturating_sub(1)).ok().filter(|gaps| *gaps > 0)
        {
            observation.gap_mean = Some(last.saturating_duration_since(first) / gaps);
            observation.gap_max = Some(self.flow.longest);
        }
    }

    /// Whether every byte of the answer went on.
    fn is_done(&self) -> bool {
        let nothing_held =
            self.cutting.is_none() && self.first.is_empty() && self.ready.is_empty() && self.trailers.is_none();
        nothing_held && self.body.as_ref().is_none_or(|body| self.replacer.is_none() && body.is_end())
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if let Some(cut) = self.cutting.take() {
            return Poll::Ready(Some(Err(cut)));
        }
        loop {
            if let Some(bytes) = self.ready.pop_front() {
                return self.goes(bytes);
            }
            if !self.first.is_empty() {
                let first = std::mem::take(&mut self.first);
                let at = self.flow.last_byte;
                match self.came(first, at) {
                    Some(bytes) => return self.goes(bytes),
                    None => continue,
                }
            }
            let Some(body) = &mut self.body else {
                if !self.settled {
                    self.finish();
                    continue;
                }
                return Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))));
            };
            match body.poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(bytes) => {
                        if let Some(bytes) = self.came(bytes, Instant::now()) {
                            return self.goes(bytes);
                        }
                    }
                    Err(other) => self.trailers = other.into_trailers().ok(),
                },
                Poll::Ready(Some(Err(_))) => {
                    // hyper gives up at once, with bytes that it has not written; it writes when it is told to wait.
                    self.cutting = Some(self.cut(EndedBy::Upstream, Reason::UpstreamAborted));
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Poll::Ready(None) => self.finish(),
                Poll::Pending if self.cutter.as_mut().is_some_and(|cutter| cutter.poll(context)) => {
                    self.cutter = None;
                    return Poll::Ready(Some(Err(self.cut(EndedBy::Gateway, Reason::RolloutCut))));
                }
                Poll::Pending => match self.limit.poll(context, self.flow.last_byte) {
                    Some(reason) => return Poll::Ready(Some(Err(self.cut(EndedBy::Gateway, reason)))),
                    None => return Poll::Pending,
                },
            }
        }
    }

    fn goes(&mut self, bytes: Bytes) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        self.record.observation.bytes_out += bytes.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }
}

impl Flow {
    fn came(&mut self, bytes: &[u8], now: Instant) {
        self.last_byte = now;
        let events = self.tap.push(bytes);
        if events == 0 {
            return;
        }
        self.events += u64::from(events);
        if let Some(before) = self.last_event.replace(now) {
            self.longest = self.longest.max(now.saturating_duration_since(before));
        } else {
            self.first_event = Some(now);
        }
    }
}

impl Limit {
    /// The limit that has passed, if one has; else the task is woken when one may have.
    fn poll(&mut self, context: &mut Context<'_>, last_byte: Instant) -> Option<Reason> {
        if self.idle.is_none() && self.total.is_none() {
            return None;
        }
        loop {
            let idle = self.idle.map(|idle| last_byte + idle);
            let (end, reason) = match (idle, self.total) {
                (Some(idle), Some(total)) if total < idle => (total, Reason::TotalTimeout),
                (Some(idle), _) => (idle, Reason::IdleTimeout),
                (None, Some(total)) => (total, Reason::TotalTimeout),
                (None, None) => return None,
            };
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(end)));
            if timer.as_mut().poll(context).is_pending() {
                return None;
            }
            if Instant::now() >= end {
                return Some(reason);
            }
            timer.as_mut().reset(end);
        }
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        // hyper does not ask again once it has written as many bytes as the head announced.
        if self.is_done() || self.remaining == Some(0) {
            self.settle(EndedBy::Completion, None);
        } else {
            self.settle(EndedBy::Client, Some(Reason::ClientLeft));
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match &mut *self {
            Self::Own(bytes, _) if bytes.is_empty() => Poll::Ready(None),
            Self::Own(bytes, _) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Passing(passing) => passing.poll(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(bytes, _) => bytes.is_empty(),
            Self::Passing(passing) => passing.is_done(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(bytes, _) => SizeHint::with_exact(bytes.len() as u64),
            Self::Passing(passing) if passing.is_done() => SizeHint::with_exact(0),
            Self::Passing(passing) if passing.replacer.is_none() && passing.body.is_none() => {
                SizeHint::with_exact(passing.first.len() as u64)
            }
            Self::Passing(_) => SizeHint::default(),
        }
    }
}
