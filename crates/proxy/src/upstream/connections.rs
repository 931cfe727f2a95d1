//! Connections to one endpoint: kept for the next request, the youngest first.
//!
//! An HTTP/1.1 connection is out of the pool while its answer is under way and comes back with its [`Lease`]. Whoever
//! drops an answer before its end closes the connection, so that the endpoint learns at once that the client left.
//! HTTP/2 endpoints have one connection for all.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, Version, header};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use tidegate_api::inference::AppProtocol;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::body::UpstreamBody;
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
    sender: http1::SendRequest<UpstreamBody>,
    until: Option<Instant>,
}

enum Sender {
    Own(http1::SendRequest<UpstreamBody>),
    Shared(http2::SendRequest<UpstreamBody>),
}

/// How connections are made and kept; see the rule's limits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectionLimits {
    /// To connect, name resolution included.
    pub(crate) connect: Option<Duration>,
    /// Without a request.
    pub(crate) idle: Option<Duration>,
}

/// A connection that an answer comes by; it is kept for another request when this is dropped.
pub(crate) struct Lease {
    upstream: Arc<Upstream>,
    sender: Option<http1::SendRequest<UpstreamBody>>,
    idle: Option<Duration>,
}

/// Why no head of an answer came.
#[derive(Debug)]
pub(crate) enum SendFault {
    /// No connection; nothing was sent.
    Connect(std::io::Error, Box<Request<UpstreamBody>>),
    /// The exchange failed. The request comes back where nothing of it was sent.
    Exchange(hyper::Error, Option<Box<Request<UpstreamBody>>>),
}

impl Connections {
    pub(crate) fn new() -> Self {
        Self { idle: Mutex::default(), shared: Mutex::default(), making: Semaphore::new(1) }
    }

    /// The youngest connection that can take a request.
    fn pop(&self) -> Option<http1::SendRequest<UpstreamBody>> {
        let mut idle = self.idle.lock();
        if idle.is_empty() {
            return None;
        }
        let now = Instant::now();
        while idle.front().is_some_and(|oldest| oldest.is_over(now)) {
            idle.pop_front();
        }
        while idle.back().is_some_and(|youngest| youngest.sender.is_closed()) {
            idle.pop_back();
        }
        // One whose answer was read to its end a moment ago may not know it yet; the next younger one does.
        let ready = idle.iter().rposition(|kept| kept.sender.is_ready() && !kept.is_over(now))?;
        idle.remove(ready).map(|kept| kept.sender)
    }

    fn push(&self, sender: http1::SendRequest<UpstreamBody>, keep: Option<Duration>) {
        let until = keep.map(|keep| Instant::now() + keep);
        self.idle.lock().push_back(Idle { sender, until });
    }

    /// Closes what has been idle for too long and forgets what the endpoint closed.
    pub(crate) fn sweep(&self) {
        let now = Instant::now();
        self.idle.lock().retain(|kept| !kept.sender.is_closed() && !kept.is_over(now));
    }

    #[cfg(test)]
    pub(crate) fn kept(&self) -> usize {
        self.idle.lock().len()
    }

    /// A connection, and whether it was there before.
    async fn take(&self, key: &UpstreamKey) -> std::io::Result<(Sender, bool)> {
        if key.protocol == AppProtocol::H2c {
            return self.take_shared(key).await;
        }
        if let Some(sender) = self.pop() {
            return Ok((Sender::Own(sender), true));
        }
        let stream = connect(key).await?;
        let (sender, connection) =
            http1::Builder::new().handshake(TokioIo::new(stream)).await.map_err(std::io::Error::other)?;
        // Ends with its connection, which ends when the sender and the answer are dropped or the endpoint closes it.
        tokio::spawn(connection);
        Ok((Sender::Own(sender), false))
    }

    fn live_shared(&self) -> Option<(Sender, bool)> {
        let shared = self.shared.lock();
        shared.as_ref().filter(|sender| !sender.is_closed()).map(|sender| (Sender::Shared(sender.clone()), true))
    }

    async fn take_shared(&self, key: &UpstreamKey) -> std::io::Result<(Sender, bool)> {
        if let Some(live) = self.live_shared() {
            return Ok(live);
        }
        // Never closed while it is borrowed here.
        let _turn = self.making.acquire().await;
        if let Some(live) = self.live_shared() {
            return Ok(live);
        }
        let stream = connect(key).await?;
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .handshake(TokioIo::new(stream))
            .await
            .map_err(std::io::Error::other)?;
        tokio::spawn(connection);
        *self.shared.lock() = Some(sender.clone());
        Ok((Sender::Shared(sender), false))
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
pub(crate) async fn connect(key: &UpstreamKey) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(&*key.address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Sends a request and gives the head of its answer. A kept connection that closed before anything of the request was
/// sent is passed over.
pub(crate) async fn send(
    upstream: &Arc<Upstream>,
    mut request: Request<UpstreamBody>,
    limits: ConnectionLimits,
) -> Result<(Response<Incoming>, Lease), SendFault> {
    loop {
        let taking = upstream.connections.take(&upstream.key);
        let taken = match limits.connect {
            Some(limit) => timeout(limit, taking).await.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())),
            None => taking.await,
        };
        let (sender, reused) = match taken {
            Ok(taken) => taken,
            Err(error) => return Err(SendFault::Connect(error, Box::new(request))),
        };
        let (sent, own) = match sender {
            Sender::Own(mut sender) => (sender.try_send_request(request).await, Some(sender)),
            Sender::Shared(mut sender) => (sender.try_send_request(for_http2(request)).await, None),
        };
        let mut error = match sent {
            Ok(response) => {
                return Ok((response, Lease { upstream: upstream.clone(), sender: own, idle: limits.idle }));
            }
            Err(error) => error,
        };
        match error.take_message() {
            Some(unsent) if reused => request = unsent,
            unsent => return Err(SendFault::Exchange(error.into_error(), unsent.map(Box::new))),
        }
    }
}

/// The same request with what HTTP/2 wants instead of a Host header.
fn for_http2(mut request: Request<UpstreamBody>) -> Request<UpstreamBody> {
    *request.version_mut() = Version::HTTP_2;
    if let Some(host) = request.headers_mut().remove(header::HOST) {
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        parts.scheme = Some(http::uri::Scheme::HTTP);
        parts.authority = host.as_bytes().try_into().ok().or(parts.authority);
        *request.uri_mut() = http::Uri::from_parts(parts).unwrap_or_default();
    }
    request
}

impl fmt::Debug for Lease {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Lease").field("endpoint", &self.upstream.key.address).finish_non_exhaustive()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // An answer that was not read to its end closes its connection; it never becomes ready and is swept out.
        if let Some(sender) = self.sender.take().filter(|sender| !sender.is_closed())
            && self.idle != Some(Duration::ZERO)
        {
            self.upstream.connections.push(sender, self.idle);
        }
    }
}
