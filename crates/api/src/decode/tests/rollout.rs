//! What is said about an InferenceRollout: every rule, with the field and what to write instead.

use serde_json::json;

use super::*;
use crate::rollout::RolloutTarget;

const PRINTED: &str = r#"
apiVersion: tidegate.dev/v1alpha1
kind: InferenceRollout                      # (1) node/accelerator: guide `llm` -> `llm-new`
metadata: {name: llm-to-h200, namespace: serving}
spec:
  type: Node
  target: {routeRef: {kind: HTTPRoute, name: routes-to-llm}}
  stable: {poolRef: {name: llm}}
  candidate: {poolRef: {name: llm-new}, relativeCapacity: 1.7}
  weights: {mode: Overlay}
  assignment: {unit: Conversation, keys: ["header:x-session-id", "body:prompt_cache_key", "messages:first"], force: [{header: x-rollout-arm, value: candidate, arm: candidate}]}
  preflight: {endpointsReady: 100%, sameModels: true, probe: {prompt: "ping", maxTokens: 1}}
  warmup: {replay: {source: recent, maxTokens: 1}, until: {cacheHitRatio: 0.8}, timeout: 20m}
  steps: [{weight: 1, bake: 10m}, {weight: 5, bake: 20m}, {weight: parity, bake: 30m}, {weight: 50, bake: 1h, gate: {manual: true}}, {weight: 100, bake: 2h}]
  analysis: {template: node-default, alpha: 0.01, harmBudget: 0.5pp, shield: true, onInconclusive: Hold, stepMaxDuration: 6h}
  rollback: {auto: true, stableHeadroom: 15%, onStreams: Finish}
  drain: {timeout: 15m, minRetention: 1h}
  freeze: [{cron: "0 18 * * 5", duration: 62h, tz: Europe/Berlin, allow: [Rollback]}]
---
apiVersion: tidegate.dev/v1alpha1
kind: InferenceRollout                      # (2) base model: guide `mymodel-pool-v1` -> v2 (same served name)
metadata: {name: qwen-to-r1}
spec:
  type: BaseModel
  target: {routeRef: {kind: HTTPRoute, name: inference-route}}
  stable: {poolRef: {name: mymodel-pool-v1}}
  candidate: {poolRef: {name: mymodel-pool-v2}}
  preflight: {adapters: {require: active, onMissing: ExcludeModel}, tokenizerChange: Warn, contextLength: AtLeast}
  shadow: {budget: {tokensPerSecond: 2000}, maxTokens: 64, sample: stratified, before: 30m}
  steps: [{weight: 0, bake: 30m}, {weight: 2, bake: 1h}, {weight: 10, bake: 4h, gate: {webhook: {url: "https://evals.internal/judge", timeout: 2h, onError: Hold}}}, {weight: 50, bake: 12h, gate: {manual: true, approvers: ["group:ml-leads"]}}, {weight: 100, bake: 24h}]
  analysis:
    harmBudget: 0.5pp
    guards: [{metric: error, r0: 1.1}, {metric: ttft, tolerance: 15%, margin: 25%}, {metric: tpot, tolerance: 15%, margin: 25%}, {metric: empty, r0: 1.2}, {metric: "finish_reason:length", r0: 1.5}, {metric: think_tag_unbalanced, r0: 1.0}]
    observe: [output_tokens, refusal, cost_per_1k]
  drain: {timeout: 30m, minRetention: 24h}
---
apiVersion: tidegate.dev/v1alpha1
kind: InferenceRollout                      # (3) LoRA: guide `travelhelper` v1 -> v2 inside one pool
metadata: {name: travel-helper-v2}
spec:
  type: LoRA
  target: {model: travelhelper, poolRef: {name: mymodel-pool-v1}, rewriteRef: {kind: InferenceModelRewrite, name: loramodel}}
  stable: {model: travel-helper-v1}
  candidate: {model: travel-helper-v2, source: "s3://adapters/travel/v2", ensureLoaded: true}
  preflight: {everyEndpoint: true, parentMatches: true, freeLoraSlots: 1, probe: {maxTokens: 1}}
  steps: [{weight: 10, bake: 15m}, {weight: 50, bake: 30m}, {weight: 100, bake: 1h}]
  rollback: {auto: true}
  cleanup: {unloadStableAfter: 24h}
