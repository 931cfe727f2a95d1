//! Roll-outs over routes and models: what is laid over what, who gives way, and what the controller is told.

use proptest::prelude::prop_assert_eq;
use tidegate_api::{Resource, decode};

use super::*;
use crate::overlay::{Overlay, PairInManifests, RolloutFacts, Rollouts};
use crate::{Draw, Split};

fn rollout(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "tidegate.dev/v1alpha1", "kind": "InferenceRollout", "metadata": {"name": name}, "spec": spec})
}

fn node(name: &str, stable: &str, candidate: &str) -> Value {
    rollout(
        name,
        json!({"type": "Node", "target": {"routeRef": {"name": "route"}},
               "stable": {"poolRef": {"name": stable}}, "candidate": {"poolRef": {"name": candidate}}}),
    )
}

fn lora(name: &str, target: Value) -> Value {
    rollout(name, json!({"type": "LoRA", "target": target, "stable": {"model": "v1"}, "candidate": {"model": "v2"}}))
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("tidegate.dev", "InferenceRollout", "default", name)
}

/// The overlay of a document, as its controller makes it.
fn overlay(value: &Value, share: u32) -> Overlay {
    let document = document("rollout.yaml", value.clone());
    let Some(Resource::InferenceRollout(spec)) = decode(&document).resource else { panic!("{value}") };
    let overlay = Overlay::new(&document.key, "uid", &spec.settings());
    Overlay { candidate_share_ppm: share, admits_forced: true, ..overlay }
}

fn with(values: Vec<Value>, overlays: Vec<Overlay>) -> Compiled {
    let rollouts = Rollouts { overlays, ..Rollouts::default() };
    compiled_in(values, &Environment { rollouts, ..Environment::default() })
}

fn facts<'c>(compiled: &'c Compiled, name: &str) -> &'c RolloutFacts {
    &compiled.rollouts[&key(name)]
}

fn weights(stable: Option<u32>, candidate: Option<u32>) -> PairInManifests {
    PairInManifests { stable, candidate }
}

/// Message of a condition of an object, or of it towards its first parent.
fn message(compiled: &Compiled, kind: &str, name: &str, which: &str) -> Option<String> {
    let (_, status) = compiled.statuses.iter().find(|(key, _)| key.kind == kind && key.name == name)?;
    let conditions = status.conditions.iter().chain(status.parents.iter().flat_map(|parent| &parent.conditions));
    conditions.into_iter().find(|condition| condition.kind == which).map(|condition| condition.message.clone())
}

/// The arm that a session gets, by the data plane's steps.
fn arm(rule: &Rule, session: &[u8]) -> String {
    let at = position(&rule.split, rule.pair.as_deref(), session);
    rule.arms[at].label.to_string()
}

fn position(split: &Split, pair: Option<&crate::Pair>, session: &[u8]) -> usize {
    let chosen = split.choose(Draw::Session(session), 0).unwrap();
    match pair {
        Some(pair) => pair.place(chosen, pair.draw(&http::HeaderMap::new(), None, Draw::Session(session)).arm),
        None => chosen,
    }
}

fn pools() -> Vec<Value> {
    ["old", "new", "third"].map(alpha_pool).to_vec()
}

fn base(backends: Value) -> Vec<Value> {
    let mut values = vec![gateway(), route(json!([{"backendRefs": backends}]))];
    values.extend(pools());
    values.push(server("n", "new", "10.0.0.9"));
    values
}

