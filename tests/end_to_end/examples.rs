//! The folders in `examples`, each run as its README says and held against the file of its name in `examples/` here.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use http::Method;
use serde::Deserialize;
use serde_json::Value;
use tidegate_harness::{Answer, Client, Gateway, GatewayOptions, ModelServer, within_binomial};

use crate::setup::BINARY;

/// A share that is less probable than this is no chance.
const ALPHA: f64 = 1e-6;
/// Requests at once.
const CLIENTS: usize = 20;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expectation {
    servers: Vec<Server>,
    checks: Vec<Check>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Server {
    address: String,
    model: String,
    #[serde(default)]
    adapters: Vec<String>,
}

/// One request, made `times` times, and what must come of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Check {
    name: String,
    #[serde(default = "once")]
    times: u64,
    path: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// POST with this body; GET without one.
    body: Option<Value>,
    status: u16,
    /// Share of the answers by the server that gave them; no other may give any.
    servers: Option<BTreeMap<String, f64>>,
    /// Share of the answers by the `model` they name; no other may be named.
    models: Option<BTreeMap<String, f64>>,
    /// All answers come from one server, whichever.
    #[serde(default)]
    one_server: bool,
    /// Share of the requests of which a server got a copy.
    #[serde(default)]
    mirrored: BTreeMap<String, f64>,
    /// The names that `/v1/models` gives.
    lists: Option<Vec<String>>,
    /// Text in each answer.
    contains: Option<String>,
}

fn once() -> u64 {
    1
}

fn folder(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples")).join(name)
}

fn manifests(name: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder(name)).expect("its folder").map(|entry| entry.expect("an entry").path());
    entries.filter(|path| path.extension().is_some_and(|extension| extension == "yaml")).collect()
}

fn expectation(name: &str) -> Expectation {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/end_to_end/examples"));
    let text = std::fs::read_to_string(path.join(format!("{name}.yaml"))).expect("what it must do");
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{name}.yaml: {error}"))
}

/// A running example; `servers` by the addresses in its manifests.
struct Example {
    checks: Vec<Check>,
    servers: BTreeMap<String, ModelServer>,
    _manifests: tempfile::TempDir,
    _gateway: Gateway,
    address: SocketAddr,
}

impl Example {
    async fn start(name: &str) -> Self {
        let expectation = expectation(name);
        let servers: BTreeMap<String, ModelServer> = expectation
            .servers
            .iter()
            .map(|server| {
                let adapters: Vec<&str> = server.adapters.iter().map(String::as_str).collect();
                (server.address.clone(), ModelServer::start(BINARY, &server.model, &adapters, &[]))
            })
            .collect();
        let copies = tempfile::tempdir().expect("a folder");
        for path in manifests(name) {
            let mut text = std::fs::read_to_string(&path).expect("text");
            for (printed, server) in &servers {
                text = text.replace(printed, &server.address.to_string());
            }
            std::fs::write(copies.path().join(path.file_name().expect("a name")), text).expect("write");
        }
        let options = GatewayOptions { filename: vec![copies.path().into()], ..Default::default() };
        let gateway = Gateway::start(BINARY, options).await;
        gateway.wait_models().await;
        let address = SocketAddr::new(gateway.bind, 8080);
        Self { checks: expectation.checks, servers, _manifests: copies, _gateway: gateway, address }
    }

    async fn send(&self, check: &Check) -> Answer {
        let client = check.headers.iter().fold(Client::new(), |client, (name, value)| client.header(name, value));
        let (method, body) = match &check.body {
            Some(body) => (Method::POST, Bytes::from(body.to_string())),
            None => (Method::GET, Bytes::new()),
        };
        client.send(self.address, method, &check.path, body).await.expect("an answer")
    }

    async fn run(&self, check: &Check) {
        let mut copies = BTreeMap::new();
        for address in check.mirrored.keys() {
            copies.insert(address, successes(&self.servers[address]).await);
        }
        let requests = (0..check.times).map(|_| self.send(check));
        let answers: Vec<Answer> = futures_util::stream::iter(requests).buffer_unordered(CLIENTS).collect().await;
        for answer in &answers {
            assert_eq!(answer.status, check.status, "{}: {}", check.name, answer.text());
            let contains = check.contains.as_deref().unwrap_or_default();
            assert!(answer.text().contains(contains), "{}: {}", check.name, answer.text());
        }
        let by_server = count(&answers, |answer| self.printed_address(answer));
        if check.one_server {
            assert_eq!(by_server.len(), 1, "{}: {by_server:?}", check.name);
        }
        if let Some(shares) = &check.servers {
            hold(&check.name, shares, &by_server, check.times);
        }
        if let Some(shares) = &check.models {
            let by_model = count(&answers, |answer| answer.json()["model"].as_str().unwrap_or_default().to_owned());
            hold(&check.name, shares, &by_model, check.times);
        }
        if let Some(names) = &check.lists {
            let answer = answers[0].json();
            let mut listed: Vec<&str> =
                answer["data"].as_array().expect("data").iter().filter_map(|card| card["id"].as_str()).collect();
            listed.sort_unstable();
            assert_eq!(&listed, names, "{}", check.name);
        }
        for (address, share) in &check.mirrored {
            let copied = settled(&self.servers[address]).await - copies[address];
            let plausible = within_binomial(copied, check.times, *share, ALPHA);
            assert!(plausible, "{}: {copied} of {} were copied to {address}", check.name, check.times);
        }
    }

