//! A running gateway's admin API, asked once.

use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// How long the whole exchange may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Larger answers are not read.
const MAX_ANSWER_BYTES: usize = 1 << 30;

/// The address of an admin API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Server {
    /// `host:port`.
    authority: String,
}

impl FromStr for Server {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text} is no address of an admin API: write http://HOST:PORT");
        let url = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let authority = uri.authority().ok_or_else(wrong)?;
        if uri.scheme_str() != Some("http") || !matches!(uri.path(), "" | "/") || authority.as_str().contains('@') {
            return Err(wrong());
        }
        let port = authority.port_u16().unwrap_or(15000);
        Ok(Self { authority: format!("{}:{port}", authority.host()) })
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServerError {
    #[error(
        "cannot reach the gateway's admin API at {0} ({1}): is `tidegate serve` running? --server URL names another address"
    )]
    Unreachable(String, std::io::Error),
    #[error("the admin API at {0} broke off: {1}")]
    Broken(String, String),
    #[error("the admin API at {0} answered {1}: {2}")]
    Refused(String, StatusCode, String),
    #[error("the admin API at {0} did not answer within 30 s")]
    Late(String),
    #[error("cannot start: {0}")]
    Runtime(std::io::Error),
}

impl Server {
    /// The objects that the gateway knows.
    pub(crate) fn objects(
        &self,
        kind: &str,
        namespace: Option<&str>,
        name: Option<&str>,
    ) -> Result<Vec<Value>, ServerError> {
        let mut target = format!("/objects?kind={}", encode(kind));
        if let Some(namespace) = namespace {
            target.push_str(&format!("&namespace={}", encode(namespace)));
        }
        if let Some(name) = name {
            target.push_str(&format!("&name={}", encode(name)));
        }
        let mut answer = self.read(&target)?;
        match answer.get_mut("items").map(Value::take) {
            Some(Value::Array(items)) => Ok(items),
            _ => Err(self.broken(&"the answer has no items; this is no Tidegate")),
        }
    }

    /// What a path answers.
    pub(crate) fn read(&self, target: &str) -> Result<Value, ServerError> {
        let request = Request::get(target).header(header::HOST, &self.authority).body(Full::default());
        self.exchange(request)
    }

    /// Sends what changes something.
    pub(crate) fn change(&self, target: &str, token: &str, body: &Value) -> Result<Value, ServerError> {
        let request = Request::post(target)
            .header(header::HOST, &self.authority)
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::from(body.to_string()));
        self.exchange(request)
    }

    fn broken(&self, error: &dyn std::fmt::Display) -> ServerError {
        ServerError::Broken(self.authority.clone(), error.to_string())
    }

    fn exchange(&self, request: Result<Request<Full<Bytes>>, http::Error>) -> Result<Value, ServerError> {
        let request = request.map_err(|error| self.broken(&error))?;
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ServerError::Runtime)?;
        let body = runtime.block_on(async {
            tokio::time::timeout(PATIENCE, self.ask(request))
                .await
                .map_err(|_| ServerError::Late(self.authority.clone()))
        })??;
        serde_json::from_slice(&body).map_err(|error| self.broken(&error))
    }

    async fn ask(&self, mut request: Request<Full<Bytes>>) -> Result<Bytes, ServerError> {
        let broken = |error: &dyn std::fmt::Display| self.broken(error);
        let socket = TcpStream::connect(&self.authority)
            .await
            .map_err(|error| ServerError::Unreachable(self.authority.clone(), error))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(socket)).await.map_err(|error| broken(&error))?;
        let connection = tokio::spawn(connection);
        request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        let answer = sender.send_request(request).await.map_err(|error| broken(&error))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect().await;
        let body = body.map_err(|error| broken(&error))?.to_bytes();
        connection.abort();
        if status.is_success() {
            return Ok(body);
        }
        let said = serde_json::from_slice::<Value>(&body).ok();
        let said = said.as_ref().and_then(|said| said.pointer("/error/message")).and_then(Value::as_str);
        let text = said.map_or_else(|| String::from_utf8_lossy(&body).trim().to_owned(), str::to_owned);
        let text = text.chars().take(500).collect();
        Err(ServerError::Refused(self.authority.clone(), status, text))
    }
}

/// A query value, or a part of a path.
pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let authority = |text: &str| text.parse::<Server>().map(|server| server.authority);
        assert_eq!(authority("http://127.0.0.1:15000"), Ok("127.0.0.1:15000".into()));
        assert_eq!(authority("http://localhost:1/"), Ok("localhost:1".into()));
        assert_eq!(authority("[::1]:7"), Ok("[::1]:7".into()));
        assert_eq!(authority("gateway"), Ok("gateway:15000".into()));
        for wrong in ["https://a:1", "http://a:1/objects", "http://", "http://u@a:1"] {
            assert!(authority(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn values_in_queries() {
        assert_eq!(encode("a&b=é/1"), "a%26b%3D%C3%A9%2F1");
    }
}