"#;

fn printed() -> Vec<Value> {
    PRINTED.split("\n---\n").map(yaml).collect()
}

#[test]
fn the_printed_examples_are_accepted_without_a_word() {
    let settings: Vec<_> = printed()
        .into_iter()
        .map(|value| {
            let decoded = decoded(value);
            assert_eq!(decoded.findings, []);
            let Some(Resource::InferenceRollout(spec)) = decoded.resource else { panic!() };
            spec.settings()
        })
        .collect();
    let [node, base, lora] = settings.as_slice() else { panic!() };
    assert_eq!((node.steps.len(), node.relative_capacity, node.freeze.len()), (5, Some(1.7), 1));
    assert!(node.steps[3].gate.manual.is_some());
    assert_eq!(base.analysis.guards.len(), 6);
    assert_eq!(base.steps[2].gate.webhook.as_ref().unwrap().timeout.as_secs(), 7200);
    assert!(matches!(&lora.target, RolloutTarget::Model(target) if target.model == "travelhelper"));
    assert_eq!(lora.unload_stable_after.unwrap().as_secs(), 86_400);
}

/// The example with one field set; null removes it.
fn with(example: usize, pointer: &str, change: &Value) -> Decoded {
    let mut value = printed().remove(example);
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let mut place = &mut value["spec"];
    for step in parent.split('/').filter(|step| !step.is_empty()) {
        place = match step.parse::<usize>() {
            Ok(index) => &mut place[index],
            Err(_) => &mut place[step],
        };
    }
    match name.parse::<usize>() {
        Ok(index) => place[index] = change.clone(),
        Err(_) => place[name] = change.clone(),
    }
    decoded(value)
}

/// One field changed: in which example, where, to what; and the reason, field and advice that are said.
type Case = (usize, &'static str, Value, &'static str, &'static str, &'static str);

fn case(
    example: usize,
    pointer: &'static str,
    value: Value,
    reason: &'static str,
    field: &'static str,
    advice: &'static str,
) -> Case {
    (example, pointer, value, reason, field, advice)
}

