use tidegate_api::status::{ConditionStatus, ListenerStatus, ParentStatus};
use tidegate_api::{FieldPath, Finding, Origin, Severity};

use super::*;

fn document(api_version: &str, kind: &str, namespace: &str, name: &str, value: Value) -> Arc<Document> {
    let group = api_version.rsplit_once('/').map_or("", |(group, _)| group);
    Arc::new(Document {
        key: ObjectKey::new(group, kind, namespace, name),
        api_version: api_version.into(),
        value,
        origin: Origin { source: "a.yaml".into(), index: 0, positions: Arc::default() },
        findings: Vec::new(),
    })
}

fn route() -> Arc<Document> {
    let value = json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "route", "labels": {"a": "b"}},
        "status": {"parents": ["someone else's"]},
        "spec": {"rules": []},
    });
    document("gateway.networking.k8s.io/v1", "HTTPRoute", "default", "route", value)
}

fn conditions(accepted: ConditionStatus, message: &str) -> Vec<Condition> {
    vec![
        Condition::new("Accepted", accepted, "Reason", message),
        Condition::new("ResolvedRefs", ConditionStatus::True, "ResolvedRefs", "all there"),
    ]
}

fn route_status(accepted: ConditionStatus, message: &str) -> BTreeMap<ObjectKey, ObjectStatus> {
    let status = ObjectStatus {
        conditions: conditions(accepted, message),
        parents: vec![ParentStatus { parent_ref: json!({"name": "gw"}), conditions: conditions(accepted, message) }],
        listeners: vec![ListenerStatus {
            name: "http".into(),
            supported_kinds: Vec::new(),
            attached_routes: 0,
            conditions: conditions(accepted, message),
        }],
        findings: vec![Finding::new(Severity::Warning, "RepairedList", FieldPath::root().key("spec"), "was repaired")],
        ..ObjectStatus::default()
    };
    BTreeMap::from([(route().key.clone(), status)])
}

fn only(store: &ObjectStore, filter: &ObjectFilter) -> Value {
    let mut items = store.list(filter);
    assert_eq!(items.len(), 1, "{items:?}");
    items.remove(0)
}

#[test]
fn an_object_is_its_document_with_namespace_and_status() {
    let store = ObjectStore::default();
    store.update([route()], route_status(ConditionStatus::True, "yes"), "2026-01-01T00:00:00Z");
    let object = only(&store, &ObjectFilter::default());
    assert_eq!(object["metadata"], json!({"name": "route", "labels": {"a": "b"}, "namespace": "default"}));
    assert_eq!(object["spec"], json!({"rules": []}));
    assert_eq!(object["status"]["parents"][0]["parentRef"], json!({"name": "gw"}));
    assert_eq!(object["status"]["conditions"][0]["lastTransitionTime"], "2026-01-01T00:00:00Z");
    let keys: Vec<&str> = object.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["apiVersion", "kind", "metadata", "spec", "status"]);
    let object = only(&store, &ObjectFilter { findings: true, ..ObjectFilter::default() });
    assert_eq!(object["findings"][0]["reason"], "RepairedList");
    assert!(object["status"].get("findings").is_none());
}

#[test]
fn a_condition_keeps_its_time_until_its_status_changes() {
    let store = ObjectStore::default();
    let times = |store: &ObjectStore| {
        let status = only(store, &ObjectFilter::default())["status"].clone();
        let of = |conditions: &Value| {
            let time = |index: usize| conditions[index]["lastTransitionTime"].as_str().unwrap().to_owned();
            (time(0), time(1))
        };
        let all = [&status["conditions"], &status["parents"][0]["conditions"], &status["listeners"][0]["conditions"]];
        let [object, parent, listener] = all.map(of);
        assert_eq!((&object, &object), (&parent, &listener));
        object
    };
    store.update([route()], route_status(ConditionStatus::True, "yes"), "t1");
    store.update([route()], route_status(ConditionStatus::True, "yes, in other words"), "t2");
    assert_eq!(times(&store), ("t1".into(), "t1".into()));
    store.update([route()], route_status(ConditionStatus::False, "no"), "t3");
    assert_eq!(times(&store), ("t3".into(), "t1".into()));
    store.update([route()], route_status(ConditionStatus::False, "no"), "t4");
    assert_eq!(times(&store), ("t3".into(), "t1".into()));
    store.update([], BTreeMap::new(), "t5");
    assert!(store.is_empty());
    store.update([route()], route_status(ConditionStatus::False, "no"), "t6");
    assert_eq!(times(&store), ("t6".into(), "t6".into()), "a new object of an old name is new");
}

