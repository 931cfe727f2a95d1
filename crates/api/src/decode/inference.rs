//! The inference extension's kinds, in all their versions, to one form each.

use std::sync::LazyLock;

use serde_json::{Value, json};

use super::Input;
use super::typed::{check, envelope};
use crate::Resource;
use crate::inference::{
    AppProtocol, Criticality, EndpointPickerRef, FailureMode, InferenceModel, InferenceModelRewrite,
    InferenceObjective, InferencePool, ModelTarget, PoolRef, RewriteRule,
};
use crate::node::Node;
use crate::report::Report;
use crate::schema::Shape;

/// Where v1alpha2 assumes a picker to listen.
const PICKER_PORT: u16 = 9002;

fn labels() -> Value {
    json!({
        "type": "object", "minProperties": 1, "maxProperties": 64, "x-key-format": "label-key",
        "additionalProperties": {"type": "string", "format": "label-value"},
    })
}

fn port() -> Value {
    json!({"type": "integer", "minimum": 1, "maximum": 65535})
}

fn weight() -> Value {
    json!({"type": "integer", "minimum": 1, "maximum": 1_000_000})
}

fn criticality() -> Value {
    json!({"type": "string", "enum": ["Critical", "Standard", "Sheddable"]})
}

fn pool_ref() -> Value {
    json!({
        "type": "object",
        "properties": {
            "group": {"type": "string", "maxLength": 253, "format": "group"},
            "kind": {"type": "string", "enum": ["InferencePool"]},
            "name": {"type": "string", "minLength": 1, "maxLength": 253},
        },
        "required": ["name"],
    })
}

fn picker_ref(port_fields: &Value) -> Value {
    let mut fields = json!({
        "group": {"type": "string", "maxLength": 253, "format": "group"},
        "kind": {"type": "string", "minLength": 1, "maxLength": 63, "format": "kind"},
        "name": {"type": "string", "minLength": 1, "maxLength": 253},
        "failureMode": {"type": "string", "enum": ["FailOpen", "FailClose"]},
    });
    if let (Some(fields), Some(port_fields)) = (fields.as_object_mut(), port_fields.as_object()) {
        fields.extend(port_fields.clone());
    }
    json!({"type": "object", "properties": fields, "required": ["name"]})
}

fn shape(spec: &Value) -> Shape {
    Shape::from_schema(&envelope(spec))
}

static POOL_V1: LazyLock<Shape> = LazyLock::new(|| {
    let number = json!({"type": "object", "properties": {"number": port()}, "required": ["number"]});
    shape(&json!({
        "type": "object",
        "properties": {
            "selector": {"type": "object", "properties": {"matchLabels": labels()}, "required": ["matchLabels"]},
            "targetPorts": {
                "type": "array", "minItems": 1, "maxItems": 8, "items": number,
                "x-kubernetes-list-map-keys": ["number"],
            },
            "appProtocol": {"type": "string", "enum": ["http", "kubernetes.io/h2c"]},
            "endpointPickerRef": picker_ref(&json!({"port": number})),
        },
        "required": ["selector", "targetPorts"],
    }))
});

static POOL_V1ALPHA2: LazyLock<Shape> = LazyLock::new(|| {
    shape(&json!({
        "type": "object",
        "properties": {
            "selector": labels(),
            "targetPortNumber": port(),
            "extensionRef": picker_ref(&json!({"portNumber": port()})),
        },
        "required": ["selector", "targetPortNumber", "extensionRef"],
    }))
});

static MODEL: LazyLock<Shape> = LazyLock::new(|| {
    let target = json!({
        "type": "object",
        "properties": {"name": {"type": "string", "minLength": 1, "maxLength": 253}, "weight": weight()},
        "required": ["name"],
    });
    shape(&json!({
        "type": "object",
        "properties": {
            "modelName": {"type": "string", "minLength": 1, "maxLength": 256},
            "criticality": criticality(),
            "poolRef": pool_ref(),
            "targetModels": {"type": "array", "maxItems": 10, "items": target},
        },
        "required": ["modelName", "poolRef"],
    }))
});

static PRINTED_MODEL: LazyLock<Shape> = LazyLock::new(|| {
    let version = json!({
        "type": "object",
        "properties": {
            "modelName": {"type": "string", "minLength": 1, "maxLength": 253},
            "criticality": criticality(),
            "weight": weight(),
            "poolRef": pool_ref(),
        },
        "required": ["modelName", "poolRef"],
    });
    shape(&json!({
        "type": "object",
        "properties": {"versions": {"type": "array", "minItems": 1, "maxItems": 10, "items": version}},
        "required": ["versions"],
    }))
});

