//! What is said, and where.

use super::*;

/// Error fields, or with `warnings` the reasons and fields of warnings.
fn error_fields(text: &str) -> Vec<String> {
    let decoded = decoded(yaml(text));
    assert_eq!(decoded.resource.is_some(), errors(&decoded).is_empty());
    errors(&decoded).iter().map(|finding| format!("{} {}", finding.reason, finding.field)).collect()
}

fn route(rules: &str) -> String {
    format!(
        "{{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {{name: r}}, spec: {{rules: [{rules}]}}}}"
    )
}

#[test]
fn every_error_is_named_not_only_the_first() {
    let text = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r}
spec:
  hostnames: [http://a.b, 1]
  rules:
  - backendRefs: [{name: a, port: 80, weight: ninety}]
  - backendRefs: [{port: 0, name: ok, weight: -1}]
  - matches: [{path: {value: a//b}}, {path: {type: RegularExpression, value: '(('}}]
  - {}
  - backendRefs: [{group: inference.networking.k8s.io, kind: InferencePool, weight: 1}]
    timeouts: {request: 1 hour, backendRequest: 5s}
";
    assert_eq!(
        error_fields(text),
        [
            "InvalidValue spec.hostnames[0]",
            "WrongType spec.hostnames[1]",
            "WrongType spec.rules[0].backendRefs[0].weight",
            "OutOfRange spec.rules[1].backendRefs[0].port",
            "OutOfRange spec.rules[1].backendRefs[0].weight",
            "RequiredField spec.rules[4].backendRefs[0].name",
            "InvalidValue spec.rules[4].timeouts.request",
            "InvalidValue spec.rules[2].matches[0].path.value",
            "InvalidRegularExpression spec.rules[2].matches[1].path.value",
        ]
    );
}

#[test]
fn messages_name_object_field_finding_and_remedy() {
    let decoded = decoded(yaml(&route("{backendRefs: [{name: a, port: '80', weight: ninety}]}")));
    let messages: Vec<&str> = decoded.findings.iter().map(|finding| finding.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "HTTPRoute default/r: spec.rules[0].backendRefs[0].port is \"80\", but must be a whole number 1 to 65535; write 80 without quotes",
            "HTTPRoute default/r: spec.rules[0].backendRefs[0].weight is \"ninety\", but must be a whole number 0 to 1000000",
        ]
    );
}

#[test]
fn rules_between_fields_of_a_route() {
    let pool = "backendRefs: [{group: inference.networking.k8s.io, kind: InferencePool, name: p}]";
    let header = "{type: RequestHeaderModifier, requestHeaderModifier: {remove: [a]}}";
    let redirect = "{type: RequestRedirect, requestRedirect: {port: 1}}";
    let rewrite = "{type: URLRewrite, urlRewrite: {hostname: a.b}}";
    let prefix = "{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /a}}}";
    for (rule, expected) in [
        ("{backendRefs: [{name: s}]}".to_owned(), &["RequiredField spec.rules[0].backendRefs[0].port"][..]),
        (format!("{{{pool}, filters: [{redirect}]}}"), &["IncompatibleFilters spec.rules[0].filters[0]"]),
        (format!("{{filters: [{redirect}, {rewrite}]}}"), &["IncompatibleFilters spec.rules[0].filters[1]"]),
        (format!("{{filters: [{redirect}]}}"), &[]),
        (format!("{{{pool}, filters: [{header}, {header}]}}"), &["Duplicate spec.rules[0].filters[1]"]),
        (
            format!("{{{pool}, filters: [{{type: URLRewrite, cors: {{}}}}]}}"),
            &["RequiredField spec.rules[0].filters[0].urlRewrite", "IncompatibleFilters spec.rules[0].filters[0].cors"],
        ),
        (format!("{{{pool}, filters: [{prefix}]}}"), &[]),
        (
            format!("{{{pool}, filters: [{prefix}], matches: [{{path: {{type: Exact, value: /a}}}}]}}"),
            &["IncompatibleFilters spec.rules[0].filters[0].urlRewrite.path.replacePrefixMatch"],
        ),
        (
            format!("{{{pool}, timeouts: {{request: 1s, backendRequest: 1001ms}}}}"),
            &["InvalidValue spec.rules[0].timeouts.backendRequest"],
        ),
        (format!("{{{pool}, timeouts: {{request: 0s, backendRequest: 1h}}}}"), &[]),
        (
            format!("{{{pool}, retry: {{codes: [399, 600, 500, 500]}}}}"),
            &[
                "Duplicate spec.rules[0].retry.codes[3]",
                "OutOfRange spec.rules[0].retry.codes[0]",
                "OutOfRange spec.rules[0].retry.codes[1]",
            ],
        ),
        (
            format!("{{{pool}, matches: [{{headers: [{{name: a, value: b}}, {{name: a, value: c}}]}}]}}"),
            &["Duplicate spec.rules[0].matches[0].headers[1].name"],
        ),
        (format!("{{{pool}, name: a}}, {{{pool}, name: a}}"), &["Duplicate spec.rules[1].name"]),
    ] {
        assert_eq!(error_fields(&route(&rule)), expected, "{rule}");
    }
}

#[test]
fn literal_paths_are_absolute_and_normal() {
    for (path, good) in [
        ("/", true),
        ("/v1/chat", true),
        ("/a%20b", true),
        ("/a.b/..c", true),
        ("v1", false),
        ("/a//b", false),
        ("/a/./b", false),
        ("/a/../b", false),
        ("/a/..", false),
        ("/a/.", false),
        ("/a%2fb", false),
        ("/a%2Fb", false),
        ("/a#b", false),
        ("/a b", false),
        ("/a%zz", false),
        ("/a%", false),
        ("", false),
    ] {
        let text = route(&format!("{{matches: [{{path: {{type: Exact, value: '{path}'}}}}]}}"));
        assert_eq!(error_fields(&text).is_empty(), good, "{path}");
    }
}

#[test]
fn parents_are_distinct() {
    let with = |parents: &str| {
        error_fields(&format!(
            "{{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {{name: r}}, spec: {{parentRefs: [{parents}]}}}}"
        ))
    };
    assert_eq!(with("{name: a}, {name: b}"), [] as [&str; 0]);
    assert_eq!(with("{name: a, sectionName: x}, {name: a, sectionName: z}"), [] as [&str; 0]);
    assert_eq!(with("{name: a, sectionName: x}, {name: a, sectionName: x}"), ["Duplicate spec.parentRefs[1]"]);
    assert_eq!(with("{name: a}, {name: a, sectionName: x}"), ["Duplicate spec.parentRefs[0]"]);
}

#[test]
fn rules_between_fields_of_a_gateway() {
    let with = |listeners: &str| {
        error_fields(&format!(
            "{{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {{name: g}}, spec: {{gatewayClassName: c, listeners: [{listeners}]}}}}"
        ))
    };
    assert_eq!(
        with("{name: a, port: 80, protocol: HTTP}, {name: b, port: 80, protocol: HTTP, hostname: a.b}"),
        [] as [&str; 0]
    );
    assert_eq!(
        with("{name: a, port: 80, protocol: HTTP}, {name: a, port: 81, protocol: HTTP}"),
        ["Duplicate spec.listeners[1].name"]
    );
    assert_eq!(
        with("{name: a, port: 80, protocol: HTTP}, {name: b, port: 80, protocol: HTTP}"),
        ["Duplicate spec.listeners[1]"]
    );
    assert_eq!(
        with("{name: a, port: 80, protocol: HTTP, tls: {certificateRefs: [{name: c}]}}"),
        ["InvalidValue spec.listeners[0].tls"]
    );
    assert_eq!(
        with("{name: a, port: 80, protocol: HTTPS, tls: {}}"),
        ["RequiredField spec.listeners[0].tls.certificateRefs"]
    );
    assert_eq!(with(""), ["OutOfRange spec.listeners"]);
}

#[test]
fn rules_as_one_mapping_are_repaired_with_the_text_to_write() {
    let decoded = decoded(yaml(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: routes-to-llm}
spec:
  parentRefs: [{name: gw}]
  rules:
    backendRefs:
    - {name: llm, kind: InferencePool, weight: 90}
    - {name: llm-new, kind: InferencePool, weight: 10}
",
    ));
    let [only] = decoded.findings.as_slice() else { panic!("{:#?}", decoded.findings) };
    assert_eq!((only.reason, only.severity), ("RepairedList", Severity::Warning));
    let replacement = only.replacement.clone().unwrap();
    assert!(replacement.starts_with("rules:\n"), "{replacement}");
    let Some(Resource::HttpRoute(route)) = decoded.resource else { panic!() };
    let rules = route.spec.rules.unwrap();
    let backends = rules[0].backend_refs.clone().unwrap();
    assert_eq!(backends.len(), 2);
    assert_eq!(backends[0].group, None, "an absent group stays visible to compile");
    let written = yaml(&replacement);
    assert_eq!(written["rules"][0]["backendRefs"][1]["name"], "llm-new");
}

#[test]
fn the_printed_model_is_read_as_a_split() {
    let with = |second: &str| {
        decoded(yaml(&format!(
            "
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceModel
metadata: {{name: inferencemodel-sample}}
spec:
  versions:
  - {{modelName: llm-v1, criticality: Critical, weight: 90, poolRef: {{name: llm-pool}}}}
  - {second}
"
        )))
    };
    let good = with("{modelName: llm-v2, criticality: Critical, weight: 10, poolRef: {name: llm-pool}}");
    let reasons: Vec<&str> = good.findings.iter().map(|finding| finding.reason).collect();
    assert_eq!(reasons, ["PrintedForm"]);
    let Some(Resource::InferenceModel(model)) = good.resource else { panic!() };
    assert!(model.printed_versions);
    assert_eq!((model.model_name.as_str(), model.targets.len()), ("inferencemodel-sample", 2));
    assert_eq!((model.targets[1].name.as_str(), model.targets[1].weight), ("llm-v2", Some(10)));

    let elsewhere = with("{modelName: llm-v2, weight: 10, poolRef: {name: other}}");
    let fields: Vec<String> = errors(&elsewhere).iter().map(|finding| finding.field.to_string()).collect();
    assert_eq!(fields, ["spec.versions[1].poolRef.name"]);
    assert!(elsewhere.resource.is_none());

    let unweighted = with("{modelName: llm-v2, poolRef: {name: llm-pool}}");
    assert_eq!(errors(&unweighted)[0].field.to_string(), "spec.versions[1].weight");
}

#[test]
fn pools_of_both_versions_become_one_form() {
    let old = decoded(yaml(
        "{apiVersion: inference.networking.x-k8s.io/v1alpha2, kind: InferencePool, metadata: {name: p}, \
         spec: {selector: {app: a}, targetPortNumber: 8000, extensionRef: {name: epp}}}",
    ));
    let Some(Resource::InferencePool(old)) = old.resource else { panic!() };
    let picker = old.endpoint_picker.unwrap();
    assert_eq!(
        (picker.port, picker.kind.as_str(), picker.failure_mode),
        (Some(9002), "Service", crate::inference::FailureMode::FailClose)
    );
    let missing = "{apiVersion: inference.networking.k8s.io/v1, kind: InferencePool, metadata: {name: p}, \
         spec: {selector: {matchLabels: {app: a}}, targetPorts: [{number: 8000}, {number: 8000}], endpointPickerRef: {name: epp}}}";
    assert_eq!(
        error_fields(missing),
        ["Duplicate spec.targetPorts[1].number", "RequiredField spec.endpointPickerRef.port"]
    );
}

#[test]
fn unknown_versions_name_those_that_are_read() {
    for (version, kind) in [
        ("gateway.networking.k8s.io/v2", "HTTPRoute"),
        ("inference.networking.k8s.io/v1alpha2", "InferencePool"),
        ("inference.networking.k8s.io/v1", "InferenceModel"),
        ("v2", "Service"),
    ] {
        let decoded = decoded(json!({"apiVersion": version, "kind": kind, "metadata": {"name": "x"}, "spec": {}}));
        let errors = errors(&decoded);
        assert_eq!((errors[0].reason, errors[0].field.to_string().as_str()), ("UnknownVersion", "apiVersion"));
        assert!(decoded.resource.is_none());
    }
    let pool = decoded(
        json!({"apiVersion": "inference.networking.k8s.io/v1alpha2", "kind": "InferencePool", "metadata": {"name": "x"}}),
    );
    assert!(
        pool.findings[0].message.contains("inference.networking.k8s.io/v1, inference.networking.x-k8s.io/v1alpha2")
    );
}

#[test]
fn kinds_that_are_not_ours_are_not_used() {
    for (version, kind) in
        [("networking.istio.io/v1", "Gateway"), ("serving.knative.dev/v1", "Service"), ("v1", "ConfigMap")]
    {
        let decoded = decoded(json!({"apiVersion": version, "kind": kind, "metadata": {"name": "x"}}));
        assert_eq!(decoded.resource, Some(Resource::Unused), "{version} {kind}");
        assert_eq!(decoded.findings[0].severity, Severity::Note);
    }
    let slip = decoded(json!({"apiVersion": "tidegate.dev/v1alpha1", "kind": "ModelSever", "metadata": {"name": "x"}}));
    assert_eq!(errors(&slip)[0].reason, "UnknownKind");
}

#[test]
fn a_deployment_comes_with_the_model_server_to_write() {
    let decoded = decoded(yaml(
        "
apiVersion: apps/v1
kind: Deployment
metadata: {name: qwen}
spec:
  template:
    metadata: {labels: {app: custom-serving, release: qwen}}
    spec: {containers: [{name: c, ports: [{containerPort: 8123}]}]}
",
    ));
    assert_eq!(decoded.resource, Some(Resource::Unused));
    let [only] = decoded.findings.as_slice() else { panic!("{:#?}", decoded.findings) };
    assert_eq!(
        only.message,
        "Deployment default/qwen is not used from files: describe its running servers with ModelServer, with the \
         labels app: custom-serving, release: qwen"
    );
    let snippet = yaml(only.replacement.as_ref().unwrap());
    assert_eq!(snippet["metadata"]["labels"]["release"], "qwen");
    assert_eq!(snippet["spec"]["address"], "127.0.0.1:8123");
    let server = super::decoded(snippet);
    assert_eq!(server.findings, []);
    assert!(matches!(server.resource, Some(Resource::ModelServer(_))));
}

#[test]
fn policies_name_what_they_cannot_do() {
    let decoded = decoded(yaml(
        "
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: ClientTrafficPolicy
metadata: {name: p}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: gw}]
  connection: {bufferLimit: 20971520, socketBufferLimit: 1Mi}
  tls: {minVersion: '1.3'}
",
    ));
    let found: Vec<String> =
        decoded.findings.iter().map(|finding| format!("{} {}", finding.reason, finding.field)).collect();
    assert_eq!(found, ["NotSupported spec.tls", "NotSupported spec.connection.socketBufferLimit"]);
    let Some(Resource::ClientTrafficPolicy(policy)) = decoded.resource else { panic!() };
    assert_eq!(policy.connection.unwrap().buffer_limit, Some(json!(20_971_520)));
    assert!(policy.rest.contains_key("tls"));
}

