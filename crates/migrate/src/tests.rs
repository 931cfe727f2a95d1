use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};
use tidegate_api::inference::{GROUP_ALPHA, GROUP_V1, PoolRef};
use tidegate_api::{Document, ObjectKey, Origin, Resource, Severity, decode};

use super::*;

mod compiled;

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
        stand_in: None,
        findings: decoded.findings,
    }
}

fn values_of(migration: &Migration) -> Vec<Value> {
    migration.documents.iter().map(|document| document.value.clone()).collect()
}

/// Model names with their weights.
type Targets = Vec<(String, Option<u32>)>;

/// What a set of documents says about traffic, in terms that both forms share: for each route and rule its arms, and
/// for each pool and name the targets in force. A pool is known by its servers, not by its group.
#[derive(Debug, Default, PartialEq)]
struct Meaning {
    arms: BTreeMap<(String, usize), Vec<(String, i32)>>,
    pools: BTreeSet<String>,
    names: BTreeMap<(String, String), Targets>,
}

/// Who has a name in a pool: a Rewrite before an InferenceModel, then the older, then by namespace and name.
type Rank = (bool, Option<String>, String);

#[derive(Default)]
struct Claims(BTreeMap<(String, String), (Rank, Targets)>);

impl Claims {
    fn add(&mut self, one: &Admitted, pool: &str, model: &str, targets: Targets) {
        let key = &one.document.key;
        let rank = (key.kind == "InferenceModel", one.metadata.created.clone(), key.namespaced_name());
        let place = (pool.to_owned(), model.to_owned());
        if self.0.get(&place).is_none_or(|(first, _)| rank < *first) {
            self.0.insert(place, (rank, targets));
        }
    }
}

/// Where references lead: without a group to v1's pool before the older's, with the older group to that alone. A
/// reference to a v1 pool that only the older group has led nowhere; migration leads it there, and says so.
struct Pools(BTreeMap<ObjectKey, String>);

impl Pools {
    fn of(admitted: &[Admitted]) -> Self {
        let described = admitted.iter().filter_map(|one| match one.resource.as_deref() {
            Some(Resource::InferencePool(pool)) => Some((one.document.key.clone(), json!(pool).to_string())),
            _ => None,
        });
        Self(described.collect())
    }

    fn lead(&self, namespace: &str, group: Option<&str>, name: &str) -> String {
        let pool = |group: &str| self.0.get(&ObjectKey::new(group, "InferencePool", namespace, name));
        let found = match group {
            None | Some(GROUP_V1) => pool(GROUP_V1).or_else(|| pool(GROUP_ALPHA)),
            Some(group) => pool(group),
        };
        found.cloned().unwrap_or_else(|| "nowhere".to_owned())
    }

    fn of_reference(&self, one: &Admitted, pool: &PoolRef) -> String {
        self.lead(&one.document.key.namespace, pool.group.as_deref(), &pool.name)
    }
}

fn meaning(admitted: &[Admitted]) -> Meaning {
    let pools = Pools::of(admitted);
    let mut claims = Claims::default();
    let mut meaning = Meaning { pools: pools.0.values().cloned().collect(), ..Meaning::default() };
    for one in admitted {
        let key = &one.document.key;
        match one.resource.as_deref() {
            Some(Resource::InferenceModel(model)) => {
                let pool = pools.of_reference(one, &model.pool);
                let targets = match model.targets.as_slice() {
                    [] => vec![(model.model_name.clone(), None)],
                    targets => targets.iter().map(|target| (target.name.clone(), target.weight)).collect(),
                };
                claims.add(one, &pool, &model.model_name, targets);
                for target in model.targets.iter().filter(|_| model.printed_versions) {
                    claims.add(one, &pool, &target.name, vec![(target.name.clone(), None)]);
                }
            }
            Some(Resource::InferenceModelRewrite(rewrite)) => {
                for rule in &rewrite.rules {
                    let targets: Targets = rule.targets.iter().map(|one| (one.name.clone(), one.weight)).collect();
                    for model in &rule.models {
                        claims.add(one, &pools.of_reference(one, &rewrite.pool), model, targets.clone());
                    }
                }
            }
            Some(Resource::HttpRoute(route)) => {
                for (index, rule) in route.spec.rules.iter().flatten().enumerate() {
                    let arms = rule.backend_refs.iter().flatten().map(|arm| {
                        let namespace = arm.namespace.as_deref().unwrap_or(&key.namespace);
                        (pools.lead(namespace, arm.group.as_deref(), &arm.name), arm.weight.unwrap_or(1))
                    });
                    meaning.arms.insert((key.namespaced_name(), index), arms.collect());
                }
            }
            _ => {}
        }
    }
    // Nobody can ask a pool that is not there.
    let in_force = claims.0.into_iter().filter(|((pool, _), _)| pool != "nowhere");
    meaning.names = in_force.map(|(place, (_, targets))| (place, targets)).collect();
    meaning
}