#[test]
fn the_candidate_need_not_be_listed_and_the_route_says_what_holds() {
    let document = node("one", "old", "new");
    let mut values = base(json!([backend("old", 100)]));
    values.push(document.clone());
    let compiled = with(values, vec![overlay(&document, 100_000)]);
    let rule = rules(&compiled)[0];
    let arms: Vec<(&str, u32)> = rule.arms.iter().map(|arm| (&*arm.label, arm.weight)).collect();
    assert_eq!(arms, [("default/old", 100), ("default/new", 0)]);
    let pair = rule.pair.as_ref().expect("a pair");
    assert_eq!((pair.stable, pair.candidate, pair.candidate_share_ppm), (0, 1, 100_000));
    assert_eq!((&*pair.label, pair.shield), ("default/one", true));
    let at_candidate = (0..10_000_u32).filter(|key| arm(rule, &key.to_le_bytes()) == "default/new").count();
    assert!((880..1120).contains(&at_candidate), "{at_candidate}");
    assert_eq!(
        message(&compiled, "HTTPRoute", "route", "tidegate.dev/RolloutOverlay").as_deref(),
        Some("90/10 by default/one")
    );
    assert_eq!(
        condition(&compiled, "HTTPRoute", "route", "tidegate.dev/RolloutOverlay").unwrap().0,
        ConditionStatus::True
    );
    // The candidate's pool is routed to by this Gateway, and its endpoints are in the table.
    assert_eq!(condition(&compiled, "InferencePool", "new", "Accepted"), is(ConditionStatus::True, "Accepted"));
    let facts = facts(&compiled, "one");
    assert_eq!(facts.in_manifests, weights(Some(100), None));
    let pool = &compiled.snapshot.pools[facts.candidate_pool.unwrap().0];
    assert_eq!((&*pool.label, &*pool.endpoints[0].address), ("default/new", "10.0.0.9:8000"));
    assert_eq!(condition(&compiled, "InferenceRollout", "one", "Accepted"), is(ConditionStatus::True, "Accepted"));
    assert_eq!(
        condition(&compiled, "InferenceRollout", "one", "ResolvedRefs"),
        is(ConditionStatus::True, "ResolvedRefs")
    );
}

#[test]
fn a_document_alone_changes_no_weight() {
    let mut values = base(json!([backend("old", 90), backend("new", 10)]));
    let before = with(values.clone(), vec![]);
    values.push(node("one", "old", "new"));
    let after = with(values, vec![]);
    assert!(rules(&after)[0].pair.is_none());
    assert_eq!(message(&after, "HTTPRoute", "route", "tidegate.dev/RolloutOverlay"), None);
    for key in 0..200_u32 {
        assert_eq!(arm(rules(&before)[0], &key.to_le_bytes()), arm(rules(&after)[0], &key.to_le_bytes()));
    }
    assert_eq!(facts(&after, "one").in_manifests, weights(Some(90), Some(10)));
    // Both pools are named by the rule, so they are known before it begins.
    assert!(facts(&after, "one").candidate_pool.is_some());
}

#[test]
fn third_arms_keep_their_share_and_their_sessions() {
    let backends = json!([backend("old", 90), backend("third", 20), backend("new", 10)]);
    let before = with(base(backends.clone()), vec![]);
    let document = node("one", "old", "new");
    let during = with(base(backends), vec![overlay(&document, 500_000)]);
    let (before, during) = (rules(&before)[0], rules(&during)[0]);
    let mut seen = [0_u32; 3];
    for key in 0..12_000_u32 {
        let session = key.to_le_bytes();
        let is = arm(during, &session);
        assert_eq!(arm(before, &session) == "default/third", is == "default/third");
        seen[["default/old", "default/third", "default/new"].iter().position(|name| **name == is).unwrap()] += 1;
    }
    // 100 of 120 for the pair, half of it each.
    for (count, expected) in seen.into_iter().zip([5_000_i64, 2_000, 5_000]) {
        assert!((i64::from(count) - expected).abs() < 300, "{seen:?}");
    }
}

