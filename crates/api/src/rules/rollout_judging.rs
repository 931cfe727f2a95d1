//! What an InferenceRollout's guards must be: known metrics, each once, with the bounds of their kind.

use std::collections::HashMap;

use serde_json::Value;

use crate::node::{Found, Node};
use crate::report::Report;
use crate::rollout::{METRICS, Metric, MetricKind, OBSERVED_ONLY, template_type};

/// Says what is wrong with the analysis.
pub(crate) fn check(document: &Value, report: &mut Report) {
    let analysis = Node::root(document).key("spec").key("analysis");
    let alpha = analysis.key("alpha");
    if let Some(chance) = alpha.value().and_then(Value::as_f64)
        && !(1e-6..=0.1).contains(&chance)
    {
        let sentence = format!("is {chance}, but must be 0.000001 to 0.1; 0.01 turns back 1 healthy candidate in 100");
        report.error("OutOfRange", alpha.path(), sentence);
    }
    let template = analysis.key("template");
    if template.text().is_some_and(|name| template_type(name).is_none()) {
        let sentence = format!(
            "is {}, but must be node-default, basemodel-default or lora-default; or remove it and write guards",
            Found(template.value())
        );
        report.error("InvalidValue", template.path(), sentence);
    }
    guards(&analysis, report);
    for name in analysis.key("observe").items() {
        let Some(text) = name.text() else { continue };
        if Metric::parse(text).is_none() && !OBSERVED_ONLY.contains(&text) {
            let sentence = format!(
                "is {text:?}, which is not measured and has no effect; those are {}, {}",
                OBSERVED_ONLY.join(", "),
                METRICS.join(", ")
            );
            report.warn("UnknownMetric", name.path(), sentence);
        }
    }
}

fn guards(analysis: &Node<'_>, report: &mut Report) {
    let mut seen: HashMap<Metric, usize> = HashMap::new();
    for (position, guard) in analysis.key("guards").items().into_iter().enumerate() {
        let name = guard.key("metric");
        let Some(text) = name.text() else { continue };
        let Some(metric) = Metric::parse(text) else {
            let advice = match OBSERVED_ONLY.contains(&text) {
                true => "can be observed but is no guard; write it in observe".to_owned(),
                false => format!("must be one of {}", METRICS.join(", ")),
            };
            report.error("UnknownMetric", name.path(), format!("is {text:?}, which {advice}"));
            continue;
        };
        if matches!(&metric, Metric::FinishReason(reason) if reason != "length") {
            let sentence =
                format!("is {text:?}, but of the finish reasons only length is measured: write finish_reason:length");
            report.error("UnknownMetric", name.path(), sentence);
            continue;
        }
        bounds(&guard, &metric, report);
        if let Some(first) = seen.get(&metric) {
            let sentence = format!("is guarded by guards[{first}] already; write each metric only once");
            report.error("Duplicate", name.path(), sentence);
        } else {
            seen.insert(metric, position);
        }
    }
}

fn bounds(guard: &Node<'_>, metric: &Metric, report: &mut Report) {
    let r0 = guard.key("r0");
    if let Some(ratio) = r0.value().and_then(Value::as_f64)
        && !(1.0..20.0).contains(&ratio)
    {
        let sentence =
            format!("is {ratio}, but must be at least 1 and below 20: how many times stable's rate is tolerated");
        report.error("OutOfRange", r0.path(), sentence);
    }
    match metric.kind() {
        MetricKind::Event => {
            for field in ["tolerance", "margin"].map(|name| guard.key(name)).into_iter().filter(Node::present) {
                let sentence = format!("is for latencies, but {metric} counts events; write r0 instead");
                report.error("NotAllowed", field.path(), sentence);
            }
        }
        MetricKind::Latency if r0.present() => {
            let sentence = format!("is for events, but {metric} is a latency; write tolerance and margin instead");
            report.error("NotAllowed", r0.path(), sentence);
        }
        MetricKind::Latency => {}
    }
}
