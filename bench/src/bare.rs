//! The least that a proxy of this runtime can be: hyper on both sides, connections kept, bodies passed on as they come.
//!
//! It reads no body, chooses nothing, logs nothing and counts nothing: what the gateway costs above it is what the
//! gateway does.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response, StatusCode};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};

/// Connections to the backend that wait for their next request.
#[derive(Debug)]
struct Upstream {
    address: SocketAddr,
    idle: Mutex<Vec<SendRequest<Incoming>>>,
}

/// Serves until the process is ended.
///
/// # Errors
/// When the address may not be bound.
pub(crate) async fn serve(listen: SocketAddr, backend: SocketAddr) -> anyhow::Result<()> {
    let listener = TcpListener::bind(listen).await?;
    let upstream = Arc::new(Upstream { address: backend, idle: Mutex::new(Vec::new()) });
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let upstream = Arc::clone(&upstream);
        tokio::spawn(async move {
            let service = service_fn(move |request| forward(Arc::clone(&upstream), request));
            let connection = http1::Builder::new();
            // A client that leaves is no event here.
            let _ = connection.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn forward(upstream: Arc<Upstream>, request: Request<Incoming>) -> hyper::Result<Response<Returning>> {
    let Some(mut sender) = upstream.connection().await else {
        let mut answer = Response::new(Returning { body: None, connection: None });
        *answer.status_mut() = StatusCode::BAD_GATEWAY;
        return Ok(answer);
    };
    let answer = sender.send_request(request).await?;
    Ok(answer.map(|body| Returning { body: Some(body), connection: Some((sender, upstream)) }))
}

impl Upstream {
    fn take(&self) -> Option<SendRequest<Incoming>> {
        self.idle.lock().pop()
    }

    async fn connection(&self) -> Option<SendRequest<Incoming>> {
        while let Some(mut sender) = self.take() {
            if sender.ready().await.is_ok() {
                return Some(sender);
            }
        }
        let stream = TcpStream::connect(self.address).await.ok()?;
        stream.set_nodelay(true).ok()?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.ok()?;
        tokio::spawn(connection);
        Some(sender)
    }
}

/// An answer's body that gives its connection back once it has been read to its end.
struct Returning {
    body: Option<Incoming>,
    connection: Option<(SendRequest<Incoming>, Arc<Upstream>)>,
}

impl Body for Returning {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for Returning {
    fn drop(&mut self) {
        if self.is_end_stream()
            && let Some((sender, upstream)) = self.connection.take()
        {
            upstream.idle.lock().push(sender);
        }
    }
}
