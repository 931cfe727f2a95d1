//! InferenceRollout: its schema's bounds, and its reader.

use std::sync::LazyLock;

use serde_json::json;

use super::Input;
use super::ours::spec;
use super::typed::{check, envelope};
use crate::Resource;
use crate::report::Report;
use crate::rollout::{InferenceRolloutSpec, MOST_STEPS};
use crate::rules::{rollout, rollout_judging, rollout_stages};
use crate::schema::{Overlay, Shape, derive};

/// Fields that are durations.
const SPANS: [&str; 11] = [
    "spec.preflight.timeout",
    "spec.warmup.timeout",
    "spec.shadow.before",
    "spec.steps[].bake",
    "spec.steps[].gate.webhook.timeout",
    "spec.analysis.stepMaxDuration",
    "spec.drain.timeout",
    "spec.drain.minRetention",
    "spec.freeze[].duration",
    "spec.cleanup.unloadStableAfter",
    "spec.deadline",
];

fn overlay() -> Overlay {
    let name = json!({"minLength": 1, "maxLength": 253});
    let model = json!({"minLength": 1, "maxLength": 1024});
    let mut overlay = Overlay::on(envelope(&derive::<InferenceRolloutSpec>()));
    for reference in ["target.routeRef", "target.poolRef", "target.rewriteRef", "stable.poolRef", "candidate.poolRef"] {
        overlay = overlay.reference(&format!("spec.{reference}"));
    }
    for field in ["spec.target.model", "spec.stable.model", "spec.candidate.model", "spec.candidate.source"] {
        overlay = overlay.add(field, &model);
    }
    for field in SPANS {
        overlay = overlay.add(field, &json!({"format": "span", "maxLength": 64}));
    }
    for field in ["spec.analysis.guards[].tolerance", "spec.analysis.guards[].margin", "spec.rollback.stableHeadroom"] {
        overlay = overlay.add(field, &json!({"format": "percent"}));
    }
    for field in ["spec.preflight.endpointsReady", "spec.analysis.breaker.errorShare"] {
        overlay = overlay.add(field, &json!({"format": "percent-of-whole"}));
    }
    for field in ["spec.preflight.probe.maxTokens", "spec.warmup.replay.maxTokens"] {
        overlay = overlay.add(field, &json!({"minimum": 1, "maximum": 1024}));
    }
    let metrics = json!({"minItems": 1, "maxItems": 32});
    overlay
        .add("spec.target.rule", &name)
        .add("spec.assignment.keys", &json!({"maxItems": 8, "x-kubernetes-list-type": "set"}))
        .add("spec.assignment.keys[]", &json!({"format": "session-key", "maxLength": 256}))
        .add("spec.assignment.force", &json!({"maxItems": 16, "x-kubernetes-list-map-keys": ["header", "value"]}))
        .add("spec.assignment.force[].header", &json!({"maxLength": 256, "format": "header-name"}))
        .add("spec.assignment.force[].value", &json!({"minLength": 1, "maxLength": 1024, "format": "header-value"}))
        .add("spec.preflight.freeLoraSlots", &json!({"minimum": 0, "maximum": 1000}))
        .add("spec.preflight.probe.prompt", &json!({"minLength": 1, "maxLength": 4096}))
        .add("spec.shadow.maxTokens", &json!({"minimum": 1, "maximum": 1_000_000}))
        .add("spec.shadow.budget.tokensPerSecond", &json!({"minimum": 1, "maximum": 1_000_000_000}))
        .add("spec.steps", &json!({"minItems": 1, "maxItems": MOST_STEPS}))
        .add("spec.steps[].weight", &json!({"minimum": 0, "maximum": 100, "format": "step-weight"}))
        .add("spec.steps[].gate.approvers", &json!({"maxItems": 32, "x-kubernetes-list-type": "set"}))
        .add("spec.steps[].gate.approvers[]", &name)
        .add("spec.steps[].gate.webhook.url", &json!({"maxLength": 2048, "format": "web-address"}))
        .add("spec.analysis.harmBudget", &json!({"format": "percentage-points"}))
        .add("spec.analysis.guards", &metrics)
        .add("spec.analysis.guards[].metric", &json!({"minLength": 1, "maxLength": 128}))
        .add("spec.analysis.observe", &json!({"maxItems": 32, "x-kubernetes-list-type": "set"}))
        .add("spec.analysis.observe[]", &json!({"minLength": 1, "maxLength": 128}))
        .add("spec.analysis.breaker.consecutiveFailures", &json!({"minimum": 2, "maximum": 1000}))
        .add("spec.analysis.breaker.window", &json!({"minimum": 5, "maximum": 1000}))
        .add("spec.freeze", &json!({"maxItems": 32}))
        .add("spec.freeze[].cron", &json!({"maxLength": 256, "format": "cron"}))
        .add("spec.freeze[].tz", &json!({"maxLength": 64, "format": "time-zone"}))
}

static SHAPE: LazyLock<Shape> = LazyLock::new(|| overlay().shape());

pub(super) fn inference_rollout(input: &Input<'_>, report: &mut Report) -> Option<Resource> {
    check(input, &SHAPE, report);
    rollout::check(input.value, report);
    rollout_stages::check(input.value, report);
    rollout_judging::check(input.value, report);
    spec(input, &SHAPE, report).map(|spec| Resource::InferenceRollout(Box::new(spec)))
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_constraint_finds_its_field() {
        assert_eq!(super::overlay().missed(), [] as [&str; 0]);
    }

    #[test]
    fn the_definition_for_a_cluster_can_be_made() {
        use kube::CustomResourceExt;
        let definition = crate::rollout::InferenceRollout::crd();
        assert_eq!(definition.metadata.name.as_deref(), Some("inferencerollouts.tidegate.dev"));
        let text = serde_json::to_string(&definition).unwrap();
        assert!(text.contains("\"x-kubernetes-int-or-string\":true") && text.contains("relativeCapacity"));
    }
}
