use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::TokioIo;
use tidegate_routing::Split;
use tidegate_routing::snapshot::{
    HeaderChanges, Mirror, ModelRule, PathRewrite, PickerSource, PoolIndex, Redirect, Target, UrlRewrite,
};
use tidegate_telemetry::{EndedBy, Reason};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::testing::*;

const CHAT: &str = "/v1/chat/completions";

fn model_rule(targets: &[&str]) -> Arc<ModelRule> {
    let arms: Vec<(&str, u32)> = targets.iter().map(|name| (*name, 1)).collect();
    Arc::new(ModelRule {
        owner: Arc::new(tidegate_api::ObjectKey::new("", "InferenceModel", "default", "m")),
        targets: targets.iter().map(|name| Target { model: (*name).into(), weight: 1 }).collect(),
        split: Split::new("m", &arms),
        pair: None,
        criticality: None,
    })
}

/// An endpoint whose answers are what the test sends, chunk by chunk; tells when a client has left it.
async fn scripted(kind: &'static str) -> (std::net::SocketAddr, mpsc::Receiver<mpsc::Sender<Bytes>>) {
    let (requests, taken) = mpsc::channel(8);
    let address = endpoint(move |_request| {
        let requests = requests.clone();
        async move {
            let (chunks, rest) = mpsc::channel::<Bytes>(8);
            requests.send(chunks).await.unwrap();
            let frames = futures_util::stream::unfold(rest, |mut rest| async move {
                rest.recv().await.map(|bytes| (Ok(Frame::data(bytes)), rest))
            });
            let mut response = Response::new(StreamBody::new(frames).boxed());
            response.headers_mut().insert("content-type", kind.parse().unwrap());
            response
        }
    })
    .await;
    (address, taken)
}

