//! Traffic: chat requests over kept connections, half of them streams, and who answered.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

/// Connections that send at the same time.
const CONNECTIONS: u32 = 16;
/// No answer may take longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// How the two arms of a release are told apart.
#[derive(Clone, Debug)]
pub(crate) enum Told {
    /// By the server that answered (`x-sim-server`).
    Server(SocketAddr),
    /// By the model in the answer.
    Model(String),
}

/// What a step's traffic saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) requests: u32,
    pub(crate) candidate: u32,
    /// What went wrong, and how often.
    pub(crate) errors: HashMap<String, u32>,
    /// Times to the first byte of the body, in milliseconds.
    pub(crate) first_bytes: Vec<f64>,
}

/// One answer's part of it.
struct Answered {
    candidate: bool,
    first_byte: Duration,
}

/// Sends `count` requests for `model` and tells the candidate's by `told`. `progress` is called after each answer with
/// what was seen so far.
pub(crate) async fn send(
    address: SocketAddr,
    model: &str,
    told: &Told,
    count: u32,
    mut progress: impl FnMut(&Seen),
) -> Seen {
    let next = Arc::new(AtomicU32::new(0));
    let (sender, mut receiver) = tokio::sync::mpsc::channel(64);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (next, sender, model, told) = (next.clone(), sender.clone(), model.to_owned(), told.clone());
        tasks.spawn(async move {
            let mut connection = None;
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return;
                }
                let stream = number % 2 == 0;
                let answered = timeout(PATIENCE, ask(&mut connection, address, &model, stream, &told)).await;
                let answered = answered.unwrap_or_else(|_| Err("no answer within 30 s".into()));
                if answered.is_err() {
                    connection = None;
                }
                if sender.send(answered).await.is_err() {
                    return;
                }
            }
        });
    }
    drop(sender);
    let mut seen = Seen::default();
    while let Some(answered) = receiver.recv().await {
        seen.requests = seen.requests.saturating_add(1);
        match answered {
            Ok(answered) => {
                seen.candidate = seen.candidate.saturating_add(u32::from(answered.candidate));
                seen.first_bytes.push(answered.first_byte.as_secs_f64() * 1000.0);
            }
            Err(error) => {
                let times = seen.errors.entry(error).or_insert(0);
                *times = times.saturating_add(1);
            }
        }
        progress(&seen);
    }
    seen.first_bytes.sort_by(f64::total_cmp);
    seen
}

async fn ask(
    connection: &mut Option<SendRequest<Full<Bytes>>>,
    address: SocketAddr,
    model: &str,
    stream: bool,
    told: &Told,
) -> Result<Answered, String> {
    let body = json!({"model": model, "stream": stream, "max_tokens": 8,
                      "messages": [{"role": "user", "content": "What is the tide doing?"}]});
    let mut sender = match connection.take() {
        Some(sender) if !sender.is_closed() => sender,
        _ => connect(address).await.map_err(|error| format!("cannot connect: {error}"))?,
    };
    let request = Request::post("/v1/chat/completions")
        .header("host", address.to_string())
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body.to_string())))
        .map_err(|error| error.to_string())?;
    let started = Instant::now();
    sender.ready().await.map_err(|error| format!("the connection broke: {error}"))?;
    let response = sender.send_request(request).await.map_err(|error| format!("no answer: {error}"))?;
    let status = response.status();
    let server = response.headers().get("x-sim-server").and_then(|name| name.to_str().ok()).map(str::to_owned);
    let mut body = response.into_body();
    let (mut bytes, mut first_byte) = (BytesMut::new(), None);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| format!("the answer was cut: {error}"))?;
        if let Some(data) = frame.data_ref() {
            first_byte.get_or_insert_with(|| started.elapsed());
            bytes.extend_from_slice(data);
        }
    }
    *connection = Some(sender);
    let text = String::from_utf8_lossy(&bytes);
    if !status.is_success() {
        return Err(format!("status {}: {}", status.as_u16(), text.chars().take(120).collect::<String>()));
    }
    let served = served_model(&text, stream)?;
    let candidate = match told {
        Told::Server(candidate) => server.as_deref() == Some(candidate.to_string().as_str()),
        Told::Model(candidate) => served == *candidate,
    };
    Ok(Answered { candidate, first_byte: first_byte.unwrap_or_else(|| started.elapsed()) })
}

/// The model that an answer names; an error when the answer is not whole.
fn served_model(text: &str, stream: bool) -> Result<String, String> {
    let json = if stream {
        if !text.trim_end().ends_with("data: [DONE]") {
            return Err("a stream ended before its end".into());
        }
        text.lines().find_map(|line| line.strip_prefix("data: ")).unwrap_or_default()
    } else {
        text
    };
    let value: Value = serde_json::from_str(json).map_err(|error| format!("no JSON in the answer: {error}"))?;
    if value.get("error").is_some() {
        return Err(format!("an error inside a 200 answer: {}", json.chars().take(120).collect::<String>()));
    }
    Ok(value.get("model").and_then(Value::as_str).unwrap_or_default().to_owned())
}

async fn connect(address: SocketAddr) -> Result<SendRequest<Full<Bytes>>, Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        // Its error is also the request's.
        let _ = connection.await;
    });
    Ok(sender)
}

/// A whole answer of the admin API.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) status: u16,
    pub(crate) body: Bytes,
}

/// GET.
pub(crate) async fn get(address: SocketAddr, path: &str) -> Result<Whole, Box<dyn std::error::Error + Send + Sync>> {
    let request = Request::get(path).header("host", address.to_string()).body(Full::new(Bytes::new()))?;
    whole(address, request).await
}

/// POST of JSON.
pub(crate) async fn post(
    address: SocketAddr,
    path: &str,
    body: &'static str,
) -> Result<Whole, Box<dyn std::error::Error + Send + Sync>> {
    let request = Request::post(path).header("host", address.to_string()).header("content-type", "application/json");
    whole(address, request.body(Full::new(Bytes::from_static(body.as_bytes())))?).await
}

async fn whole(
    address: SocketAddr,
    request: Request<Full<Bytes>>,
) -> Result<Whole, Box<dyn std::error::Error + Send + Sync>> {
    let mut sender = timeout(PATIENCE, connect(address)).await??;
    let response = timeout(PATIENCE, sender.send_request(request)).await??;
    let status = response.status().as_u16();
    Ok(Whole { status, body: timeout(PATIENCE, response.into_body().collect()).await??.to_bytes() })
}

#[cfg(test)]
mod tests {
    use super::served_model;

    #[test]
    fn whole_answers_name_their_model_and_others_are_errors() {
        assert_eq!(served_model(r#"{"model":"m"}"#, false).as_deref(), Ok("m"));
        assert_eq!(served_model("data: {\"model\":\"m\"}\n\ndata: [DONE]\n\n", true).as_deref(), Ok("m"));
        assert!(served_model("data: {\"model\":\"m\"}\n\n", true).is_err());
        assert!(served_model("data: {\"error\":{}}\n\ndata: [DONE]\n\n", true).is_err());
    }
}
