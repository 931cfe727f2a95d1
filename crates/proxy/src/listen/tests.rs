use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tidegate_api::ObjectKey;
use tidegate_routing::snapshot::{Certificate, Hostname, Socket};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;
use crate::testing::*;

const REQUEST: &[u8] = b"GET /x HTTP/1.1\r\nhost: test\r\n\r\n";

async fn answer_of(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    while !text.ends_with(b"\n\n") {
        let mut buffer = [0; 4096];
        let count = tokio::time::timeout(PATIENCE, stream.read(&mut buffer)).await.expect("bytes").unwrap();
        assert!(count > 0, "closed: {}", String::from_utf8_lossy(&text));
        text.extend_from_slice(&buffer[..count]);
    }
    String::from_utf8(text).unwrap()
}

#[tokio::test]
async fn a_reload_keeps_connections_and_goes_to_the_new_endpoint() {
    let (first, second) = (echo("first").await, echo("second").await);
    let running = run(snapshot(vec![pool("a", &[first])], vec![rule(vec![arm(0, 1)])])).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(REQUEST).await.unwrap();
    assert!(answer_of(&mut stream).await.contains("x-endpoint: first"));
    let bound = running.proxy.apply(Arc::new(snapshot(vec![pool("a", &[second])], vec![rule(vec![arm(0, 1)])]))).await;
    assert_eq!(bound[0].result, Ok(running.address), "the socket stays");
    stream.write_all(REQUEST).await.unwrap();
    assert!(answer_of(&mut stream).await.contains("x-endpoint: second"));
    assert_eq!(running.proxy.connections(), 1);
}

/// A request under way finishes on the snapshot that it began with, however often it is replaced meanwhile.
#[tokio::test]
async fn reloads_do_not_touch_a_stream() {
    let (chunks, taken) = tokio::sync::mpsc::channel::<bytes::Bytes>(1);
    let taken = Arc::new(Mutex::new(Some(taken)));
    let server = endpoint(move |_| {
        let rest = taken.lock().take().unwrap();
        async move {
            let frames = futures_util::stream::unfold(rest, |mut rest| async move {
                rest.recv().await.map(|bytes| (Ok(hyper::body::Frame::data(bytes)), rest))
            });
            http::Response::new(http_body_util::BodyExt::boxed(http_body_util::StreamBody::new(frames)))
        }
    })
    .await;
    let other = echo("other").await;
    let running = run(snapshot(vec![pool("a", &[server])], vec![rule(vec![arm(0, 1)])])).await;
    let body = begin(running.address, get("/x")).await.unwrap().into_body();
    let streaming = tokio::spawn(http_body_util::BodyExt::collect(body));
    for round in 0..50 {
        chunks.send(format!("{round} ").into()).await.unwrap();
        let replaced = snapshot(vec![pool("b", &[other])], vec![rule(vec![arm(0, 1)])]);
        assert_eq!(running.proxy.apply(Arc::new(replaced)).await[0].result, Ok(running.address));
        assert_eq!(send(running.address, get("/y")).await.headers["x-endpoint"], "other");
    }
    drop(chunks);
    let answer = streaming.await.unwrap().unwrap().to_bytes();
    let expected: String = (0..50).map(|round| format!("{round} ")).collect();
    assert_eq!(answer, expected);
}

#[tokio::test]
async fn a_data_plane_that_is_dropped_leaves_nothing_open() {
    let Running { proxy, kept, address } = run(snapshot(vec![], vec![])).await;
    let mut idle = TcpStream::connect(address).await.unwrap();
    idle.write_all(REQUEST).await.unwrap();
    assert!(kept.take(1).await[0].reason.is_some());
    drop(proxy);
    let mut rest = Vec::new();
    let _ended = tokio::time::timeout(PATIENCE, idle.read_to_end(&mut rest)).await.expect("an end");
}

