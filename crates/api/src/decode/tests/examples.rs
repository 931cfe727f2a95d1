//! One full valid document of each kind and version, with every field that the kind's schema bounds.

use std::sync::LazyLock;

use serde_json::Value;

use super::yaml;
use crate::FieldPath;

/// Their names and values.
pub(super) fn all() -> Vec<(&'static str, Value)> {
    PARSED.clone()
}

static PARSED: LazyLock<Vec<(&'static str, Value)>> =
    LazyLock::new(|| EXAMPLES.iter().map(|text| (text.trim().lines().next().unwrap(), yaml(text))).collect());

/// Where the schema itself takes more than one type.
pub(super) fn accepts_any_type(name: &str, path: &FieldPath, wrong: &Value) -> bool {
    let path = path.to_string();
    let int_or_string = path == "spec.connection.bufferLimit" || path == "spec.ports[0].targetPort";
    (int_or_string && path == "spec.ports[0].targetPort" && wrong.is_string())
        // One mapping in place of the list of rules is leniently read as a list of one.
        || (name.contains("HTTPRoute") && path == "spec.rules" && wrong.is_object())
}

/// Mappings whose keys the author chooses.
pub(super) fn has_free_keys(name: &str, path: &FieldPath) -> bool {
    let path = path.to_string();
    let last = path.rsplit('.').next().unwrap_or_default();
    ["labels", "annotations", "matchLabels", "selector", "options", "data", "stringData", "listeners"].contains(&last)
        && !(name.contains("# InferencePool v1 ") && last == "selector")
        && !path.ends_with("namespaces.selector")
}

const EXAMPLES: &[&str] = &[
    r#"# GatewayClass
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: tidegate, labels: {a: b}, annotations: {example.com/a: any text}, generation: 1}
spec:
  controllerName: tidegate.dev/gateway-controller
  description: ours
  parametersRef: {group: tidegate.dev, kind: GatewayParameters, name: p, namespace: default}
"#,
    r#"# Gateway
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gw}
spec:
  gatewayClassName: tidegate
  addresses: [{type: IPAddress, value: 127.0.0.1}, {type: Hostname, value: gw.example.com}]
  infrastructure:
    labels: {a: b}
    annotations: {a: b}
    parametersRef: {group: tidegate.dev, kind: GatewayParameters, name: p}
  listeners:
  - name: http
    port: 8080
    protocol: HTTP
    hostname: "*.example.com"
    allowedRoutes:
      kinds: [{group: gateway.networking.k8s.io, kind: HTTPRoute}]
      namespaces: {from: Selector, selector: {matchLabels: {a: b}, matchExpressions: [{key: a, operator: In, values: [b]}]}}
  - name: https
    port: 8443
    protocol: HTTPS
    tls: {mode: Terminate, certificateRefs: [{group: "", kind: Secret, name: cert, namespace: default}], options: {a: b}}
"#,
    r#"# HTTPRoute
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: route, annotations: {tidegate.dev/model-aware: "false"}}
spec:
  hostnames: [llm.example.com]
  parentRefs:
  - {group: gateway.networking.k8s.io, kind: Gateway, name: gw, namespace: default, sectionName: http, port: 8080}
  rules:
  - name: main
    matches:
    - path: {type: PathPrefix, value: /v1}
      method: POST
      headers: [{type: Exact, name: x-a, value: b}, {type: RegularExpression, name: x-b, value: "a+"}]
      queryParams: [{type: RegularExpression, name: q, value: "a+"}]
    filters:
    - type: RequestHeaderModifier
      requestHeaderModifier: {set: [{name: a, value: b}], add: [{name: c, value: d}], remove: [e]}
    - type: ResponseHeaderModifier
      responseHeaderModifier: {set: [{name: a, value: b}], add: [{name: c, value: d}], remove: [e]}
    - type: RequestMirror
      requestMirror: {backendRef: {group: "", kind: Service, name: s, namespace: default, port: 80}, percent: 10}
    - type: RequestMirror
      requestMirror: {backendRef: {name: s, port: 80}, fraction: {numerator: 1, denominator: 10}}
    - type: URLRewrite
      urlRewrite: {hostname: a.b, path: {type: ReplacePrefixMatch, replacePrefixMatch: /v2}}
    - type: CORS
      cors: {allowOrigins: ["https://a.b"], allowMethods: [GET], allowHeaders: [x-a], exposeHeaders: [x-b], allowCredentials: true, maxAge: 5}
    backendRefs:
    - {group: inference.networking.k8s.io, kind: InferencePool, name: llm, namespace: default, weight: 90}
    - name: s
      port: 80
      weight: 10
      filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: a, value: b}]}}]
    timeouts: {request: 10s, backendRequest: 5s}
    retry: {attempts: 2, backoff: 100ms, codes: [500, 503]}
  - matches: [{path: {type: RegularExpression, value: "/v[0-9]+"}}]
    filters:
    - type: RequestRedirect
      requestRedirect: {scheme: https, hostname: a.b, port: 443, statusCode: 301, path: {type: ReplaceFullPath, replaceFullPath: /x}}
