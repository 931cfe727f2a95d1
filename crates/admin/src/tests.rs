use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use serde_json::json;
use tidegate_api::{Document, ObjectKey, Origin};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;

mod one_rollout;

const PATIENCE: Duration = Duration::from_secs(30);

struct Running {
    address: SocketAddr,
    ready: Arc<AtomicBool>,
    reloads: Arc<AtomicU32>,
    token: String,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
    _folder: tempfile::TempDir,
}

/// Status, head in lower case, body.
struct Answer(u16, String, String);

impl Running {
    async fn start(port: Port) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let token = Arc::new(Token::load_or_create(folder.path()).unwrap());
        let ready = Arc::new(AtomicBool::new(false));
        let reloads = Arc::new(AtomicU32::new(0));
        let objects = Arc::new(ObjectStore::default());
        objects.update([gateway()], BTreeMap::new(), "2026-01-01T00:00:00Z");
        let (is_ready, counted) = (ready.clone(), reloads.clone());
        let state = AdminState {
            objects,
            snapshot: Arc::new(|| json!({"generation": 3, "sockets": []})),
            metrics: Arc::new(|| "# EOF\n".into()),
            ready: Arc::new(move || {
                if is_ready.load(Ordering::SeqCst) { Ok(()) } else { Err("no snapshot is applied yet".into()) }
            }),
            reload: Arc::new(move || match counted.fetch_add(1, Ordering::SeqCst) {
                0 => Ok(json!({"generation": 4})),
                _ => Err("the folder is gone".into()),
            }),
            rollouts: Some(Arc::new(one_rollout::Fake::default())),
            token: token.clone(),
        };
        let listener = AdminListener::bind(port, "127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.address();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(listener.serve(state, async {
            let _ = stopped.await;
        }));
        let token = token.reveal().to_owned();
        Self { address, ready, reloads, token, stop: Some(stop), task, _folder: folder }
    }

    async fn raw(&self, request: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        tokio::time::timeout(PATIENCE, stream.read_to_string(&mut text)).await.unwrap().unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
        Answer(head[9..12].parse().unwrap(), head.to_lowercase(), body.to_owned())
    }

    async fn send(&self, method: &str, path: &str, headers: &str) -> Answer {
        let host = if headers.contains("host:") { String::new() } else { format!("host: {}\r\n", self.address) };
        self.raw(&format!("{method} {path} HTTP/1.1\r\n{host}{headers}connection: close\r\n\r\n")).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, "").await
    }
}

fn gateway() -> Arc<Document> {
    Arc::new(Document {
        key: ObjectKey::new("gateway.networking.k8s.io", "Gateway", "default", "gw"),
        api_version: "gateway.networking.k8s.io/v1".into(),
        value: json!({"kind": "Gateway", "metadata": {"name": "gw"}}),
        origin: Origin { source: "a.yaml".into(), index: 0, positions: Arc::default() },
        findings: Vec::new(),
    })
}

