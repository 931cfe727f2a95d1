//! The request's body on its way to an HTTP/2 endpoint, and a client's body that is still to come.

use std::error::Error as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tidegate_telemetry::Reason;
use tokio::time::{Instant, Sleep, sleep_until};

/// A request's body as hyper's HTTP/2 client takes it.
#[derive(Debug)]
pub(crate) enum UpstreamBody {
    Empty,
    Buffered(Buffered),
    Streaming(Box<Streaming>),
}

/// A body in memory; a copy of it is two words.
#[derive(Clone, Debug)]
pub(crate) struct Buffered {
    parts: Arc<[Bytes]>,
    next: usize,
}

/// A body that is still to come from the client.
#[derive(Debug)]
pub(crate) struct Streaming {
    body: Incoming,
    /// Bytes that may still come.
    left: u64,
    length: Option<u64>,
    deadline: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

/// Why a client's body cannot be passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the client's body: {}", .0.word())]
pub(crate) struct BodyFault(pub(crate) Reason);

impl BodyFault {
    /// The fault that made hyper give a request up, if it was one.
    pub(crate) fn of(error: &hyper::Error) -> Option<Self> {
        let mut source = error.source();
        while let Some(cause) = source {
            if let Some(fault) = cause.downcast_ref::<Self>() {
                return Some(*fault);
            }
            source = cause.source();
        }
        None
    }
}

impl Buffered {
    pub(crate) fn new(parts: Arc<[Bytes]>) -> Self {
        Self { parts, next: 0 }
    }

    fn left(&self) -> u64 {
        self.parts.iter().skip(self.next).map(|part| part.len() as u64).sum()
    }
}

impl Streaming {
    /// A body of at most `limit` bytes that must have come by `deadline`.
    pub(crate) fn new(body: Incoming, limit: u64, length: Option<u64>, deadline: Option<Instant>) -> Self {
        Self { body, left: limit, length, deadline, timer: None }
    }

    /// Content-Length where the client said it.
    pub(crate) fn length(&self) -> Option<u64> {
        self.length
    }

    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                match self.left.checked_sub(length) {
                    Some(left) => self.left = left,
                    None => return Poll::Ready(Some(Err(BodyFault(Reason::BodyTooLarge)))),
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(_))) => Poll::Ready(Some(Err(BodyFault(Reason::ClientLeft)))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                let Some(deadline) = self.deadline else { return Poll::Pending };
                let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
                timer.as_mut().poll(context).map(|()| Some(Err(BodyFault(Reason::RequestTimeout))))
            }
        }
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Buffered(buffered) => {
                let part = buffered.parts.get(buffered.next).cloned();
                buffered.next += 1;
                Poll::Ready(part.map(|part| Ok(Frame::data(part))))
            }
            Self::Streaming(streaming) => streaming.poll(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Buffered(buffered) => buffered.next >= buffered.parts.len(),
            Self::Streaming(streaming) => streaming.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Buffered(buffered) => SizeHint::with_exact(buffered.left()),
            Self::Streaming(streaming) => streaming.length.map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}
