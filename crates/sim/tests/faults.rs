//! Bad days: each fault, and the ways in which a server ends.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on says so")]

#[expect(dead_code, reason = "shared with the comparison, which uses more of it")]
#[cfg(test)]
mod wire;

use std::time::Duration;

use serde_json::json;
use tidegate_sim::{Config, Faults, Stop};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use wire::{captured, get, metric, open, post, start};

const CHAT: &str = "/v1/chat/completions";
const LIMIT: Duration = Duration::from_secs(20);

fn chat(max_tokens: u32, stream: bool) -> String {
    json!({"model": "mymodel", "max_tokens": max_tokens, "stream": stream, "temperature": 0,
           "messages": [{"role": "user", "content": "who are you?"}]})
    .to_string()
}

/// A stream that has sent its head and first bytes.
async fn begun(address: std::net::SocketAddr) -> TcpStream {
    let mut stream = open(address, "POST", CHAT, &[("content-type", "application/json")], &chat(400, true)).await;
    let mut buffer = [0; 4096];
    assert!(stream.read(&mut buffer).await.unwrap() > 0);
    stream
}

async fn until(mut check: impl AsyncFnMut() -> bool) {
    tokio::time::timeout(LIMIT, async {
        while !check().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("it never came");
}

fn slow() -> Config {
    Config { speed: 1.0, ..captured() }
}

#[tokio::test]
async fn text_tells_which_model_answered_and_is_the_same_again() {
    let server = start(captured()).await;
    let ask = async |model: &str| {
        let body = chat(12, false).replace("mymodel", model);
        post(server.address(), CHAT, &body).await.json()["choices"][0]["message"]["content"].clone()
    };
    let (base, first) = (ask("mymodel").await, ask("travel-helper-v1").await);
    assert_ne!(base, first);
    assert_eq!((ask("mymodel").await, ask("travel-helper-v1").await), (base, first));
}

#[tokio::test]
async fn rates_over_http_and_outputs_of_poor_quality() {
    let server = start(captured()).await;
    let set = async |faults: serde_json::Value| {
        server.set_faults(Faults::default()).unwrap();
        assert_eq!(post(server.address(), "/sim/faults", &faults.to_string()).await.code(), 200);
    };
    set(json!({"error_rate": 1.0})).await;
    assert_eq!(post(server.address(), CHAT, &chat(4, false)).await.code(), 500);
    set(json!({"empty_rate": 1.0})).await;
    assert_eq!(post(server.address(), CHAT, &chat(4, false)).await.json()["choices"][0]["message"]["content"], "");
    set(json!({"truncated_rate": 1.0})).await;
    assert_eq!(post(server.address(), CHAT, &chat(8, false)).await.json()["usage"]["completion_tokens"], 4);
    set(json!({"malformed_rate": 1.0})).await;
    let answer = post(server.address(), CHAT, &chat(8, false)).await;
    assert!(serde_json::from_str::<serde_json::Value>(&answer.body).is_err());
    assert_eq!(post(server.address(), "/sim/faults", r#"{"nope": 1}"#).await.code(), 400);
}

#[tokio::test]
async fn stop_strings_and_cached_tokens() {
    let server = start(Config { prompt_tokens_details: true, ..captured() }).await;
    let mut body: serde_json::Value = serde_json::from_str(&chat(40, false)).unwrap();
    body["messages"][0]["content"] = json!("word ".repeat(60));
    let whole = post(server.address(), CHAT, &body.to_string()).await.json();
    assert_eq!(whole["usage"]["prompt_tokens_details"]["cached_tokens"], 0);
    let text = whole["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
    let stop: String = text.chars().skip(30).take(6).collect();
    body["stop"] = json!(stop);
    let stopped = post(server.address(), CHAT, &body.to_string()).await.json();
    assert_eq!(stopped["choices"][0]["message"]["content"], text[..text.find(&stop).unwrap()]);
    assert_eq!(
        (&stopped["choices"][0]["finish_reason"], &stopped["choices"][0]["stop_reason"]),
        (&json!("stop"), &body["stop"])
    );
    assert_eq!(stopped["usage"]["prompt_tokens_details"]["cached_tokens"], 64);
}

#[tokio::test]
async fn a_reset_in_mid_stream_is_a_reset() {
    let server = start(captured()).await;
    server.set_faults(Faults { reset_mid_stream_rate: 1.0, ..Faults::default() }).unwrap();
    let mut stream = begun(server.address()).await;
    let mut rest = Vec::new();
    let error = tokio::time::timeout(LIMIT, stream.read_to_end(&mut rest)).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn connections_are_refused_and_then_not() {
    let server = start(captured()).await;
    server.set_faults(Faults { refuse_connections: true, ..Faults::default() }).unwrap();
    until(async || TcpStream::connect(server.address()).await.is_err()).await;
    server.set_faults(Faults::default()).unwrap();
    until(async || TcpStream::connect(server.address()).await.is_ok()).await;
    assert_eq!(get(server.address(), "/health").await.code(), 200);
}

/// Trap 6: the generation stops, and `abort` stays 0.
#[tokio::test]
async fn a_client_that_leaves_ends_its_request() {
    let server = start(slow()).await;
    let stream = begun(server.address()).await;
    until(async || metric(server.address(), "vllm:num_requests_running").await == 1.0).await;
    drop(stream);
    until(async || metric(server.address(), "vllm:num_requests_running").await == 0.0).await;
    let page = get(server.address(), "/metrics").await.body;
    assert!(
        page.contains("vllm:request_success_total{engine=\"0\",finished_reason=\"abort\",model_name=\"mymodel\"} 0.0")
    );
    assert!(metric(server.address(), "vllm:generation_tokens_total").await < 400.0);
}

/// Trap 10: healthy, idle, and deaf; afterwards it answers what waited.
#[tokio::test]
async fn a_stopped_engine_says_it_is_well() {
    let server = start(captured()).await;
    server.set_faults(Faults { engine_stopped: true, ..Faults::default() }).unwrap();
    let address = server.address();
    let waiting = tokio::spawn(async move { post(address, CHAT, &chat(4, true)).await });
    until(async || get(address, "/metrics").await.code() == 200).await;
    assert_eq!(get(address, "/health").await.code(), 200);
    assert_eq!(
        metric(address, "vllm:num_requests_running").await + metric(address, "vllm:num_requests_waiting").await,
        0.0
    );
    assert!(!waiting.is_finished());
    server.set_faults(Faults::default()).unwrap();
    assert_eq!(tokio::time::timeout(LIMIT, waiting).await.unwrap().unwrap().code(), 200);
}

/// Trap 11: an error event, then the end of the stream, then of the server.
#[tokio::test]
async fn a_killed_engine_ends_its_streams_with_an_error_event() {
    let mut server = start(slow()).await;
    let mut stream = begun(server.address()).await;
    server.set_faults(Faults { engine_killed: true, ..Faults::default() }).unwrap();
    let mut rest = String::new();
    tokio::time::timeout(LIMIT, stream.read_to_string(&mut rest)).await.unwrap().unwrap();
    assert!(rest.contains("EngineCore encountered an issue") && rest.contains("data: [DONE]"), "{rest}");
    assert_eq!(get(server.address(), "/health").await.code(), 503);
    assert!(tokio::time::timeout(LIMIT, server.ended()).await.unwrap());
}

/// Trap 8: the port closes, the stream stays and is silent; when its client leaves, the server ends.
#[tokio::test]
async fn without_a_timeout_streams_fall_silent_and_hold_the_server() {
    let server = start(slow()).await;
    let address = server.address();
    let mut stream = begun(address).await;
    let stopped = tokio::spawn(server.stop(Stop::Graceful));
    until(async || TcpStream::connect(address).await.is_err()).await;
    let mut buffer = vec![0; 65_536];
    // What was under way may still come; then nothing does.
    while tokio::time::timeout(Duration::from_millis(300), stream.read(&mut buffer))
        .await
        .is_ok_and(|read| read.unwrap() > 0)
    {}
    assert!(!stopped.is_finished());
    drop(stream);
    tokio::time::timeout(LIMIT, stopped).await.unwrap().unwrap();
}

/// Trap 9: the stream finishes; meanwhile health is good and new requests get 500.
#[tokio::test]
async fn with_a_timeout_streams_finish() {
    let server = start(Config { shutdown_timeout: LIMIT, speed: 5.0, ..captured() }).await;
    let address = server.address();
    let mut stream = begun(address).await;
    let stopped = tokio::spawn(server.stop(Stop::Graceful));
    until(async || post(address, CHAT, &chat(1, false)).await.code() == 500).await;
    assert_eq!(get(address, "/health").await.code(), 200);
    let mut rest = String::new();
    tokio::time::timeout(LIMIT, stream.read_to_string(&mut rest)).await.unwrap().unwrap();
    assert!(rest.contains("data: [DONE]"));
    tokio::time::timeout(LIMIT, stopped).await.unwrap().unwrap();
}