    /// The address that the manifests print for the server that answered.
    fn printed_address(&self, answer: &Answer) -> String {
        let actual = answer.headers.get("x-sim-server").and_then(|name| name.to_str().ok()).unwrap_or("nobody");
        let printed = self.servers.iter().find(|(_, server)| server.address.to_string() == actual);
        printed.map_or(actual, |(printed, _)| printed).to_owned()
    }
}

fn count(answers: &[Answer], of: impl Fn(&Answer) -> String) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for answer in answers {
        *counts.entry(of(answer)).or_insert(0) += 1;
    }
    counts
}

fn hold(check: &str, shares: &BTreeMap<String, f64>, seen: &BTreeMap<String, u64>, times: u64) {
    for name in seen.keys() {
        assert!(shares.contains_key(name), "{check}: {name:?} was not expected at all: {seen:?}");
    }
    for (name, share) in shares {
        let hits = seen.get(name).copied().unwrap_or(0);
        assert!(within_binomial(hits, times, *share, ALPHA), "{check}: {name} has {hits} of {times}, not {share}");
    }
}

/// Requests that a server has finished, over all its finish reasons and models.
async fn successes(server: &ModelServer) -> u64 {
    let page = Client::new().get(server.address, "/metrics").await.text();
    let lines = page.lines().filter(|line| line.starts_with("vllm:request_success_total{"));
    let numbers = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    numbers.sum::<f64>() as u64
}

/// The same once no more are added: nobody tells when the last copy is through.
async fn settled(server: &ModelServer) -> u64 {
    let mut before = successes(server).await;
    loop {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let now = successes(server).await;
        if now == before {
            return now;
        }
        before = now;
    }
}

async fn run(name: &str) {
    let example = Example::start(name).await;
    for check in &example.checks {
        example.run(check).await;
    }
}

#[tokio::test]
async fn two_pools() {
    run("01-two-pools-90-10").await;
}

#[tokio::test]
async fn base_model() {
    run("02-base-model").await;
}

#[tokio::test]
async fn lora_split() {
    run("03-lora-split").await;
}

#[tokio::test]
async fn aliases() {
    run("04-aliases").await;
}

#[tokio::test]
async fn header_canary() {
    run("05-header-canary").await;
}

#[tokio::test]
async fn mirror() {
    run("06-mirror").await;
}

/// What a README says to start must be what the test starts, and every folder must be tested.
#[test]
fn readmes_say_what_is_tested() {
    let tested = include_str!("examples.rs");
    let mut folders = 0;
    for entry in std::fs::read_dir(folder("")).expect("examples") {
        let path = entry.expect("an entry").path();
        if !path.is_dir() {
            continue;
        }
        folders += 1;
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
        assert!(tested.contains(&format!("run(\"{name}\")")), "{name} has no test");
        let readme = std::fs::read_to_string(path.join("README.md")).expect("its README.md");
        let expectation = expectation(&name);
        for server in &expectation.servers {
            let port = server.address.rsplit_once(':').expect("a port").1;
            let mut command = format!("tidegate sim --port {port} --served-model-name {}", server.model);
            if !server.adapters.is_empty() {
                command.push_str(" --lora-modules");
                for adapter in &server.adapters {
                    command.push_str(&format!(" {adapter}=/adapters/{adapter}"));
                }
            }
            assert!(readme.lines().any(|line| line.trim_end_matches(" &") == command), "{name}: no line {command:?}");
        }
        assert!(
            readme.lines().any(|line| line == format!("tidegate serve -f examples/{name}")),
            "{name}: how to serve it"
        );
        for check in &expectation.checks {
            assert!(!check.name.is_empty() && check.times > 0, "{name}: {check:?}");
        }
    }
    assert_eq!(folders, 7);
}

#[tokio::test]
async fn a_rollout() {
    run("07-rollout").await;
}
