//! Meanings that only show at the edges: references that are repaired, refused, or lost to another object.

use super::*;

fn findings<'c>(compiled: &'c Compiled, kind: &str, name: &str) -> &'c [tidegate_api::Finding] {
    let (_, status) = compiled.statuses.iter().find(|(key, _)| key.kind == kind && key.name == name).expect("a status");
    &status.findings
}

fn v1_pool(name: &str) -> Value {
    json!({"apiVersion": format!("{GROUP_V1}/v1"), "kind": "InferencePool", "metadata": {"name": name},
           "spec": {"selector": {"matchLabels": {"pool": name}}, "targetPorts": [{"number": 8000}]}})
}

#[test]
fn printed_versions_without_group_are_repaired_where_the_author_can_see_it() {
    let printed = json!({"apiVersion": format!("{GROUP_ALPHA}/v1alpha2"), "kind": "InferenceModel", "metadata": {"name": "sample"},
        "spec": {"versions": [{"modelName": "v1", "weight": 90, "poolRef": {"name": "one"}},
                              {"modelName": "v2", "weight": 10, "poolRef": {"name": "one"}}]}});
    // Its schema means v1alpha2; only v1 has such a pool.
    let compiled = compiled(vec![v1_pool("one"), printed]);
    let places: Vec<String> = findings(&compiled, "InferenceModel", "sample")
        .iter()
        .filter(|finding| finding.reason == "GroupAssumed")
        .map(|finding| finding.field.to_string())
        .collect();
    assert_eq!(places, ["spec.versions[0].poolRef.group", "spec.versions[1].poolRef.group"]);
}

#[test]
fn a_route_that_does_not_attach_still_says_which_references_are_broken() {
    let mut unattached = route(json!([{"backendRefs": [backend("none", 1)]}]));
    unattached["spec"]["hostnames"] = json!(["example.net"]);
    let mut named = gateway();
    named["spec"]["listeners"][0]["hostname"] = json!("example.com");
    let compiled = compiled(vec![named, unattached]);
    assert_eq!(
        condition(&compiled, "HTTPRoute", "route", "ResolvedRefs"),
        is(ConditionStatus::False, "BackendNotFound")
    );
}

#[test]
fn a_listen_address_that_a_gateway_has_taken_is_not_called_attached() {
    let mut elsewhere = route(json!([{"backendRefs": [backend("one", 1)]}]));
    elsewhere["spec"]["parentRefs"] = json!([{"name": "missing"}]);
    let listen = Some("0.0.0.0:8080".parse().expect("an address"));
    let environment = Environment { listen, ..Environment::default() };
    let compiled = compiled_in(vec![gateway(), elsewhere, alpha_pool("one")], &environment);
    assert_eq!(rules(&compiled).len(), 0);
    let (status, _) = condition(&compiled, "HTTPRoute", "route", "Accepted").expect("a condition");
    assert_eq!(status, ConditionStatus::False);
}

#[test]
fn a_rewrite_that_lost_one_of_its_names_serves_the_others_and_says_both() {
    let rewrite = |name: &str, models: &[&str]| {
        let rules: Vec<Value> = models
            .iter()
            .map(|model| json!({"matches": [{"model": {"value": model}}], "targets": [{"modelRewrite": name}]}))
            .collect();
        json!({"apiVersion": "llm-d.ai/v1alpha2", "kind": "InferenceModelRewrite", "metadata": {"name": name},
               "spec": {"poolRef": {"name": "one", "group": GROUP_V1}, "rules": rules}})
    };
    let compiled = compiled(vec![
        gateway(),
        route(json!([{"backendRefs": [{"group": GROUP_V1, "kind": "InferencePool", "name": "one"}]}])),
        v1_pool("one"),
        rewrite("a", &["x"]),
        rewrite("b", &["x", "y"]),
    ]);
    let models = &compiled.snapshot.pools[0].models;
    assert_eq!(&*models.rule(Some("x")).expect("a rule").targets[0].model, "a");
    assert_eq!(&*models.rule(Some("y")).expect("a rule").targets[0].model, "b");
    assert_eq!(condition(&compiled, "InferenceModelRewrite", "b", "Accepted"), is(ConditionStatus::True, "Accepted"));
    let lost = findings(&compiled, "InferenceModelRewrite", "b");
    assert!(lost.iter().any(|finding| finding.reason == "ModelNameInUse" && finding.message.contains("\"x\"")));
}

#[test]
fn a_target_named_twice_has_the_sum_of_its_weights() {
    let twice = json!([{"name": "v1", "weight": 10}, {"name": "v1", "weight": 20}, {"name": "v2", "weight": 70}]);
    let compiled = compiled(vec![
        gateway(),
        route(json!([{"backendRefs": [backend("one", 1)]}])),
        alpha_pool("one"),
        model("m", "m", "one", twice),
    ]);
    let rule = compiled.snapshot.pools[0].models.rule(Some("m")).expect("a rule");
    let first = (0..20_000_u32)
        .filter(|number| {
            let chosen = rule.split.choose(crate::Draw::Session(&number.to_le_bytes()), 0).expect("a target");
            &*rule.targets[chosen].model == "v1"
        })
        .count();
    // 30 %: 6,000 of 20,000, five standard deviations around.
    assert!((5_676..=6_324).contains(&first), "{first}");
}

#[test]
fn pools_of_both_groups_with_one_name_are_told_apart_whatever_their_order() {
    let of =
        |group: &str, weight: u32| json!({"group": group, "kind": "InferencePool", "name": "one", "weight": weight});
    let draw = |order: [Value; 2]| {
        let compiled =
            compiled(vec![gateway(), route(json!([{"backendRefs": order}])), alpha_pool("one"), v1_pool("one")]);
        let rule = rules(&compiled)[0];
        (0..500_u32)
            .map(|number| {
                let arm = rule.split.choose(crate::Draw::Session(&number.to_le_bytes()), 0).expect("an arm");
                let ArmTarget::Pool(pool) = &rule.arms[arm].target else { panic!("a pool") };
                compiled.snapshot.pools[pool.0].key.group.clone()
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(draw([of(GROUP_V1, 90), of(GROUP_ALPHA, 10)]), draw([of(GROUP_ALPHA, 10), of(GROUP_V1, 90)]));
}

#[test]
fn a_route_without_rules_takes_everything_and_leads_nowhere() {
    let mut bare = route(json!([]));
    bare["spec"].as_object_mut().unwrap().remove("rules");
    let mut null = bare.clone();
    null["spec"]["rules"] = Value::Null;
    let weightless = route(json!([{"backendRefs": [backend("one", 0), backend("two", 0)]}]));
    for written in [bare, null, route(json!([{}])), route(json!([{"backendRefs": []}])), weightless] {
        let compiled = compiled(vec![gateway(), written.clone(), alpha_pool("one"), alpha_pool("two")]);
        assert_eq!(condition(&compiled, "HTTPRoute", "route", "Accepted"), is(ConditionStatus::True, "Accepted"));
        let [rule] = rules(&compiled)[..] else { panic!("one rule is wanted of {written}") };
        assert_eq!(rule.split.choose(crate::Draw::Random(7), 0), None, "{written}");
        assert_eq!(rule.split.choose(crate::Draw::Session(b"a"), 0), None, "{written}");
        for path in ["/", "/v1/chat/completions"] {
            let request = http::Request::post(path).body(()).unwrap().into_parts().0;
            assert!(listener(&compiled).router.route("any.example", &request).is_some(), "{path} of {written}");
        }
    }
}
