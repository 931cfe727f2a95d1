//! HTTP/1.1 by hand, so that tests see heads and chunks as they are.

use std::net::SocketAddr;

use serde_json::Value;
use tidegate_sim::{Config, EngineConfig, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// An answer, chunking removed.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn read(text: &str) -> Self {
        let text = text.replace("\r\n", "\n");
        let (head, body) = text.split_once("\n\n").expect("a head");
        let mut lines = head.lines();
        let status = lines.next().expect("a status line").to_owned();
        let headers: Vec<(String, String)> =
            lines.filter_map(|line| line.split_once(": ")).map(|(name, value)| (name.into(), value.into())).collect();
        Self { status, headers, body: body.to_owned() }
    }

    pub(crate) fn code(&self) -> u16 {
        self.status.split(' ').nth(1).expect("a status").parse().expect("a number")
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    pub(crate) fn events(&self) -> Vec<String> {
        self.body.lines().filter_map(|line| line.strip_prefix("data: ")).map(str::to_owned).collect()
    }
}

/// The server of the captures, a thousand times faster.
pub(crate) fn captured() -> Config {
    Config {
        model: "tiny-qwen2".into(),
        served_model_names: vec!["mymodel".into()],
        adapters: ["travel-helper-v1", "travel-helper-v2"].map(|name| (name.into(), name.into())).to_vec(),
        max_model_len: 512,
        engine: EngineConfig {
            max_num_seqs: 4,
            block_size: 32,
            blocks: 64,
            max_loras: 2,
            max_cpu_loras: 4,
            ..EngineConfig::default()
        },
        speed: 1000.0,
        ..Config::default()
    }
}

pub(crate) async fn start(config: Config) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    Server::start(config, listener).await.expect("a server")
}

/// Sends a request on a connection of its own.
pub(crate) async fn open(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.expect("connect");
    let mut request =
        format!("{method} {path} HTTP/1.1\r\nhost: sim\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    request.push_str(body);
    stream.write_all(request.as_bytes()).await.expect("write");
    stream
}

pub(crate) async fn send(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let mut stream = open(address, method, path, headers, body).await;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.expect("an answer");
    let place = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 4;
    let (head, rest) = bytes.split_at(place);
    let head = String::from_utf8(head.to_vec()).expect("a head of text");
    let body = if head.contains("transfer-encoding: chunked") { dechunk(rest) } else { rest.to_vec() };
    let mut answer = Answer::read(&head);
    answer.body = String::from_utf8(body).expect("a body of text");
    answer
}

fn dechunk(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|window| window == b"\r\n").expect("a chunk's size");
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).expect("a size");
        if size == 0 {
            return body;
        }
        body.extend_from_slice(&rest[end + 2..end + 2 + size]);
        rest = &rest[end + 4 + size..];
    }
}

pub(crate) async fn post(address: SocketAddr, path: &str, body: &str) -> Answer {
    send(address, "POST", path, &[("content-type", "application/json")], body).await
}

pub(crate) async fn get(address: SocketAddr, path: &str) -> Answer {
    send(address, "GET", path, &[], "").await
}

/// A number of the metrics page.
pub(crate) async fn metric(address: SocketAddr, name: &str) -> f64 {
    let page = get(address, "/metrics").await.body;
    let line = page.lines().find(|line| line.starts_with(&format!("{name}{{"))).unwrap_or_else(|| panic!("no {name}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}
