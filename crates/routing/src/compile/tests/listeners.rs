//! Listeners, their namespaces and their parameters.

use super::*;

#[test]
fn what_the_pool_is_annotated_with_comes_before_the_route() {
    let mut pool = alpha_pool("one");
    pool["metadata"]["annotations"] = json!({"tidegate.dev/empty-arm": "unavailable"});
    let mut routed = route(json!([{"backendRefs": [backend("one", 1), backend("two", 1)]}]));
    routed["metadata"]["annotations"] = json!({"tidegate.dev/empty-arm": "redistribute"});
    let compiled = compiled(vec![gateway(), routed, pool, alpha_pool("two")]);
    let arms: Vec<bool> = rules(&compiled)[0].arms.iter().map(|arm| arm.redistribute_when_empty).collect();
    assert_eq!(arms, [false, true]);
}

#[test]
fn a_selector_takes_the_namespaces_that_have_its_labels() {
    let mut selecting = gateway();
    selecting["spec"]["listeners"][0]["allowedRoutes"] =
        json!({"namespaces": {"from": "Selector", "selector": {"matchLabels": {"team": "a"}}}});
    let mut far = route(json!([{"backendRefs": [backend("one", 1)]}]));
    far["metadata"]["namespace"] = json!("other");
    far["spec"]["parentRefs"] = json!([{"name": "gateway", "namespace": "default"}]);
    for (team, wanted) in [("a", 1), ("b", 0)] {
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "other", "labels": {"team": team}}});
        assert_eq!(rules(&compiled(vec![selecting.clone(), far.clone(), namespace])).len(), wanted, "{team}");
    }
}

#[test]
fn a_class_brings_the_parameters_of_another_namespace() {
    let class = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": {"name": "any"},
        "spec": {"controllerName": "x.io/y", "parametersRef": {
            "group": "tidegate.dev", "kind": "GatewayParameters", "name": "parameters", "namespace": "far"}}});
    let parameters = json!({"apiVersion": "tidegate.dev/v1alpha1", "kind": "GatewayParameters",
        "metadata": {"name": "parameters", "namespace": "far"}, "spec": {"retries": {"attempts": 4}}});
    let routed = route(json!([{"backendRefs": [backend("one", 1)]}]));
    let compiled = compiled(vec![gateway(), class, parameters, routed, alpha_pool("one")]);
    assert_eq!(rules(&compiled)[0].retry.attempts, 4);
}

#[test]
fn a_key_of_another_certificate_is_said_on_the_listener_while_the_last_good_one_serves() {
    let made = || rcgen::generate_simple_self_signed(vec!["a.example".to_owned()]).expect("a certificate");
    let (own, other) = (made(), made());
    let mut secure = gateway();
    secure["spec"]["listeners"] = json!([{"name": "secure", "protocol": "HTTPS", "port": 8443,
        "tls": {"certificateRefs": [{"name": "cert"}]}}]);
    for kind in ["kubernetes.io/tls", "Opaque"] {
        let documents = |key: &rcgen::KeyPair| -> Vec<Arc<Document>> {
            let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "cert"}, "type": kind,
                "stringData": {"tls.crt": own.cert.pem(), "tls.key": key.serialize_pem()}});
            vec![document("gateway.yaml", secure.clone()), document("secret.yaml", secret)]
        };
        let mut intake = Intake::default();
        let resolved = |compiled: &Compiled| {
            let (_, status) = compiled.statuses.iter().find(|(key, _)| key.kind == "Gateway").expect("a status");
            let conditions = &status.listeners[0].conditions;
            conditions.iter().find(|condition| condition.kind == "ResolvedRefs").cloned().expect("a condition")
        };
        let environment = Environment::default();
        let good = compile(&intake.admit(&documents(&own.signing_key)), &environment);
        assert_eq!(resolved(&good).status, ConditionStatus::True);
        let broken = compile(&intake.admit(&documents(&other.signing_key)), &environment);
        let said = resolved(&broken);
        assert_eq!((said.status, said.reason.as_str()), (ConditionStatus::False, "InvalidCertificateRef"));
        for word in ["listener secure", "default/cert", "tls.key", "another certificate"] {
            assert!(said.message.contains(word), "{word}: {}", said.message);
        }
        // A Secret of another type is not read for a certificate until a listener wants one: it has no last good one.
        let serving = broken.snapshot.sockets.first().map(|socket| socket.listeners[0].certificates[0].fingerprint);
        let before = good.snapshot.sockets[0].listeners[0].certificates[0].fingerprint;
        assert_eq!(serving, (kind == "kubernetes.io/tls").then_some(before));
    }
}