fn target_and_arms() -> Vec<Case> {
    let pool = |name: &str| json!({"poolRef": {"name": name}});
    vec![
        case(0, "/target/model", json!("m"), "ExactlyOne", "spec.target", "routeRef"),
        case(0, "/target", json!({}), "ExactlyOne", "spec.target", "routeRef: {name: ROUTE}"),
        case(2, "/target/rule", json!("a"), "NotAllowed", "spec.target.rule", "routeRef"),
        case(2, "/target/poolRef", Value::Null, "RequiredField", "spec.target.poolRef", "name the pool"),
        case(0, "/target/rewriteRef", json!({"name": "x"}), "NotAllowed", "spec.target.rewriteRef", "model"),
        case(0, "/target/routeRef/kind", json!("GRPCRoute"), "InvalidValue", "spec.target.routeRef.kind", "HTTPRoute"),
        case(
            0,
            "/target/routeRef/group",
            json!("a.b"),
            "InvalidValue",
            "spec.target.routeRef.group",
            "gateway.networking",
        ),
        case(0, "/stable/poolRef/kind", json!("Service"), "InvalidValue", "spec.stable.poolRef.kind", "InferencePool"),
        case(0, "/stable", json!({}), "ExactlyOne", "spec.stable", "poolRef: {name: POOL}"),
        case(
            0,
            "/candidate",
            json!({"model": "m", "poolRef": {"name": "x"}}),
            "ExactlyOne",
            "spec.candidate",
            "only one",
        ),
        case(0, "/candidate", json!({"model": "m"}), "NotAllowed", "spec.candidate.model", "poolRef: {name: POOL}"),
        case(2, "/candidate", pool("x"), "NotAllowed", "spec.candidate.poolRef", "model: NAME"),
        case(0, "/candidate", pool("llm"), "SameArm", "spec.candidate.poolRef.name", "name the new pool"),
        case(2, "/candidate/model", json!("travel-helper-v1"), "SameArm", "spec.candidate.model", "a name of its own"),
        case(0, "/type", json!("LoRA"), "NotAllowed", "spec.target.routeRef", "poolRef: {name: POOL}"),
        case(2, "/type", json!("BaseModel"), "NotAllowed", "spec.target.model", "routeRef: {name: ROUTE}"),
        case(
            0,
            "/cleanup",
            json!({"unloadStableAfter": "1h"}),
            "NotAllowed",
            "spec.cleanup.unloadStableAfter",
            "remove it",
        ),
        case(0, "/candidate/relativeCapacity", json!(0), "OutOfRange", "spec.candidate.relativeCapacity", "above 0"),
        case(2, "/candidate/source", Value::Null, "RequiredField", "spec.candidate.source", "path or address"),
        case(0, "/candidate/ensureLoaded", json!(false), "NotAllowed", "spec.candidate.ensureLoaded", "remove it"),
        case(0, "/weights/mode", json!("Route"), "NotSupported", "spec.weights.mode", "tidegate rollout emit-patch"),
        case(0, "/weights/mode", json!("overlay"), "InvalidValue", "spec.weights.mode", "Overlay"),
        case(0, "/assignment/unit", json!("Request"), "NotAllowed", "spec.assignment.keys", "unit Conversation"),
        case(0, "/assignment/keys/0", json!("cookie:a"), "InvalidValue", "spec.assignment.keys[0]", "header:NAME"),
        case(0, "/assignment/keys/1", json!("messages:first"), "Duplicate", "spec.assignment.keys[2]", "only once"),
        case(
            0,
            "/assignment/force/0/arm",
            json!("canary"),
            "InvalidValue",
            "spec.assignment.force[0].arm",
            "stable, candidate",
        ),
        case(0, "/stable", Value::Null, "RequiredField", "spec.stable", "a mapping"),
    ]
}

fn stages() -> Vec<Case> {
    vec![
        case(0, "/steps", json!([]), "OutOfRange", "spec.steps", "1 to 32 items"),
        case(0, "/steps", json!(vec![json!({"weight": 100}); 33]), "OutOfRange", "spec.steps", "1 to 32 items"),
        case(0, "/steps/1/weight", json!("0.5%"), "StepsShrink", "spec.steps[1].weight", "write 1% or more"),
        case(0, "/steps/3/weight", json!(4), "StepsShrink", "spec.steps[3].weight", "write 5% or more"),
        case(0, "/steps/4/weight", json!(99), "LastStep", "spec.steps[4].weight", "add a step {weight: 100}"),
        case(0, "/steps/4/weight", json!("parity"), "LastStep", "spec.steps[4].weight", "add a step"),
        case(2, "/steps/1/weight", json!("parity"), "NotAllowed", "spec.steps[1].weight", "a percentage"),
        case(0, "/steps/0/weight", json!("half"), "InvalidValue", "spec.steps[0].weight", "or parity"),
        case(0, "/steps/0/weight", json!(0.5), "WrongType", "spec.steps[0].weight", "\"0.5%\""),
        case(0, "/steps/0/weight", json!(101), "OutOfRange", "spec.steps[0].weight", "0 to 100"),
        case(0, "/steps/0/bake", json!("10"), "InvalidValue", "spec.steps[0].bake", "10m"),
        case(0, "/steps/3/gate", json!({}), "ExactlyOne", "spec.steps[3].gate", "manual: true"),
        case(0, "/steps/3/gate", json!({"manual": false}), "ExactlyOne", "spec.steps[3].gate", "webhook"),
        case(1, "/steps/2/gate/approvers", json!(["a"]), "NotAllowed", "spec.steps[2].gate.approvers", "manual: true"),
        case(
            1,
            "/steps/2/gate/webhook/url",
            json!("evals"),
            "InvalidValue",
            "spec.steps[2].gate.webhook.url",
            "https://",
        ),
        case(0, "/warmup/until/cacheHitRatio", json!(80), "OutOfRange", "spec.warmup.until.cacheHitRatio", "0.8"),
        case(
            0,
            "/preflight/endpointsReady",
            json!("101%"),
            "InvalidValue",
            "spec.preflight.endpointsReady",
            "0% to 100%",
        ),
        case(0, "/freeze/0/cron", json!("0 18 * *"), "InvalidValue", "spec.freeze[0].cron", "five fields"),
        case(0, "/freeze/0/duration", Value::Null, "RequiredField", "spec.freeze[0].duration", "a duration"),
    ]
}

