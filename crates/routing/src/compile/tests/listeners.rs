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
