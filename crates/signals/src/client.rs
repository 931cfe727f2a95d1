//! One GET over a connection that is kept from poll to poll, with bounds on time and size.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A poll takes no longer, from connecting to the last byte.
const PATIENCE: Duration = Duration::from_secs(2);
/// Larger answers are given up: vLLM's metrics are some 60 KB, a list of a thousand adapters some 500 KB.
const LARGEST: usize = 4 * 1024 * 1024;

type Sender = SendRequest<Empty<Bytes>>;

/// Why a poll failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PollError {
    /// Not connected, not answered or not finished in time.
    #[error("no whole answer within {PATIENCE:?}")]
    Late,
    /// No connection.
    #[error("cannot connect: {0}")]
    Connect(std::io::Error),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(#[from] hyper::Error),
    /// Not 200.
    #[error("status {0}")]
    Status(StatusCode),
    /// Over [`LARGEST`].
    #[error("the answer is larger than {LARGEST} bytes")]
    TooLarge,
    /// The address or path makes no request.
    #[error("not a valid request: {0}")]
    Request(#[from] http::Error),
}

/// Asks one endpoint.
#[derive(Debug)]
pub(crate) struct Client {
    address: Arc<str>,
    kept: Option<Sender>,
}

impl Client {
    /// A client that is not connected yet.
    pub(crate) fn new(address: Arc<str>) -> Self {
        Self { address, kept: None }
    }

    /// The body of a 200 answer to GET `path`.
    pub(crate) async fn get(&mut self, path: &str) -> Result<Bytes, PollError> {
        timeout(PATIENCE, self.ask(path)).await.map_err(|_| PollError::Late)?
    }

    async fn ask(&mut self, path: &str) -> Result<Bytes, PollError> {
        // Taken: a poll that breaks off, here or for its time, leaves no half-read answer to the next one.
        if let Some(mut sender) = self.kept.take()
            && sender.ready().await.is_ok()
        {
            match sender.send_request(request(&self.address, path)?).await {
                Ok(response) => return self.read(sender, response).await,
                // A kept connection that the server closed meanwhile is no failure of the server.
                Err(error) => tracing::trace!(endpoint = %self.address, %error, "a kept connection is gone"),
            }
        }
        let stream = TcpStream::connect(&*self.address).await.map_err(PollError::Connect)?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // Ends with its sender; what breaks it is also said by the request.
        tokio::spawn(connection);
        let response = sender.send_request(request(&self.address, path)?).await?;
        self.read(sender, response).await
    }

    /// The body, which an answer other than 200 has too: it is read, so that its connection can be kept.
    async fn read(&mut self, sender: Sender, response: Response<Incoming>) -> Result<Bytes, PollError> {
        let (head, mut body) = response.into_parts();
        let mut bytes = BytesMut::new();
        while let Some(frame) = body.frame().await {
            if let Some(data) = frame?.data_ref() {
                if bytes.len().saturating_add(data.len()) > LARGEST {
                    return Err(PollError::TooLarge);
                }
                bytes.extend_from_slice(data);
            }
        }
        self.kept = Some(sender);
        if head.status == StatusCode::OK { Ok(bytes.freeze()) } else { Err(PollError::Status(head.status)) }
    }
}

fn request(address: &str, path: &str) -> Result<Request<Empty<Bytes>>, http::Error> {
    Request::get(path).header(http::header::HOST, address).body(Empty::new())
}

#[cfg(test)]
mod tests;