#[test]
fn only_rules_with_stable_are_covered_and_a_name_picks_one() {
    let rules_of = |document: &Value| {
        let mut values = vec![
            gateway(),
            route(json!([
                {"name": "testers", "matches": [{"path": {"value": "/t"}}], "backendRefs": [backend("new", 1)]},
                {"name": "a", "matches": [{"path": {"value": "/a"}}], "backendRefs": [backend("old", 3)]},
                {"name": "b", "matches": [{"path": {"value": "/b"}}], "backendRefs": [backend("old", 1), backend("third", 1)]},
                {"matches": [{"path": {"value": "/c"}}], "backendRefs": [backend("third", 1)]},
            ])),
        ];
        values.extend(pools());
        values.push(document.clone());
        let compiled = with(values, vec![overlay(document, 10)]);
        let mut with_pair: Vec<usize> =
            rules(&compiled).into_iter().filter(|rule| rule.pair.is_some()).map(|rule| rule.index).collect();
        with_pair.sort_unstable();
        (with_pair, facts(&compiled, "one").in_manifests)
    };
    let document = node("one", "old", "new");
    assert_eq!(rules_of(&document), (vec![1, 2], weights(Some(4), None)));
    let mut named = document;
    named["spec"]["target"]["rule"] = json!("b");
    assert_eq!(rules_of(&named), (vec![2], weights(Some(1), None)));
}

#[test]
fn who_has_a_share_follows_the_overlay_and_not_the_weights() {
    let shares = |share: u32, backends: Value| {
        let compiled = with(base(backends), vec![overlay(&node("one", "old", "new"), share)]);
        let rule = rules(&compiled)[0];
        (0..rule.arms.len()).map(|at| rule.has_share(at)).collect::<Vec<_>>()
    };
    let listed = || json!([backend("old", 90), backend("new", 10), backend("third", 1)]);
    assert_eq!(shares(0, listed()), [true, false, true]);
    assert_eq!(shares(1, listed()), [true, true, true]);
    assert_eq!(shares(1_000_000, listed()), [false, true, true]);
    assert_eq!(shares(1, json!([backend("old", 1)])), [true, true]);
    assert_eq!(shares(1, json!([backend("old", 0), backend("third", 1)])), [false, true, false]);
}

#[test]
fn settled_manifests_are_told_and_the_overlay_still_holds() {
    let document = node("one", "old", "new");
    let compiled = with(base(json!([backend("new", 7)])), vec![overlay(&document, 1_000_000)]);
    assert_eq!(facts(&compiled, "one").in_manifests, weights(None, Some(7)));
    assert!(facts(&compiled, "one").in_manifests.says_promoted());
    // Turned back at the same moment: stable is there again, although the manifests no longer list it.
    let back = with(base(json!([backend("new", 7)])), vec![overlay(&document, 0)]);
    assert_eq!(arm(rules(&back)[0], b"x"), "default/old");
    // Edited underneath: said as it is.
    let edited = with(base(json!([backend("old", 0), backend("new", 5)])), vec![overlay(&document, 10)]);
    assert_eq!(facts(&edited, "one").in_manifests, weights(Some(0), Some(5)));
}

#[test]
fn a_pool_that_vanishes_leaves_everything_to_the_other() {
    let document = node("one", "old", "new");
    let without = |gone: &str| {
        let mut values = base(json!([backend("old", 90), backend("new", 10)]));
        values.retain(|value| value["kind"] != "InferencePool" || value["metadata"]["name"] != gone);
        values.push(document.clone());
        with(values, vec![overlay(&document, 500_000)])
    };
    for (gone, left, field) in
        [("new", "default/old", "spec.candidate.poolRef"), ("old", "default/new", "spec.stable.poolRef")]
    {
        let compiled = without(gone);
        for session in 0..100_u32 {
            assert_eq!(arm(rules(&compiled)[0], &session.to_le_bytes()), left);
        }
        assert_eq!(
            condition(&compiled, "InferenceRollout", "one", "ResolvedRefs"),
            is(ConditionStatus::False, "PoolNotFound")
        );
        assert!(message(&compiled, "InferenceRollout", "one", "ResolvedRefs").unwrap().contains(field));
        assert_eq!(facts(&compiled, "one").unresolved.as_ref().unwrap().reason, "PoolNotFound");
    }
}

