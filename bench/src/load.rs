//! The load: a closed loop over kept connections. Each connection sends its next request when the last was answered.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::backend::ASK_MODEL;

const PATH: &str = "/v1/chat/completions";
const HOST: &str = "bench.example.com";
/// The name that clients use; the gateway rewrites it.
pub(crate) const REQUESTED: &str = "bench";
/// No request of this load takes so long unless something hangs.
const DEADLINE: Duration = Duration::from_secs(120);

/// A chat request whose prompt has this many bytes: prose, with a line break every 80.
pub(crate) fn chat(prompt_bytes: usize) -> Bytes {
    let line = "Tell me what the harbour looked like before it was widened, and who paid for it.\n";
    let prompt: String = line.chars().cycle().take(prompt_bytes).collect();
    serde_json::json!({
        "model": REQUESTED,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": 16,
        "temperature": 0.7,
        "stream": false,
    })
    .to_string()
    .into()
}

/// Sends this many requests over this many connections; gives how long each took, in no order.
///
/// # Errors
/// When one is not answered by 200, or all together are not answered within two minutes.
pub(crate) async fn drive(
    target: SocketAddr,
    connections: usize,
    requests: usize,
    body: &Bytes,
) -> anyhow::Result<Vec<Duration>> {
    let mut clients = JoinSet::new();
    for index in 0..connections {
        let share = requests / connections + usize::from(index < requests % connections);
        clients.spawn(client(target, share, body.clone()));
    }
    let all = async {
        let mut times = Vec::with_capacity(requests);
        while let Some(ended) = clients.join_next().await {
            times.extend(ended??);
        }
        anyhow::Ok(times)
    };
    timeout(DEADLINE, all).await.context("the load did not end within two minutes")?
}

async fn client(target: SocketAddr, requests: usize, body: Bytes) -> anyhow::Result<Vec<Duration>> {
    let mut sender = connect(target).await?;
    let mut times = Vec::with_capacity(requests);
    for _ in 0..requests {
        let began = Instant::now();
        sender.ready().await?;
        let answer = sender.send_request(request(body.clone())?).await?;
        let status = answer.status();
        let mut answer = answer.into_body();
        let mut length = 0;
        while let Some(frame) = answer.frame().await {
            length += frame?.data_ref().map_or(0, Bytes::len);
        }
        times.push(began.elapsed());
        ensure!(status == StatusCode::OK, "answered with {status} instead of 200");
        ensure!(length > 0, "answered without a body");
    }
    Ok(times)
}

async fn connect(target: SocketAddr) -> anyhow::Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(target).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

fn request(body: Bytes) -> http::Result<Request<Full<Bytes>>> {
    Request::post(PATH)
        .header(header::HOST, HOST)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::USER_AGENT, "tidegate-bench")
        .body(Full::new(body))
}

/// Which model the backend was asked for, once the target answers at all.
///
/// # Errors
/// When it does not answer by 200 within 20 s.
pub(crate) async fn model_seen(target: SocketAddr) -> anyhow::Result<String> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match ask_model(target).await {
            Ok(model) => return Ok(model),
            Err(error) if Instant::now() > deadline => return Err(error.context(format!("{target} does not serve"))),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn ask_model(target: SocketAddr) -> anyhow::Result<String> {
    let mut sender = connect(target).await?;
    let mut request = request(chat(16))?;
    request.headers_mut().insert(ASK_MODEL, http::HeaderValue::from_static("1"));
    let answer = sender.send_request(request).await?;
    let status = answer.status();
    let body = answer.into_body().collect().await?.to_bytes();
    if status != StatusCode::OK {
        bail!("{status}: {}", String::from_utf8_lossy(&body));
    }
    Ok(String::from_utf8_lossy(&body).into_owned())
}
