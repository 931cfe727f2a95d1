//! The printed examples, and what their defaults come to.

use std::time::Duration;

use serde_json::json;

use super::*;

fn spec(value: serde_json::Value) -> InferenceRolloutSpec {
    serde_json::from_value(value).unwrap()
}

fn smallest(kind: &str) -> serde_json::Value {
    match kind {
        "LoRA" => json!({"type": kind, "target": {"model": "m", "poolRef": {"name": "p"}, "rewriteRef": {"name": "r"}},
                         "stable": {"model": "a"}, "candidate": {"model": "b"}}),
        _ => json!({"type": kind, "target": {"routeRef": {"name": "r"}},
                    "stable": {"poolRef": {"name": "a"}}, "candidate": {"poolRef": {"name": "b"}}}),
    }
}

#[test]
fn each_type_has_its_own_defaults() {
    for (kind, first, retention, guards, same_models, missing) in [
        ("Node", 10_000, 3600, 5, true, OnMissing::Fail),
        ("BaseModel", 20_000, 86_400, 8, true, OnMissing::ExcludeModel),
        ("LoRA", 100_000, 86_400, 6, false, OnMissing::Fail),
    ] {
        let settings = spec(smallest(kind)).settings();
        assert_eq!(settings.kind.as_str(), kind);
        assert_eq!(settings.steps.first().unwrap().weight, StepWeight::Share(first), "{kind}");
        assert_eq!(settings.steps.last().unwrap().weight, StepWeight::Share(WHOLE_SHARE), "{kind}");
        assert_eq!(settings.min_retention, Duration::from_secs(retention), "{kind}");
        assert_eq!(settings.analysis.guards.len(), guards, "{kind}");
        assert_eq!(settings.preflight.same_models, same_models, "{kind}");
        assert_eq!(settings.preflight.on_missing, missing, "{kind}");
        assert_eq!(settings.preflight.free_lora_slots, u32::from(kind == "LoRA"));
        assert!(settings.analysis.shield && settings.rollback.auto && !settings.paused && settings.shadow.is_none());
        assert_eq!((settings.analysis.alpha, settings.analysis.harm_budget_ppm), (0.01, 5_000));
        assert_eq!(settings.analysis.breaker.error_share_ppm, 500_000);
        assert_eq!(settings.warm_up.unwrap().timeout, Duration::from_secs(1200));
        assert_eq!(settings.assignment.keys.first(), Some(&SessionKey::Header("x-session-id".into())));
    }
}

#[test]
fn what_is_written_wins_over_the_defaults() {
    let mut value = smallest("Node");
    value["steps"] = json!([{"weight": "0.5%", "bake": "1.5h"}, {"weight": "parity"},
        {"weight": 100, "gate": {"manual": true, "approvers": ["a"], "webhook": {"url": "http://x", "onError": "Rollback"}}}]);
    value["warmup"] = json!({"replay": {"source": "none"}});
    value["assignment"] =
        json!({"unit": "Request", "force": [{"header": "X-Arm", "value": "new", "arm": "candidate"}]});
    value["analysis"] = json!({"guards": [{"metric": "ttft", "tolerance": "20%"}, {"metric": "finish:length", "r0": 2.5}],
        "shield": false, "harmBudget": "0.1pp"});
    value["freeze"] = json!([{"cron": "0 18 * * 5", "duration": "62h", "tz": "Europe/Berlin"}]);
    value["drain"] = json!({"timeout": "30m"});
    value["deadline"] = json!("24h");
    let settings = spec(value).settings();
    let weights: Vec<String> = settings.steps.iter().map(|step| step.weight.to_string()).collect();
    assert_eq!(weights, ["0.5%", "parity", "100%"]);
    let bakes: Vec<u64> = settings.steps.iter().map(|step| step.bake.as_secs()).collect();
    assert_eq!(bakes, [5400, 600, 600]);
    let gate = &settings.steps[2].gate;
    assert_eq!(gate.manual, Some(vec!["a".to_owned()]));
    let webhook = gate.webhook.as_ref().unwrap();
    assert_eq!((webhook.timeout, webhook.on_error), (Duration::from_secs(60), GateError::Rollback));
    assert_eq!(settings.warm_up, None);
    assert_eq!(settings.assignment.keys, []);
    assert_eq!(settings.assignment.force[0].header, "x-arm");
    let guards: Vec<String> = settings.analysis.guards.iter().map(|guard| guard.metric.to_string()).collect();
    assert_eq!(guards, ["ttft", "finish_reason:length"]);
    let [ttft, length] = settings.analysis.guards.as_slice() else { panic!() };
    assert_eq!((ttft.tolerance_ppm, ttft.margin_ppm, length.r0), (200_000, 150_000, 2.5));
    assert!(!settings.analysis.shield);
    assert_eq!(settings.analysis.harm_budget_ppm, 1_000);
    assert_eq!(settings.freeze[0].allow, [FreezeAllow::Rollback]);
    assert_eq!(settings.drain_timeout, Duration::from_secs(1800));
    assert_eq!(settings.deadline, Some(Duration::from_secs(86_400)));
}

#[test]
fn a_model_target_keeps_its_references() {
    let settings = spec(smallest("LoRA")).settings();
    let RolloutTarget::Model(target) = &settings.target else { panic!() };
    assert_eq!((target.model.as_str(), target.pool.name.as_str()), ("m", "p"));
    let rewrite = target.rewrite.as_ref().unwrap();
    assert_eq!((rewrite.kind.as_deref(), rewrite.name.as_str()), (Some("InferenceModelRewrite"), "r"));
    assert_eq!((settings.stable.name(), settings.candidate.name()), ("a", "b"));
}

#[test]
fn a_spec_is_written_as_it_was_read() {
    for kind in ["Node", "BaseModel", "LoRA"] {
        let mut value = smallest(kind);
        value["steps"] = json!([{"weight": "0.5%", "bake": "10m"}, {"weight": 100}]);
        value["start"] = json!("Manual");
        assert_eq!(serde_json::to_value(spec(value.clone())).unwrap(), value);
    }
}
