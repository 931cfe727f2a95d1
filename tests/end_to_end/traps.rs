//! What a real vLLM does on a bad day: the numbered traps of `shared/vllm/BEHAVIOUR.md`, 3 to 11 and 13, each by its
//! number, here against the simulated server that answers like it. (6 and 8 stand in `failures.rs`.)

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use tidegate_harness::{Answer, Client, ModelServer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::setup::{BINARY, CHAT, Manifests, Setup, chat};

async fn two_servers() -> (ModelServer, ModelServer, Setup) {
    let first = ModelServer::start(BINARY, "m", &["adapter"], &[]);
    let second = ModelServer::start(BINARY, "m", &["adapter"], &[]);
    let setup = Manifests::new(&[("pool", 1, &[&first, &second])]).serve().await;
    (first, second, setup)
}

fn without_times(answer: &Answer) -> Value {
    let mut value = answer.json();
    for key in ["id", "created"] {
        value[key] = Value::Null;
    }
    value
}

#[tokio::test]
async fn trap_3_an_unknown_model_gets_the_servers_own_404_and_no_model_gets_the_base() {
    let server = ModelServer::start(BINARY, "m", &[], &[]);
    let setup = Manifests::new(&[("pool", 1, &[&server])]).serve().await;
    let through = Client::new().post(setup.address, CHAT, &chat("nope", 1, false)).await;
    let direct = Client::new().post(server.address, CHAT, &chat("nope", 1, false)).await;
    assert_eq!((through.status, &through.body), (404, &direct.body));
    assert_eq!(through.json()["error"]["type"], "NotFoundError");
    let mut body = chat("m", 1, false);
    body.as_object_mut().unwrap().remove("model");
    let answer = Client::new().post(setup.address, CHAT, &body).await;
    assert_eq!((answer.status, answer.json()["model"].as_str()), (200, Some("m")), "{}", answer.text());
}

#[tokio::test]
async fn trap_4_the_servers_own_400s_pass_unchanged_also_for_streams() {
    let server = ModelServer::start(BINARY, "m", &[], &["--max-model-len", "64"]);
    let setup = Manifests::new(&[("pool", 1, &[&server])]).serve().await;
    let mut long = chat("m", 1, false);
    long["messages"][0]["content"] = json!("word ".repeat(400));
    let mut streamed = long.clone();
    streamed["stream"] = json!(true);
    let missing = json!({"model": "m"});
    for body in [chat("m", 5000, false), long, streamed, missing] {
        let through = Client::new().post(setup.address, CHAT, &body).await;
        let direct = Client::new().post(server.address, CHAT, &body).await;
        assert_eq!((through.status, &through.body), (400, &direct.body), "{body}");
        assert_eq!(through.headers["content-type"], "application/json");
    }
    let through = Client::new().get(setup.address, "/no/such/path").await;
    assert_eq!((through.status, through.text().as_str()), (404, r#"{"detail":"Not Found"}"#));
}

#[tokio::test]
async fn trap_5_a_streams_bytes_arrive_as_they_were_sent() {
    let server = ModelServer::start(BINARY, "m", &[], &[]);
    let setup = Manifests::new(&[("pool", 1, &[&server])]).serve().await;
    for options in
        [json!(null), json!({"include_usage": true}), json!({"include_usage": true, "continuous_usage_stats": true})]
    {
        let mut body = chat("m", 6, true);
        body["temperature"] = json!(0);
        body["stream_options"] = options;
        let client = Client::new().header("x-request-id", "same-1");
        let (through, direct) =
            (client.post(setup.address, CHAT, &body).await, client.post(server.address, CHAT, &body).await);
        let strip = |answer: &Answer| -> Vec<Value> {
            answer
                .events()
                .iter()
                .filter_map(|event| serde_json::from_str(event).ok())
                .map(|mut event: Value| {
                    event["created"] = Value::Null;
                    event
                })
                .collect()
        };
        assert_eq!(strip(&through), strip(&direct));
        assert!(through.text().ends_with("data: [DONE]\n\n"), "{}", through.text());
        assert_eq!(through.headers["content-type"], direct.headers["content-type"]);
    }
}

#[tokio::test]
async fn trap_7_a_refusal_inside_a_200_stream_goes_elsewhere() {
    let (first, _second, setup) = two_servers().await;
    first.faults(&json!({"refuse_in_stream_rate": 1.0})).await;
    for _ in 0..40 {
        let answer = Client::new().post(setup.address, CHAT, &chat("m", 3, true)).await;
        assert_eq!(answer.status, 200);
        assert!(!answer.text().contains("\"error\""), "{}", answer.text());
    }
}

#[tokio::test]
async fn trap_7_when_every_server_refuses_the_client_reads_what_it_said() {
    let (first, second, setup) = two_servers().await;
    for server in [&first, &second] {
        server.faults(&json!({"refuse_in_stream_rate": 1.0})).await;
    }
    let answer = Client::new().post(setup.address, CHAT, &chat("m", 3, true)).await;
    assert!(answer.text().contains("currently busy"), "{}", answer.text());
    let lines = setup.gateway.wait_log(1, |line| line["path"] == CHAT).await;
    assert_eq!(lines[0]["reason"], "error_event", "{lines:?}");
}

#[tokio::test]
async fn trap_9_a_draining_servers_500_is_retried_elsewhere() {
    let (first, second, setup) = two_servers().await;
    first.faults(&json!({"draining": true})).await;
    for stream in [false, true] {
        for _ in 0..20 {
            let answer = Client::new().post(setup.address, CHAT, &chat("m", 2, stream)).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            assert_eq!(answer.headers["x-sim-server"], second.address.to_string().as_str());
        }
    }
}

/// The engine is stopped; the server says healthy and idle, and answers nothing. After 30 s without a byte the gateway
/// asks by itself, after 10 s more it gives the server up, and what waits there is sent elsewhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trap_10_a_stopped_engine_is_found_out() {
    let (first, second, setup) = two_servers().await;
    first.faults(&json!({"engine_stopped": true})).await;
    let requests = (0..8).map(|_| {
        let address = setup.address;
        tokio::spawn(async move { Client::new().post(address, CHAT, &chat("m", 2, false)).await })
    });
    for request in futures_util::future::join_all(requests).await {
        let answer = request.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.headers["x-sim-server"], second.address.to_string().as_str());
    }
    first.faults(&json!({"engine_stopped": false})).await;
    let started = tokio::time::Instant::now();
    loop {
        let answer = Client::new().post(setup.address, CHAT, &chat("m", 2, false)).await;
        if answer.headers["x-sim-server"] == first.address.to_string().as_str() {
            break;
        }
        assert!(started.elapsed() < tidegate_harness::gateway::PATIENCE, "it is never used again");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn trap_11_an_error_event_in_a_stream_counts_as_a_failure() {
    let server = ModelServer::start(BINARY, "m", &[], &["--speed", "1"]);
    let setup = Manifests::new(&[("pool", 1, &[&server])]).serve().await;
    let body = chat("m", 300, true).to_string().into();
    let response = Client::new().begin(setup.address, Method::POST, CHAT, body).await.unwrap();
    assert_eq!(response.status(), 200);
    server.faults(&json!({"engine_killed": true})).await;
    let answer = tidegate_harness::client::whole(response).await.unwrap();
    assert!(answer.text().contains("EngineCore encountered an issue"), "{}", answer.text());
    let lines = setup.gateway.wait_log(1, |line| line["path"] == CHAT).await;
    assert_eq!((&lines[0]["status"], &lines[0]["reason"]), (&json!(200), &json!("error_event")), "{lines:?}");
}

#[tokio::test]
async fn trap_13_the_clients_request_id_becomes_the_answers_id() {
    let server = ModelServer::start(BINARY, "m", &[], &[]);
    let setup = Manifests::new(&[("pool", 1, &[&server])]).serve().await;
    let client = Client::new().header("x-request-id", "my-req-1");
    let mut body = chat("m", 1, false);
    body["temperature"] = json!(0);
    let answer = client.post(setup.address, CHAT, &body).await;
    assert_eq!(answer.json()["id"], "chatcmpl-my-req-1");
    let lines = setup.gateway.wait_log(1, |line| line["path"] == CHAT).await;
    assert_eq!(lines[0]["request_id"], "my-req-1");
    let direct = client.post(server.address, CHAT, &body).await;
    assert_eq!(without_times(&answer)["choices"], without_times(&direct)["choices"]);
}

/// Headers that could choose an endpoint or rename a model never reach a server.
#[tokio::test]
async fn routing_headers_of_clients_are_removed() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut manifests = Manifests::new(&[("pool", 1, &[])]);
    manifests.pools[0].2.push(listener.local_addr().unwrap().to_string());
    let setup = manifests.serve_at_once().await;
    // A server that answers every request with the head that it got.
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await?);
                }
                let answer = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", head.len());
                stream.write_all(answer.as_bytes()).await?;
                stream.write_all(&head).await
            });
        }
    });
    let mut client = Client::new().header("x-kept", "yes");
    for name in [
        "x-gateway-destination-endpoint",
        "x-gateway-destination-endpoint-subset",
        "x-llm-d-model-name-rewrite",
        "x-gateway-model-name-rewrite",
    ] {
        client = client.header(name, "127.0.0.1:1");
    }
    let answer = client.send(setup.address, Method::GET, "/any", Bytes::new()).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.text().contains("x-kept: yes"), "{}", answer.text());
    assert!(!answer.text().contains("127.0.0.1:1\r\n"), "{}", answer.text());
}
