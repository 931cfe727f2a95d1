//! Compile against documents as the guides print them, and against what is wrong with documents.

use std::sync::Arc;

use proptest::prelude::{any, prop_assert, proptest};
use serde_json::{Value, json};
use tidegate_api::inference::{GROUP_ALPHA, GROUP_V1};
use tidegate_api::{ConditionStatus, Document, ObjectKey};

use super::{Compiled, Environment, compile};
use crate::Intake;
use crate::snapshot::{ArmTarget, Listener, PickerSource, Rule};
use crate::testing::document;

fn gateway() -> Value {
    json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "gateway"},
           "spec": {"gatewayClassName": "any", "listeners": [{"name": "http", "protocol": "HTTP", "port": 8080}]}})
}

fn route(rules: Value) -> Value {
    json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "route"},
           "spec": {"parentRefs": [{"name": "gateway"}], "rules": rules}})
}

fn alpha_pool(name: &str) -> Value {
    json!({"apiVersion": format!("{GROUP_ALPHA}/v1alpha2"), "kind": "InferencePool", "metadata": {"name": name},
           "spec": {"selector": {"pool": name}, "targetPortNumber": 8000, "extensionRef": {"name": format!("{name}-epp")}}})
}

fn server(name: &str, pool: &str, address: &str) -> Value {
    json!({"apiVersion": "tidegate.dev/v1alpha1", "kind": "ModelServer", "metadata": {"name": name, "labels": {"pool": pool}},
           "spec": {"address": address}})
}

fn model(name: &str, model: &str, pool: &str, targets: Value) -> Value {
    json!({"apiVersion": format!("{GROUP_ALPHA}/v1alpha2"), "kind": "InferenceModel", "metadata": {"name": name},
           "spec": {"modelName": model, "poolRef": {"name": pool, "group": GROUP_ALPHA}, "targetModels": targets}})
}

fn backend(name: &str, weight: u32) -> Value {
    json!({"group": GROUP_ALPHA, "kind": "InferencePool", "name": name, "weight": weight})
}

fn compiled_in(values: Vec<Value>, environment: &Environment) -> Compiled {
    let documents: Vec<Arc<Document>> =
        values.into_iter().enumerate().map(|(index, value)| document(&format!("{index}.yaml"), value)).collect();
    compile(&Intake::default().admit(&documents), environment)
}

fn compiled(values: Vec<Value>) -> Compiled {
    compiled_in(values, &Environment::default())
}

fn listener(compiled: &Compiled) -> &Listener {
    &compiled.snapshot.sockets[0].listeners[0]
}

fn rules(compiled: &Compiled) -> Vec<&Rule> {
    listener(compiled).router.rules().map(|rule| &**rule).collect()
}

/// `(status, reason)` of a condition of an object, or of it towards its first parent.
fn condition(compiled: &Compiled, kind: &str, name: &str, which: &str) -> Option<(ConditionStatus, String)> {
    let (_, status) = compiled.statuses.iter().find(|(key, _)| key.kind == kind && key.name == name)?;
    let conditions = status.conditions.iter().chain(status.parents.iter().flat_map(|parent| &parent.conditions));
    conditions
        .into_iter()
        .find(|condition| condition.kind == which)
        .map(|condition| (condition.status, condition.reason.clone()))
}

fn is(status: ConditionStatus, reason: &str) -> Option<(ConditionStatus, String)> {
    Some((status, reason.to_owned()))
}

