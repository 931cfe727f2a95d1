//! Connections to one endpoint: kept for the next request, the youngest first.
//!
//! An HTTP/1.1 connection is out of the pool while its answer is under way and comes back at the answer's end. Whoever
//! drops an answer before its end closes the connection, so that the endpoint learns at once that the client left.
//! HTTP/2 endpoints have one connection for all.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::response;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use tidegate_api::inference::AppProtocol;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::answer::{AnswerFault, AnswerStream};
use super::body::{BodyFault, UpstreamBody};
use super::exchange::{Exchange, Kept};
use super::outgoing::Outgoing;
use super::{Upstream, UpstreamKey};

/// What is kept open to one endpoint.
pub(crate) struct Connections {
    /// Oldest in front.
    idle: Mutex<VecDeque<Idle>>,
    shared: Mutex<Option<http2::SendRequest<UpstreamBody>>>,
    /// The right to make the shared connection.
    making: Semaphore,
}

struct Idle {
    kept: Kept,
    until: Option<Instant>,
}

/// How connections are made and kept; see the rule's limits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectionLimits {
    /// To connect, name resolution included.
    pub(crate) connect: Option<Duration>,
    /// Without a request.
    pub(crate) idle: Option<Duration>,
}

/// Why no head of an answer came.
#[derive(Debug)]
pub(crate) enum SendFault {
    /// No connection; nothing was sent.
    Connect(io::Error),
    /// The exchange failed.
    Exchange(AnswerFault),
}

impl Connections {
    pub(crate) fn new() -> Self {
        Self { idle: Mutex::default(), shared: Mutex::default(), making: Semaphore::new(1) }
    }

    /// The youngest connection that can take a request.
    fn pop(&self) -> Option<Kept> {
        let mut idle = self.idle.lock();
        let mut youngest = idle.pop_back()?;
        let now = Instant::now();
        loop {
            if !youngest.is_over(now) && youngest.kept.is_sound() {
                return Some(youngest.kept);
            }
            youngest = idle.pop_back()?;
        }
    }

    pub(super) fn push(&self, kept: Kept, keep: Option<Duration>) {
        let until = keep.map(|keep| Instant::now() + keep);
        self.idle.lock().push_back(Idle { kept, until });
    }

    /// Closes what has been idle for too long and what the endpoint closed.
    pub(crate) fn sweep(&self) {
        let now = Instant::now();
        self.idle.lock().retain(|idle| !idle.is_over(now) && idle.kept.is_sound());
    }

    #[cfg(test)]
    pub(crate) fn kept(&self) -> usize {
        self.idle.lock().len()
    }

    fn live_shared(&self) -> Option<http2::SendRequest<UpstreamBody>> {
        self.shared.lock().as_ref().filter(|sender| !sender.is_closed()).cloned()
    }

    /// The shared connection, and whether it was there before.
    async fn shared(&self, key: &UpstreamKey) -> io::Result<(http2::SendRequest<UpstreamBody>, bool)> {
        if let Some(live) = self.live_shared() {
            return Ok((live, true));
        }
        // Never closed while it is borrowed here.
        let _turn = self.making.acquire().await;
        if let Some(live) = self.live_shared() {
            return Ok((live, true));
        }
        let stream = connect(key).await?;
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        // Ends with its connection, which ends when the senders and the answers are dropped or the endpoint closes it.
        tokio::spawn(connection);
        *self.shared.lock() = Some(sender.clone());
        Ok((sender, false))
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Connections").field("idle", &self.idle.lock().len()).finish_non_exhaustive()
    }
}

impl Idle {
    fn is_over(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

/// A fresh connection to an endpoint.
pub(crate) async fn connect(key: &UpstreamKey) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(&*key.address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn within<T>(limit: Option<Duration>, making: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match limit {
        Some(limit) => timeout(limit, making).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
        None => making.await,
    }
}

/// Sends a request and gives the head of its answer. A kept connection that closed before anything of the request was
/// sent is passed over.
pub(crate) async fn send(
    upstream: &Arc<Upstream>,
    outgoing: &mut Outgoing,
    limits: ConnectionLimits,
) -> Result<(response::Parts, AnswerStream), SendFault> {
    if upstream.key.protocol == AppProtocol::H2c {
        return send_shared(upstream, outgoing, limits).await;
    }
    loop {
        let (kept, reused) = match upstream.connections.pop() {
            Some(kept) => (kept, true),
            // Boxed: it is needed seldom and would lie in every request's future.
            None => match Box::pin(within(limits.connect, connect(&upstream.key))).await {
                Ok(stream) => (Kept::new(stream), false),
                Err(error) => return Err(SendFault::Connect(error)),
            },
        };
        let mut exchange = Exchange::new(kept, upstream.clone(), limits.idle);
        match exchange.head(outgoing).await {
            Ok(head) => return Ok((head, AnswerStream::Http1(exchange))),
            Err(unanswered) if unanswered.unsent && reused => {}
            Err(unanswered) => return Err(SendFault::Exchange(unanswered.fault)),
        }
    }
}

async fn send_shared(
    upstream: &Arc<Upstream>,
    outgoing: &mut Outgoing,
    limits: ConnectionLimits,
) -> Result<(response::Parts, AnswerStream), SendFault> {
    let mut request = outgoing.http2();
    loop {
        let (mut sender, reused) = Box::pin(within(limits.connect, upstream.connections.shared(&upstream.key)))
            .await
            .map_err(SendFault::Connect)?;
        let mut error = match sender.try_send_request(request).await {
            Ok(answer) => {
                let (head, body) = answer.into_parts();
                return Ok((head, AnswerStream::Http2(body)));
            }
            Err(error) => error,
        };
        match error.take_message() {
            Some(unsent) if reused => request = unsent,
            unsent => {
                if let Some(unsent) = unsent {
                    outgoing.take_back(unsent.into_body());
                }
                let error = error.into_error();
                let fault = BodyFault::of(&error).map_or_else(|| error.into(), AnswerFault::Body);
                return Err(SendFault::Exchange(fault));
            }
        }
    }
}