/// Migrates, and holds the result to what every result must be.
fn migrated(text: &str) -> (Vec<Value>, Migration) {
    let input = admit(&documents(text));
    let migration = migrate(&input);
    let output = admit(&values_of(&migration));
    assert_eq!(meaning(&input), meaning(&output), "the splits have changed");
    for one in &output {
        let loud: Vec<_> = one.findings.iter().filter(|finding| finding.severity != Severity::Note).collect();
        assert!(loud.is_empty(), "{loud:#?}");
        assert!(one.resource.is_some());
    }
    assert_eq!(values_of(&migrate(&output)), values_of(&migration), "a second migration must change nothing");
    (values_of(&migration), migration)
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
    let kept = values_of(&migration);
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
        values_of(&migration).into_iter().filter(|value| value["kind"] == "InferenceModelRewrite").collect();
    let names: Vec<&Value> = rewrites.iter().map(|value| &value["metadata"]["name"]).collect();
    assert_eq!(names, ["m", "other"]);
    assert!(rewrites.iter().all(|value| value["apiVersion"] == "llm-d.ai/v1alpha2"));
    assert_eq!(rewrites[0]["spec"]["rules"][0]["targets"][0]["modelRewrite"], "a1");
    assert!(migration.notes.iter().any(|note| note.contains("already has it")), "{:?}", migration.notes);
}

#[test]
fn a_reference_ahead_of_its_pool_is_healed_aloud() {
    let (values, migration) = migrated(&format!(
        "{OLD_POOL}
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: r}}
spec: {{rules: [{{backendRefs: [{{group: inference.networking.k8s.io, kind: InferencePool, name: p}}]}}]}}
"
    ));
    assert_eq!(values[1]["spec"]["rules"][0]["backendRefs"][0]["group"], GROUP_V1);
    assert!(
        migration.notes[0].starts_with("HTTPRoute default/r: names the v1 InferencePool \"p\""),
        "{:?}",
        migration.notes
    );
}

#[test]
fn a_model_whose_name_a_rewrite_has_gets_another() {
    let (values, _) = migrated(&format!(
        "{OLD_POOL}
apiVersion: llm-d.ai/v1alpha2
kind: InferenceModelRewrite
metadata: {{name: m}}
spec: {{poolRef: {{name: p}}, rules: [{{matches: [{{model: {{value: a}}}}], targets: [{{modelRewrite: a1}}]}}]}}
---
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceModel
metadata: {{name: m}}
spec: {{modelName: b, poolRef: {{name: p}}, targetModels: [{{name: b1}}]}}
"
    ));
    assert_eq!(values[1]["metadata"]["name"], "m");
    assert_eq!(values[2]["metadata"]["name"], "m-model");
}

#[test]
fn what_is_not_accepted_stays_with_a_comment() {
    let text = "{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: r}, spec: {rules: 7}}";
    let migration = migrate(&admit(&documents(text)));
    assert_eq!(values_of(&migration), documents(text));
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

fn group() -> impl Strategy<Value = Option<&'static str>> {
    prop_oneof![Just(None), Just(Some(GROUP_V1)), Just(Some(GROUP_ALPHA))]
}

fn reference(group: Option<&str>, name: &str) -> Value {
    let mut value = json!({"kind": "InferencePool", "name": name});
    if let Some(group) = group {
        value["group"] = group.into();
    }
    value
}