#[test]
fn two_pools_are_split_and_their_servers_found() {
    let compiled = compiled(vec![
        gateway(),
        route(json!([{"backendRefs": [backend("one", 90), backend("two", 10)]}])),
        alpha_pool("one"),
        alpha_pool("two"),
        server("a", "one", "10.0.0.1"),
        server("b", "two", "10.0.0.2:9000"),
        server("c", "other", "10.0.0.3"),
    ]);
    let rule = rules(&compiled)[0];
    let arms: Vec<(&str, u32)> = rule.arms.iter().map(|arm| (&*arm.label, arm.weight)).collect();
    assert_eq!(arms, [("default/one", 90), ("default/two", 10)]);
    assert!(rule.inference && rule.model_aware);
    let addresses: Vec<Vec<&str>> = compiled
        .snapshot
        .pools
        .iter()
        .map(|pool| pool.endpoints.iter().map(|endpoint| &*endpoint.address).collect())
        .collect();
    assert_eq!(addresses, [vec!["10.0.0.1:8000"], vec!["10.0.0.2:9000"]]);
    assert_eq!(condition(&compiled, "HTTPRoute", "route", "Accepted"), is(ConditionStatus::True, "Accepted"));
    assert_eq!(condition(&compiled, "HTTPRoute", "route", "ResolvedRefs"), is(ConditionStatus::True, "ResolvedRefs"));
    // The picker's Service is not described: built in, and said so.
    assert_eq!(compiled.snapshot.pools[0].picker, PickerSource::BuiltIn);
    assert_eq!(
        condition(&compiled, "InferencePool", "one", "tidegate.dev/BuiltInPicker"),
        is(ConditionStatus::True, "PickerNotDescribed")
    );
    let gateway = &compiled.statuses[&ObjectKey::new("gateway.networking.k8s.io", "Gateway", "default", "gateway")];
    assert_eq!(
        (gateway.addresses.as_slice(), gateway.listeners[0].attached_routes),
        (&["127.0.0.1".to_owned()][..], 1)
    );
}

#[test]
fn adapters_are_split_and_the_oldest_model_wins_a_name() {
    let mut older = model("z", "helper", "one", json!([{"name": "v1", "weight": 90}, {"name": "v2", "weight": 10}]));
    older["metadata"]["creationTimestamp"] = json!("2025-01-01T00:00:00Z");
    let mut younger = model("a", "helper", "one", json!([{"name": "v3", "weight": 1}]));
    younger["metadata"]["creationTimestamp"] = json!("2025-01-02T00:00:00Z");
    let compiled = compiled(vec![
        gateway(),
        route(json!([{"backendRefs": [backend("one", 1)]}])),
        alpha_pool("one"),
        younger,
        older,
    ]);
    let rule = compiled.snapshot.pools[0].models.rule(Some("helper")).expect("a rule");
    let targets: Vec<(&str, u32)> = rule.targets.iter().map(|target| (&*target.model, target.weight)).collect();
    assert_eq!(targets, [("v1", 90), ("v2", 10)]);
    assert_eq!(condition(&compiled, "InferenceModel", "a", "Accepted"), is(ConditionStatus::False, "ModelNameInUse"));
    assert_eq!(condition(&compiled, "InferenceModel", "z", "Accepted"), is(ConditionStatus::True, "Accepted"));
}

#[test]
fn a_rewrite_wins_over_a_model_and_a_rule_without_matches_takes_the_rest() {
    let rewrite = json!({"apiVersion": "llm-d.ai/v1alpha2", "kind": "InferenceModelRewrite", "metadata": {"name": "rewrite"},
        "spec": {"poolRef": {"name": "one"}, "rules": [
            {"matches": [{"model": {"value": "helper"}}], "targets": [{"modelRewrite": "r1"}]},
            {"targets": [{"modelRewrite": "rest"}]}]}});
    let compiled = compiled(vec![
        gateway(),
        route(json!([{"backendRefs": [backend("one", 1)]}])),
        alpha_pool("one"),
        model("model", "helper", "one", json!([{"name": "v1"}])),
        rewrite,
    ]);
    let models = &compiled.snapshot.pools[0].models;
    assert_eq!(&*models.rule(Some("helper")).expect("a rule").targets[0].model, "r1");
    assert_eq!(&*models.rule(Some("other")).expect("a rule").targets[0].model, "rest");
    assert_eq!(&*models.rule(None).expect("a rule").targets[0].model, "rest");
    assert_eq!(
        condition(&compiled, "InferenceModel", "model", "Accepted"),
        is(ConditionStatus::False, "ModelNameInUse")
    );
    // Its poolRef left the group out, which means v1 by its schema; only v1alpha2 has such a pool.
    assert_eq!(
        condition(&compiled, "InferenceModelRewrite", "rewrite", "tidegate.dev/Warning"),
        is(ConditionStatus::True, "GroupAssumed")
    );
}

