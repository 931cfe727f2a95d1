//! The two published guides' manifests, as printed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};
use tidegate_harness::{Client, Gateway, GatewayOptions, ModelServer, shared, within_binomial};

const BINARY: &str = env!("CARGO_BIN_EXE_tidegate");

/// What the ACK guide's Deployments become without a cluster: a server each, under the Deployment's labels.
pub(crate) fn model_server(name: &str, release: &str, server: &ModelServer) -> String {
    format!(
        "apiVersion: tidegate.dev/v1alpha1\nkind: ModelServer\nmetadata:\n  name: {name}\n  labels:\n    app: custom-serving\n    release: {release}\nspec:\n  address: {}\n",
        server.address.ip()
    )
}

/// The servers of the ACK guide and a folder with some of its files.
struct Ack {
    qwen: ModelServer,
    deepseek: ModelServer,
    folder: tempfile::TempDir,
}

impl Ack {
    fn new(shared: &Path, files: &[&str]) -> Self {
        let qwen = ModelServer::start(BINARY, "mymodel", &["travel-helper-v1", "travel-helper-v2"], &[]);
        let deepseek = ModelServer::start(BINARY, "mymodel", &[], &[]);
        let folder = tempfile::tempdir().expect("a folder");
        for entry in std::fs::read_dir(shared).expect("the guide's folder") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
            if files.iter().any(|wanted| name.starts_with(wanted)) {
                std::fs::copy(&path, folder.path().join(name)).expect("copy");
            }
        }
        std::fs::write(folder.path().join("90-qwen.yaml"), model_server("qwen-0", "qwen", &qwen)).expect("write");
        std::fs::write(folder.path().join("91-deepseek.yaml"), model_server("deepseek-0", "deepseek-r1", &deepseek))
            .expect("write");
        Self { qwen, deepseek, folder }
    }

    async fn serve(&self) -> (Gateway, SocketAddr) {
        let options = GatewayOptions { filename: vec![self.folder.path().into()], ..Default::default() };
        let gateway = Gateway::start(BINARY, options).await;
        gateway.wait_models().await;
        // The address is read as the guide reads it: from the Gateway's status.
        let objects = gateway.objects("gateway", Some("inference-gateway")).await;
        let address = objects[0]["status"]["addresses"][0]["value"].as_str().expect("an address").to_owned();
        (gateway, SocketAddr::new(address.parse().expect("an IP address"), 8080))
    }
}

/// Sends `count` chat requests over a few connections' worth of tasks and counts which (server, model) answered.
async fn shares(address: SocketAddr, model: &str, count: usize) -> BTreeMap<(String, String), u64> {
    let mut seen = BTreeMap::new();
    let body = json!({"model": model, "max_tokens": 1, "messages": [{"role": "user", "content": "Where to go?"}]});
    for _ in 0..count / 20 {
        let answers = (0..20).map(|_| async { Client::new().post(address, "/v1/chat/completions", &body).await });
        for answer in futures_util::future::join_all(answers).await {
            assert_eq!(answer.status, 200, "{}", answer.text());
            let server =
                answer.headers.get("x-sim-server").and_then(|name| name.to_str().ok()).unwrap_or("").to_owned();
            let model = answer.json()["model"].as_str().unwrap_or("").to_owned();
            *seen.entry((server, model)).or_insert(0) += 1;
        }
    }
    seen
}

fn of_server(seen: &BTreeMap<(String, String), u64>, server: &ModelServer) -> u64 {
    seen.iter().filter(|((name, _), _)| *name == server.address.to_string()).map(|(_, count)| count).sum()
}

fn of_model(seen: &BTreeMap<(String, String), u64>, model: &str) -> u64 {
    seen.iter().filter(|((_, name), _)| name == model).map(|(_, count)| count).sum()
}

#[tokio::test]
async fn ack_pools_are_split_90_10_as_printed() {
    let Some(shared) = shared::path("manifests/ack") else { return };
    let ack = Ack::new(&shared, &["01", "02", "03", "04", "05", "06"]);
    let (_gateway, address) = ack.serve().await;
    let seen = shares(address, "mymodel", 2000).await;
    let (stable, candidate) = (of_server(&seen, &ack.qwen), of_server(&seen, &ack.deepseek));
    assert_eq!(stable + candidate, 2000, "{seen:?}");
    // ±3.1 points are 4.6 standard deviations; the exact test says the same more strictly.
    assert!((1738..=1862).contains(&stable) && within_binomial(stable, 2000, 0.9, 1e-6), "{seen:?}");
}

#[tokio::test]
async fn ack_adapters_are_split_90_10_as_printed() {
    let Some(shared) = shared::path("manifests/ack") else { return };
    let ack = Ack::new(&shared, &["01", "02", "03", "07"]);
    let (_gateway, address) = ack.serve().await;
    let seen = shares(address, "travelhelper", 2000).await;
    let (stable, candidate) = (of_model(&seen, "travel-helper-v1"), of_model(&seen, "travel-helper-v2"));
    assert_eq!(stable + candidate, 2000, "{seen:?}");
    assert!((1738..=1862).contains(&stable) && within_binomial(stable, 2000, 0.9, 1e-6), "{seen:?}");
}

