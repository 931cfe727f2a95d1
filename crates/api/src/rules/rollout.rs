//! What an InferenceRollout's target and arms must be to one another, and which weights and assignments there are.

use serde_json::Value;

use crate::node::{Found, Node};
use crate::report::Report;

const GATEWAY_GROUP: &str = "gateway.networking.k8s.io";

/// Says what is wrong with target, arms, weights and assignment.
pub(crate) fn check(document: &Value, report: &mut Report) {
    let spec = Node::root(document).key("spec");
    if !spec.value().is_some_and(Value::is_object) {
        return;
    }
    target(&spec, report);
    arms(&spec, report);
    type_and_arms(&spec, report);
    candidate(&spec, report);
    weights(&spec, report);
    assignment(&spec, report);
}

fn is_lora(spec: &Node<'_>) -> bool {
    spec.key("type").text() == Some("LoRA")
}

fn target(spec: &Node<'_>, report: &mut Report) {
    let target = spec.key("target");
    if !target.present() {
        return;
    }
    let (route, model) = (target.key("routeRef"), target.key("model"));
    match (route.present(), model.present()) {
        (true, true) => report.error(
            "ExactlyOne",
            target.path(),
            "has routeRef and model; write routeRef to split a route's backends, or model with poolRef to split a model's targets",
        ),
        (false, false) => report.error(
            "ExactlyOne",
            target.path(),
            "has neither routeRef nor model; write routeRef: {name: ROUTE}, or model: NAME with poolRef: {name: POOL}",
        ),
        _ => {}
    }
    if target.key("rule").present() && !route.present() {
        report.error("NotAllowed", target.key("rule").path(), "names a rule of a route; write routeRef beside it");
    }
    let pool = target.key("poolRef");
    if model.present() && !pool.present() {
        report.error("RequiredField", pool.path(), "is missing; name the pool in which the model is served");
    }
    for field in ["poolRef", "rewriteRef"].map(|name| target.key(name)).into_iter().filter(Node::present) {
        if !model.present() {
            report.error("NotAllowed", field.path(), "belongs to a model; write model beside it, or remove it");
        }
    }
    kind(&route, "HTTPRoute", &["HTTPRoute"], report);
    kind(&target.key("rewriteRef"), "InferenceModelRewrite", &["InferenceModelRewrite", "InferenceModel"], report);
    for pool in [pool, spec.key("stable").key("poolRef"), spec.key("candidate").key("poolRef")] {
        kind(&pool, "InferencePool", &["InferencePool"], report);
    }
    let group = route.key("group");
    if group.text_or(GATEWAY_GROUP).is_some_and(|group| group != GATEWAY_GROUP) {
        report.error("InvalidValue", group.path(), format!("is {}, but must be {GATEWAY_GROUP}", Found(group.value())));
    }
}

fn kind(reference: &Node<'_>, default: &'static str, kinds: &[&str], report: &mut Report) {
    let kind = reference.key("kind");
    if kind.text_or(default).is_some_and(|kind| !kinds.contains(&kind)) {
        let sentence = format!("is {}, but must be {}", Found(kind.value()), kinds.join(" or "));
        report.error("InvalidValue", kind.path(), sentence);
    }
}

/// Exactly one of poolRef and model per arm, and the form that the target asks for.
fn arms(spec: &Node<'_>, report: &mut Report) {
    let target = spec.key("target");
    let wanted = match (target.key("routeRef").present(), target.key("model").present()) {
        (true, false) => Some("poolRef"),
        (false, true) => Some("model"),
        _ => None,
    };
    for arm in ["stable", "candidate"].map(|name| spec.key(name)) {
        if !arm.value().is_some_and(Value::is_object) {
            continue;
        }
        let form = match (arm.key("poolRef").present(), arm.key("model").present()) {
            (true, true) => {
                report.error("ExactlyOne", arm.path(), "has poolRef and model; write only one of them");
                continue;
            }
            (false, false) => {
                let sentence = match wanted {
                    Some("model") => "has no model; write model: NAME",
                    Some(_) => "has no poolRef; write poolRef: {name: POOL}",
                    None => "has neither poolRef nor model; write poolRef: {name: POOL} or model: NAME",
                };
                report.error("ExactlyOne", arm.path(), sentence);
                continue;
            }
            (true, false) => "poolRef",
            (false, true) => "model",
        };
        match wanted {
            Some("model") if form == "poolRef" => report.error(
                "NotAllowed",
                arm.key("poolRef").path(),
                "is a pool, but the target is a model inside one pool; write model: NAME",
            ),
            Some("poolRef") if form == "model" => report.error(
                "NotAllowed",
                arm.key("model").path(),
                "is a model, but the target is a route; write poolRef: {name: POOL}, or a target with model and poolRef",
            ),
            _ => {}
        }
    }
    same_arm(spec, report);
}