#[tokio::test]
async fn a_removed_socket_closes_in_good_order_and_a_shutdown_waits() {
    let (reached, mut reaches) = tokio::sync::mpsc::channel::<tokio::sync::oneshot::Sender<()>>(1);
    let server = endpoint(move |_| {
        let reached = reached.clone();
        async move {
            let (go, gone) = tokio::sync::oneshot::channel();
            reached.send(go).await.unwrap();
            gone.await.unwrap();
            http::Response::new(full("done\n\n"))
        }
    })
    .await;
    let running = run(snapshot(vec![pool("a", &[server])], vec![rule(vec![arm(0, 1)])])).await;
    let mut busy = TcpStream::connect(running.address).await.unwrap();
    busy.write_all(REQUEST).await.unwrap();
    let go = reaches.recv().await.unwrap();
    let mut idle = TcpStream::connect(running.address).await.unwrap();
    running.proxy.apply(Arc::default()).await;
    assert!(TcpStream::connect(running.address).await.is_err(), "it still listens");
    assert_eq!(tokio::time::timeout(PATIENCE, idle.read(&mut [0; 8])).await.expect("an end").unwrap_or(0), 0);
    let closing = tokio::spawn({
        let proxy = running.proxy.clone();
        async move { proxy.shutdown(PATIENCE).await }
    });
    go.send(()).unwrap();
    let answer = answer_of(&mut busy).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("connection: close"), "{answer}");
    closing.await.unwrap();
    assert_eq!(running.proxy.connections(), 0);
}

#[tokio::test]
async fn a_shutdown_cuts_what_outlives_its_grace() {
    let (reached, mut reaches) = tokio::sync::mpsc::channel::<()>(1);
    let server = endpoint(move |_| {
        let reached = reached.clone();
        async move {
            reached.send(()).await.unwrap();
            std::future::pending().await
        }
    })
    .await;
    let running = run(snapshot(vec![pool("a", &[server])], vec![rule(vec![arm(0, 1)])])).await;
    let mut busy = TcpStream::connect(running.address).await.unwrap();
    busy.write_all(REQUEST).await.unwrap();
    reaches.recv().await.unwrap();
    tokio::time::timeout(PATIENCE, running.proxy.shutdown(Duration::from_millis(50))).await.expect("an end");
    assert_eq!(running.proxy.connections(), 0);
    assert_eq!(running.kept.take(1).await[0].status, 0);
}

