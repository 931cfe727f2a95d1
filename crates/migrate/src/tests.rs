use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};
use tidegate_api::inference::{GROUP_ALPHA, GROUP_V1, PoolRef};
use tidegate_api::{Document, ObjectKey, Origin, Resource, Severity, decode};

use super::*;

/// Documents as the files source gives them.
fn documents(text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn admit(values: &[Value]) -> Vec<Admitted> {
    values.iter().enumerate().map(|(index, value)| admit_one(index, value)).collect()
}

fn admit_one(index: usize, value: &Value) -> Admitted {
    let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let api_version = text("/apiVersion");
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    let namespace = value.pointer("/metadata/namespace").and_then(Value::as_str).unwrap_or("default");
    let document = Document {
        key: ObjectKey::new(group, text("/kind"), namespace, text("/metadata/name")),
        api_version: api_version.to_owned(),
        value: value.clone(),
        origin: Origin { source: "test.yaml".into(), index, positions: Arc::default() },
        findings: Vec::new(),
    };
    let decoded = decode(&document);
    Admitted {
        document: Arc::new(document),
        resource: decoded.resource.map(Arc::new),
        metadata: decoded.metadata,
        findings: decoded.findings,
    }
}

fn values(migration: &Migration) -> Vec<Value> {
    migration.documents.iter().map(|document| document.value.clone()).collect()
}

/// Model names with their weights.
type Targets = Vec<(String, Option<u32>)>;

/// What a set of documents says about traffic, in terms that both forms share: for each route and rule its arms, for
/// each pool its servers, and for each pool and name its targets. Pools go by namespace and name.
#[derive(Debug, Default, PartialEq)]
struct Meaning {
    arms: BTreeMap<(String, usize), Vec<(String, i32)>>,
    pools: BTreeMap<String, Value>,
    names: BTreeMap<(String, String), Targets>,
}

fn meaning(admitted: &[Admitted]) -> Meaning {
    let pools: BTreeSet<&ObjectKey> =
        admitted.iter().map(|one| &one.document.key).filter(|key| key.kind == "InferencePool").collect();
    let lead = |namespace: &str, group: Option<&str>, name: &str| {
        let exists = |group: &str| pools.contains(&ObjectKey::new(group, "InferencePool", namespace, name));
        let found = group.map_or_else(|| exists(GROUP_V1) || exists(GROUP_ALPHA), exists);
        if found { format!("{namespace}/{name}") } else { "nowhere".to_owned() }
    };
    let pool_of = |one: &Admitted, pool: &PoolRef| lead(&one.document.key.namespace, pool.group.as_deref(), &pool.name);
    let mut meaning = Meaning::default();
    for one in admitted {
        let key = &one.document.key;
        match one.resource.as_deref() {
            Some(Resource::InferencePool(pool)) => {
                meaning.pools.insert(key.namespaced_name(), json!(pool));
            }
            Some(Resource::InferenceModel(model)) => {
                let all = |targets: Targets, name: &str| {
                    if targets.is_empty() { vec![(name.to_owned(), None)] } else { targets }
                };
                let targets = model.targets.iter().map(|target| (target.name.clone(), target.weight)).collect();
                let pool = pool_of(one, &model.pool);
                meaning.names.insert((pool.clone(), model.model_name.clone()), all(targets, &model.model_name));
                for target in model.targets.iter().filter(|_| model.printed_versions) {
                    meaning.names.insert((pool.clone(), target.name.clone()), vec![(target.name.clone(), None)]);
                }
            }
            Some(Resource::InferenceModelRewrite(rewrite)) => {
                for rule in &rewrite.rules {
                    let targets: Vec<_> = rule.targets.iter().map(|one| (one.name.clone(), one.weight)).collect();
                    for model in &rule.models {
                        meaning.names.insert((pool_of(one, &rewrite.pool), model.clone()), targets.clone());
                    }
                }
            }
            Some(Resource::HttpRoute(route)) => {
                for (index, rule) in route.spec.rules.iter().flatten().enumerate() {
                    let arms = rule.backend_refs.iter().flatten().map(|arm| {
                        let namespace = arm.namespace.as_deref().unwrap_or(&key.namespace);
                        (lead(namespace, arm.group.as_deref(), &arm.name), arm.weight.unwrap_or(1))
                    });
                    meaning.arms.insert((key.namespaced_name(), index), arms.collect());
                }
            }
            _ => {}
        }
    }
    meaning
}

/// Migrates, and holds the result to what every result must be.
fn migrated(text: &str) -> (Vec<Value>, Migration) {
    let input = admit(&documents(text));
    let migration = migrate(&input);
    let output = admit(&values(&migration));
    assert_eq!(meaning(&input), meaning(&output), "the splits have changed");
    for one in &output {
        let loud: Vec<_> = one.findings.iter().filter(|finding| finding.severity != Severity::Note).collect();
        assert!(loud.is_empty(), "{loud:#?}");
        assert!(one.resource.is_some());
    }
    assert_eq!(values(&migrate(&output)), values(&migration), "a second migration must change nothing");
    (values(&migration), migration)
}

/// The printed guides where they are at hand; `None` says which test was left out.
fn printed(folder: &str) -> Option<String> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared").to_owned();
    let shared = std::env::var("TIDEGATE_SHARED").unwrap_or(beside);
    let Ok(entries) = std::fs::read_dir(format!("{shared}/manifests/{folder}")) else {
        println!("left out: the printed {folder} manifests are not beside this checkout");
        return None;
    };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let texts: Vec<String> = paths.iter().map(|path| std::fs::read_to_string(path).unwrap().replace('`', "")).collect();
    Some(texts.join("\n---\n"))
}

