//! The manifests of the three releases, in the form that the guides print.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

/// One arm at one weight.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weights {
    pub(crate) stable: u32,
    pub(crate) candidate: u32,
}

/// Which of the guides' releases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Release {
    /// New nodes under the same model: two pools, HTTPRoute weights.
    Node,
    /// A new base model under the same name: two pools, HTTPRoute weights.
    BaseModel,
    /// A new adapter: one pool, an InferenceModel over two adapters.
    Lora,
}

impl Release {
    /// All, in the order in which they are played.
    pub(crate) const ALL: [Self; 3] = [Self::Node, Self::BaseModel, Self::Lora];

    /// For people.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Node => "new nodes",
            Self::BaseModel => "new base model",
            Self::Lora => "new LoRA adapter",
        }
    }

    /// The model that clients ask for.
    pub(crate) fn model(self) -> &'static str {
        match self {
            Self::Node | Self::BaseModel => "mymodel",
            Self::Lora => "travelhelper",
        }
    }

    fn candidate_pool(self) -> &'static str {
        match self {
            Self::Node => "qwen-new-nodes",
            Self::BaseModel | Self::Lora => "deepseek",
        }
    }
}

/// The Gateway and the pools with their servers.
pub(crate) fn fixed(port: u16, servers: &[(&str, SocketAddr)]) -> String {
    let mut text = format!(
        "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata:
  name: inference-gateway
spec:
  gatewayClassName: inference-gateway
  listeners:
  - name: llm-gw
    protocol: HTTP
    port: {port}
"
    );
    for (pool, address) in servers {
        text.push_str(&format!(
            "---
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferencePool
metadata:
  name: {pool}
spec:
  selector:
    release: {pool}
  targetPortNumber: 8000
  extensionRef:
    name: {pool}-ext-proc
---
apiVersion: tidegate.dev/v1alpha1
kind: ModelServer
metadata:
  name: {pool}-0
  labels:
    release: {pool}
spec:
  address: {address}
"
        ));
    }
    text
}

/// The route, and for the adapter release the InferenceModel, at one pair of weights.
pub(crate) fn release(release: Release, weights: Weights) -> String {
    let (route_weights, second) = match release {
        Release::Node | Release::BaseModel => (weights, release.candidate_pool()),
        // The adapters live in the stable pool alone.
        Release::Lora => (Weights { stable: 1, candidate: 0 }, release.candidate_pool()),
    };
    let mut text = format!(
        "apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata:
  name: inference-route
spec:
  parentRefs:
  - group: gateway.networking.k8s.io
    kind: Gateway
    name: inference-gateway
    sectionName: llm-gw
  rules:
  - matches:
    - path:
        type: PathPrefix
        value: /
    backendRefs:
    - group: inference.networking.x-k8s.io
      kind: InferencePool
      name: qwen
      weight: {}
    - group: inference.networking.x-k8s.io
      kind: InferencePool
      name: {second}
      weight: {}
",
        route_weights.stable, route_weights.candidate
    );
    if release == Release::Lora {
        text.push_str(
            "---
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceModel
metadata:
  name: loramodel
spec:
  criticality: Critical
  modelName: travelhelper
  poolRef:
    group: inference.networking.x-k8s.io
    kind: InferencePool
    name: qwen
  targetModels:
",
        );
        // An InferenceModel's weights begin at 1: an adapter without traffic is one that is not listed.
        for (name, weight) in [("travel-helper-v1", weights.stable), ("travel-helper-v2", weights.candidate)] {
            if weight > 0 {
                text.push_str(&format!("  - name: {name}\n    weight: {weight}\n"));
            }
        }
    }
    text
}

/// A roll-out of the new nodes, short enough to look on. It asks little evidence: a session counts once, and these clients
/// send no session keys.
pub(crate) fn rollout(name: &str) -> String {
    format!(
        "---
apiVersion: tidegate.dev/v1alpha1
kind: InferenceRollout
metadata:
  name: {name}
spec:
  type: Node
  target:
    routeRef: {{name: inference-route}}
  stable:
    poolRef: {{name: qwen}}
  candidate:
    poolRef: {{name: qwen-new-nodes}}
  steps:
  - {{weight: 10, bake: 1s}}
  - {{weight: 50, bake: 1s}}
  - {{weight: 100, bake: 1s}}
  analysis:
    harmBudget: 20pp
    guards:
    - {{metric: error}}
  drain: {{timeout: 10s, minRetention: 1s}}
"
    )
}

/// Writes a file beside its place and renames it over, so that no reader sees half of it.
pub(crate) fn write(path: &Path, text: &str) -> io::Result<()> {
    let beside = path.with_extension("yaml~");
    std::fs::write(&beside, text)?;
    std::fs::rename(&beside, path)
}