#[test]
fn secrets_are_not_repeated_in_messages() {
    let decoded = decoded(yaml(
        "{apiVersion: v1, kind: Secret, metadata: {name: s}, data: {tls.key: 'top secret!'}, stringData: {a: 12345}}",
    ));
    assert_eq!(errors(&decoded).len(), 2);
    let whole = super::decoded(yaml("{apiVersion: v1, kind: Secret, metadata: {name: s}, data: top secret}"));
    assert_eq!(errors(&whole).len(), 1);
    for finding in decoded.findings.iter().chain(&whole.findings) {
        assert!(!finding.message.contains("top secret") && !finding.message.contains("12345"), "{}", finding.message);
    }
}

/// A certificate and its private key, as they stand in a quoted YAML text.
fn made() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(vec!["a.example".to_owned()]).expect("a certificate");
    let quoted = |pem: String| pem.replace("\r\n", "\n").replace('\n', "\\n");
    (quoted(made.cert.pem()), quoted(made.signing_key.serialize_pem()))
}

#[test]
fn a_tls_secret_must_hold_what_a_listener_can_use() {
    let ((certificate, key), (other_certificate, other_key)) = (made(), made());
    let hollow_certificate = "-----BEGIN CERTIFICATE-----\\nYQ==\\n-----END CERTIFICATE-----\\n";
    let hollow_key = "-----BEGIN PRIVATE KEY-----\\nYQ==\\n-----END PRIVATE KEY-----\\n";
    let found = |kind: &str, certificate: &str, key: &str| {
        error_fields(&format!(
            "{{apiVersion: v1, kind: Secret, metadata: {{name: s}}, type: {kind}, stringData: {{tls.crt: \"{certificate}\"{key}}}}}"
        ))
    };
    let with = |key: &str| format!(", tls.key: \"{key}\"");
    let none = [] as [&str; 0];
    assert_eq!(found("kubernetes.io/tls", &certificate, &with(&key)), none);
    assert_eq!(found("kubernetes.io/tls", &format!("{certificate}{other_certificate}"), &with(&key)), none);
    assert_eq!(found("Opaque", "hidden", &with("hidden")), none);
    let half = certificate.replace("-----END", "");
    for broken in ["", "hidden", &key, &half, hollow_certificate] {
        assert_eq!(found("kubernetes.io/tls", broken, &with(&key)), ["InvalidValue stringData.tls.crt"], "{broken}");
    }
    for broken in [&certificate, &other_key, hollow_key] {
        assert_eq!(
            found("kubernetes.io/tls", &certificate, &with(broken)),
            ["InvalidValue stringData.tls.key"],
            "{broken}"
        );
    }
    // The server's own certificate stands first.
    let turned = format!("{other_certificate}{certificate}");
    assert_eq!(found("kubernetes.io/tls", &turned, &with(&key)), ["InvalidValue stringData.tls.key"]);
    assert_eq!(found("kubernetes.io/tls", &certificate, ""), ["RequiredField data.tls.key"]);
}