static REWRITE: LazyLock<Shape> = LazyLock::new(|| {
    let model = json!({
        "type": "object",
        "properties": {
            "type": {"type": "string", "enum": ["Exact"]},
            "value": {"type": "string", "minLength": 1},
        },
        "required": ["value"],
    });
    let target = json!({
        "type": "object",
        "properties": {"modelRewrite": {"type": "string", "minLength": 1}, "weight": weight()},
        "required": ["modelRewrite"],
    });
    let rule = json!({
        "type": "object",
        "properties": {
            "matches": {
                "type": "array",
                "items": {"type": "object", "properties": {"model": model}, "required": ["model"]},
            },
            "targets": {"type": "array", "minItems": 1, "items": target},
        },
    });
    shape(&json!({
        "type": "object",
        "properties": {"poolRef": pool_ref(), "rules": {"type": "array", "items": rule}},
        "required": ["poolRef", "rules"],
    }))
});

static OBJECTIVE: LazyLock<Shape> = LazyLock::new(|| {
    shape(&json!({
        "type": "object",
        "properties": {"poolRef": pool_ref(), "priority": {"type": "integer", "format": "int32"}},
        "required": ["poolRef"],
    }))
});

pub(super) fn pool_v1(input: &Input<'_>, report: &mut Report) -> Option<Resource> {
    check(input, &POOL_V1, report);
    let spec = Node::root(input.value).key("spec");
    let picker = spec.key("endpointPickerRef");
    let port = picker.key("port");
    if picker.value().is_some_and(Value::is_object)
        && picker.key("kind").text_or("Service") == Some("Service")
        && !port.present()
    {
        let sentence = format!("is missing; for a Service write port: {{number: {PICKER_PORT}}} or its real port");
        report.error("RequiredField", port.path(), sentence);
    }
    if report.has_errors() {
        return None;
    }
    Some(Resource::InferencePool(InferencePool {
        selector: selector(&spec.key("selector").key("matchLabels")),
        target_ports: spec.key("targetPorts").items().iter().filter_map(|port| port.key("number").port()).collect(),
        app_protocol: match spec.key("appProtocol").text() {
            Some("kubernetes.io/h2c") => AppProtocol::H2c,
            _ => AppProtocol::Http,
        },
        endpoint_picker: endpoint_picker(&picker, port.key("number").port()),
    }))
}

pub(super) fn pool_v1alpha2(input: &Input<'_>, report: &mut Report) -> Option<Resource> {
    check(input, &POOL_V1ALPHA2, report);
    if report.has_errors() {
        return None;
    }
    let spec = Node::root(input.value).key("spec");
    let extension = spec.key("extensionRef");
    let is_service = extension.key("kind").text_or("Service") == Some("Service");
    let port = extension.key("portNumber").port().or(is_service.then_some(PICKER_PORT));
    Some(Resource::InferencePool(InferencePool {
        selector: selector(&spec.key("selector")),
        target_ports: spec.key("targetPortNumber").port().into_iter().collect(),
        app_protocol: AppProtocol::Http,
        endpoint_picker: endpoint_picker(&extension, port),
    }))
}

fn selector(node: &Node<'_>) -> std::collections::BTreeMap<String, String> {
    node.entries().into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.text()?.to_owned()))).collect()
}

fn endpoint_picker(node: &Node<'_>, port: Option<u16>) -> Option<EndpointPickerRef> {
    Some(EndpointPickerRef {
        group: node.key("group").text().unwrap_or_default().to_owned(),
        kind: node.key("kind").text_or("Service")?.to_owned(),
        name: node.key("name").text()?.to_owned(),
        port,
        failure_mode: match node.key("failureMode").text() {
            Some("FailOpen") => FailureMode::FailOpen,
            _ => FailureMode::FailClose,
        },
    })
}

fn reference(node: &Node<'_>) -> Option<PoolRef> {
    Some(PoolRef {
        group: node.key("group").text().map(str::to_owned),
        kind: node.key("kind").text_or("InferencePool")?.to_owned(),
        name: node.key("name").text()?.to_owned(),
    })
}

pub(super) fn model(input: &Input<'_>, report: &mut Report) -> Option<Resource> {
    let spec = Node::root(input.value).key("spec");
    if spec.key("versions").present() {
        return printed_model(input, &spec, report);
    }
    check(input, &MODEL, report);
    let targets = spec.key("targetModels").items();
    all_weights_or_none(&targets, report);
    if report.has_errors() {
        return None;
    }
    Some(Resource::InferenceModel(InferenceModel {
        model_name: spec.key("modelName").text()?.to_owned(),
        criticality: criticality_of(&spec.key("criticality")),
        pool: reference(&spec.key("poolRef"))?,
        targets: targets.iter().filter_map(|target| model_target(target, "name")).collect(),
        printed_versions: false,
    }))
}

