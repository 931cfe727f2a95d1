use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::key::FieldStep;
use crate::{Decoded, Document, FieldPath, Finding, ObjectKey, Origin, Resource, Severity, decode};

mod examples;
mod messages;
mod rollout;

/// The document of a value, as a source makes it.
fn document(value: Value) -> Document {
    let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let api_version = text("/apiVersion");
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    Document {
        key: ObjectKey::new(group, &text("/kind"), "default", &text("/metadata/name")),
        api_version: api_version.clone(),
        origin: Origin { source: "test.yaml".into(), index: 0, positions: Arc::new(BTreeMap::new()) },
        findings: Vec::new(),
        value,
    }
}

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn decoded(value: Value) -> Decoded {
    decode(&document(value))
}

fn errors(decoded: &Decoded) -> Vec<&Finding> {
    decoded.findings.iter().filter(|finding| finding.severity == Severity::Error).collect()
}

/// The places of all values in a document, leaves and inner ones, without those that name the object itself.
fn places(value: &Value, path: &FieldPath, all: &mut Vec<FieldPath>) {
    let hidden = ["", "apiVersion", "kind", "status"].contains(&path.to_string().as_str());
    if !hidden {
        all.push(path.clone());
    }
    match value {
        Value::Object(mapping) => mapping.iter().for_each(|(name, value)| places(value, &path.key(name), all)),
        Value::Array(list) => list.iter().enumerate().for_each(|(index, value)| places(value, &path.index(index), all)),
        _ => {}
    }
}

fn at<'a>(value: &'a mut Value, path: &FieldPath) -> Option<&'a mut Value> {
    path.0.iter().try_fold(value, |value, step| match step {
        FieldStep::Key(name) => value.get_mut(name),
        FieldStep::Index(index) => value.get_mut(index),
    })
}

#[test]
fn every_example_decodes_without_a_word() {
    for (name, value) in examples::all() {
        let decoded = decoded(value);
        assert_eq!(decoded.findings, [], "{name}");
        assert!(decoded.resource.is_some(), "{name}");
    }
}

/// Values of another type than `value`; for texts also those that YAML makes of texts without quotes.
fn wrong_types(value: &Value) -> Vec<Value> {
    let all = [json!("wrong type"), json!(7.5), json!(true), json!(["wrong"]), json!({"wrong": "type"})];
    all.into_iter().filter(|other| std::mem::discriminant(other) != std::mem::discriminant(value)).collect()
}

#[test]
fn a_wrong_type_in_any_field_is_named() {
    let mut tried = 0;
    for (name, value) in examples::all() {
        let mut all = Vec::new();
        places(&value, &FieldPath::root(), &mut all);
        for path in all {
            let original = at(&mut value.clone(), &path).unwrap().clone();
            for wrong in wrong_types(&original) {
                if examples::accepts_any_type(name, &path, &wrong) {
                    continue;
                }
                let mut broken = value.clone();
                *at(&mut broken, &path).unwrap() = wrong.clone();
                let decoded = decoded(broken);
                let parent = path.parent().unwrap();
                assert!(
                    errors(&decoded).iter().any(|finding| finding.field == path || finding.field == parent),
                    "{name}: {path} = {wrong} gives {:#?}",
                    decoded.findings
                );
                assert!(decoded.resource.is_none(), "{name}: {path} = {wrong} was accepted");
                tried += 1;
            }
        }
    }
    assert!(tried > 1000, "only {tried} mutations were tried");
}