fn judging() -> Vec<Case> {
    vec![
        case(
            1,
            "/analysis/guards/4/metric",
            json!("finish_reason:stop"),
            "UnknownMetric",
            "spec.analysis.guards[4].metric",
            "finish_reason:length",
        ),
        case(0, "/freeze/0/duration", json!("700h"), "OutOfRange", "spec.freeze[0].duration", "672h"),
        case(0, "/analysis/alpha", json!(0.5), "OutOfRange", "spec.analysis.alpha", "0.000001 to 0.1"),
        case(0, "/analysis/alpha", json!(1e-7), "OutOfRange", "spec.analysis.alpha", "0.000001 to 0.1"),
        case(0, "/analysis/template", json!("web"), "InvalidValue", "spec.analysis.template", "node-default"),
        case(0, "/analysis/harmBudget", json!("1%"), "InvalidValue", "spec.analysis.harmBudget", "0.5pp"),
        case(1, "/analysis/guards/0/metric", json!("p99"), "UnknownMetric", "spec.analysis.guards[0].metric", "ttft"),
        case(
            1,
            "/analysis/guards/0/metric",
            json!("output_tokens"),
            "UnknownMetric",
            "spec.analysis.guards[0].metric",
            "observe",
        ),
        case(
            1,
            "/analysis/guards/0/metric",
            json!("empty"),
            "Duplicate",
            "spec.analysis.guards[3].metric",
            "guards[0]",
        ),
        case(1, "/analysis/guards/0/margin", json!("1%"), "NotAllowed", "spec.analysis.guards[0].margin", "write r0"),
        case(1, "/analysis/guards/1/r0", json!(1.5), "NotAllowed", "spec.analysis.guards[1].r0", "tolerance"),
        case(1, "/analysis/guards/0/r0", json!(0.5), "OutOfRange", "spec.analysis.guards[0].r0", "at least 1"),
    ]
}

#[test]
fn every_rule_names_its_field_and_what_to_write() {
    for (example, pointer, value, reason, field, advice) in
        target_and_arms().into_iter().chain(stages()).chain(judging())
    {
        let decoded = with(example, pointer, &value);
        let found = errors(&decoded);
        assert!(
            found.iter().any(|finding| finding.reason == reason
                && finding.field.to_string() == field
                && finding.message.contains(advice)),
            "{reason} {field} {advice:?} is not said: {found:#?}"
        );
        assert!(decoded.resource.is_none(), "{field}");
    }
}

#[test]
fn what_has_no_effect_is_a_warning() {
    for (example, pointer, value, field) in [
        (0, "/preflight/freeLoraSlots", json!(1), "spec.preflight.freeLoraSlots"),
        (0, "/preflight/parentMatches", json!(true), "spec.preflight.parentMatches"),
        (2, "/candidate/relativeCapacity", json!(2), "spec.candidate.relativeCapacity"),
        (2, "/candidate/ensureLoaded", json!(false), "spec.candidate.source"),
        (1, "/analysis/observe/0", json!("vibes"), "spec.analysis.observe[0]"),
    ] {
        let decoded = with(example, pointer, &value);
        let [only] = decoded.findings.as_slice() else { panic!("{field}: {:#?}", decoded.findings) };
        assert_eq!((only.severity, only.field.to_string().as_str()), (Severity::Warning, field));
        assert!(decoded.resource.is_some());
    }
}