#[test]
fn the_printed_versions_split_the_objects_name_and_answer_to_their_own() {
    let printed = json!({"apiVersion": format!("{GROUP_ALPHA}/v1alpha2"), "kind": "InferenceModel", "metadata": {"name": "sample"},
        "spec": {"versions": [
            {"modelName": "v1", "criticality": "Critical", "weight": 90, "poolRef": {"name": "one"}},
            {"modelName": "v2", "criticality": "Critical", "weight": 10, "poolRef": {"name": "one"}}]}});
    let compiled =
        compiled(vec![gateway(), route(json!([{"backendRefs": [backend("one", 1)]}])), alpha_pool("one"), printed]);
    let models = &compiled.snapshot.pools[0].models;
    let weights = |name: &str| -> Vec<(String, u32)> {
        let rule = models.rule(Some(name)).expect("a rule");
        rule.targets.iter().map(|target| (target.model.to_string(), target.weight)).collect()
    };
    assert_eq!(weights("sample"), [("v1".to_owned(), 90), ("v2".to_owned(), 10)]);
    // Its share of the other name says nothing about its own.
    assert_eq!(weights("v2"), [("v2".to_owned(), 1)]);
}

#[test]
fn backend_references_that_do_not_resolve_get_their_reason_and_their_share() {
    let cases = [
        (json!({"group": GROUP_V1, "kind": "InferencePool", "name": "none"}), "BackendNotFound"),
        (json!({"group": "", "kind": "InferencePool", "name": "one"}), "InvalidKind"),
        (json!({"group": "x.io", "kind": "Bucket", "name": "one"}), "InvalidKind"),
        (json!({"name": "none", "port": 80}), "BackendNotFound"),
        (
            json!({"group": GROUP_ALPHA, "kind": "InferencePool", "name": "far", "namespace": "other"}),
            "RefNotPermitted",
        ),
    ];
    for (reference, reason) in cases {
        let mut far = alpha_pool("far");
        far["metadata"]["namespace"] = json!("other");
        let compiled = compiled(vec![
            gateway(),
            route(json!([{"backendRefs": [backend("one", 1), reference.clone()]}])),
            alpha_pool("one"),
            far,
        ]);
        assert_eq!(condition(&compiled, "HTTPRoute", "route", "Accepted"), is(ConditionStatus::True, "Accepted"));
        assert_eq!(
            condition(&compiled, "HTTPRoute", "route", "ResolvedRefs"),
            is(ConditionStatus::False, reason),
            "{reference}"
        );
        let rule = rules(&compiled)[0];
        assert!(
            matches!(rule.arms[0].target, ArmTarget::Pool(_)) && matches!(rule.arms[1].target, ArmTarget::Invalid(_))
        );
    }
}

#[test]
fn a_reference_grant_opens_another_namespace() {
    let mut far = alpha_pool("far");
    far["metadata"]["namespace"] = json!("other");
    let grant = json!({"apiVersion": "gateway.networking.k8s.io/v1beta1", "kind": "ReferenceGrant",
        "metadata": {"name": "grant", "namespace": "other"},
        "spec": {"from": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": "default"}],
                 "to": [{"group": GROUP_ALPHA, "kind": "InferencePool"}]}});
    let mut reference = backend("far", 1);
    reference["namespace"] = json!("other");
    let compiled = compiled(vec![gateway(), route(json!([{"backendRefs": [reference]}])), far, grant]);
    assert_eq!(condition(&compiled, "HTTPRoute", "route", "ResolvedRefs"), is(ConditionStatus::True, "ResolvedRefs"));
}

#[test]
fn a_gateway_that_nobody_describes_needs_listen() {
    let values = || vec![route(json!([{"backendRefs": [backend("one", 1)]}])), alpha_pool("one")];
    let without = compiled(values());
    assert_eq!(condition(&without, "HTTPRoute", "route", "Accepted"), is(ConditionStatus::False, "NoMatchingParent"));
    assert!(without.snapshot.sockets.is_empty());
    let listen = "127.0.0.1:8080".parse().expect("an address");
    let with = compiled_in(values(), &Environment { listen: Some(listen), ..Environment::default() });
    assert_eq!(condition(&with, "HTTPRoute", "route", "Accepted"), is(ConditionStatus::True, "Accepted"));
    assert_eq!((with.snapshot.sockets[0].address, rules(&with).len()), (listen, 1));
}