#[tokio::test]
async fn a_socket_that_cannot_be_bound_says_why_and_is_tried_again() {
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = held.local_addr().unwrap();
    let two = || {
        let mut two = snapshot(vec![], vec![]);
        two.sockets.push(Socket {
            address: taken,
            protocol: SocketProtocol::Http,
            listeners: vec![Arc::new(listener("other", vec![]))],
        });
        Arc::new(two)
    };
    let running = run(snapshot(vec![], vec![])).await;
    let bound = running.proxy.apply(two()).await;
    assert_eq!(bound[0].result, Ok(running.address));
    assert!(bound[1].result.as_ref().unwrap_err().contains("another process"), "{bound:?}");
    drop(held);
    assert_eq!(running.proxy.apply(two()).await[1].result, Ok(taken));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_no_head_is_cut_off() {
    let running = run(snapshot(vec![], vec![])).await;
    let mut silent = TcpStream::connect(running.address).await.unwrap();
    silent.write_all(b"GET / HT").await.unwrap();
    assert_eq!(silent.read(&mut [0; 8]).await.unwrap_or(0), 0);
}

fn certificate(names: &[&str]) -> (Arc<Certificate>, CertificateDer<'static>) {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names.clone()).unwrap();
    let certificate = Certificate {
        secret: Arc::new(ObjectKey::new("", "Secret", "default", &names.join("-"))),
        chain: vec![cert.der().clone()],
        key: PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap(),
        fingerprint: fastrand::u64(..),
    };
    (Arc::new(certificate), cert.der().clone())
}

fn tls_snapshot(listeners: Vec<(Option<Hostname>, Vec<Arc<Certificate>>)>, server: SocketAddr) -> Arc<Snapshot> {
    let mut made = snapshot(vec![pool("a", &[server])], vec![]);
    made.sockets[0].protocol = SocketProtocol::Https;
    made.sockets[0].listeners = listeners
        .into_iter()
        .map(|(hostname, certificates)| {
            let mut one = listener("https", vec![rule(vec![arm(0, 1)])]);
            one.hostname = hostname;
            one.certificates = certificates;
            Arc::new(one)
        })
        .collect();
    Arc::new(made)
}

/// Shakes hands for `name` and gives the leaf that the server showed, and the connection.
async fn handshake(
    address: SocketAddr,
    name: &str,
    trusted: &[&CertificateDer<'static>],
    alpn: &[u8],
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in trusted {
        roots.add((*certificate).clone()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

fn leaf(stream: &tokio_rustls::client::TlsStream<TcpStream>) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().unwrap()[0].clone()
}

#[tokio::test]
async fn certificates_are_chosen_by_name_and_reloaded_live() {
    let server = echo("a").await;
    let (exact, exact_leaf) = certificate(&["api.example.com"]);
    let (second, second_leaf) = certificate(&["b.example.com"]);
    let (first, _) = certificate(&["a.example.com"]);
    let kept = Arc::new(Kept::default());
    let proxy = crate::Proxy::new(crate::ProxyOptions {
        sink: kept,
        picker: Arc::new(tidegate_picker::LeastRequests),
        runtime: Handle::current(),
    });
    let wildcard = Hostname::Wildcard(".example.com".into());
    let listeners = |exact: &Arc<Certificate>| {
        vec![
            (Some(Hostname::Exact("api.example.com".into())), vec![exact.clone()]),
            (Some(wildcard.clone()), vec![first.clone(), second.clone()]),
        ]
    };
    let address = *proxy.apply(tls_snapshot(listeners(&exact), server)).await[0].result.as_ref().unwrap();
    let trusted = [&exact_leaf, &second_leaf];
    let mut standing = handshake(address, "api.example.com", &trusted, b"http/1.1").await.unwrap();
    assert_eq!(leaf(&standing), exact_leaf);
    let other = handshake(address, "b.example.com", &trusted, b"h2").await.unwrap();
    assert_eq!(leaf(&other), second_leaf, "the certificate whose names cover it");
    assert_eq!(other.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    assert!(handshake(address, "elsewhere.org", &trusted, b"h2").await.is_err(), "no listener takes the name");

    let (renewed, renewed_leaf) = certificate(&["api.example.com"]);
    let bound = proxy.apply(tls_snapshot(listeners(&renewed), server)).await;
    assert_eq!(bound[0].result, Ok(address));
    let fresh = handshake(address, "api.example.com", &[&renewed_leaf], b"http/1.1").await.unwrap();
    assert_eq!(leaf(&fresh), renewed_leaf);

    // The connection that stood goes on; for another listener's host it is the wrong one.
    for (host, expected) in [("api.example.com", "HTTP/1.1 200"), ("b.example.com", "HTTP/1.1 421")] {
        standing.write_all(format!("GET /x HTTP/1.1\r\nhost: {host}\r\n\r\n").as_bytes()).await.unwrap();
        let mut text = Vec::new();
        while !text.ends_with(b"\n\n") && !text.ends_with(b"}") {
            let mut buffer = [0; 4096];
            let count = standing.read(&mut buffer).await.unwrap();
            assert!(count > 0);
            text.extend_from_slice(&buffer[..count]);
        }
        let text = String::from_utf8(text).unwrap();
        assert!(text.starts_with(expected), "{text}");
        if expected.ends_with("200") {
            assert!(text.contains("x-forwarded-proto: https"), "{text}");
        }
    }
}