#[tokio::test]
async fn all_seven_ack_files_in_one_folder_serve_both_splits_without_a_404() {
    let Some(shared) = shared::path("manifests/ack") else { return };
    let ack = Ack::new(&shared, &["0"]);
    let (gateway, address) = ack.serve().await;
    let base = shares(address, "mymodel", 2000).await;
    assert!(within_binomial(of_server(&base, &ack.qwen), 2000, 0.9, 1e-6), "{base:?}");
    assert_eq!(of_server(&base, &ack.qwen) + of_server(&base, &ack.deepseek), 2000, "{base:?}");
    // 10 % of these would reach the base model that lacks the adapters, were the arms not aware of models.
    let adapters = shares(address, "travelhelper", 2000).await;
    assert_eq!(of_server(&adapters, &ack.qwen), 2000, "{adapters:?}");
    assert!(within_binomial(of_model(&adapters, "travel-helper-v1"), 2000, 0.9, 1e-6), "{adapters:?}");
    let metrics = gateway.admin_get("/metrics").await.text();
    let moved: f64 = metrics
        .lines()
        .filter(|line| line.starts_with("tidegate_arm_redistributed"))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum();
    assert!(moved > 0.0, "a counter says that a share was given away");
}

/// The GKE guide's files (backticks removed) and the two pools that they name and the guide does not describe.
async fn gke(
    shared: &Path,
    files: &[&str],
    pools: [&str; 2],
) -> (tempfile::TempDir, [ModelServer; 2], Gateway, SocketAddr) {
    let folder = tempfile::tempdir().expect("a folder");
    for name in files {
        let text = std::fs::read_to_string(shared.join(name)).expect("text").replace('`', "");
        std::fs::write(folder.path().join(name), text).expect("write");
    }
    let servers = pools.map(|_| ModelServer::start(BINARY, "base", &["llm-v1", "llm-v2"], &[]));
    for (pool, server) in pools.iter().zip(&servers) {
        let documents = [
            json!({"apiVersion": "inference.networking.k8s.io/v1", "kind": "InferencePool", "metadata": {"name": pool},
                   "spec": {"selector": {"matchLabels": {"pool": pool}}, "targetPorts": [{"number": 8000}]}}),
            json!({"apiVersion": "tidegate.dev/v1alpha1", "kind": "ModelServer",
                   "metadata": {"name": format!("{pool}-0"), "labels": {"pool": pool}},
                   "spec": {"address": server.address.ip().to_string()}}),
        ];
        let text = documents.map(|document: Value| document.to_string()).join("\n---\n");
        std::fs::write(folder.path().join(format!("pool-{pool}.yaml")), text).expect("write");
    }
    let address = SocketAddr::new(tidegate_harness::loopback::address(), 8080);
    let options = GatewayOptions {
        filename: vec![folder.path().into()],
        arguments: vec!["--listen".into(), address.to_string()],
    };
    let gateway = Gateway::start(BINARY, options).await;
    gateway.wait_models().await;
    (folder, servers, gateway, address)
}

#[tokio::test]
async fn the_gke_route_serves_90_10_over_two_pools() {
    let Some(shared) = shared::path("manifests/gke") else { return };
    let (_folder, [stable, candidate], _gateway, address) =
        gke(&shared, &["routes-to-llm.as-printed.yaml"], ["llm", "llm-new"]).await;
    let seen = shares(address, "base", 2000).await;
    assert_eq!(of_server(&seen, &stable) + of_server(&seen, &candidate), 2000, "{seen:?}");
    assert!(within_binomial(of_server(&seen, &stable), 2000, 0.9, 1e-6), "{seen:?}");
}

#[tokio::test]
async fn the_gke_inference_model_serves_90_10_over_its_versions() {
    let Some(shared) = shared::path("manifests/gke") else { return };
    let files = ["routes-to-llm-pool-version-2.as-printed.yaml", "inferencemodel-sample.as-printed.yaml"];
    let (_folder, [stable, _candidate], _gateway, address) =
        gke(&shared, &files, ["llm-pool", "llm-pool-version-2"]).await;
    // The model's versions live in `llm-pool`; the other pool neither maps nor lists the name, and gives its share away.
    let seen = shares(address, "inferencemodel-sample", 2000).await;
    assert_eq!(of_server(&seen, &stable), 2000, "{seen:?}");
    assert!(within_binomial(of_model(&seen, "llm-v1"), 2000, 0.9, 1e-6), "{seen:?}");
    // Each version is also reachable by its own name, and that name is served by both pools.
    let seen = shares(address, "llm-v2", 1000).await;
    assert_eq!(of_model(&seen, "llm-v2"), 1000, "{seen:?}");
    assert!(within_binomial(of_server(&seen, &stable), 1000, 0.9, 1e-6), "{seen:?}");
}