prop_compose! {
    fn any_pool()(old in any::<bool>(), name in "[pq]") -> Value {
        // Its servers tell it from a pool of the same name in the other group.
        let selector = json!({"pool": format!("{name}-{old}")});
        if old {
            json!({
                "apiVersion": "inference.networking.x-k8s.io/v1alpha2", "kind": "InferencePool",
                "metadata": {"name": name},
                "spec": {"selector": selector, "targetPortNumber": 8000, "extensionRef": {"name": "epp"}},
            })
        } else {
            json!({
                "apiVersion": "inference.networking.k8s.io/v1", "kind": "InferencePool", "metadata": {"name": name},
                "spec": {"selector": {"matchLabels": selector}, "targetPorts": [{"number": 8000}]},
            })
        }
    }
}

prop_compose! {
    fn any_model()(
        name in "m[0-3]", model in "[abc]", pool in "[pqr]", group in group(),
        targets in prop::collection::vec(("[abcde]", 1..100_u32), 0..4), weighted in any::<bool>(), printed in any::<bool>(),
    ) -> Value {
        let printed = printed && !targets.is_empty();
        let entry = |(name, weight): &(String, u32)| {
            let mut entry = if printed {
                json!({"modelName": name, "poolRef": reference(group, &pool)})
            } else {
                json!({"name": name})
            };
            if weighted {
                entry["weight"] = (*weight).into();
            }
            entry
        };
        let entries: Vec<Value> = targets.iter().map(entry).collect();
        let spec = if printed {
            json!({"versions": entries})
        } else {
            json!({"modelName": model, "poolRef": reference(group, &pool), "targetModels": entries})
        };
        json!({
            "apiVersion": "inference.networking.x-k8s.io/v1alpha2", "kind": "InferenceModel",
            "metadata": {"name": name}, "spec": spec,
        })
    }
}

prop_compose! {
    fn any_rewrite()(name in "w[0-2]", old in any::<bool>(), model in "[abc]", pool in "[pqr]", group in group()) -> Value {
        json!({
            "apiVersion": if old { "inference.networking.x-k8s.io/v1alpha2" } else { "llm-d.ai/v1alpha2" },
            "kind": "InferenceModelRewrite", "metadata": {"name": name},
            "spec": {
                "poolRef": reference(group, &pool),
                "rules": [{"matches": [{"model": {"value": model}}], "targets": [{"modelRewrite": format!("by-{name}-{old}")}]}],
            },
        })
    }
}

prop_compose! {
    fn any_route()(
        name in "r[01]", arms in prop::collection::vec(("[pqr]", group(), 0..100_i32), 1..4), mapping in any::<bool>(),
    ) -> Value {
        let arms: Vec<Value> = arms
            .iter()
            .map(|(pool, group, weight)| {
                let mut arm = reference(*group, pool);
                arm["weight"] = (*weight).into();
                arm
            })
            .collect();
        let rule = json!({"backendRefs": arms});
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": name},
            "spec": {"rules": if mapping { rule } else { json!([rule]) }},
        })
    }
}

proptest! {
    /// Whatever pools of either group, models in either form, rewrites and routes there are: the splits stay.
    #[test]
    fn any_set_keeps_its_splits(
        values in prop::collection::vec(prop_oneof![any_pool(), any_model(), any_rewrite(), any_route()], 0..16),
        ages in prop::collection::vec(0..3_u32, 16), aged in any::<bool>(),
    ) {
        let mut last = BTreeMap::new();
        for (mut value, age) in values.into_iter().zip(ages) {
            if aged {
                value["metadata"]["creationTimestamp"] = format!("202{age}-01-01T00:00:00Z").into();
            }
            let group = value["apiVersion"].as_str().unwrap().split('/').next().unwrap().to_owned();
            last.insert((group, value["kind"].to_string(), value["metadata"]["name"].to_string()), value);
        }
        let input = admit(&last.into_values().collect::<Vec<_>>());
        prop_assert!(input.iter().all(|one| one.resource.is_some()));
        let output = admit(&values_of(&migrate(&input)));
        prop_assert!(output.iter().all(|one| one.resource.is_some()));
        prop_assert_eq!(meaning(&input), meaning(&output));
        let keys: BTreeSet<_> = output.iter().map(|one| one.document.key.clone()).collect();
        prop_assert_eq!(keys.len(), output.len(), "two documents describe one object");
    }
}
