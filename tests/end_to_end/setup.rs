//! A gateway before simulated servers, as most tests want it.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::{Value, json};
use tidegate_harness::gateway::write_atomically;
use tidegate_harness::{Gateway, GatewayOptions, ModelServer};

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_tidegate");

/// A Gateway on port 8080 with one route over pools, each pool with its servers.
pub(crate) struct Setup {
    pub(crate) gateway: Gateway,
    pub(crate) folder: tempfile::TempDir,
    /// Where clients go.
    pub(crate) address: SocketAddr,
}

/// What stands in the manifests.
pub(crate) struct Manifests {
    /// `(pool, weight, servers' addresses)`.
    pub(crate) pools: Vec<(String, u32, Vec<String>)>,
    /// Fields merged into the HTTPRoute's only rule.
    pub(crate) rule: Value,
    /// `metadata.annotations` of the route.
    pub(crate) annotations: Value,
    /// `spec` of a GatewayParameters that the Gateway names.
    pub(crate) parameters: Option<Value>,
    /// Further documents.
    pub(crate) further: Vec<Value>,
}

impl Manifests {
    /// Pools of simulated servers.
    pub(crate) fn new(pools: &[(&str, u32, &[&ModelServer])]) -> Self {
        let pools = pools
            .iter()
            .map(|(name, weight, servers)| {
                ((*name).to_owned(), *weight, servers.iter().map(|server| server.address.to_string()).collect())
            })
            .collect();
        Self { pools, rule: json!({}), annotations: json!({}), parameters: None, further: Vec::new() }
    }

    /// The documents.
    pub(crate) fn documents(&self) -> Vec<Value> {
        let mut gateway = json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "gateway"},
            "spec": {"gatewayClassName": "tidegate", "listeners": [{"name": "http", "protocol": "HTTP", "port": 8080}]}});
        let mut documents = Vec::new();
        if let Some(parameters) = &self.parameters {
            gateway["spec"]["infrastructure"] =
                json!({"parametersRef": {"group": "tidegate.dev", "kind": "GatewayParameters", "name": "parameters"}});
            documents.push(json!({
                "apiVersion": "tidegate.dev/v1alpha1", "kind": "GatewayParameters", "metadata": {"name": "parameters"},
                "spec": parameters}));
        }
        documents.push(gateway);
        let backends: Vec<Value> = self
            .pools
            .iter()
            .map(|(name, weight, _)| {
                json!({"group": "inference.networking.k8s.io", "kind": "InferencePool", "name": name, "weight": weight})
            })
            .collect();
        let mut rule = json!({"backendRefs": backends});
        for (key, value) in self.rule.as_object().into_iter().flatten() {
            rule[key] = value.clone();
        }
        documents.push(json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
            "metadata": {"name": "route", "annotations": self.annotations},
            "spec": {"parentRefs": [{"name": "gateway"}], "rules": [rule]}}));
        for (pool, _, servers) in &self.pools {
            documents.push(json!({
                "apiVersion": "inference.networking.k8s.io/v1", "kind": "InferencePool", "metadata": {"name": pool},
                "spec": {"selector": {"matchLabels": {"pool": pool}}, "targetPorts": [{"number": 8000}]}}));
            for (index, address) in servers.iter().enumerate() {
                documents.push(json!({
                    "apiVersion": "tidegate.dev/v1alpha1", "kind": "ModelServer",
                    "metadata": {"name": format!("{pool}-{index}"), "labels": {"pool": pool}},
                    "spec": {"address": address}}));
            }
        }
        documents.extend(self.further.iter().cloned());
        documents
    }

    /// The documents as one YAML stream (JSON is YAML).
    pub(crate) fn text(&self) -> String {
        self.documents().iter().map(Value::to_string).collect::<Vec<_>>().join("\n---\n")
    }

    /// Serves them, once every endpoint that answers has told its models.
    pub(crate) async fn serve(&self) -> Setup {
        let setup = self.serve_at_once().await;
        setup.gateway.wait_models().await;
        setup
    }

    /// Serves them without waiting for any model server.
    pub(crate) async fn serve_at_once(&self) -> Setup {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("all.yaml"), self.text()).expect("write");
        let options = GatewayOptions { filename: vec![folder.path().into()], ..Default::default() };
        let gateway = Gateway::start(BINARY, options).await;
        let address = SocketAddr::new(gateway.bind, 8080);
        Setup { gateway, folder, address }
    }
}

impl Setup {
    /// The manifests' file.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("all.yaml")
    }

    /// Replaces the manifests.
    pub(crate) fn write(&self, manifests: &Manifests) {
        write_atomically(&self.file(), &manifests.text());
    }
}

/// A chat request.
pub(crate) fn chat(model: &str, max_tokens: u32, stream: bool) -> Value {
    json!({"model": model, "max_tokens": max_tokens, "stream": stream,
           "messages": [{"role": "user", "content": "Where shall we go this summer, and what will the sea be like?"}]})
}

/// The path of chat requests.
pub(crate) const CHAT: &str = "/v1/chat/completions";