"#,
    r#"# HTTPRoute v1beta1
apiVersion: gateway.networking.k8s.io/v1beta1
kind: HTTPRoute
metadata: {name: route}
spec:
  rules:
  - backendRefs: [{name: s, port: 80}]
"#,
    r#"# ReferenceGrant
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {name: grant}
spec:
  from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: a}]
  to: [{group: "", kind: Service, name: s}]
"#,
    r#"# InferencePool v1 
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: llm}
spec:
  selector: {matchLabels: {app: llm}}
  targetPorts: [{number: 8000}, {number: 8001}]
  appProtocol: kubernetes.io/h2c
  endpointPickerRef: {group: "", kind: Service, name: epp, port: {number: 9002}, failureMode: FailOpen}
"#,
    r#"# InferencePool v1alpha2
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferencePool
metadata: {name: llm}
spec:
  selector: {app: llm}
  targetPortNumber: 8000
  extensionRef: {group: "", kind: Service, name: epp, portNumber: 9002, failureMode: FailClose}
"#,
    r#"# InferenceModel
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceModel
metadata: {name: m}
spec:
  modelName: travelhelper
  criticality: Critical
  poolRef: {group: inference.networking.x-k8s.io, kind: InferencePool, name: llm}
  targetModels: [{name: a, weight: 90}, {name: b, weight: 10}]
"#,
    r#"# InferenceModelRewrite
apiVersion: llm-d.ai/v1alpha2
kind: InferenceModelRewrite
metadata: {name: m}
spec:
  poolRef: {group: inference.networking.k8s.io, kind: InferencePool, name: llm}
  rules:
  - matches: [{model: {type: Exact, value: travelhelper}}]
    targets: [{modelRewrite: a, weight: 90}, {modelRewrite: b, weight: 10}]
"#,
    r#"# InferenceModelRewrite of the older group
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceModelRewrite
metadata: {name: m}
spec: {poolRef: {name: llm}, rules: [{targets: [{modelRewrite: a}]}]}
"#,
    r#"# InferenceObjective
apiVersion: llm-d.ai/v1alpha2
kind: InferenceObjective
metadata: {name: m}
spec: {poolRef: {name: llm}, priority: -1}
"#,
    r#"# Service
apiVersion: v1
kind: Service
metadata: {name: s}
spec:
  type: ClusterIP
  clusterIP: None
  selector: {app: llm}
  ports: [{name: http, port: 80, protocol: TCP, targetPort: 8000, appProtocol: kubernetes.io/h2c}]
"#,
    r#"# EndpointSlice
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: s-1, labels: {kubernetes.io/service-name: s}}
addressType: IPv4
endpoints:
- addresses: [10.0.0.7]
  conditions: {ready: true, serving: true, terminating: false}
ports: [{name: http, port: 8000, protocol: TCP}]
"#,
    r#"# Secret
apiVersion: v1
kind: Secret
metadata: {name: cert}
type: Opaque
immutable: false
data:
  tls.crt: LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCllRPT0KLS0tLS1FTkQgQ0VSVElGSUNBVEUtLS0tLQo=
  tls.key: LS0tLS1CRUdJTiBQUklWQVRFIEtFWS0tLS0tCllRPT0KLS0tLS1FTkQgUFJJVkFURSBLRVktLS0tLQo=
stringData: {a: b}
"#,
    r#"# Namespace
apiVersion: v1
kind: Namespace
metadata: {name: team-a, labels: {a: b}}
spec: {finalizers: [kubernetes]}
"#,
    r#"# ClientTrafficPolicy
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: ClientTrafficPolicy
metadata: {name: p}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: gw, sectionName: http}]
  connection: {bufferLimit: 20Mi}
  timeout: {http: {requestReceivedTimeout: 10s, idleTimeout: 1h, streamIdleTimeout: 5m}}