#[test]
fn a_socket_that_cannot_be_bound_says_so_and_the_others_serve() {
    let mut two = gateway();
    two["spec"]["listeners"] = json!([
        {"name": "low", "protocol": "HTTP", "port": 80}, {"name": "high", "protocol": "HTTP", "port": 8080},
        {"name": "udp", "protocol": "UDP", "port": 53}]);
    let mut environment = Environment::default();
    environment.bind_failures.insert("0.0.0.0:80".parse().expect("an address"), "permission denied".into());
    let compiled = compiled_in(vec![two], &environment);
    let status = &compiled.statuses[&ObjectKey::new("gateway.networking.k8s.io", "Gateway", "default", "gateway")];
    let programmed: Vec<ConditionStatus> = status
        .listeners
        .iter()
        .map(|listener| listener.conditions.iter().find(|one| one.kind == "Programmed").expect("Programmed").status)
        .collect();
    assert_eq!(programmed, [ConditionStatus::False, ConditionStatus::True, ConditionStatus::False]);
    assert_eq!(status.listeners[2].conditions[0].reason, "UnsupportedProtocol");
    assert!(status.listeners[0].conditions.iter().any(|one| one.message.contains("permission denied")));
    assert_eq!(condition(&compiled, "Gateway", "gateway", "Programmed"), is(ConditionStatus::True, "Programmed"));
    // Both are still wanted: a failed one is tried again.
    assert_eq!(compiled.snapshot.sockets.len(), 2);
}

#[test]
fn limits_lie_over_each_other_as_documented() {
    let mut with_parameters = gateway();
    with_parameters["spec"]["infrastructure"] =
        json!({"parametersRef": {"group": "tidegate.dev", "kind": "GatewayParameters", "name": "parameters"}});
    let parameters = json!({"apiVersion": "tidegate.dev/v1alpha1", "kind": "GatewayParameters", "metadata": {"name": "parameters"},
        "spec": {"limits": {"total": "1h", "body": "1Mi", "idle": "7s"}, "retries": {"attempts": 3}}});
    let client = json!({"apiVersion": "gateway.envoyproxy.io/v1alpha1", "kind": "ClientTrafficPolicy", "metadata": {"name": "client"},
        "spec": {"connection": {"bufferLimit": "20Mi"},
                 "targetRefs": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "gateway"}]}});
    let backend_policy = json!({"apiVersion": "gateway.envoyproxy.io/v1alpha1", "kind": "BackendTrafficPolicy", "metadata": {"name": "backend"},
        "spec": {"timeout": {"http": {"requestTimeout": "24h"}},
                 "targetRef": {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "gateway"}}});
    let compiled = compiled(vec![
        with_parameters,
        route(
            json!([{"backendRefs": [backend("one", 1)]}, {"backendRefs": [backend("one", 1)], "timeouts": {"request": "5s", "backendRequest": "2s"}}]),
        ),
        alpha_pool("one"),
        parameters,
        client,
        backend_policy,
    ]);
    let seconds = |value: Option<std::time::Duration>| value.map(|value| value.as_secs());
    let rules = rules(&compiled);
    assert_eq!((seconds(rules[0].limits.total), seconds(rules[1].limits.total)), (Some(24 * 3600), Some(5)));
    assert_eq!((seconds(rules[1].attempt_timeout), seconds(rules[0].limits.idle)), (Some(2), Some(7)));
    assert_eq!((rules[0].limits.body_bytes, rules[0].retry.attempts), (20 * 1024 * 1024, 3));
    assert_eq!(
        condition(&compiled, "ClientTrafficPolicy", "client", "Accepted"),
        is(ConditionStatus::True, "Accepted")
    );
}

