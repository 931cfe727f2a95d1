//! What each path answers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Query, Request, State, rejection::QueryRejection};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{Json, Router};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use serde::Deserialize;
use serde_json::json;

use crate::guard::{Refusal, check_host, check_origin, check_token};
use crate::{AdminState, ObjectFilter, rollouts};

/// Largest body that is read; no call needs one.
const BODY_BYTES: usize = 64 * 1024;
/// The longest that an answer may take to make.
const PATIENCE: Duration = Duration::from_secs(30);

const INDEX: &str = "\
GET  /healthz   the process runs
GET  /readyz    it serves traffic; else 503 and what is missing
GET  /metrics   OpenMetrics
GET  /snapshot  the active table
GET  /objects   documents with their status; ?kind= &namespace= &name= &findings=true
GET  /rollouts  roll-outs with their status; ?namespace=
GET  /rollouts/NAMESPACE/NAME, and of it /explain, /history, /plan, /verdict
GET  /rollouts/NAMESPACE/NAME/watch?generation=N  as soon as the generation is another than N, at the latest after 20 s
POST /rollouts/NAMESPACE/NAME/commands  {\"verb\", \"id\", \"reason\"}; needs the token, as /reload does
GET  /v1/rollouts/NAMESPACE/NAME/verdict  for Argo's web metric; POST for Flagger's webhooks, 409 unless the verdict is in ?when=
POST /reload    read the manifests now; needs Authorization: Bearer with the token of --state-dir
";

/// Everything, for the admin port bound at `bound`.
pub(crate) fn admin(state: AdminState, bound: SocketAddr) -> Router {
    let state = Arc::new(state);
    let guard = move |request: Request, next: Next| guard_admin(bound, request, next);
    shared(
        Router::new()
            .route("/", get(async || INDEX))
            .route("/snapshot", get(snapshot))
            .route("/objects", get(objects))
            .route("/reload", changing(post(reload), &state))
            .route("/rollouts/{namespace}/{name}/commands", changing(post(rollouts::command), &state))
            .merge(rollouts::reading()),
        state,
    )
    .layer(from_fn(guard))
}

/// Health, readiness, metrics and the verdicts on roll-outs alone. Probes, Prometheus and whoever moves weights come by addresses and names of the cluster's choosing,
/// so any `Host` passes; web pages do not.
pub(crate) fn probe(state: AdminState) -> Router {
    shared(Router::new(), Arc::new(state)).layer(from_fn(guard_probe))
}

fn shared(router: Router<Arc<AdminState>>, state: Arc<AdminState>) -> Router {
    router
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .merge(rollouts::judging())
        .method_not_allowed_fallback(async || failure((StatusCode::METHOD_NOT_ALLOWED, "not with this method".into())))
        .fallback(async || failure((StatusCode::NOT_FOUND, "no such path; GET / lists them".into())))
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .with_state(state)
        .layer(from_fn(finish))
}

/// A route that changes something: nothing of it is looked at without the token.
fn changing(route: MethodRouter<Arc<AdminState>>, state: &Arc<AdminState>) -> MethodRouter<Arc<AdminState>> {
    route.layer(from_fn_with_state(state.clone(), guard_token))
}

async fn guard_admin(bound: SocketAddr, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    match check_host(&parts, bound).and_then(|()| check_origin(&parts.headers)) {
        Ok(()) => next.run(Request::from_parts(parts, body)).await,
        Err(refusal) => failure(refusal),
    }
}

async fn guard_probe(request: Request, next: Next) -> Response {
    match check_origin(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refusal) => failure(refusal),
    }
}

async fn guard_token(State(state): State<Arc<AdminState>>, request: Request, next: Next) -> Response {
    match check_token(request.headers(), &state.token) {
        Ok(()) => next.run(request).await,
        Err(refusal) => {
            let mut answer = failure(refusal);
            answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            answer
        }
    }
}

/// Bounds the time of every answer, and keeps answers out of caches and from being taken for something else.
async fn finish(request: Request, next: Next) -> Response {
    let mut answer = match tokio::time::timeout(PATIENCE, next.run(request)).await {
        Ok(answer) => answer,
        Err(_) => failure((StatusCode::GATEWAY_TIMEOUT, "this took too long; look at the gateway's log".into())),
    };
    let headers = answer.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

pub(crate) fn failure((status, message): Refusal) -> Response {
    (status, Json(json!({"error": {"message": message}}))).into_response()
}

/// Runs what may take a moment where it holds up no other task.
pub(crate) async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Response> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        tracing::error!(%error, "an admin call failed");
        failure((StatusCode::INTERNAL_SERVER_ERROR, "this failed; look at the gateway's log".into()))
    })
}

async fn readyz(State(state): State<Arc<AdminState>>) -> Response {
    match (state.ready)() {
        Ok(()) => "ready\n".into_response(),
        Err(missing) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {missing}\n")).into_response(),
    }
}

async fn metrics(State(state): State<Arc<AdminState>>) -> Result<Response, Response> {
    let text = aside(move || (state.metrics)()).await?;
    Ok(([(header::CONTENT_TYPE, tidegate_telemetry::metrics::CONTENT_TYPE)], text).into_response())
}

async fn snapshot(State(state): State<Arc<AdminState>>) -> Result<Response, Response> {
    Ok(Json(aside(move || (state.snapshot)()).await?).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ObjectsQuery {
    kind: Option<String>,
    namespace: Option<String>,
    name: Option<String>,
    #[serde(default)]
    findings: bool,
}

async fn objects(
    State(state): State<Arc<AdminState>>,
    query: Result<Query<ObjectsQuery>, QueryRejection>,
) -> Result<Response, Response> {
    let Query(query) = query.map_err(|error| failure((StatusCode::BAD_REQUEST, error.body_text())))?;
    let given = |value: Option<String>| value.filter(|value| !value.is_empty());
    let filter = ObjectFilter {
        kind: given(query.kind),
        namespace: given(query.namespace),
        name: given(query.name),
        findings: query.findings,
    };
    let items = aside(move || state.objects.list(&filter)).await?;
    Ok(Json(json!({"items": items})).into_response())
}

/// The body is read, so that a client that sends one is answered, and not used.
async fn reload(State(state): State<Arc<AdminState>>, _: Bytes) -> Result<Response, Response> {
    match aside(move || (state.reload)()).await? {
        Ok(value) => {
            tracing::info!("the manifests were read at the admin API's request");
            Ok(Json(value).into_response())
        }
        Err(message) => Err(failure((StatusCode::INTERNAL_SERVER_ERROR, message))),
    }
}
