//! What the Gateway API says of routes at their edges.

use http::StatusCode;
use serde_json::{Value, json};
use tidegate_harness::{Client, ModelServer};

use crate::setup::{BINARY, CHAT, Manifests, chat};

/// No rules, no backendRefs, or none with a weight: its requests get 500, and no other route's answer.
#[tokio::test]
async fn routes_that_lead_nowhere_answer_500() {
    let server = ModelServer::start(BINARY, "m", &[], &[]);
    let mut manifests = Manifests::new(&[("pool", 1, &[&server])]);
    let pool = json!({"group": "inference.networking.k8s.io", "kind": "InferencePool", "name": "pool", "weight": 0});
    let route = |name: &str, rules: Option<Value>| {
        let mut spec = json!({"parentRefs": [{"name": "gateway"}], "hostnames": [format!("{name}.example")]});
        spec.as_object_mut().expect("a mapping").extend(rules.map(|rules| ("rules".into(), rules)));
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": name}, "spec": spec})
    };
    manifests.further = vec![
        route("bare", None),
        route("empty", Some(json!([{}]))),
        route("weightless", Some(json!([{"backendRefs": [pool]}]))),
    ];
    let setup = manifests.serve().await;
    for name in ["bare", "empty", "weightless"] {
        let client = Client::new().host(&format!("{name}.example"));
        let answer = client.post(setup.address, CHAT, &chat("m", 1, false)).await;
        assert_eq!((answer.status, answer.reason().as_str()), (500, "no_backend"), "{name}: {}", answer.text());
        assert_eq!(client.get(setup.address, "/anything").await.status, StatusCode::INTERNAL_SERVER_ERROR, "{name}");
    }
    let answer = Client::new().host("other.example").post(setup.address, CHAT, &chat("m", 1, false)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}