#[test]
fn a_close_name_is_offered_for_an_unknown_field() {
    let decoded = decoded(yaml(&route("{backendRef: [{name: s, port: 80}]}")));
    assert_eq!(
        decoded.findings[0].message,
        "HTTPRoute default/r: spec.rules[0].backendRef is an unknown field and has no effect; did you mean backendRefs?"
    );
}

#[test]
fn large_regular_expressions_are_refused() {
    let text = route("{matches: [{path: {type: RegularExpression, value: '(a{1000}){1000}'}}]}");
    assert_eq!(error_fields(&text), ["InvalidRegularExpression spec.rules[0].matches[0].path.value"]);
}

#[test]
fn positions_come_from_the_document() {
    let mut document = document(yaml(&route("{backendRefs: [{name: s, port: 80, weight: x}]}")));
    let weight = FieldPath::root().key("spec").key("rules").index(0).key("backendRefs").index(0).key("weight");
    document.origin.positions = Arc::new(BTreeMap::from([(weight.clone(), crate::Position { line: 7, column: 3 })]));
    assert_eq!(decode(&document).findings[0].position, Some(crate::Position { line: 7, column: 3 }));
}

#[test]
fn an_empty_slice_is_no_fault() {
    let text = "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: s}, addressType: IPv4, endpoints: null, ports: null}";
    let decoded = decoded(yaml(text));
    assert_eq!(decoded.findings, []);
    assert!(decoded.resource.is_some());
}