#[test]
fn the_ack_guide_keeps_its_splits() {
    let Some(text) = printed("ack") else { return };
    // The guide's steps describe some objects twice; the later wins, as in intake.
    let mut last = BTreeMap::new();
    for value in documents(&text) {
        last.insert(format!("{}{}", value["kind"], value["metadata"]["name"]), value);
    }
    let text: Vec<String> = last.values().map(|value| serde_saphyr::to_string(value).unwrap()).collect();
    let (values, migration) = migrated(&text.join("---\n"));
    let of_kind = |kind: &str| values.iter().filter(|value| value["kind"] == kind).count();
    assert_eq!((of_kind("InferencePool"), of_kind("InferenceModelRewrite"), of_kind("InferenceModel")), (2, 3, 0));
    assert!(values.iter().all(|value| !value["apiVersion"].as_str().unwrap().contains("x-k8s.io")));
    assert_eq!(migration.notes.iter().filter(|note| note.contains("criticality Critical")).count(), 3);
}

#[test]
fn the_gke_guide_keeps_its_splits() {
    let Some(text) = printed("gke") else { return };
    for route in documents(&text) {
        let (values, _) = migrated(&serde_saphyr::to_string(&route).unwrap());
        if values[0]["kind"] == "HTTPRoute" {
            assert_eq!(values[0]["spec"]["rules"][0]["backendRefs"][0]["group"], GROUP_V1);
        }
    }
}

#[test]
fn a_pool_takes_its_current_form() {
    let (values, migration) = migrated(
        "
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferencePool
metadata: {name: p, namespace: team, resourceVersion: '7', creationTimestamp: 2026-01-01T00:00:00Z, annotations: {tidegate.dev/empty-arm: redistribute}}
spec: {targetPortNumber: 8000, selector: {b: '1', a: '2'}, extensionRef: {name: epp}}
status: {parent: []}
",
    );
    assert_eq!(
        values[0],
        json!({
            "apiVersion": "inference.networking.k8s.io/v1",
            "kind": "InferencePool",
            "metadata": {
                "name": "p", "namespace": "team", "creationTimestamp": "2026-01-01T00:00:00Z",
                "annotations": {"tidegate.dev/empty-arm": "redistribute"},
            },
            "spec": {
                "selector": {"matchLabels": {"b": "1", "a": "2"}},
                "targetPorts": [{"number": 8000}],
                "endpointPickerRef": {
                    "group": "", "kind": "Service", "name": "epp", "port": {"number": 9002}, "failureMode": "FailClose",
                },
            },
        })
    );
    assert_eq!(migration.notes, [] as [&str; 0]);
}

const OLD_POOL: &str = "
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferencePool
metadata: {name: p}
spec: {targetPortNumber: 8000, selector: {a: old}, extensionRef: {name: epp}}
---";

const NEW_POOL: &str = "
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: p}
spec: {targetPorts: [{number: 9000}], selector: {matchLabels: {a: new}}}
---";

#[test]
fn printed_versions_are_a_rewrite_with_each_version_by_its_own_name() {
    let (values, migration) = migrated(&format!(
        "{OLD_POOL}
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceModel
metadata: {{name: sample}}
spec:
  versions:
  - {{modelName: v1, criticality: Critical, weight: 90, poolRef: {{name: p}}}}
  - {{modelName: v2, criticality: Critical, weight: 10, poolRef: {{name: p}}}}
"
    ));
    assert_eq!(
        values[1]["spec"],
        json!({
            "poolRef": {"group": GROUP_V1, "kind": "InferencePool", "name": "p"},
            "rules": [
                {
                    "matches": [{"model": {"type": "Exact", "value": "sample"}}],
                    "targets": [{"modelRewrite": "v1", "weight": 90}, {"modelRewrite": "v2", "weight": 10}],
                },
                {"matches": [{"model": {"type": "Exact", "value": "v1"}}], "targets": [{"modelRewrite": "v1"}]},
                {"matches": [{"model": {"type": "Exact", "value": "v2"}}], "targets": [{"modelRewrite": "v2"}]},
            ],
        })
    );
    assert_eq!(migration.documents[1].comments.len(), 1);
    assert!(migration.notes[0].starts_with("InferenceModel default/sample: criticality Critical has no equivalent"));
}

