//! What an InferenceRollout's steps must be to one another, and the numbers of its warm-up and freezes.

use std::time::Duration;

use serde_json::Value;

use crate::node::{Found, Node};
use crate::report::Report;
use crate::rollout::{StepWeight, WHOLE_SHARE};

/// Says what is wrong with steps, gates and warm-up.
pub(crate) fn check(document: &Value, report: &mut Report) {
    let spec = Node::root(document).key("spec");
    steps(&spec, report);
    for step in spec.key("steps").items() {
        gate(&step.key("gate"), report);
    }
    for window in spec.key("freeze").items() {
        freeze(&window, report);
    }
    let ratio = spec.key("warmup").key("until").key("cacheHitRatio");
    if let Some(part) = ratio.value().and_then(Value::as_f64)
        && !(part > 0.0 && part <= 1.0)
    {
        let sentence =
            format!("is {part}, but must be above 0 and at most 1: a part of stable's hit ratio, such as 0.8");
        report.error("OutOfRange", ratio.path(), sentence);
    }
}

/// A window that comes round again before it ends would never let anything move.
const LONGEST_FREEZE: Duration = Duration::from_secs(28 * 24 * 3600);

fn freeze(window: &Node<'_>, report: &mut Report) {
    let duration = window.key("duration");
    if duration.text().and_then(crate::duration::parse_go).is_some_and(|length| length > LONGEST_FREEZE) {
        let sentence = format!("is {}, but must be at most 672h (four weeks)", Found(duration.value()));
        report.error("OutOfRange", duration.path(), sentence);
    }
}

fn steps(spec: &Node<'_>, report: &mut Report) {
    let steps = spec.key("steps").items();
    let lora = spec.key("type").text() == Some("LoRA");
    let mut reached = 0;
    let mut last = None;
    for step in &steps {
        let written = step.key("weight");
        let weight = written.value().and_then(read);
        match weight {
            Some(StepWeight::Share(parts)) if parts < reached => {
                let sentence = format!(
                    "is {}, but an earlier step has {} already; steps never shrink: write {} or more, or leave the step out",
                    Found(written.value()),
                    StepWeight::Share(reached),
                    StepWeight::Share(reached)
                );
                report.error("StepsShrink", written.path(), sentence);
            }
            Some(StepWeight::Share(parts)) => reached = parts,
            Some(StepWeight::Parity) if lora => report.error(
                "NotAllowed",
                written.path(),
                "is \"parity\", which compares two pools' capacity, but with type LoRA both adapters share one; write a percentage",
            ),
            Some(StepWeight::Parity) | None => {}
        }
        last = Some((written, weight));
    }
    if let Some((written, Some(weight))) = last
        && weight != StepWeight::Share(WHOLE_SHARE)
    {
        let sentence =
            format!("is {}, but the last step must be 100; add a step {{weight: 100}}", Found(written.value()));
        report.error("LastStep", written.path(), sentence);
    }
}

/// A weight that is one; what is none is said by its shape.
fn read(value: &Value) -> Option<StepWeight> {
    match value {
        Value::String(text) => StepWeight::parse(text),
        number => number.as_i64().and_then(StepWeight::from_percent),
    }
}

fn gate(gate: &Node<'_>, report: &mut Report) {
    if !gate.value().is_some_and(Value::is_object) {
        return;
    }
    let manual = gate.key("manual");
    let by_hand = manual.value().and_then(Value::as_bool) == Some(true);
    if !by_hand && !gate.key("webhook").present() {
        report.error("ExactlyOne", gate.path(), "asks nobody; write manual: true, or webhook: {url: ADDRESS}");
    }
    let approvers = gate.key("approvers");
    if approvers.present() && !by_hand {
        report.error("NotAllowed", approvers.path(), "names people, but the gate is not manual; write manual: true");
    }
}