#[test]
fn kinds_that_are_not_read_may_be_named_by_other_rules() {
    let decoded = decoded(yaml(
        "{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: 'system:node', labels: 7}}",
    ));
    assert_eq!((decoded.resource, decoded.findings.len()), (Some(Resource::Unused), 1));
}

/// The guides' manifests as printed (without the backticks, which YAML forbids), where they are at hand.
#[test]
fn the_printed_guides_are_accepted_and_each_repair_is_named() {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared").to_owned();
    let shared = std::env::var("TIDEGATE_SHARED").unwrap_or(beside);
    for (folder, expected) in
        [("ack", &["NotUsedFromFiles"; 2][..]), ("gke", &["PrintedForm", "RepairedList", "RepairedList"])]
    {
        let Ok(entries) = std::fs::read_dir(format!("{shared}/manifests/{folder}")) else {
            println!("left out: the printed {folder} manifests are not beside this checkout");
            continue;
        };
        let mut reasons = Vec::new();
        for entry in entries {
            let text = std::fs::read_to_string(entry.unwrap().path()).unwrap().replace('`', "");
            let documents: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
            for decoded in documents.into_iter().map(decoded) {
                assert!(decoded.resource.is_some(), "{:#?}", decoded.findings);
                reasons.extend(decoded.findings.iter().map(|finding| finding.reason));
            }
        }
        reasons.sort_unstable();
        assert_eq!(reasons, expected, "{folder}");
    }
}