#[test]
fn references_follow_only_the_pools_that_move() {
    let route = "
apiVersion: gateway.networking.k8s.io/v1beta1
kind: HTTPRoute
metadata: {name: r}
spec:
  rules:
    filters: [{type: RequestMirror, requestMirror: {backendRef: {kind: InferencePool, name: p}}}]
    backendRefs:
    - {name: p, kind: InferencePool, weight: 90}
    - {group: inference.networking.x-k8s.io, name: p, kind: InferencePool, weight: 10}
    - {group: inference.networking.x-k8s.io, name: absent, kind: InferencePool, weight: 0}
    - {name: s, port: 80}
";
    let groups = |values: &[Value]| -> Vec<Value> {
        let route = values.last().unwrap();
        assert_eq!(route["apiVersion"], "gateway.networking.k8s.io/v1");
        let rule = &route["spec"]["rules"][0];
        let mirror = rule["filters"][0]["requestMirror"]["backendRef"]["group"].clone();
        let arms = rule["backendRefs"].as_array().unwrap().iter().map(|arm| arm["group"].clone());
        std::iter::once(mirror).chain(arms).collect()
    };
    let (moved, _) = migrated(&format!("{OLD_POOL}{route}"));
    assert_eq!(groups(&moved), [json!(GROUP_V1), json!(GROUP_V1), json!(GROUP_V1), json!(GROUP_ALPHA), Value::Null]);

    // Beside a v1 pool of its name, the old pool and what means it stay.
    let both = admit(&documents(&format!("{OLD_POOL}{NEW_POOL}{route}")));
    let migration = migrate(&both);
    let kept = values(&migration);
    assert_eq!(groups(&kept), [json!(GROUP_V1), json!(GROUP_V1), json!(GROUP_ALPHA), json!(GROUP_ALPHA), Value::Null]);
    assert_eq!(kept[0], documents(OLD_POOL)[0]);
    assert!(migration.notes[0].contains("stays in the older group"), "{:?}", migration.notes);
}

#[test]
fn an_existing_rewrite_keeps_winning_and_its_name() {
    let text = format!(
        "{OLD_POOL}
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceModelRewrite
metadata: {{name: m}}
spec: {{poolRef: {{name: p}}, rules: [{{matches: [{{model: {{value: a}}}}], targets: [{{modelRewrite: a1}}]}}]}}
---
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceModel
metadata: {{name: m}}
spec: {{modelName: a, poolRef: {{name: p, group: inference.networking.x-k8s.io}}, targetModels: [{{name: a2}}]}}
---
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceModel
metadata: {{name: other}}
spec: {{modelName: b, poolRef: {{name: p}}}}
"
    );
    let migration = migrate(&admit(&documents(&text)));
    let rewrites: Vec<Value> =
        values(&migration).into_iter().filter(|value| value["kind"] == "InferenceModelRewrite").collect();
    let names: Vec<&Value> = rewrites.iter().map(|value| &value["metadata"]["name"]).collect();
    assert_eq!(names, ["m", "other"]);
    assert!(rewrites.iter().all(|value| value["apiVersion"] == "llm-d.ai/v1alpha2"));
    assert_eq!(rewrites[0]["spec"]["rules"][0]["targets"][0]["modelRewrite"], "a1");
    assert!(migration.notes.iter().any(|note| note.contains("already has it")), "{:?}", migration.notes);
}

#[test]
fn what_is_not_accepted_stays_with_a_comment() {
    let text = "{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: r}, spec: {rules: 7}}";
    let migration = migrate(&admit(&documents(text)));
    assert_eq!(values(&migration), documents(text));
    assert!(migration.documents[0].comments[0].contains("spec.rules is 7"), "{:?}", migration.documents[0].comments);
    assert_eq!(migration.notes.len(), 1);
}

#[test]
fn grants_follow_the_pools() {
    let (values, migration) = migrated(&format!(
        "{OLD_POOL}
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {{name: g}}
spec:
  from: [{{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: a}}]
  to: [{{group: inference.networking.x-k8s.io, kind: InferencePool}}, {{group: '', kind: Service}}]
"
    ));
    assert_eq!(
        values[1]["spec"]["to"],
        json!([{"group": GROUP_V1, "kind": "InferencePool"}, {"group": "", "kind": "Service"}])
    );
    assert_eq!(migration.notes.len(), 1);
}

#[test]
fn other_kinds_stay_as_they_are() {
    let text = "
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: ClientTrafficPolicy
metadata: {name: p}
spec: {targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: g}], connection: {bufferLimit: 20Mi}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: d}
---
apiVersion: tidegate.dev/v1alpha1
kind: ModelServer
metadata: {name: s, labels: {a: old}}
spec: {address: 127.0.0.1:1}
";
    assert_eq!(migrated(text).0, documents(text));
}