#[test]
fn a_services_endpoints_are_slices_servers_or_its_external_name() {
    let service =
        |spec: Value| json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "svc"}, "spec": spec});
    let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "svc-1", "labels": {"kubernetes.io/service-name": "svc"}}, "addressType": "IPv4",
        "ports": [{"port": 9000}], "endpoints": [{"addresses": ["10.0.0.1"]}, {"addresses": ["10.0.0.2"], "conditions": {"ready": false}}]});
    let routed = || route(json!([{"backendRefs": [{"name": "svc", "port": 80}]}]));
    let addresses = |values: Vec<Value>| -> Vec<String> {
        let compiled = compiled(values);
        compiled.snapshot.pools[0].endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect()
    };
    let ports = json!([{"port": 80, "targetPort": 9000}]);
    assert_eq!(addresses(vec![gateway(), routed(), service(json!({"ports": ports})), slice]), ["10.0.0.1:9000"]);
    let selecting = service(json!({"ports": ports, "selector": {"pool": "one"}}));
    assert_eq!(addresses(vec![gateway(), routed(), selecting, server("a", "one", "10.0.0.9")]), ["10.0.0.9:9000"]);
    let external = service(json!({"type": "ExternalName", "externalName": "example.com"}));
    assert_eq!(addresses(vec![gateway(), routed(), external]), ["example.com:80"]);
    assert!(addresses(vec![gateway(), routed(), service(json!({"ports": ports}))]).is_empty());
}

#[test]
fn hostnames_and_namespaces_decide_who_attaches() {
    let mut named = gateway();
    named["spec"]["listeners"][0]["hostname"] = json!("*.example.com");
    let mut wrong_host = route(json!([{"backendRefs": [backend("one", 1)]}]));
    wrong_host["spec"]["hostnames"] = json!(["example.net"]);
    let compiled_host = compiled(vec![named, wrong_host, alpha_pool("one")]);
    assert_eq!(
        condition(&compiled_host, "HTTPRoute", "route", "Accepted"),
        is(ConditionStatus::False, "NoMatchingListenerHostname")
    );
    let mut far = route(json!([{"backendRefs": [backend("one", 1)]}]));
    far["metadata"]["namespace"] = json!("other");
    far["spec"]["parentRefs"] = json!([{"name": "gateway", "namespace": "default"}]);
    let compiled_far = compiled(vec![gateway(), far]);
    assert_eq!(
        condition(&compiled_far, "HTTPRoute", "route", "Accepted"),
        is(ConditionStatus::False, "NotAllowedByListeners")
    );
}

proptest! {
    /// Whatever is broken beside it, a good route keeps its rule and its endpoints.
    #[test]
    fn broken_documents_take_nothing_from_good_ones(broken in proptest::collection::vec((any::<u8>(), any::<u8>()), 0..6)) {
        let junk = [json!(null), json!(7), json!("x"), json!([]), json!({}), json!([{"x": 1}]), json!({"name": 7})];
        // Of two Gateways on one port the older has it; that is no matter of broken documents.
        let mut elsewhere = gateway();
        elsewhere["spec"]["listeners"][0]["port"] = json!(9090);
        let shapes = [elsewhere, route(json!([])), alpha_pool("p"), model("m", "m", "p", json!([])), server("s", "p", "x")];
        let mut values = vec![
            gateway(), route(json!([{"backendRefs": [backend("one", 1)]}])), alpha_pool("one"), server("a", "one", "10.0.0.1"),
        ];
        for (number, (shape, with)) in broken.into_iter().enumerate() {
            let mut value = shapes[usize::from(shape) % shapes.len()].clone();
            value["metadata"]["name"] = json!(format!("broken-{number}"));
            let fields: Vec<String> = value["spec"].as_object().map(|spec| spec.keys().cloned().collect()).unwrap_or_default();
            if let Some(field) = fields.get(usize::from(with) % fields.len().max(1)) {
                value["spec"][field] = junk[usize::from(with) % junk.len()].clone();
            }
            values.push(value);
        }
        let compiled = compiled(values);
        let first = compiled.snapshot.sockets.iter().flat_map(|socket| &socket.listeners)
            .find(|listener| listener.gateway.name == "gateway").expect("the good listener");
        let good = first.router.rules().find(|rule| rule.route.name == "route").expect("the good rule");
        let ArmTarget::Pool(pool) = &good.arms[0].target else { panic!("the good arm") };
        prop_assert!(compiled.snapshot.pools[pool.0].endpoints.len() == 1);
    }
}

mod edges;
mod listeners;
mod rollouts;
mod scale;
