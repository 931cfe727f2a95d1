//! Bad input, from manifests and from clients: a clear answer each time, nothing lost, memory bounded.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use tidegate_harness::gateway::{PATIENCE, write_atomically};
use tidegate_harness::{Client, Gateway, GatewayOptions, ModelServer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::setup::{BINARY, CHAT, Manifests, Setup, chat};

const MIB: usize = 1024 * 1024;

async fn one_server() -> (ModelServer, Setup) {
    let server = ModelServer::start(BINARY, "m", &[], &[]);
    let setup = Manifests::new(&[("pool", 1, &[&server])]).serve().await;
    (server, setup)
}

/// A chat request padded to exactly `size` bytes.
fn padded(size: usize) -> Bytes {
    let head = "{\"model\":\"m\",\"max_tokens\":1,\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"pad\":\"";
    let mut text = String::with_capacity(size);
    text.push_str(head);
    text.extend(std::iter::repeat_n('x', size - head.len() - 2));
    text.push_str("\"}");
    assert_eq!(text.len(), size);
    Bytes::from(text)
}

#[tokio::test]
async fn bodies_are_answered_by_their_faults() {
    let (_server, setup) = one_server().await;
    let deep = format!("{{\"model\":\"m\",\"x\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let unbalanced = format!("{{\"model\":\"m\",\"x\":{}", "[".repeat(100_000));
    let duplicate = r#"{"model":"m","mod\u0065l":"n"}"#;
    let cases: Vec<(&str, Bytes, u16, &str)> = vec![
        ("empty", Bytes::new(), 400, "invalid_json"),
        ("truncated", Bytes::from_static(b"{\"model\":\"m\",\"messages\":["), 400, "invalid_json"),
        ("not an object", Bytes::from_static(b"[1]"), 400, "invalid_json"),
        ("two objects", Bytes::from_static(b"{}{}"), 400, "invalid_json"),
        ("two models", Bytes::from(duplicate), 400, "duplicate_model"),
        ("invalid UTF-8", Bytes::from_static(b"{\"model\":\"\xff\"}"), 400, "invalid_model"),
        ("deep and unbalanced", Bytes::from(unbalanced), 400, "invalid_json"),
        ("21 MiB", padded(21 * MIB), 413, "body_too_large"),
    ];
    for (what, body, status, reason) in cases {
        let answer = Client::new()
            .send(setup.address, Method::POST, CHAT, body)
            .await
            .unwrap_or_else(|error| panic!("{what}: {error:#}"));
        assert_eq!((answer.status, answer.reason().as_str()), (status, reason), "{what}: {}", answer.text());
        assert!(answer.json()["error"]["message"].as_str().is_some_and(|message| message.len() > 10), "{what}");
    }
    // Deep nesting that is sound JSON is the server's to judge.
    let answer = Client::new().send(setup.address, Method::POST, CHAT, Bytes::from(deep)).await.unwrap();
    assert!(answer.reason().is_empty(), "{}", answer.text());
    // 20 MiB exactly is let through.
    let answer = Client::new().send(setup.address, Method::POST, CHAT, padded(20 * MIB)).await.unwrap();
    assert_ne!(answer.status, 413, "{}", answer.text());
    let compressed = Client::new().header("content-encoding", "gzip").header("content-type", "application/json");
    let answer = compressed.send(setup.address, Method::POST, CHAT, Bytes::from_static(b"\x1f\x8b")).await.unwrap();
    assert_eq!((answer.status, answer.reason().as_str()), (415, "compressed_body"));
}

#[tokio::test]
async fn administrative_paths_are_not_through_us() {
    let (_server, setup) = one_server().await;
    for path in [
        "/v1/load_lora_adapter",
        "/v1/unload_lora_adapter",
        "/metrics",
        "/load",
        "/sleep",
        "/wake_up",
        "/reset_prefix_cache",
        "/collective_rpc",
        "/inference/v1/abort_requests",
        "/kv_event_sources",
        "//metrics",
        "/v1/../metrics",
        "/%6detrics",
        "/v1%2f..%2fmetrics",
        "/v1/./load_lora_adapter",
        "/v1//load_lora_adapter",
        "/v1/load_lora_adapter/",
    ] {
        let answer = Client::new().send(setup.address, Method::POST, path, Bytes::from_static(b"{}")).await.unwrap();
        assert_eq!((answer.status, answer.reason().as_str()), (403, "admin_path"), "{path}: {}", answer.text());
    }
}

#[tokio::test]
async fn large_bodies_do_not_stay_in_memory() {
    let (_server, setup) = one_server().await;
    let before = setup.gateway.resident_kib();
    for _ in 0..5 {
        let requests = (0..4).map(|_| async {
            Client::new().send(setup.address, Method::POST, CHAT, padded(20 * MIB)).await.unwrap().status
        });
        futures_util::future::join_all(requests).await;
    }
    let after = setup.gateway.resident_kib();
    // 400 MiB went through, 80 MiB at once.
    assert!(after < before + 250 * 1024, "{before} KiB before, {after} KiB after");
}

/// A client that sends a byte a second is served once it is done, and others are not held up.
#[tokio::test]
async fn a_slow_client_holds_up_nobody() {
    let (_server, setup) = one_server().await;
    let mut slow = tokio::net::TcpStream::connect(setup.address).await.unwrap();
    let body = chat("m", 1, false).to_string();
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    slow.write_all(head.as_bytes()).await.unwrap();
    for byte in body.as_bytes().chunks(1).take(3) {
        slow.write_all(byte).await.unwrap();
        slow.flush().await.unwrap();
        let answer = Client::new().post(setup.address, CHAT, &chat("m", 1, false)).await;
        assert_eq!(answer.status, 200);
    }
    slow.write_all(&body.as_bytes()[3..]).await.unwrap();
    let mut answer = vec![0; 12];
    slow.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, b"HTTP/1.1 200");
}

/// A client that never finishes its body is answered 408 at the limit.
#[tokio::test]
async fn an_unfinished_body_is_answered_at_its_limit() {
    let server = ModelServer::start(BINARY, "m", &[], &[]);
    let mut manifests = Manifests::new(&[("pool", 1, &[&server])]);
    manifests.parameters = Some(json!({"limits": {"requestBody": "500ms"}}));
    let setup = manifests.serve().await;
    let mut slow = tokio::net::TcpStream::connect(setup.address).await.unwrap();
    let head =
        format!("POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{{");
    slow.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 12];
    tokio::time::timeout(PATIENCE, slow.read_exact(&mut answer)).await.expect("an answer").unwrap();
    assert_eq!(answer, b"HTTP/1.1 408");
}

/// Manifests that attack the loader: each gets an answer, and the good document beside them serves.
#[tokio::test]
async fn hostile_manifests_leave_the_good_ones_serving() {
    let server = ModelServer::start(BINARY, "m", &[], &[]);
    let good = Manifests::new(&[("pool", 1, &[&server])]);
    let setup = good.serve().await;
    let laughs: String = std::iter::once("a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned())
        .chain((1..12).map(|level| {
            let before = format!("*a{}", level - 1);
            format!("a{level}: &a{level} [{}]\n", [before.as_str(); 9].join(", "))
        }))
        .collect();
    let many: String = (0..10_000)
        .map(|index| {
            format!("apiVersion: tidegate.dev/v1alpha1\nkind: ModelServer\nmetadata: {{name: s{index}, labels: {{x: y}}}}\nspec: {{address: '127.0.0.1:1'}}\n---\n")
        })
        .collect();
    let hostile = [
        ("bomb", laughs),
        ("cycle", "a: &a\n  b: *a\n".to_owned()),
        ("deep", "[".repeat(100_000)),
        ("binary", "\u{0}\u{1}\u{2}".to_owned()),
        ("empty", String::new()),
        ("many", many),
        ("types", "apiVersion: 7\nkind: [x]\nmetadata: no\n".to_owned()),
    ];
    for (name, text) in &hostile {
        write_atomically(&setup.folder.path().join(format!("{name}.yaml")), text);
    }
    // The last of the ten thousand is there: everything before it was read too.
    let started = tokio::time::Instant::now();
    while setup.gateway.objects("modelserver", Some("s9999")).await.is_empty() {
        assert!(started.elapsed() < PATIENCE, "the documents never came");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(Client::new().post(setup.address, CHAT, &chat("m", 1, false)).await.status, 200);
    assert!(setup.gateway.resident_kib() < 600 * 1024, "{} KiB", setup.gateway.resident_kib());
}

/// The folder vanishes as a whole, and returns.
#[tokio::test]
async fn a_vanished_folder_freezes_what_it_held() {
    let server = ModelServer::start(BINARY, "m", &[], &[]);
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("manifests");
    std::fs::create_dir(&folder).unwrap();
    let mut manifests = Manifests::new(&[("pool", 1, &[&server])]);
    std::fs::write(folder.join("all.yaml"), manifests.text()).unwrap();
    let options = GatewayOptions { filename: vec![folder.clone()], ..Default::default() };
    let gateway = Gateway::start(BINARY, options).await;
    let address = std::net::SocketAddr::new(gateway.bind, 8080);
    std::fs::rename(&folder, parent.path().join("away")).unwrap();
    let started = tokio::time::Instant::now();
    loop {
        let pool = gateway.objects("inferencepool", Some("pool")).await;
        if pool.first().map(Value::to_string).unwrap_or_default().contains("last good") {
            break;
        }
        assert!(started.elapsed() < PATIENCE, "nothing says that the folder is gone: {pool:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(Client::new().post(address, CHAT, &chat("m", 1, false)).await.status, 200);
    std::fs::rename(parent.path().join("away"), &folder).unwrap();
    manifests.pools[0].1 = 77;
    write_atomically(&folder.join("all.yaml"), &manifests.text());
    gateway.wait_snapshot("the edit after the return", |snapshot| snapshot.to_string().contains("\"weight\":77")).await;
}

#[tokio::test]
async fn a_missing_path_at_the_start_is_wrong_usage() {
    let mut gateway =
        Gateway::launch(BINARY, GatewayOptions { filename: vec!["/no/such/path".into()], ..Default::default() });
    assert_eq!(gateway.wait_exit().await, Some(2));
    assert!(gateway.errors().join("\n").contains("/no/such/path"), "{:?}", gateway.errors());
}