/// The form that the GKE guide prints: no released CRD has it, but its meaning is plain.
fn printed_model(input: &Input<'_>, spec: &Node<'_>, report: &mut Report) -> Option<Resource> {
    let listed = spec.key("versions");
    for name in ["modelName", "targetModels", "poolRef", "criticality"] {
        let beside = spec.key(name);
        if beside.present() {
            let sentence =
                "stands beside spec.versions; write either modelName, poolRef and targetModels, or versions alone";
            report.error("Conflict", beside.path(), sentence);
        }
    }
    if !report.has_errors() {
        check(input, &PRINTED_MODEL, report);
    }
    let versions = listed.items();
    all_weights_or_none(&versions, report);
    same_pool(&versions, report);
    if report.has_errors() {
        return None;
    }
    let targets: Vec<ModelTarget> = versions.iter().filter_map(|version| model_target(version, "modelName")).collect();
    let names: Vec<&str> = targets.iter().map(|target| target.name.as_str()).collect();
    let levels: Vec<Option<Criticality>> =
        versions.iter().map(|version| criticality_of(&version.key("criticality"))).collect();
    let highest = levels.iter().flatten().copied().min_by_key(|level| *level as u8);
    if levels.iter().any(|level| *level != highest) {
        let sentence = "give different criticalities, but one model has one; the highest counts";
        report.warn("CriticalityDiffers", listed.path(), sentence);
    }
    let name = &input.key.name;
    let sentence = format!(
        "is a form that no released InferenceModel has; it is read as the model {name:?}, split over {} by weight, each \
         of which can also be asked for by its own name",
        names.join(", ")
    );
    report.warn("PrintedForm", listed.path(), sentence);
    Some(Resource::InferenceModel(InferenceModel {
        model_name: name.clone(),
        criticality: highest,
        pool: reference(&versions.first()?.key("poolRef"))?,
        targets,
        printed_versions: true,
    }))
}

/// One InferenceModel belongs to one pool; the guide asks for the same.
fn same_pool(versions: &[Node<'_>], report: &mut Report) {
    let Some(first) = versions.first().and_then(|version| reference(&version.key("poolRef"))) else { return };
    for version in versions {
        let name = version.key("poolRef").key("name");
        let Some(other) = reference(&version.key("poolRef")) else { continue };
        let groups_differ = matches!((&first.group, &other.group), (Some(one), Some(two)) if one != two);
        if other.name != first.name || groups_differ {
            let sentence = format!(
                "is {:?}, but the first version's pool is {:?}; all versions of one InferenceModel must be in one pool: \
                 split over pools with the weights of an HTTPRoute's backendRefs",
                other.name, first.name
            );
            report.error("DifferentPools", name.path(), sentence);
        }
    }
}

fn all_weights_or_none(targets: &[Node<'_>], report: &mut Report) {
    let with = targets.iter().filter(|target| target.key("weight").present()).count();
    if with == 0 || with == targets.len() {
        return;
    }
    for target in targets.iter().filter(|target| !target.key("weight").present()) {
        let sentence = format!("is missing, but {with} of {} have one; give weights to all or to none", targets.len());
        report.error("RequiredField", target.key("weight").path(), sentence);
    }
}

fn model_target(node: &Node<'_>, name_field: &str) -> Option<ModelTarget> {
    Some(ModelTarget {
        name: node.key(name_field).text()?.to_owned(),
        weight: node.key("weight").whole().and_then(|weight| u32::try_from(weight).ok()),
    })
}

fn criticality_of(node: &Node<'_>) -> Option<Criticality> {
    match node.text()? {
        "Critical" => Some(Criticality::Critical),
        "Standard" => Some(Criticality::Standard),
        "Sheddable" => Some(Criticality::Sheddable),
        _ => None,
    }
}

pub(super) fn rewrite(input: &Input<'_>, report: &mut Report) -> Option<Resource> {
    check(input, &REWRITE, report);
    let spec = Node::root(input.value).key("spec");
    let rules = spec.key("rules").items();
    for rule in &rules {
        let targets = rule.key("targets");
        all_weights_or_none(&targets.items(), report);
        if rule.value().is_some_and(Value::is_object) && !targets.present() {
            let sentence = "is missing, so the rule changes nothing; name the models that requests go to";
            report.warn("NoTargets", targets.path(), sentence);
        }
    }
    if report.has_errors() {
        return None;
    }
    Some(Resource::InferenceModelRewrite(InferenceModelRewrite {
        pool: reference(&spec.key("poolRef"))?,
        rules: rules
            .iter()
            .map(|rule| RewriteRule {
                models: rule
                    .key("matches")
                    .items()
                    .iter()
                    .filter_map(|one| one.key("model").key("value").text().map(str::to_owned))
                    .collect(),
                targets: rule
                    .key("targets")
                    .items()
                    .iter()
                    .filter_map(|target| model_target(target, "modelRewrite"))
                    .collect(),
            })
            .collect(),
    }))
}

pub(super) fn objective(input: &Input<'_>, report: &mut Report) -> Option<Resource> {
    check(input, &OBJECTIVE, report);
    if report.has_errors() {
        return None;
    }
    let spec = Node::root(input.value).key("spec");
    Some(Resource::InferenceObjective(InferenceObjective {
        pool: reference(&spec.key("poolRef"))?,
        priority: spec.key("priority").whole().and_then(|priority| i32::try_from(priority).ok()).unwrap_or(0),
    }))
}