#[test]
fn filters_take_kinds_in_any_case_and_number() {
    let value = json!({"kind": "X", "metadata": {"name": "x"}});
    let pool = "inference.networking.k8s.io/v1";
    let store = ObjectStore::default();
    store.update(
        [
            document(pool, "InferencePool", "a", "one", value.clone()),
            document(pool, "InferencePool", "b", "one", value.clone()),
            document(pool, "InferencePool", "b", "two", value.clone()),
            document("gateway.networking.k8s.io/v1", "GatewayClass", "", "class", value.clone()),
            document("gateway.envoyproxy.io/v1alpha1", "ClientTrafficPolicy", "a", "p", value.clone()),
            document("tidegate.dev/v1alpha1", "GatewayParameters", "a", "q", value.clone()),
            document("example.com/v1", "Widget", "a", "w", value),
        ],
        BTreeMap::new(),
        "t",
    );
    assert_eq!(store.len(), 7);
    let count = |kind: &str, namespace: Option<&str>, name: Option<&str>| {
        let filter = ObjectFilter {
            kind: Some(kind.into()),
            namespace: namespace.map(str::to_owned),
            name: name.map(str::to_owned),
            findings: false,
        };
        store.list(&filter).len()
    };
    for kind in ["InferencePool", "inferencepool", "INFERENCEPOOLS", "infpool"] {
        assert_eq!(count(kind, None, None), 3, "{kind}");
    }
    assert_eq!(count("inferencepools", Some("b"), None), 2);
    assert_eq!(count("inferencepools", None, Some("one")), 2);
    assert_eq!(count("inferencepools", Some("b"), Some("one")), 1);
    assert_eq!(count("inferencepools", Some("c"), None), 0);
    assert_eq!((count("gatewayclass", None, None), count("gatewayclasses", None, None)), (1, 1));
    assert_eq!(count("clienttrafficpolicies", None, None), 1);
    assert_eq!((count("gatewayparameters", None, None), count("gatewayparameter", None, None)), (1, 1));
    assert_eq!(count("pool", None, None), 0);
    assert_eq!(count("inferencepools.inference.networking.k8s.io", None, None), 3);
    assert_eq!(count("inferencepools.v1.inference.networking.k8s.io", None, None), 3);
    assert_eq!(count("inferencepools.inference.networking.x-k8s.io", None, None), 0, "another group");
    assert_eq!((count("widget", None, None), count("WIDGETS", None, None)), (1, 1), "a kind of no table");
    let class = store.list(&ObjectFilter { kind: Some("gatewayclass".into()), ..ObjectFilter::default() });
    assert!(class[0]["metadata"].get("namespace").is_none(), "cluster-scoped");
}

#[test]
fn an_old_pool_has_a_singular_parent() {
    let api_version = "inference.networking.x-k8s.io/v1alpha2";
    let pool = document(api_version, "InferencePool", "default", "pool", json!({"metadata": {"name": "pool"}}));
    let status = ObjectStatus {
        parents: vec![ParentStatus {
            parent_ref: json!({"name": "gw"}),
            conditions: conditions(ConditionStatus::True, "yes"),
        }],
        ..ObjectStatus::default()
    };
    let store = ObjectStore::default();
    store.update([pool.clone()], BTreeMap::from([(pool.key.clone(), status)]), "t");
    let object = only(&store, &ObjectFilter::default());
    assert!(object["status"]["parent"].is_array() && object["status"].get("parents").is_none(), "{object}");
}

#[test]
fn secrets_keep_their_secrets() {
    let value = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": "cert",
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{\"data\":\"c2VjcmV0\"}", "kept": "1"},
        },
        "data": {"tls.key": "c2VjcmV0", "tls.crt": "c2VjcmV0"},
        "stringData": "c2VjcmV0",
    });
    let store = ObjectStore::default();
    store.update([document("v1", "Secret", "default", "cert", value)], BTreeMap::new(), "t");
    let object = only(&store, &ObjectFilter { findings: true, ..ObjectFilter::default() });
    assert!(!object.to_string().contains("c2VjcmV0"), "{object}");
    assert_eq!(object["data"]["tls.key"], HIDDEN);
    assert_eq!(object["metadata"]["annotations"], json!({"kept": "1"}));
}

#[test]
fn odd_documents_do_no_harm() {
    let store = ObjectStore::default();
    let odd = [json!([1, 2]), json!(null), json!({"metadata": "text"}), json!({})];
    for value in odd {
        store.update([document("v1", "Odd", "default", "odd", value.clone())], BTreeMap::new(), "t");
        assert_eq!(store.list(&ObjectFilter::default()).len(), 1, "{value}");
    }
}