#[test]
fn rules_of_a_route_that_leads_to_one_listener_twice_are_there_once() {
    let rule = json!([{"backendRefs": [backend("one", 1)]}]);
    let mut missing = route(rule.clone());
    missing["spec"]["parentRefs"] = json!([{"name": "first"}, {"name": "second"}]);
    let environment = Environment { listen: Some("127.0.0.1:8000".parse().unwrap()), ..Environment::default() };
    let compiled_missing = compiled_in(vec![missing, alpha_pool("one")], &environment);
    assert_eq!(rules(&compiled_missing).len(), 1);
    let parents = |compiled: &Compiled, kind: &str| {
        let (_, status) = compiled.statuses.iter().find(|(key, _)| key.kind == kind).expect("a status");
        let first = |parent: &tidegate_api::status::ParentStatus| parent.conditions[0].message.clone();
        status.parents.iter().map(|parent| (parent.parent_ref["name"].clone(), first(parent))).collect::<Vec<_>>()
    };
    for (parent, wanted) in parents(&compiled_missing, "HTTPRoute").iter().zip(["first", "second"]) {
        assert!(parent.0 == wanted && parent.1.contains(&format!("Gateway default/{wanted}")), "{parent:?}");
    }
    let of_pool: Vec<Value> = parents(&compiled_missing, "InferencePool").into_iter().map(|parent| parent.0).collect();
    assert_eq!(of_pool, ["first", "second"]);
    let mut twice = route(rule);
    twice["spec"]["parentRefs"] =
        json!([{"name": "gateway", "sectionName": "http"}, {"name": "gateway", "port": 8080}]);
    let compiled = compiled(vec![gateway(), twice, alpha_pool("one")]);
    assert_eq!(rules(&compiled).len(), 1);
    let (_, status) = compiled.statuses.iter().find(|(key, _)| key.kind == "Gateway").expect("a status");
    assert_eq!(status.listeners[0].attached_routes, 1);
}

#[test]
fn a_policy_is_refused_only_for_the_target_that_is_wrong() {
    let target = |kind: &str, name: &str| json!({"group": "gateway.networking.k8s.io", "kind": kind, "name": name});
    let policy = |targets: Value| {
        json!({"apiVersion": "gateway.envoyproxy.io/v1alpha1", "kind": "BackendTrafficPolicy",
            "metadata": {"name": "policy"}, "spec": {"targetRefs": targets, "timeout": {"http": {"requestTimeout": "7s"}}}})
    };
    let with = |targets: Value| {
        let routed = route(json!([{"backendRefs": [backend("one", 1)]}]));
        compiled(vec![gateway(), routed, alpha_pool("one"), policy(targets)])
    };
    let some = with(json!([target("HTTPRoute", "none"), target("Gateway", "gateway")]));
    assert_eq!(rules(&some)[0].limits.total, Some(std::time::Duration::from_secs(7)));
    let (_, status) = some.statuses.iter().find(|(key, _)| key.name == "policy").expect("a status");
    let said: Vec<(&Value, ConditionStatus, &str)> = status
        .ancestors
        .iter()
        .map(|one| (&one.parent_ref["name"], one.conditions[0].status, one.conditions[0].reason.as_str()))
        .collect();
    assert_eq!(
        said,
        [
            (&json!("none"), ConditionStatus::False, "TargetNotFound"),
            (&json!("gateway"), ConditionStatus::True, "Accepted")
        ]
    );
    assert_eq!(condition(&some, "BackendTrafficPolicy", "policy", "Accepted"), is(ConditionStatus::True, "Accepted"));
    assert!(!status.accepted(), "what is wrong is not passed over");
    let printed = status.to_value(false);
    assert_eq!(printed["ancestors"][0]["ancestorRef"]["name"], "none");
    let all_wrong = with(json!([target("HTTPRoute", "none")]));
    let refused = condition(&all_wrong, "BackendTrafficPolicy", "policy", "Accepted");
    assert_eq!(refused, is(ConditionStatus::False, "TargetNotFound"));
}
