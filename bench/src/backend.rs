//! A model server that answers at once, so that what is measured is the way there and back.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tidegate_body::scan::scan;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// A request with this header is told which model it asked for, to show that a gateway rewrites.
pub(crate) const ASK_MODEL: &str = "x-bench-model";

/// What the server says it serves.
pub(crate) const SERVED: [&str; 2] = ["bench-v1", "bench-v2"];

const METRICS: &str = "# TYPE vllm:num_requests_running gauge\n\
    vllm:num_requests_running{engine=\"0\",model_name=\"bench-v1\"} 0.0\n\
    # TYPE vllm:num_requests_waiting gauge\n\
    vllm:num_requests_waiting{engine=\"0\",model_name=\"bench-v1\"} 0.0\n\
    # TYPE vllm:kv_cache_usage_perc gauge\n\
    vllm:kv_cache_usage_perc{engine=\"0\",model_name=\"bench-v1\"} 0.0\n";

/// A whole answer of the shape and size that vLLM gives.
const ANSWER: &str = r#"{"id":"chatcmpl-80d6b3acc6d525f0","object":"chat.completion","created":1795334267,"model":"bench-v1","choices":[{"index":0,"message":{"role":"assistant","content":"The harbour was built in 1932 and has been widened twice since.","refusal":null,"annotations":null,"audio":null,"function_call":null,"reasoning":null},"logprobs":null,"finish_reason":"stop","stop_reason":null,"token_ids":null,"routed_experts":null}],"service_tier":null,"system_fingerprint":"bench","usage":{"prompt_tokens":64,"total_tokens":80,"completion_tokens":16,"prompt_tokens_details":null,"completion_tokens_details":null},"prompt_logprobs":null,"prompt_token_ids":null,"prompt_text":null,"kv_transfer_params":null,"ec_transfer_params":null,"metrics":null}"#;

/// Serves on these addresses until the process is ended.
///
/// # Errors
/// When an address may not be bound.
pub(crate) async fn serve(addresses: Vec<SocketAddr>) -> anyhow::Result<()> {
    let mut listeners = JoinSet::new();
    for address in addresses {
        let listener = TcpListener::bind(address).await?;
        listeners.spawn(accept(listener));
    }
    while let Some(ended) = listeners.join_next().await {
        ended??;
    }
    Ok(())
}

async fn accept(listener: TcpListener) -> std::io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            let connection = http1::Builder::new();
            // A client that leaves is no event here.
            let _ = connection.serve_connection(TokioIo::new(stream), service_fn(answer)).await;
        });
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let answer = match (&head.method, head.uri.path()) {
        (&Method::GET, "/health") => text("text/plain", Bytes::new()),
        (&Method::GET, "/metrics") => {
            text("text/plain; version=1.0.0; charset=utf-8", Bytes::from_static(METRICS.as_bytes()))
        }
        (&Method::GET, "/v1/models") => text("application/json", models()),
        (&Method::POST, "/v1/chat/completions") => {
            let ask = head.headers.contains_key(ASK_MODEL);
            match body.collect().await {
                Ok(body) if ask => text("text/plain", model_of(&body.to_bytes())),
                Ok(_) => text("application/json", Bytes::from_static(ANSWER.as_bytes())),
                Err(_) => status(StatusCode::BAD_REQUEST),
            }
        }
        _ => status(StatusCode::NOT_FOUND),
    };
    Ok(answer)
}

fn models() -> Bytes {
    let data: Vec<_> =
        SERVED.iter().map(|id| serde_json::json!({"id": id, "object": "model", "owned_by": "vllm"})).collect();
    serde_json::json!({"object": "list", "data": data}).to_string().into()
}

fn model_of(body: &[u8]) -> Bytes {
    let model = scan(body).ok().and_then(|found| found.model);
    model.map(|field| field.name.into_owned()).unwrap_or_default().into()
}

fn text(content_type: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(body));
    answer.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    answer
}

fn status(status: StatusCode) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = status;
    answer
}
