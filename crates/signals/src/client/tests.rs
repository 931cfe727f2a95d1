//! What polls cost a server: connections and requests, counted at a real socket.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{Client, PollError};

#[derive(Debug, Default)]
struct Counts {
    connections: AtomicUsize,
    requests: AtomicUsize,
}

impl Counts {
    fn seen(&self) -> (usize, usize) {
        (self.connections.load(Ordering::SeqCst), self.requests.load(Ordering::SeqCst))
    }
}

/// Answers `/missing` with 404, `/chunked` in chunks, `/large` without end, `/close` and closes behind it without
/// having said so, and the rest with 200.
async fn server() -> (Client, Arc<Counts>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let counts = Arc::new(Counts::default());
    let told = counts.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            told.connections.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(answer(stream, told.clone()));
        }
    });
    (Client::new(address.into()), counts)
}

async fn answer(mut stream: TcpStream, counts: Arc<Counts>) -> std::io::Result<()> {
    let mut head = [0; 4096];
    loop {
        let length = stream.read(&mut head).await?;
        if length == 0 {
            return Ok(());
        }
        counts.requests.fetch_add(1, Ordering::SeqCst);
        let head = &head[..length];
        if head.starts_with(b"GET /missing") {
            stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 4\r\n\r\nnone").await?;
        } else if head.starts_with(b"GET /chunked") {
            stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n").await?;
        } else if head.starts_with(b"GET /large") {
            stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await?;
            let chunk = [&b"10000\r\n"[..], &[b'x'; 0x10000], b"\r\n"].concat();
            loop {
                stream.write_all(&chunk).await?;
            }
        } else {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await?;
            if head.starts_with(b"GET /close") {
                return Ok(());
            }
        }
    }
}

#[tokio::test]
async fn good_polls_share_one_connection_and_are_sent_once() {
    let (mut client, counts) = server().await;
    for path in ["/v1/models", "/metrics", "/chunked", "/metrics", "/chunked"] {
        assert_eq!(client.get(path).await.unwrap(), "ok");
    }
    assert_eq!(counts.seen(), (1, 5));
}

#[tokio::test]
async fn a_path_that_the_server_does_not_have_is_asked_for_once_and_its_connection_kept() {
    let (mut client, counts) = server().await;
    for _ in 0..3 {
        assert_eq!(client.get("/v1/models").await.unwrap(), "ok");
        assert!(matches!(client.get("/missing").await, Err(PollError::Status(status)) if status == 404));
    }
    assert_eq!(counts.seen(), (1, 6));
}

#[tokio::test]
async fn an_answer_too_large_is_asked_for_once_and_its_connection_closed() {
    let (mut client, counts) = server().await;
    assert_eq!(client.get("/v1/models").await.unwrap(), "ok");
    assert!(matches!(client.get("/large").await, Err(PollError::TooLarge)));
    assert_eq!(counts.seen(), (1, 2));
    assert_eq!(client.get("/v1/models").await.unwrap(), "ok");
    assert_eq!(counts.seen(), (2, 3));
}

#[tokio::test]
async fn a_kept_connection_that_the_server_closed_is_no_failure() {
    let (mut client, counts) = server().await;
    for _ in 0..3 {
        assert_eq!(client.get("/close").await.unwrap(), "ok");
    }
    assert_eq!(counts.seen(), (3, 3));
}