#[tokio::test]
async fn a_request_passes_and_is_observed() {
    let server = echo("a").await;
    let mut pool = pool("a", &[server]);
    pool.models.exact.insert("alias".into(), model_rule(&["real"]));
    let running = run(snapshot(vec![pool], vec![rule(vec![arm(0, 1)])])).await;
    let mut request = post("/v1/chat/completions?x=1", r#"{"stream":false,"model":"alias","n":1}"#);
    let headers = request.headers_mut();
    headers.insert("x-request-id", "my-req-1".parse().unwrap());
    headers.insert("x-gateway-destination-endpoint", "10.0.0.1:1".parse().unwrap());
    headers.insert("x-forwarded-for", "192.0.2.1".parse().unwrap());
    headers.insert("x-session-id", "s".parse().unwrap());
    let answer = send(running.address, request).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.headers["x-endpoint"], "a");
    let text = answer.text();
    assert!(text.starts_with("POST /v1/chat/completions?x=1\n"), "{text}");
    assert!(text.ends_with(r#"{"stream":false,"model":"real","n":1}"#), "{text}");
    let told = answer.told();
    assert_eq!(told["host"], "test");
    assert_eq!(told["content-length"], "37");
    assert_eq!(told["x-request-id"], "my-req-1");
    assert_eq!(told["x-forwarded-for"], "192.0.2.1, 127.0.0.1");
    assert_eq!((told["x-forwarded-proto"].as_str(), told["x-forwarded-host"].as_str()), ("http", "test"));
    assert!(!told.contains_key("x-gateway-destination-endpoint"));
    let seen = running.kept.take(1).await.remove(0);
    assert_eq!((seen.status, seen.reason, seen.ended_by), (200, None, EndedBy::Completion));
    assert_eq!(seen.request_id, "my-req-1");
    assert_eq!(seen.path, CHAT);
    assert_eq!(seen.route.as_deref(), Some("default/route"));
    assert_eq!(seen.arm.as_deref(), Some("default/pool-0"));
    assert_eq!((seen.requested_model.as_deref(), seen.target_model.as_deref()), (Some("alias"), Some("real")));
    assert_eq!(seen.endpoint.as_deref(), Some(server.to_string().as_str()));
    assert_eq!((seen.bytes_in, seen.bytes_out), (38, answer.body.len() as u64));
    assert!(seen.session && seen.logged && seen.ttft.is_some());
}

#[tokio::test]
async fn refusals_have_their_status_and_reason() {
    let server = echo("a").await;
    let mut limited = rule(vec![arm(0, 1)]);
    limited.limits.body_bytes = 100;
    let running = run(snapshot(vec![pool("a", &[server])], vec![limited])).await;
    let long = Bytes::from(vec![b' '; 101]);
    let chunked = Request::post(CHAT)
        .header("host", "test")
        .body(StreamBody::new(futures_util::stream::iter([Ok(Frame::data(long.clone()))])).boxed())
        .unwrap();
    let mut compressed = post(CHAT, "{}");
    compressed.headers_mut().insert("content-encoding", "gzip".parse().unwrap());
    let mut twice = post(CHAT, "{}");
    twice.headers_mut().append("host", "other".parse().unwrap());
    for (what, request, status, reason) in [
        ("empty", post(CHAT, ""), 400, "invalid_json"),
        ("broken", post(CHAT, "{"), 400, "invalid_json"),
        ("two models", post(CHAT, r#"{"model":"a","mod\u0065l":"b"}"#), 400, "duplicate_model"),
        ("two hosts", twice, 400, "bad_request"),
        ("admin", post("/v1/load_lora_adapter", "{}"), 403, "admin_path"),
        ("admin, hidden", get("/v1%2f..%2Fmetrics"), 403, "admin_path"),
        ("long", post(CHAT, long), 413, "body_too_large"),
        ("long, chunked", chunked, 413, "body_too_large"),
        ("compressed", compressed, 415, "compressed_body"),
    ] {
        let answer = send(running.address, request).await;
        assert_eq!((answer.status.as_u16(), answer.reason().as_str()), (status, reason), "{what}");
        assert_eq!(answer.headers["content-type"], "application/json");
        assert_eq!(answer.headers["x-request-id"].len(), 32);
        let seen = running.kept.take(1).await.remove(0);
        assert_eq!((seen.status, seen.reason.map(Reason::word)), (status, Some(reason)), "{what}");
        assert_eq!(seen.ended_by, EndedBy::Gateway);
    }
    assert!(send(running.address, post(CHAT, vec![b' '; 101])).await.text().contains("limit of 100 bytes"));
}

#[tokio::test]
async fn what_leads_nowhere_says_so() {
    let mut unavailable = pool("b", &["127.0.0.1:1".parse().unwrap()]);
    unavailable.picker = PickerSource::Unavailable("the picker is not spoken to yet".into());
    let pools = || vec![pool("a", &[]), pool("c", &["127.0.0.1:1".parse().unwrap()])];
    let mut invalid = arm(0, 1);
    invalid.target = tidegate_routing::snapshot::ArmTarget::Invalid("Service default/x is not described".into());
    for (rules, status, reason) in [
        (vec![], 404, "no_route"),
        (vec![rule(vec![])], 500, "no_backend"),
        (vec![rule(vec![arm(0, 0)])], 500, "no_backend"),
        (vec![rule(vec![invalid])], 500, "invalid_backend"),
        (vec![rule(vec![arm(0, 1)])], 503, "no_endpoint"),
        (vec![rule(vec![arm(1, 1)])], 502, "connect_failed"),
    ] {
        let running = run(snapshot(pools(), rules)).await;
        let answer = send(running.address, post(CHAT, "{}")).await;
        assert_eq!((answer.status.as_u16(), answer.reason().as_str()), (status, reason));
    }
    let running = run(snapshot(vec![unavailable], vec![rule(vec![arm(0, 1)])])).await;
    let answer = send(running.address, post(CHAT, "{}")).await;
    assert_eq!((answer.status.as_u16(), answer.reason().as_str()), (503, "picker_unavailable"));
}

#[tokio::test]
async fn a_slow_body_is_answered_at_its_limit() {
    let mut limited = rule(vec![arm(0, 1)]);
    limited.limits.request_body = Some(Duration::from_millis(50));
    let running = run(snapshot(vec![pool("a", &[echo("a").await])], vec![limited])).await;
    let mut slow = TcpStream::connect(running.address).await.unwrap();
    let head = format!("POST {CHAT} HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 9\r\n\r\n{{");
    slow.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(PATIENCE, slow.read_to_string(&mut answer)).await.expect("an end").unwrap();
    assert!(answer.starts_with("HTTP/1.1 100 Continue\r\n"), "{answer}");
    assert!(answer.contains("HTTP/1.1 408") && answer.contains("request_timeout"), "{answer}");
}

/// Trap 5: bytes pass as they come; and what they said is observed at the end.
#[tokio::test]
async fn trap_5_a_stream_passes_chunk_by_chunk() {
    let (server, mut requests) = scripted("text/event-stream; charset=utf-8").await;
    let running = run(snapshot(vec![pool("a", &[server])], vec![rule(vec![arm(0, 1)])])).await;
    let sent = tokio::spawn(begin(running.address, post(CHAT, r#"{"model":"m","stream":true}"#)));
    let chunks = requests.recv().await.unwrap();
    let events = [
        "data: {\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"},\"finish_reason\":null}]}\n\n",
        "data: {\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"b\"},\"finish_reason\":\"stop\"}]}\n\n",
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}}\n\n",
        "data: [DONE]\n\n",
    ];
    chunks.send(events[0].into()).await.unwrap();
    let mut body = sent.await.unwrap().unwrap().into_body();
    for (index, event) in events.iter().enumerate() {
        let frame = tokio::time::timeout(PATIENCE, body.frame()).await.expect("the chunk, before the next is sent");
        assert_eq!(frame.unwrap().unwrap().into_data().unwrap(), *event);
        if let Some(next) = events.get(index + 1) {
            chunks.send((*next).into()).await.unwrap();
        }
    }
    drop(chunks);
    assert!(body.frame().await.is_none());
    let seen = running.kept.take(1).await.remove(0);
    assert_eq!((seen.ended_by, seen.reason), (EndedBy::Completion, None));
    assert!(seen.stream);
    assert_eq!((seen.tokens.prompt, seen.tokens.completion, seen.tokens.estimated), (Some(3), Some(2), false));
    assert_eq!(seen.finish_reason.as_deref(), Some("stop"));
    assert!(seen.gap_mean.is_some() && seen.gap_max >= seen.gap_mean);
}

/// Trap 6: a client that leaves aborts the endpoint's request at once.
#[tokio::test]
async fn trap_6_a_client_that_leaves_ends_the_request_upstream() {
    let (server, mut requests) = scripted("text/event-stream").await;
    let running = run(snapshot(vec![pool("a", &[server])], vec![rule(vec![arm(0, 1)])])).await;
    let sent = tokio::spawn(begin(running.address, post(CHAT, r#"{"stream":true}"#)));
    let chunks = requests.recv().await.unwrap();
    chunks.send("data: {}\n\n".into()).await.unwrap();
    let mut body = sent.await.unwrap().unwrap().into_body();
    body.frame().await.unwrap().unwrap();
    drop(body);
    tokio::time::timeout(PATIENCE, chunks.closed()).await.expect("the endpoint sees the client leave");
    let seen = running.kept.take(1).await.remove(0);
    assert_eq!((seen.status, seen.ended_by, seen.reason), (200, EndedBy::Client, Some(Reason::ClientLeft)));
    assert_eq!(running.proxy.active().pools[0].state.endpoints[0].in_flight(), 0);
}

#[tokio::test]
async fn a_client_that_leaves_before_the_answer_is_observed_too() {
    let (reached, mut reaches) = mpsc::channel::<()>(1);
    let server = endpoint(move |_| {
        let reached = reached.clone();
        async move {
            reached.send(()).await.unwrap();
            std::future::pending().await
        }
    })
    .await;
    let running = run(snapshot(vec![pool("a", &[server])], vec![rule(vec![arm(0, 1)])])).await;
    let waiting = tokio::spawn(begin(running.address, post(CHAT, "{}")));
    reaches.recv().await.unwrap();
    waiting.abort();
    let mut raw = TcpStream::connect(running.address).await.unwrap();
    raw.write_all(format!("POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{{}}").as_bytes())
        .await
        .unwrap();
    reaches.recv().await.unwrap();
    drop(raw);
    let seen = running.kept.take(1).await.remove(0);
    assert_eq!((seen.status, seen.ended_by, seen.reason), (0, EndedBy::Client, Some(Reason::ClientLeft)));
}

/// Trap 8: a stream that falls silent ends at the idle limit, and the client sees that it is not whole.
#[tokio::test]
async fn trap_8_a_silent_stream_ends_at_the_idle_limit() {
    let (server, mut requests) = scripted("text/event-stream").await;
    for (idle, total, reason) in
        [(Some(60), None, Reason::IdleTimeout), (Some(60_000), Some(100), Reason::TotalTimeout)]
    {
        let mut limited = rule(vec![arm(0, 1)]);
        limited.limits.idle = idle.map(Duration::from_millis);
        limited.limits.total = total.map(Duration::from_millis);
        let running = run(snapshot(vec![pool("a", &[server])], vec![limited])).await;
        let sent = tokio::spawn(begin(running.address, post(CHAT, r#"{"stream":true}"#)));
        let chunks = requests.recv().await.unwrap();
        chunks.send("data: {}\n\n".into()).await.unwrap();
        let body = sent.await.unwrap().unwrap().into_body();
        let end = tokio::time::timeout(PATIENCE, body.collect()).await.expect("an end");
        assert!(end.is_err(), "the answer looks whole");
        tokio::time::timeout(PATIENCE, chunks.closed()).await.expect("the endpoint is let go");
        let seen = running.kept.take(1).await.remove(0);
        assert_eq!((seen.status, seen.ended_by, seen.reason), (200, EndedBy::Gateway, Some(reason)));
    }
}

/// Trap 11: an error event in a stream counts as a failure although the status was 200.
#[tokio::test]
async fn trap_11_an_error_event_is_a_failure() {
    let (server, mut requests) = scripted("text/event-stream").await;
    let running = run(snapshot(vec![pool("a", &[server])], vec![rule(vec![arm(0, 1)])])).await;
    let sent = tokio::spawn(begin(running.address, post(CHAT, r#"{"stream":true}"#)));
    let chunks = requests.recv().await.unwrap();
    chunks.send("data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n".into()).await.unwrap();
    let body = sent.await.unwrap().unwrap().into_body();
    chunks.send("data: {\"error\": {\"message\": \"died\", \"code\": 500}}\n\ndata: [DONE]\n\n".into()).await.unwrap();
    drop(chunks);
    assert!(body.collect().await.unwrap().to_bytes().ends_with(b"[DONE]\n\n"));
    let seen = running.kept.take(1).await.remove(0);
    assert_eq!((seen.status, seen.reason, seen.ended_by), (200, Some(Reason::ErrorEvent), EndedBy::Completion));
    assert_eq!((seen.tokens.completion, seen.tokens.estimated), (Some(1), true));
}

#[tokio::test]
async fn an_endpoint_that_breaks_off_is_told_from_an_end() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = [0; 4096];
            let _read = stream.read(&mut buffer).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc").await.unwrap();
        }
    });
    let running = run(snapshot(vec![pool("a", &[server])], vec![rule(vec![arm(0, 1)])])).await;
    let body = begin(running.address, post(CHAT, "{}")).await.unwrap().into_body();
    assert!(body.collect().await.is_err());
    let seen = running.kept.take(1).await.remove(0);
    assert_eq!((seen.ended_by, seen.reason), (EndedBy::Upstream, Some(Reason::UpstreamAborted)));
}

#[tokio::test]
async fn the_clients_model_name_is_given_back_where_asked_for() {
    for kind in ["application/json", "text/event-stream"] {
        let (server, mut requests) = scripted(kind).await;
        let mut pool = pool("a", &[server]);
        pool.models.exact.insert("alias".into(), model_rule(&["real"]));
        let mut arm = arm(0, 1);
        arm.answer_requested_model = true;
        let running = run(snapshot(vec![pool], vec![rule(vec![arm])])).await;
        let sent = tokio::spawn(begin(running.address, post(CHAT, r#"{"model":"alias"}"#)));
        let chunks = requests.recv().await.unwrap();
        let prefix = if kind == "text/event-stream" { "data: " } else { "" };
        chunks.send(format!("{prefix}{{\"mod").into()).await.unwrap();
        chunks.send("el\":\"re".into()).await.unwrap();
        chunks.send("al\",\"text\":\"model real\"}\n\n".into()).await.unwrap();
        drop(chunks);
        let body = sent.await.unwrap().unwrap().into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, format!("{prefix}{{\"model\":\"alias\",\"text\":\"model real\"}}\n\n"));
    }
}

#[tokio::test]
async fn filters_of_rule_and_arm_apply() {
    let value = http::HeaderValue::from_static;
    let change = |name: &'static str, text: &'static str| HeaderChanges {
        set: vec![(http::HeaderName::from_static(name), value(text))],
        ..HeaderChanges::default()
    };
    let mut arm = arm(0, 1);
    arm.filters.request_headers = change("x-arm", "1");
    arm.filters.response_headers = change("x-answer-arm", "1");
    let mut rule = rule(vec![arm]);
    rule.filters.request_headers = change("x-rule", "1");
    rule.filters.response_headers = change("x-answer-rule", "1");
    rule.filters.rewrite =
        Some(UrlRewrite { hostname: Some(value("inside")), path: Some(PathRewrite::Full("/v1/completions".into())) });
    let running = run(snapshot(vec![pool("a", &[echo("a").await])], vec![rule])).await;
    let answer = send(running.address, post("/x?q=1", "{}")).await;
    assert!(answer.text().starts_with("POST /v1/completions?q=1\n"), "{}", answer.text());
    let told = answer.told();
    assert_eq!((told["x-rule"].as_str(), told["x-arm"].as_str(), told["host"].as_str()), ("1", "1", "inside"));
    assert_eq!((&answer.headers["x-answer-rule"], &answer.headers["x-answer-arm"]), (&value("1"), &value("1")));
}

#[tokio::test]
async fn a_rewrite_never_uncovers_an_operators_path() {
    let mut rule = rule(vec![arm(0, 1)]);
    rule.filters.rewrite = Some(UrlRewrite { hostname: None, path: Some(PathRewrite::Full("/metrics".into())) });
    let running = run(snapshot(vec![pool("a", &[echo("a").await])], vec![rule])).await;
    assert_eq!(send(running.address, get("/harmless")).await.reason(), "admin_path");
}

#[tokio::test]
async fn redirects_are_answered_here() {
    let mut rule = rule(vec![]);
    rule.filters.redirect =
        Some(Redirect { scheme: Some("https".into()), hostname: None, path: None, port: None, status: 301 });
    let running = run(snapshot(vec![], vec![rule])).await;
    let answer = send(running.address, get("/x?y")).await;
    assert_eq!((answer.status.as_u16(), answer.headers["location"].to_str().unwrap()), (301, "https://test/x?y"));
}

#[tokio::test]
async fn mirrors_get_the_body_and_hold_up_nobody() {
    let (told, mut tells) = mpsc::channel::<(String, Bytes)>(8);
    let shadow = endpoint(move |request| {
        let told = told.clone();
        async move {
            let (head, body) = request.into_parts();
            told.send((head.uri.to_string(), body.collect().await.unwrap().to_bytes())).await.unwrap();
            std::future::pending().await
        }
    })
    .await;
    for inference in [true, false] {
        let mut mirrored = rule(vec![arm(0, 1)]);
        mirrored.inference = inference;
        mirrored.filters.mirrors = vec![
            Mirror { pool: PoolIndex(1), numerator: 1, denominator: 1 },
            Mirror { pool: PoolIndex(1), numerator: 0, denominator: 100 },
        ];
        let running = run(snapshot(vec![pool("a", &[echo("a").await]), pool("b", &[shadow])], vec![mirrored])).await;
        let answer = send(running.address, post(CHAT, r#"{"model":"m"}"#)).await;
        assert!(answer.text().ends_with(r#"{"model":"m"}"#), "{}", answer.text());
        let (uri, body) = tokio::time::timeout(PATIENCE, tells.recv()).await.expect("the copy").unwrap();
        assert_eq!((uri.as_str(), &body[..]), (CHAT, &br#"{"model":"m"}"#[..]));
        assert!(tells.try_recv().is_err());
        running.proxy.shutdown(Duration::from_secs(5)).await;
    }
}

#[tokio::test]
async fn bodies_of_other_rules_stream_through() {
    let mut plain = rule(vec![arm(0, 1)]);
    plain.inference = false;
    let running = run(snapshot(vec![pool("a", &[echo("a").await])], vec![plain])).await;
    let answer = send(running.address, post("/metrics", "not json")).await;
    assert!(answer.text().ends_with("\n\nnot json"), "{}", answer.text());
}

/// A body in chunks, without a length.
fn chunks(parts: &'static [&'static str]) -> TestBody {
    let frames =
        parts.iter().map(|part| Ok::<_, std::convert::Infallible>(Frame::data(Bytes::from_static(part.as_bytes()))));
    http_body_util::BodyExt::boxed(StreamBody::new(futures_util::stream::iter(frames)))
}

#[tokio::test]
async fn a_streaming_body_is_held_to_its_limit_and_sent_once() {
    let mut plain = rule(vec![arm(0, 1)]);
    plain.inference = false;
    plain.limits.body_bytes = 8;
    let waiting = endpoint(|request| async move {
        let _read = request.into_body().collect().await;
        std::future::pending().await
    })
    .await;
    let running = run(snapshot(vec![pool("a", &[waiting])], vec![plain])).await;
    let long = Request::post("/x").header("host", "test").body(chunks(&["12345", "6789"])).unwrap();
    let answer = send(running.address, long).await;
    assert_eq!((answer.status.as_u16(), &*answer.reason()), (413, "body_too_large"));

    // Nothing of it was sent while there was no connection, so it can go elsewhere; after that it cannot.
    for (first, status) in [(nobody(), 200), (breaks_off().await, 502)] {
        let mut plain = rule(vec![arm(0, 1)]);
        plain.inference = false;
        let running = run(snapshot(vec![pool("a", &[first, echo("b").await])], vec![plain])).await;
        // Ties are broken at random: until one request has gone to the first endpoint.
        let mut met = Vec::new();
        while !met.contains(&(status, if status == 200 { 1 } else { 0 })) {
            let short = Request::post("/x").header("host", "test").body(chunks(&["12", "34"])).unwrap();
            let answer = send(running.address, short).await;
            let seen = running.kept.take(1).await;
            assert!(answer.status.as_u16() == 200 || answer.status.as_u16() == status);
            assert!(answer.status != 200 || answer.text().ends_with("\n\n1234"));
            met.push((answer.status.as_u16(), seen[0].retries));
        }
    }
}

#[tokio::test]
async fn http2_with_prior_knowledge_is_served() {
    let running = run(snapshot(vec![pool("a", &[echo("a").await])], vec![rule(vec![arm(0, 1)])])).await;
    let stream = TcpStream::connect(running.address).await.unwrap();
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::post("http://test/v1/completions")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .body(full(r#"{"model":"m"}"#))
        .unwrap();
    let body = sender.send_request(request).await.unwrap().into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8_lossy(&body);
    assert!(text.starts_with("POST /v1/completions\n") && text.contains("\nhost: test\n"), "{text}");
    assert!(text.contains("\ncookie: a=1; b=2\n"), "{text}");
}

/// Old clients, and those that take the gateway for a proxy.
#[tokio::test]
async fn http_1_0_and_absolute_targets_are_served() {
    let running = run(snapshot(vec![pool("a", &[echo("a").await])], vec![rule(vec![arm(0, 1)])])).await;
    for (head, host) in [
        ("GET /x HTTP/1.0\r\n\r\n", ""),
        ("GET http://inside/x HTTP/1.1\r\nhost: other\r\nconnection: close\r\n\r\n", "inside"),
    ] {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("an end").unwrap();
        assert!(answer.contains("200 OK") && answer.contains("GET /x\n"), "{answer}");
        assert!(answer.contains(&format!("\nhost: {host}\n")), "{answer}");
    }
}

/// Requests one after the other on one connection, each observed by itself.
#[tokio::test]
async fn a_connection_is_kept() {
    let running = run(snapshot(vec![pool("a", &[echo("a").await])], vec![rule(vec![arm(0, 1)])])).await;
    let stream = TcpStream::connect(running.address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    for round in 0..20 {
        sender.ready().await.unwrap();
        let request = if round % 3 == 0 { post("/v1/load_lora_adapter", "{}") } else { post(CHAT, "{}") };
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), if round % 3 == 0 { 403 } else { 200 });
        response.into_body().collect().await.unwrap();
    }
    assert_eq!(running.kept.take(20).await.len(), 20);
    assert_eq!(running.proxy.connections(), 1);
}

#[tokio::test]
async fn head_and_answers_without_a_body_end_well() {
    let server = endpoint(|request: Request<Incoming>| async move {
        let mut response = Response::new(full(if request.uri().path() == "/none" { "" } else { "hello" }));
        if request.uri().path() == "/none" {
            *response.status_mut() = http::StatusCode::NO_CONTENT;
        }
        response
    })
    .await;
    let running = run(snapshot(vec![pool("a", &[server])], vec![rule(vec![arm(0, 1)])])).await;
    let mut head = get("/x");
    *head.method_mut() = http::Method::HEAD;
    let answer = send(running.address, head).await;
    assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 0));
    assert_eq!(answer.headers["content-length"], "5");
    let answer = send(running.address, get("/none")).await;
    assert_eq!((answer.status.as_u16(), answer.body.len()), (204, 0));
    for seen in running.kept.take(2).await {
        assert_eq!((seen.ended_by, seen.reason), (EndedBy::Completion, None));
    }
}

/// A request stays small: it is one future per connection, and there are many.
#[test]
fn a_requests_future_is_small() {
    fn size<F: Future>(_make: impl Fn(Arc<Connection>, Request<Incoming>) -> F) -> usize {
        size_of::<F>()
    }
    let size = size(serve_request);
    assert!(size < 8 * 1024, "{size}");
}

use super::*;
