//! A small HTTP client, one connection a request unless said otherwise.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    /// Status.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("no JSON ({error}): {}", String::from_utf8_lossy(&self.body)))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// `error.reason` of an answer of the gateway's own.
    pub fn reason(&self) -> String {
        self.json()["error"]["reason"].as_str().unwrap_or_default().to_owned()
    }

    /// The data of each server-sent event.
    pub fn events(&self) -> Vec<String> {
        self.text()
            .split("\n\n")
            .filter_map(|event| event.trim_start_matches('\n').strip_prefix("data: ").map(str::to_owned))
            .collect()
    }
}

/// Makes requests.
#[derive(Clone, Debug, Default)]
pub struct Client {
    host: Option<String>,
    headers: Vec<(String, String)>,
}

impl Client {
    /// A client without headers of its own.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sends this Host.
    #[must_use]
    pub fn host(mut self, host: &str) -> Self {
        self.host = Some(host.into());
        self
    }

    /// Sends this header with each request.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// GET.
    pub async fn get(&self, address: SocketAddr, path: &str) -> Answer {
        self.try_get(address, path).await.unwrap_or_else(|error| panic!("GET {address}{path}: {error:#}"))
    }

    /// GET, errors given back.
    pub async fn try_get(&self, address: SocketAddr, path: &str) -> anyhow::Result<Answer> {
        whole(self.begin(address, Method::GET, path, Bytes::new()).await?).await
    }

    /// POST of JSON.
    pub async fn post(&self, address: SocketAddr, path: &str, body: &Value) -> Answer {
        self.try_post(address, path, body).await.unwrap_or_else(|error| panic!("POST {address}{path}: {error:#}"))
    }

    /// POST of JSON, errors given back.
    pub async fn try_post(&self, address: SocketAddr, path: &str, body: &Value) -> anyhow::Result<Answer> {
        whole(self.begin(address, Method::POST, path, Bytes::from(body.to_string())).await?).await
    }

    /// Any request with any body.
    pub async fn send(&self, address: SocketAddr, method: Method, path: &str, body: Bytes) -> anyhow::Result<Answer> {
        whole(self.begin(address, method, path, body).await?).await
    }

    /// Sends a request and gives the answer as soon as its head is here. Dropping it leaves, as a client that goes.
    pub async fn begin(
        &self,
        address: SocketAddr,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> anyhow::Result<Response<Incoming>> {
        let stream = tokio::time::timeout(Duration::from_secs(10), TcpStream::connect(address)).await??;
        stream.set_nodelay(true)?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let host = self.host.clone().unwrap_or_else(|| address.to_string());
        let mut request = Request::builder().method(method.clone()).uri(path).header("host", host);
        if method == Method::POST && !self.headers.iter().any(|(name, _)| name == "content-type") {
            request = request.header("content-type", "application/json");
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        Ok(sender.send_request(request.body(Full::new(body))?).await?)
    }
}

/// Reads an answer to its end.
pub async fn whole(response: Response<Incoming>) -> anyhow::Result<Answer> {
    let (head, body) = response.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
}