"#,
    r#"# BackendTrafficPolicy
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: BackendTrafficPolicy
metadata: {name: p}
spec:
  targetRef: {group: gateway.networking.k8s.io, kind: Gateway, name: gw}
  timeout: {http: {requestTimeout: 24h, connectionIdleTimeout: 1h}}
"#,
    r#"# ModelServer
apiVersion: tidegate.dev/v1alpha1
kind: ModelServer
metadata: {name: a, labels: {app: llm}}
spec: {address: "127.0.0.1:8001", metricsPath: /metrics, engine: vllm}
"#,
    r#"# GatewayParameters
apiVersion: tidegate.dev/v1alpha1
kind: GatewayParameters
metadata: {name: p}
spec:
  limits: {connect: 5s, streamFirstByte: 300s, firstByte: 0s, idle: 300s, total: 24h, requestHeader: 30s, requestBody: 300s, body: 20Mi}
  listeners: {http: {limits: {body: 1Mi}}}
  retries: {attempts: 1, connectionAttempts: 2, budgetPercent: 20, budgetMinimum: 10}
  accessLog: {enabled: true}
"#,
    r#"# InferenceRollout Node
apiVersion: tidegate.dev/v1alpha1
kind: InferenceRollout
metadata: {name: llm-to-h200}
spec:
  type: Node
  target: {routeRef: {group: gateway.networking.k8s.io, kind: HTTPRoute, name: routes-to-llm}, rule: chat}
  stable: {poolRef: {group: inference.networking.k8s.io, kind: InferencePool, name: llm}}
  candidate: {poolRef: {name: llm-new}, relativeCapacity: 1.7}
  weights: {mode: Overlay, onDrift: Hold}
  assignment:
    unit: Conversation
    keys: ["header:x-session-id", "body:prompt_cache_key", "body:user", "body:conversation", "messages:first"]
    force: [{header: x-rollout-arm, value: candidate, arm: candidate}]
  preflight:
    endpointsReady: 100%
    sameModels: true
    everyEndpoint: true
    adapters: {require: active, onMissing: ExcludeModel}
    tokenizerChange: Warn
    contextLength: AtLeast
    probe: {prompt: ping, maxTokens: 1}
    timeout: 10m
  warmup: {replay: {source: recent, maxTokens: 1}, until: {cacheHitRatio: 0.8}, timeout: 20m}
  shadow: {budget: {tokensPerSecond: 2000}, maxTokens: 64, sample: stratified, before: 30m}
  steps:
  - {weight: 0, bake: 30m}
  - {weight: 0.5%, bake: 10m}
  - {weight: 50, bake: 1h, gate: {manual: true, approvers: ["group:ml-leads"], webhook: {url: "https://evals.internal/judge", timeout: 2h, onError: Hold}}}
  - {weight: 100, bake: 2h}
  analysis:
    template: node-default
    alpha: 0.01
    harmBudget: 0.5pp
    shield: true
    onInconclusive: Hold
    stepMaxDuration: 6h
    guards: [{metric: error, r0: 1.1}, {metric: ttft, tolerance: 15%, margin: 25%}]
    observe: [output_tokens]
    breaker: {consecutiveFailures: 5, errorShare: 50%, window: 10}
  rollback: {auto: true, stableHeadroom: 15%, onStreams: Finish}
  drain: {timeout: 15m, minRetention: 1h}
  freeze: [{cron: "0 18 * * 5", duration: 62h, tz: Europe/Berlin, allow: [Rollback]}]
  paused: false
  start: Auto
  deadline: 168h
"#,
    r#"# InferenceRollout LoRA
apiVersion: tidegate.dev/v1alpha1
kind: InferenceRollout
metadata: {name: travel-helper-v2}
spec:
  type: LoRA
  target: {model: travelhelper, poolRef: {name: mymodel-pool-v1}, rewriteRef: {kind: InferenceModelRewrite, name: loramodel}}
  stable: {model: travel-helper-v1}
  candidate: {model: travel-helper-v2, source: "s3://adapters/travel/v2", ensureLoaded: true}
  preflight: {parentMatches: true, freeLoraSlots: 1}
  cleanup: {unloadStableAfter: 24h}
"#,
];