/// Two arms that are one.
fn same_arm(spec: &Node<'_>, report: &mut Report) {
    let (stable, candidate) = (spec.key("stable"), spec.key("candidate"));
    let (old, new) = (stable.key("model"), candidate.key("model"));
    if let (Some(old), Some(name)) = (old.text(), new.text())
        && old == name
    {
        report.error(
            "SameArm",
            new.path(),
            format!("is {name:?}, which is stable's model too; give each version a name of its own"),
        );
    }
    let (old, new) = (stable.key("poolRef"), candidate.key("poolRef"));
    let same = |field: &str| old.key(field).text_or("") == new.key(field).text_or("");
    let groups_differ = old.key("group").present() && new.key("group").present() && !same("group");
    if let Some(name) = new.key("name").text()
        && old.key("name").text() == Some(name)
        && !groups_differ
    {
        let path = new.key("name");
        report.error("SameArm", path.path(), format!("is {name:?}, which is stable's pool too; name the new pool"));
    }
}

fn type_and_arms(spec: &Node<'_>, report: &mut Report) {
    let (Some(kind), target) = (spec.key("type").text(), spec.key("target")) else { return };
    match kind {
        "LoRA" if target.key("routeRef").present() => report.error(
            "NotAllowed",
            target.key("routeRef").path(),
            "is a route, but with type LoRA both adapters are in one pool; write target: {model: NAME, poolRef: {name: POOL}}, or type Node or BaseModel",
        ),
        "Node" | "BaseModel" if target.key("model").present() => report.error(
            "NotAllowed",
            target.key("model").path(),
            format!("is a model of one pool, but type {kind} moves between two pools; write target: {{routeRef: {{name: ROUTE}}}}, or type LoRA"),
        ),
        _ => {}
    }
    if kind == "LoRA" {
        return;
    }
    for field in ["parentMatches", "freeLoraSlots"].map(|name| spec.key("preflight").key(name)) {
        if field.present() {
            report.warn("NoEffect", field.path(), format!("has no effect with type {kind}; it is for LoRA"));
        }
    }
    let unload = spec.key("cleanup").key("unloadStableAfter");
    if unload.present() {
        report.error("NotAllowed", unload.path(), format!("unloads an adapter, but the type is {kind}; remove it"));
    }
}

fn candidate(spec: &Node<'_>, report: &mut Report) {
    let candidate = spec.key("candidate");
    let capacity = candidate.key("relativeCapacity");
    if let Some(ratio) = capacity.value().and_then(Value::as_f64)
        && !(ratio > 0.0 && ratio <= 1000.0)
    {
        report.error("OutOfRange", capacity.path(), format!("is {ratio}, but must be above 0 and at most 1000"));
    }
    if capacity.present() && is_lora(spec) {
        let sentence = "has no effect with type LoRA: both adapters are on the same servers; remove it";
        report.warn("NoEffect", capacity.path(), sentence);
    }
    let (source, load) = (candidate.key("source"), candidate.key("ensureLoaded"));
    let loads = load.value().and_then(Value::as_bool) == Some(true);
    if loads && !source.present() {
        report.error(
            "RequiredField",
            source.path(),
            "is missing; ensureLoaded needs the adapter's path or address, as the model server takes it",
        );
    }
    for field in [&source, &load] {
        if field.present() && candidate.key("poolRef").present() {
            report.error("NotAllowed", field.path(), "belongs to a candidate with model; remove it, or write model");
        }
    }
    if source.present() && !loads && candidate.key("model").present() {
        report.warn("NoEffect", source.path(), "has no effect without ensureLoaded: true");
    }
}

fn weights(spec: &Node<'_>, report: &mut Report) {
    let mode = spec.key("weights").key("mode");
    match mode.text() {
        None | Some("Overlay") => {}
        Some("Route") => report.error(
            "NotSupported",
            mode.path(),
            "is \"Route\", but routes are never written here: the weights are laid over them, and `tidegate rollout emit-patch` prints the patch that settles them; write Overlay, or remove the field",
        ),
        Some(other) => {
            report.error("InvalidValue", mode.path(), format!("is {other:?}, but must be Overlay; or remove the field"));
        }
    }
}

fn assignment(spec: &Node<'_>, report: &mut Report) {
    let keys = spec.key("assignment").key("keys");
    if spec.key("assignment").key("unit").text() == Some("Request") && !keys.items().is_empty() {
        let sentence = "has session keys, but unit Request draws each request for itself; remove it, or write unit Conversation or User";
        report.error("NotAllowed", keys.path(), sentence);
    }
}
