//! The compiled tables of a set of documents and of its migration agree.

use tidegate_routing::snapshot::{ArmTarget, Pool, Rule};
use tidegate_routing::{Environment, Intake, Snapshot, compile};

use super::*;

/// Arms with label, weight and, where they lead to a pool, its endpoints and the targets of each name.
fn table(snapshot: &Snapshot) -> Vec<String> {
    let listeners = snapshot.sockets.iter().flat_map(|socket| &socket.listeners);
    listeners
        .flat_map(|listener| listener.router.rules().map(|rule| describe(&listener.label, rule, snapshot)))
        .collect()
}

fn describe(listener: &str, rule: &Rule, snapshot: &Snapshot) -> String {
    let arms: Vec<String> = rule
        .arms
        .iter()
        .map(|arm| match &arm.target {
            ArmTarget::Pool(index) => format!("{} {} {}", arm.label, arm.weight, pool(&snapshot.pools[index.0])),
            ArmTarget::Invalid(_) => format!("{} {} invalid", arm.label, arm.weight),
        })
        .collect();
    format!("{listener} {} {} {arms:#?}", rule.route_label, rule.index)
}

fn pool(pool: &Pool) -> String {
    let names: BTreeMap<&String, Vec<(&str, u32)>> = pool
        .models
        .exact
        .iter()
        .map(|(name, rule)| (name, rule.targets.iter().map(|one| (&*one.model, one.weight)).collect()))
        .collect();
    let endpoints: Vec<&str> = pool.endpoints.iter().map(|endpoint| &*endpoint.address).collect();
    format!("{} {endpoints:?} {names:?} {:?}", pool.label, pool.picker)
}

fn compiled(values: &[Value]) -> Vec<String> {
    let documents: Vec<Arc<Document>> = admit(values).into_iter().map(|one| one.document).collect();
    let admitted = Intake::default().admit(&documents);
    assert_eq!(admitted.len(), documents.len());
    table(&compile(&admitted, &Environment::default()).snapshot)
}

#[test]
fn migration_compiles_to_the_same_table() {
    let text = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gw}
spec: {gatewayClassName: any, listeners: [{name: http, port: 8080, protocol: HTTP}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: route}
spec:
  parentRefs: [{name: gw}]
  rules:
    backendRefs:
    - {kind: InferencePool, name: one, weight: 90}
    - {group: inference.networking.x-k8s.io, kind: InferencePool, name: two, weight: 10}
---
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferencePool
metadata: {name: one}
spec: {targetPortNumber: 8000, selector: {release: one}, extensionRef: {name: epp}}
---
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferencePool
metadata: {name: two}
spec: {targetPortNumber: 8000, selector: {release: two}, extensionRef: {name: epp}}
---
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceModel
metadata: {name: lora}
spec: {modelName: travelhelper, poolRef: {name: one}, targetModels: [{name: v1, weight: 90}, {name: v2, weight: 10}]}
---
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceModel
metadata: {name: printed}
spec:
  versions:
  - {modelName: llm-v1, weight: 90, poolRef: {name: two}}
  - {modelName: llm-v2, weight: 10, poolRef: {name: two}}
---
apiVersion: tidegate.dev/v1alpha1
kind: ModelServer
metadata: {name: a, labels: {release: one}}
spec: {address: '127.0.0.1:8001'}
---
apiVersion: tidegate.dev/v1alpha1
kind: ModelServer
metadata: {name: b, labels: {release: two}}
spec: {address: '127.0.0.1:8002'}
";
    let before = documents(text);
    let after = values_of(&migrate(&admit(&before)));
    let table = compiled(&before);
    assert_eq!(table.len(), 1, "{table:#?}");
    for part in ["default/one 90", "default/two 10", "travelhelper", "printed", "llm-v2", "127.0.0.1:8002"] {
        assert!(table[0].contains(part), "{part} is not in {table:#?}");
    }
    assert_eq!(table, compiled(&after));
}