#[tokio::test]
async fn every_page_answers() {
    let running = Running::start(Port::Admin).await;
    assert_eq!(running.get("/healthz").await.0, 200);
    let Answer(status, head, body) = running.get("/metrics").await;
    assert_eq!((status, body.as_str()), (200, "# EOF\n"));
    assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0"), "{head}");
    assert!(head.contains("cache-control: no-store"), "{head}");
    let Answer(status, head, body) = running.get("/snapshot").await;
    assert_eq!((status, body.as_str()), (200, r#"{"generation":3,"sockets":[]}"#));
    assert!(head.contains("content-type: application/json"), "{head}");
    let Answer(_, _, body) = running.get("/objects?kind=gateways&namespace=default&name=gw").await;
    assert_eq!(body, r#"{"items":[{"kind":"Gateway","metadata":{"name":"gw","namespace":"default"}}]}"#);
    assert_eq!(running.get("/objects?kind=HTTPRoute").await.2, r#"{"items":[]}"#);
    assert!(running.get("/objects?findings=true").await.2.contains(r#""findings":[]"#));
    let Answer(status, _, body) = running.get("/objects?nane=gw").await;
    assert!(status == 400 && body.contains("nane"), "{status} {body}");
    assert!(running.get("/").await.2.contains("/snapshot"));
    assert_eq!(running.get("/nothing").await.0, 404);
    assert_eq!(running.send("DELETE", "/snapshot", "").await.0, 405);
}

#[tokio::test]
async fn readiness_follows_the_gateway_and_says_what_is_missing() {
    let running = Running::start(Port::Admin).await;
    let Answer(status, _, body) = running.get("/readyz").await;
    assert!(status == 503 && body.contains("no snapshot is applied yet"), "{status} {body}");
    running.ready.store(true, Ordering::SeqCst);
    assert_eq!(running.get("/readyz").await.0, 200);
    running.ready.store(false, Ordering::SeqCst);
    assert_eq!(running.get("/readyz").await.0, 503);
}

#[tokio::test]
async fn foreign_hosts_and_origins_are_refused_on_every_path() {
    let running = Running::start(Port::Admin).await;
    let port = running.address.port();
    for path in ["/", "/healthz", "/metrics", "/snapshot", "/objects", "/reload", "/nothing"] {
        assert_eq!(running.send("GET", path, &format!("host: evil.example:{port}\r\n")).await.0, 421, "{path}");
        assert_eq!(running.send("GET", path, "origin: http://evil.example\r\n").await.0, 403, "{path}");
    }
    assert_eq!(running.raw("GET /healthz HTTP/1.0\r\n\r\n").await.0, 421, "no host at all");
    let own = format!("origin: http://{}\r\n", running.address);
    assert_eq!(running.send("GET", "/snapshot", &own).await.0, 200);
    assert_eq!(running.send("GET", "/snapshot", &format!("host: localhost:{port}\r\n")).await.0, 200);
    let refused = running.send("GET", "/snapshot", "host: localhost:1\r\n").await;
    assert!(refused.0 == 421 && refused.2.contains(&format!("http://localhost:{port}")), "{}", refused.2);
}

#[tokio::test]
async fn a_change_needs_the_token() {
    let running = Running::start(Port::Admin).await;
    let token = |text: &str| format!("authorization: Bearer {text}\r\n");
    for headers in [String::new(), token("wrong"), token(&running.token[1..]), "authorization: Basic x\r\n".into()] {
        let Answer(status, head, body) = running.send("POST", "/reload", &headers).await;
        assert!(status == 401 && head.contains("www-authenticate: bearer"), "{status} {head}");
        assert!(body.contains("admin-token") && !body.contains(&running.token), "{body}");
    }
    let evil = format!("{}origin: http://evil.example\r\n", token(&running.token));
    assert_eq!(running.send("POST", "/reload", &evil).await.0, 403, "the token does not open it to web pages");
    assert_eq!(running.reloads.load(Ordering::SeqCst), 0);

    let Answer(status, _, body) = running.send("POST", "/reload", &token(&running.token)).await;
    assert_eq!((status, body.as_str()), (200, r#"{"generation":4}"#));
    assert_eq!(running.reloads.load(Ordering::SeqCst), 1);
    let Answer(status, _, body) = running.send("POST", "/reload", &token(&running.token)).await;
    assert!(status == 500 && body.contains("the folder is gone"), "{status} {body}");
    assert_eq!(running.send("GET", "/reload", &token(&running.token)).await.0, 405, "a GET changes nothing");
}

#[tokio::test]
async fn a_body_has_a_limit() {
    let running = Running::start(Port::Admin).await;
    let body = "x".repeat(65 * 1024);
    let head = format!("authorization: Bearer {}\r\ncontent-length: {}\r\n", running.token, body.len());
    let request =
        format!("POST /reload HTTP/1.1\r\nhost: {}\r\n{head}connection: close\r\n\r\n{body}", running.address);
    assert_eq!(running.raw(&request).await.0, 413);
    assert_eq!(running.reloads.load(Ordering::SeqCst), 0);
    let headers = format!("x-much: {}\r\n", "x".repeat(128 * 1024));
    assert_eq!(running.send("GET", "/healthz", &headers).await.0, 431);
}

#[tokio::test]
async fn the_probe_port_has_three_pages_for_any_host() {
    let running = Running::start(Port::Probe).await;
    running.ready.store(true, Ordering::SeqCst);
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(running.send("GET", path, "host: tidegate.serving.svc:9090\r\n").await.0, 200, "{path}");
        assert_eq!(running.send("GET", path, "origin: http://evil.example\r\n").await.0, 403, "{path}");
    }
    for path in ["/", "/snapshot", "/objects", "/reload"] {
        let headers = format!("authorization: Bearer {}\r\n", running.token);
        assert_eq!(running.send("GET", path, &headers).await.0, 404, "{path}");
        assert_eq!(running.send("POST", path, &headers).await.0, 404, "{path}");
    }
}

#[tokio::test]
async fn clients_that_send_nothing_hold_no_place_for_long() {
    let running = Running::start(Port::Admin).await;
    let mut idle = Vec::new();
    for _ in 0..80 {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        stream.write_all(b"GET /heal").await.unwrap();
        idle.push(stream);
    }
    // All places are taken; this one is served when the first of those before it are timed out.
    assert_eq!(running.get("/healthz").await.0, 200);
    for stream in &mut idle {
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
        ended.expect("the server ends a connection that sends no head").ok();
    }
}

#[tokio::test]
async fn it_stops_when_asked_although_a_connection_is_open() {
    let mut running = Running::start(Port::Admin).await;
    let mut open = TcpStream::connect(running.address).await.unwrap();
    open.write_all(format!("GET /healthz HTTP/1.1\r\nhost: {}\r\n\r\n", running.address).as_bytes()).await.unwrap();
    let mut some = [0; 16];
    open.read_exact(&mut some).await.unwrap();
    running.stop.take().unwrap().send(()).unwrap();
    tokio::time::timeout(PATIENCE, &mut running.task).await.unwrap().unwrap();
    assert!(TcpStream::connect(running.address).await.is_err(), "the port is free again");
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let running = Running::start(Port::Admin).await;
    let error = AdminListener::bind(Port::Probe, running.address).await.unwrap_err().to_string();
    assert!(error.contains("--probe-bind") && error.contains(&running.address.to_string()), "{error}");
    assert!(error.contains("another port"), "{error}");
}
