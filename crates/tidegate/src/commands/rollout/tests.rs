use clap::Parser;

use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    arguments: Arguments,
}

#[test]
fn verbs_are_read() {
    for words in [
        vec!["list", "-A"],
        vec!["get", "a", "-n", "serving", "-o", "json"],
        vec!["promote", "a", "--full"],
        vec!["rollback", "a", "--reason", "slow", "--cut-streams"],
        vec!["emit-patch", "a"],
    ] {
        let line = Line::try_parse_from(["rollout"].iter().chain(&words));
        assert!(line.is_ok(), "{words:?}");
    }
    for words in [vec!["promote", "a", "--full", "--step"], vec!["get"], vec!["dance", "a"]] {
        assert!(Line::try_parse_from(["rollout"].iter().chain(&words)).is_err(), "{words:?}");
    }
}

fn node(phase: &str) -> Value {
    json!({"spec": {"target": {"routeRef": {"name": "chat"}}, "stable": {"poolRef": {"name": "old"}},
           "candidate": {"poolRef": {"name": "new"}}}, "status": {"phase": phase}})
}

#[test]
fn a_promotion_settles_with_what_both_had() {
    let route = json!({"kind": "HTTPRoute", "spec": {"rules": [{"backendRefs": [
        {"kind": "InferencePool", "name": "old", "weight": 90}, {"name": "third", "weight": 5}]}]}});
    let settled = patch::settle(&node("Settling"), &route).unwrap();
    let backends = settled.pointer("/spec/rules/0/backendRefs").unwrap();
    assert_eq!(
        backends,
        &json!([{"kind": "InferencePool", "name": "old", "weight": 0}, {"name": "third", "weight": 5},
                {"kind": "InferencePool", "name": "new", "weight": 90}])
    );
    let done = json!({"kind": "HTTPRoute", "spec": settled["spec"]});
    assert!(patch::settle(&node("Settling"), &done).unwrap_err().contains("nothing left"));
    let back = patch::settle(&node("RolledBack"), &done).unwrap();
    assert_eq!(back.pointer("/spec/rules/0/backendRefs/0/weight"), Some(&json!(90)));
}

#[test]
fn a_target_that_cannot_weigh_0_is_taken_out() {
    let rollout = json!({"spec": {"target": {"model": "travel", "rewriteRef": {"name": "r"}},
        "stable": {"model": "v1"}, "candidate": {"model": "v2"}}, "status": {"phase": "Settling"}});
    let rewrite = json!({"kind": "InferenceModelRewrite", "spec": {"rules": [
        {"matches": [{"model": {"value": "other"}}], "targets": [{"modelRewrite": "v1", "weight": 1}]},
        {"matches": [{"model": {"value": "travel"}}],
         "targets": [{"modelRewrite": "v1", "weight": 90}, {"modelRewrite": "v2", "weight": 10}]}]}});
    let settled = patch::settle(&rollout, &rewrite).unwrap();
    assert_eq!(settled.pointer("/spec/rules/1/targets"), Some(&json!([{"modelRewrite": "v2", "weight": 100}])));
    assert_eq!(settled.pointer("/spec/rules/0/targets/0/modelRewrite"), Some(&json!("v1")), "another model's rule");
    assert_eq!(patch::wanted(&rollout).map(|wanted| wanted.kind), Ok("InferenceModelRewrite".into()));
}

#[test]
fn tables_show_what_is_there() {
    let rollout = json!({"metadata": {"namespace": "serving", "name": "n"}, "spec": {"type": "Node"},
        "status": {"phase": "Held", "message": "why", "holds": [{"reason": "Gate", "message": "said no"}]}});
    let printed = print::one(&rollout);
    assert!(
        printed.contains("serving") && printed.contains("Held") && printed.contains("held by Gate: said no"),
        "{printed}"
    );
    let plan = print::plan(&json!({"steps": [{"step": 1, "weight": "5%"}], "rollbackCapacity": {"known": false}}));
    assert!(plan.contains("5%") && plan.contains("not known yet"), "{plan}");
}