#[test]
fn an_unknown_field_in_any_mapping_is_a_warning_and_nothing_more() {
    for (name, value) in examples::all() {
        let mut all = Vec::new();
        places(&value, &FieldPath::root(), &mut all);
        for path in all {
            let mut changed = value.clone();
            let Some(mapping) = at(&mut changed, &path).unwrap().as_object_mut() else { continue };
            if examples::has_free_keys(name, &path) {
                continue;
            }
            mapping.insert("fooBar".into(), json!(1));
            let decoded = decoded(changed);
            let [only] = decoded.findings.as_slice() else { panic!("{name} {path}: {:#?}", decoded.findings) };
            assert_eq!(only.severity, Severity::Warning, "{name} {path}: {}", only.message);
            assert!(["UnknownField", "NotSupported"].contains(&only.reason), "{name} {path}: {}", only.message);
            assert_eq!(only.field, path.key("fooBar"), "{name}");
            assert!(decoded.resource.is_some());
        }
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        prop_oneof![
            Just("InferencePool"),
            Just("RegularExpression"),
            Just("(("),
            Just("/a//b"),
            Just("[::1]:"),
            Just("0s")
        ]
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 5, |inner| {
        let name = prop_oneof![
            Just("spec"),
            Just("name"),
            Just("rules"),
            Just("backendRefs"),
            Just("weight"),
            Just("port"),
            Just("type"),
            Just("versions"),
            Just("poolRef"),
            Just("group"),
            Just("kind"),
        ]
        .prop_map(str::to_owned);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(name, inner, 0..5)
                .prop_map(|mapping| Value::Object(mapping.into_iter().collect())),
        ]
    })
}

proptest! {
    /// Any node of any valid document replaced by anything: never a panic; either it is accepted, or refused with
    /// errors whose field, or whose field's parent, is in the document.
    #[test]
    fn mutated_documents_are_accepted_or_refused_with_a_place(
        which in any::<prop::sample::Index>(), place in any::<prop::sample::Index>(), wrong in any_json(),
    ) {
        let all = examples::all();
        let (name, value) = which.get(&all);
        let mut paths = Vec::new();
        places(value, &FieldPath::root(), &mut paths);
        let mut changed = value.clone();
        *at(&mut changed, place.get(&paths)).unwrap() = wrong;
        let decoded = decoded(changed.clone());
        let errors = errors(&decoded);
        prop_assert_eq!(decoded.resource.is_some(), errors.is_empty(), "{}: {:?}", name, decoded.findings);
        for error in errors {
            // A mapping that was read as a list of one has no [0] in the document.
            let mut repaired = changed.clone();
            if let Some(rules) = repaired.pointer_mut("/spec/rules")
                && rules.is_object()
            {
                *rules = json!([rules.clone()]);
            }
            let here = at(&mut repaired, &error.field).is_some();
            let parent = error.field.parent().unwrap_or_default();
            prop_assert!(here || at(&mut repaired, &parent).is_some(), "{} is nowhere: {}", error.field, error.message);
        }
    }

    /// Anything at all as a document of each kind.
    #[test]
    fn arbitrary_specs_never_panic(which in any::<prop::sample::Index>(), spec in any_json(), metadata in any_json()) {
        let all = examples::all();
        let (_, value) = which.get(&all);
        let mut changed = value.clone();
        changed["spec"] = spec;
        changed["metadata"] = metadata;
        let mut broken = document(value.clone());
        broken.value = changed;
        let _ = decode(&broken);
    }
}

#[test]
fn metadata_is_read_and_times_sort() {
    let mut value = examples::all().remove(0).1;
    value["metadata"]["creationTimestamp"] = json!("2026-01-31T13:00:00+02:00");
    value["metadata"]["generation"] = json!(4);
    let metadata = decoded(value).metadata;
    assert_eq!(metadata.created.as_deref(), Some("2026-01-31T11:00:00Z"));
    assert_eq!(metadata.generation, 4);
}

#[test]
fn null_counts_as_absent() {
    let decoded = decoded(yaml(
        "{apiVersion: inference.networking.x-k8s.io/v1alpha2, kind: InferenceModel, metadata: {name: m, creationTimestamp: null}, \
         spec: {modelName: m, criticality: null, targetModels: null, poolRef: {name: p}}}",
    ));
    assert_eq!(decoded.findings, []);
    let Some(Resource::InferenceModel(model)) = decoded.resource else { panic!() };
    assert_eq!((model.targets, model.criticality, model.pool.group), (vec![], None, None));
}

#[test]
fn a_hundred_thousand_faults_are_a_hundred_sentences() {
    let backends: Vec<Value> = (0..100_000).map(|_| json!({"name": 1})).collect();
    let decoded = decoded(json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "r"},
        "spec": {"rules": [{"backendRefs": backends}]},
    }));
    assert!(decoded.findings.len() < 300, "{}", decoded.findings.len());
    assert!(decoded.resource.is_none());
}
