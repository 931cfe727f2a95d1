//! One HTTP request to a model server or a service, with bounds on time and size. No connection is kept: calls are rare.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Method, Request, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// Larger answers are given up.
const LARGEST: usize = 4 * 1024 * 1024;

/// A whole answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Bytes,
}

impl Answer {
    /// The body as JSON.
    pub(crate) fn json(&self) -> Option<serde_json::Value> {
        serde_json::from_slice(&self.body).ok()
    }

    /// Status and the beginning of the body, for messages.
    pub(crate) fn says(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        let short: String = text.chars().take(200).collect();
        format!("status {}: {}", self.status, short.trim())
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// Not in time.
    #[error("no whole answer within {0:?}")]
    Late(Duration),
    /// No connection.
    #[error("cannot connect: {0}")]
    Connect(std::io::Error),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(#[from] hyper::Error),
    /// Not an address.
    #[error("not a URL with http:// or https:// and a host: {0}")]
    Address(String),
    /// Not a request.
    #[error("not a valid request: {0}")]
    Request(#[from] http::Error),
    /// Too long.
    #[error("the answer is larger than {LARGEST} bytes")]
    TooLarge,
}

/// GET from an endpoint, `host:port`.
pub(crate) async fn get(address: &str, path: &str, patience: Duration) -> Result<Answer, AskError> {
    let uri = endpoint(address, path)?;
    ask(&uri, Method::GET, Vec::new(), Bytes::new(), patience).await
}

/// POST of JSON to an endpoint, `host:port`.
pub(crate) async fn post(
    address: &str,
    path: &str,
    body: &serde_json::Value,
    patience: Duration,
) -> Result<Answer, AskError> {
    post_to(&endpoint(address, path)?, Vec::new(), body.to_string().into(), patience).await
}

/// POST of JSON to a URL.
pub(crate) async fn post_to(
    uri: &Uri,
    headers: Vec<(&'static str, String)>,
    body: Bytes,
    patience: Duration,
) -> Result<Answer, AskError> {
    ask(uri, Method::POST, headers, body, patience).await
}

fn endpoint(address: &str, path: &str) -> Result<Uri, AskError> {
    format!("http://{address}{path}").parse().map_err(|_| AskError::Address(address.to_owned()))
}

async fn ask(
    uri: &Uri,
    method: Method,
    headers: Vec<(&'static str, String)>,
    body: Bytes,
    patience: Duration,
) -> Result<Answer, AskError> {
    let refuse = || AskError::Address(uri.to_string());
    let host = uri.host().ok_or_else(refuse)?.to_owned();
    let is_tls = match uri.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        _ => return Err(refuse()),
    };
    let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let authority = uri.authority().map_or(host.as_str(), http::uri::Authority::as_str).to_owned();
    let mut request = Request::builder().method(method).uri(path).header(header::HOST, authority);
    if !body.is_empty() {
        request = request.header(header::CONTENT_TYPE, "application/json");
    }
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let request = request.body(Full::new(body))?;
    let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let round = async {
        let stream = TcpStream::connect((name.as_str(), port)).await.map_err(AskError::Connect)?;
        if !is_tls {
            return exchange(stream, request).await;
        }
        let server = ServerName::try_from(name.clone()).map_err(|_| refuse())?;
        let stream = TlsConnector::from(tls()).connect(server, stream).await.map_err(AskError::Connect)?;
        exchange(stream, request).await
    };
    timeout(patience, round).await.map_err(|_| AskError::Late(patience))?
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Answer, AskError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
    // Ends with its sender; what breaks it is also said by the request.
    tokio::spawn(connection);
    let (head, mut body) = sender.send_request(request).await?.into_parts();
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Some(data) = frame?.data_ref() {
            if bytes.len().saturating_add(data.len()) > LARGEST {
                return Err(AskError::TooLarge);
            }
            bytes.extend_from_slice(data);
        }
    }
    Ok(Answer { status: head.status.as_u16(), body: bytes.freeze() })
}

/// The roots that this machine trusts, read once.
fn tls() -> Arc<rustls::ClientConfig> {
    static CONFIG: OnceLock<Arc<rustls::ClientConfig>> = OnceLock::new();
    CONFIG
        .get_or_init(|| {
            let mut roots = rustls::RootCertStore::empty();
            let found = rustls_native_certs::load_native_certs();
            for error in &found.errors {
                tracing::warn!(%error, "a trusted root cannot be read");
            }
            roots.add_parsable_certificates(found.certs);
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
            let config = match builder {
                Ok(builder) => builder.with_root_certificates(roots).with_no_client_auth(),
                // The provider has both protocol versions; this is never taken.
                Err(_) => rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth(),
            };
            Arc::new(config)
        })
        .clone()
}
