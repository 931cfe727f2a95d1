//! An endpoint's answer as it comes, by either protocol, and why it may not.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as _, Frame};
use hyper::body::Incoming;
use tidegate_http1::{ContentFault, HeadFault};

use super::body::BodyFault;
use super::exchange::Exchange;

/// The body of an endpoint's answer. Dropping it before its end closes the connection (or the stream), so that the
/// endpoint learns at once that nobody listens.
#[derive(Debug)]
pub(crate) enum AnswerStream {
    Http1(Box<Exchange>),
    Http2(Incoming),
}

/// Why there is no answer, or not all of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AnswerFault {
    /// The connection failed, or ended before the answer began.
    #[error("the connection failed: {0}")]
    Connection(#[from] io::Error),
    #[error(transparent)]
    Head(#[from] HeadFault),
    #[error(transparent)]
    Content(#[from] ContentFault),
    /// The client did not send its body to the end.
    #[error(transparent)]
    Body(#[from] BodyFault),
    #[error(transparent)]
    Http2(#[from] hyper::Error),
}

impl AnswerStream {
    pub(crate) fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, AnswerFault>>> {
        match self {
            Self::Http1(exchange) => exchange.poll_frame(context),
            Self::Http2(body) => {
                Pin::new(body).poll_frame(context).map(|frame| frame.map(|frame| frame.map_err(AnswerFault::from)))
            }
        }
    }

    /// The next frame.
    pub(crate) async fn frame(&mut self) -> Option<Result<Frame<Bytes>, AnswerFault>> {
        std::future::poll_fn(|context| self.poll_frame(context)).await
    }

    /// Whether there is no further frame; `false` where that is not known yet.
    pub(crate) fn is_end(&self) -> bool {
        match self {
            Self::Http1(exchange) => exchange.is_end(),
            Self::Http2(body) => body.is_end_stream(),
        }
    }
}

#[cfg(test)]
impl AnswerStream {
    /// All that is to come.
    pub(crate) async fn all(mut self) -> Result<Bytes, AnswerFault> {
        let mut all = bytes::BytesMut::new();
        while let Some(frame) = self.frame().await {
            if let Ok(data) = frame?.into_data() {
                all.extend_from_slice(&data);
            }
        }
        Ok(all.freeze())
    }
}