#[test]
fn the_added_arm_takes_stables_filters_and_the_wrong_share_is_the_whole() {
    let mut old = backend("old", 1);
    old["filters"] =
        json!([{"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "x-a", "value": "b"}]}}]);
    let compiled = with(base(json!([old])), vec![overlay(&node("one", "old", "new"), u32::MAX)]);
    let rule = rules(&compiled)[0];
    assert_eq!(rule.arms[1].filters.request_headers.set.len(), 1);
    assert!(rule.arms[1].redistribute_when_empty && !rule.arms[0].redistribute_when_empty);
    assert_eq!(arm(rule, b"any"), "default/new");
    assert_eq!(
        message(&compiled, "HTTPRoute", "route", "tidegate.dev/RolloutOverlay").unwrap(),
        "0/100 by default/one"
    );
}

#[test]
fn references_that_lead_nowhere_name_their_field() {
    let changed = |pointer: &str, change: Value| {
        let mut document = node("one", "old", "new");
        *document.pointer_mut(pointer).unwrap() = change;
        let mut values = base(json!([backend("old", 1)]));
        values.push(document);
        let compiled = with(values, vec![]);
        let (status, reason) = condition(&compiled, "InferenceRollout", "one", "ResolvedRefs").unwrap();
        assert_eq!(status, ConditionStatus::False);
        (reason, message(&compiled, "InferenceRollout", "one", "ResolvedRefs").unwrap())
    };
    for (pointer, change, reason, field) in [
        ("/spec/target/routeRef/name", json!("x"), "RouteNotFound", "spec.target.routeRef"),
        ("/spec/target", json!({"routeRef": {"name": "route"}, "rule": "x"}), "RuleNotFound", "spec.target.rule"),
        ("/spec/stable/poolRef/name", json!("third"), "StableNotInRoute", "spec.stable.poolRef"),
        ("/spec/stable/poolRef/name", json!("nowhere"), "PoolNotFound", "spec.stable.poolRef"),
        ("/spec/candidate/poolRef/name", json!("nowhere"), "PoolNotFound", "spec.candidate.poolRef"),
    ] {
        let (said, message) = changed(pointer, change);
        assert_eq!(said, reason, "{message}");
        assert!(message.starts_with(field), "{message}");
    }
}

#[test]
fn one_roll_out_per_rule_the_active_one_first_then_the_oldest() {
    let mut values = base(json!([backend("old", 1)]));
    let mut younger = node("a", "old", "new");
    younger["metadata"]["creationTimestamp"] = json!("2026-02-01T00:00:00Z");
    let mut older = node("b", "old", "third");
    older["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
    values.extend([younger.clone(), older.clone()]);
    let refused = |compiled: &Compiled, name: &str| {
        condition(compiled, "InferenceRollout", name, "Accepted") == is(ConditionStatus::False, "Conflict")
    };
    let compiled = with(values.clone(), vec![]);
    assert!(refused(&compiled, "a") && !refused(&compiled, "b"));
    let text = message(&compiled, "InferenceRollout", "a", "Accepted").unwrap();
    assert!(text.contains("rule 0 of HTTPRoute default/route") && text.contains("default/b"), "{text}");
    assert_eq!(facts(&compiled, "a").conflict.as_ref().unwrap().reason, "Conflict");
    // Under way, it is not pushed aside by an older document that comes later.
    let compiled = with(values.clone(), vec![overlay(&younger, 10)]);
    assert!(!refused(&compiled, "a") && refused(&compiled, "b"));
    // Two that claim to be under way: one of them decides, and only one.
    let compiled = with(values.clone(), vec![overlay(&younger, 10), overlay(&older, 20)]);
    assert!(refused(&compiled, "a") && !refused(&compiled, "b"));
    assert_eq!(&*rules(&compiled)[0].pair.as_ref().unwrap().label, "default/b");
    // What has ended stands in nobody's way.
    let rollouts = Rollouts { ended: [key("b")].into(), ..Rollouts::default() };
    let compiled = compiled_in(values, &Environment { rollouts, ..Environment::default() });
    assert!(!refused(&compiled, "a") && !refused(&compiled, "b") && !compiled.rollouts.contains_key(&key("b")));
}

#[test]
fn an_overlay_holds_without_its_document() {
    let document = node("one", "old", "new");
    let compiled = with(base(json!([backend("old", 1)])), vec![overlay(&document, 1_000_000)]);
    assert_eq!(arm(rules(&compiled)[0], b"x"), "default/new");
    assert_eq!(facts(&compiled, "one").in_manifests, weights(Some(1), None));
    assert!(!compiled.statuses.contains_key(&key("one")));
}

#[test]
fn a_new_candidate_in_the_document_leaves_the_active_one_in_force() {
    let active = overlay(&node("one", "old", "new"), 300_000);
    let mut values = base(json!([backend("old", 1)]));
    values.push(node("one", "old", "nowhere"));
    let compiled = with(values, vec![active]);
    assert_eq!(&*rules(&compiled)[0].arms[1].label, "default/new");
    assert_eq!(facts(&compiled, "one").unresolved.as_ref().unwrap().reason, "PoolNotFound");
}

fn model_base(model_document: Option<Value>) -> Vec<Value> {
    let mut values = vec![gateway(), route(json!([{"backendRefs": [backend("old", 1)]}])), alpha_pool("old")];
    values.extend(model_document);
    values
}

fn model_target() -> Value {
    json!({"model": "helper", "poolRef": {"name": "old"}})
}

#[test]
fn adapters_are_split_in_front_of_their_name() {
    let document = lora("one", model_target());
    let mapped = model("m", "helper", "old", json!([{"name": "v1", "weight": 80}, {"name": "v0", "weight": 20}]));
    let before = with(model_base(Some(mapped.clone())), vec![]);
    let during = with(model_base(Some(mapped)), vec![overlay(&document, 500_000)]);
    let rule = |compiled: &Compiled| compiled.snapshot.pools[0].models.rule(Some("helper")).unwrap().clone();
    let (before, during) = (rule(&before), rule(&during));
    let targets: Vec<(&str, u32)> = during.targets.iter().map(|target| (&*target.model, target.weight)).collect();
    assert_eq!(targets, [("v1", 80), ("v0", 20), ("v2", 0)]);
    let mut seen = [0_u32; 3];
    for key in 0..5_000_u32 {
        let session = key.to_le_bytes();
        let (was, is) =
            (position(&before.split, None, &session), position(&during.split, during.pair.as_deref(), &session));
        assert_eq!(was == 1, is == 1, "a third adapter keeps its sessions");
        seen[is] += 1;
    }
    for (count, expected) in seen.into_iter().zip([2_000_i64, 1_000, 2_000]) {
        assert!((i64::from(count) - expected).abs() < 200, "{seen:?}");
    }
}

#[test]
fn models_say_what_holds_and_what_the_manifests_say() {
    let document = lora("one", model_target());
    let mapped = |targets: Value| model("m", "helper", "old", targets);
    let facts_of = |targets: Value| {
        let mut values = model_base(Some(mapped(targets)));
        values.push(document.clone());
        let compiled = with(values, vec![overlay(&document, 5_000)]);
        let said = message(&compiled, "InferenceModel", "m", "tidegate.dev/RolloutOverlay");
        assert_eq!(said.as_deref(), Some("99.5/0.5 by default/one"));
        let facts = facts(&compiled, "one").clone();
        assert_eq!((facts.stable_pool, facts.places[0].object.name.as_str()), (facts.candidate_pool, "m"));
        facts.in_manifests
    };
    assert_eq!(facts_of(json!([{"name": "v1"}])), weights(Some(1), None));
    assert_eq!(facts_of(json!([{"name": "v1", "weight": 9}, {"name": "v2", "weight": 1}])), weights(Some(9), Some(1)));
    let settled = facts_of(json!([{"name": "v2", "weight": 100}]));
    assert_eq!((settled, settled.says_promoted()), (weights(None, Some(100)), true));
}

#[test]
fn a_name_that_nothing_maps_is_the_adapters_own() {
    let document = lora("one", json!({"model": "v1", "poolRef": {"name": "old"}}));
    let compiled = with(model_base(None), vec![overlay(&document, 1_000_000)]);
    let rule = compiled.snapshot.pools[0].models.rule(Some("v1")).unwrap();
    assert_eq!(&*rule.targets[position(&rule.split, rule.pair.as_deref(), b"s")].model, "v2");
    assert_eq!(facts(&compiled, "one").in_manifests, weights(Some(1), None));
    assert!(compiled.snapshot.pools[0].models.rule(Some("v2")).is_none());
}

#[test]
fn a_rewrite_for_every_name_is_narrowed_to_the_one_that_is_rolled_out() {
    let rewrite = json!({"apiVersion": format!("{GROUP_ALPHA}/v1alpha2"), "kind": "InferenceModelRewrite", "metadata": {"name": "all"},
        "spec": {"poolRef": {"name": "old", "group": GROUP_ALPHA}, "rules": [{"targets": [{"modelRewrite": "v1", "weight": 1}]}]}});
    let mut target = model_target();
    target["rewriteRef"] = json!({"name": "all"});
    let document = lora("one", target);
    let compiled = with(model_base(Some(rewrite)), vec![overlay(&document, 1_000_000)]);
    let table = &compiled.snapshot.pools[0].models;
    let (one, other) = (table.rule(Some("helper")).unwrap(), table.rule(Some("other")).unwrap());
    assert!(one.pair.is_some() && other.pair.is_none());
    assert_eq!((one.targets.len(), other.targets.len()), (2, 1));
    assert_eq!(
        message(&compiled, "InferenceModelRewrite", "all", "tidegate.dev/RolloutOverlay").unwrap(),
        "0/100 by default/one"
    );
}

#[test]
fn models_that_lead_nowhere_name_their_field() {
    let mapped = model("m", "helper", "old", json!([{"name": "v0", "weight": 1}]));
    let rewritten = json!({"model": "helper", "poolRef": {"name": "old"}, "rewriteRef": {"name": "x"}});
    for (target, mapping, reason, field) in [
        (model_target(), None, "ModelNotMapped", "spec.target.model"),
        (model_target(), Some(mapped.clone()), "StableNotATarget", "spec.stable.model"),
        (rewritten, Some(mapped), "ModelNotMapped", "spec.target.rewriteRef"),
        (json!({"model": "helper", "poolRef": {"name": "x"}}), None, "PoolNotFound", "spec.target.poolRef"),
    ] {
        let mut values = model_base(mapping);
        values.push(lora("one", target));
        let compiled = with(values, vec![]);
        let said = condition(&compiled, "InferenceRollout", "one", "ResolvedRefs");
        assert_eq!(said, is(ConditionStatus::False, reason), "{field}");
        assert!(message(&compiled, "InferenceRollout", "one", "ResolvedRefs").unwrap().starts_with(field));
    }
}

proptest! {
    /// Whatever overlays there are over whatever weights: compile gives a table in which every session has an arm,
    /// and the order of documents and overlays decides nothing.
    #[test]
    fn any_overlays_over_any_weights_make_a_table(
        weights in any::<[u8; 3]>(), shares in any::<[u32; 2]>(), listed in any::<[bool; 3]>(), key in any::<u64>(),
    ) {
        let names = ["old", "new", "third"];
        let backends: Vec<Value> = (0..3)
            .filter(|at| listed[*at])
            .map(|at| backend(names[at], u32::from(weights[at])))
            .collect();
        let (one, other) = (node("one", "old", "new"), node("other", "new", "third"));
        let overlays = vec![overlay(&one, shares[0]), overlay(&other, shares[1])];
        let mut values = base(json!(backends));
        values.extend([one, other]);
        let straight = with(values.clone(), overlays.clone());
        values.reverse();
        let backwards = with(values, overlays.into_iter().rev().collect());
        let (rule, mirrored) = (rules(&straight)[0], rules(&backwards)[0]);
        if rule.split.choose(Draw::Random(0), 0).is_some() {
            prop_assert_eq!(arm(rule, &key.to_le_bytes()), arm(mirrored, &key.to_le_bytes()));
        }
        prop_assert!(straight.rollouts == backwards.rollouts);
    }
}
