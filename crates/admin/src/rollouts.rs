//! Roll-outs as the admin API shows them, and the commands it takes for them.
//!
//! What a roll-out is, and what a verb does to it, is known behind [`Rollouts`] alone: here are paths, statuses and the
//! shape of an answer. Reading needs no token; commands do.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Query, State, rejection::QueryRejection};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router, routing::get};
use bytes::Bytes;
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::AdminState;
use crate::guard::Refusal;
use crate::router::{aside, failure};

/// How long a watch waits for something new before it answers with what is there.
const WATCH: Duration = Duration::from_secs(20);

/// A view of one roll-out beside the resource itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RolloutView {
    /// Why it is where it is.
    Explain,
    /// What happened, oldest first.
    History,
    /// How long each step will take, and whether stable can take everything back.
    Plan,
    /// The judge's word: `verdict` is `pass`, `hold` or `fail`.
    Verdict,
}

impl RolloutView {
    fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "explain" => Self::Explain,
            "history" => Self::History,
            "plan" => Self::Plan,
            "verdict" => Self::Verdict,
            _ => return None,
        })
    }
}

/// Why a command did nothing, in a sentence that says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandRefusal {
    /// No such roll-out: 404.
    NotFound(String),
    /// The command cannot be read: 400.
    Invalid(String),
    /// It does not fit the moment: 409.
    Conflict(String),
    /// Nobody answers; the command may still be taken: 503.
    Unavailable(String),
}

impl CommandRefusal {
    fn answer(self) -> Response {
        failure(match self {
            Self::NotFound(message) => (StatusCode::NOT_FOUND, message),
            Self::Invalid(message) => (StatusCode::BAD_REQUEST, message),
            Self::Conflict(message) => (StatusCode::CONFLICT, message),
            Self::Unavailable(message) => (StatusCode::SERVICE_UNAVAILABLE, message),
        })
    }
}

/// What comes of a command.
pub type CommandAnswer<'a> = Pin<Box<dyn Future<Output = Result<Value, CommandRefusal>> + Send + 'a>>;

/// The roll-outs of the process. The functions that read are called on blocking threads.
pub trait Rollouts: Send + Sync {
    /// Every roll-out with its status, as kubectl prints it, by namespace and name.
    fn list(&self) -> Vec<Value>;
    /// One roll-out with its status.
    fn get(&self, namespace: &str, name: &str) -> Option<Value>;
    /// A view of one roll-out.
    fn view(&self, namespace: &str, name: &str, view: RolloutView) -> Option<Value>;
    /// Gives a command: `verb`, `id`, and what the verb takes.
    fn command<'a>(&'a self, namespace: &'a str, name: &'a str, command: Value) -> CommandAnswer<'a>;
    /// Counts up whenever a roll-out may look different.
    fn changes(&self) -> watch::Receiver<u64>;
}

/// Paths that only read, for the admin port.
pub(crate) fn reading() -> Router<Arc<AdminState>> {
    Router::new()
        .route("/rollouts", get(list))
        .route("/rollouts/{namespace}/{name}", get(one))
        .route("/rollouts/{namespace}/{name}/watch", get(watch_one))
        .route("/rollouts/{namespace}/{name}/{view}", get(view))
}

/// The judge's word, for both ports: whoever moves weights elsewhere comes by a name of the cluster's choosing.
pub(crate) fn judging() -> Router<Arc<AdminState>> {
    Router::new().route("/v1/rollouts/{namespace}/{name}/verdict", get(verdict).post(verdict))
}

fn known(state: &AdminState) -> Result<Arc<dyn Rollouts>, Refusal> {
    let none = || (StatusCode::SERVICE_UNAVAILABLE, "this gateway runs no roll-outs".into());
    state.rollouts.clone().ok_or_else(none)
}

fn missing(namespace: &str, name: &str) -> Response {
    failure((
        StatusCode::NOT_FOUND,
        format!("there is no InferenceRollout {namespace}/{name}; GET /rollouts lists them"),
    ))
}

fn wrong(error: &QueryRejection) -> Response {
    failure((StatusCode::BAD_REQUEST, error.body_text()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    namespace: Option<String>,
}

async fn list(
    State(state): State<Arc<AdminState>>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Response, Response> {
    let Query(query) = query.map_err(|error| wrong(&error))?;
    let rollouts = known(&state).map_err(failure)?;
    let mut items = aside(move || rollouts.list()).await?;
    if let Some(namespace) = query.namespace.filter(|namespace| !namespace.is_empty()) {
        items.retain(|item| item.pointer("/metadata/namespace").and_then(Value::as_str) == Some(&namespace));
    }
    Ok(Json(json!({"items": items})).into_response())
}

type Name = Path<(String, String)>;

async fn one(State(state): State<Arc<AdminState>>, Path((namespace, name)): Name) -> Result<Response, Response> {
    let rollouts = known(&state).map_err(failure)?;
    let (asked_namespace, asked) = (namespace.clone(), name.clone());
    let found = aside(move || rollouts.get(&asked_namespace, &asked)).await?;
    found.map(|value| Json(value).into_response()).ok_or_else(|| missing(&namespace, &name))
}

async fn view(
    State(state): State<Arc<AdminState>>,
    Path((namespace, name, view)): Path<(String, String, String)>,
) -> Result<Response, Response> {
    let Some(view) = RolloutView::parse(&view) else {
        let message = format!("{view} is no view of a roll-out: those are explain, history, plan, verdict and watch");
        return Err(failure((StatusCode::NOT_FOUND, message)));
    };
    Ok(Json(look(&state, namespace, name, view).await?).into_response())
}

async fn look(state: &AdminState, namespace: String, name: String, view: RolloutView) -> Result<Value, Response> {
    let rollouts = known(state).map_err(failure)?;
    let (asked_namespace, asked) = (namespace.clone(), name.clone());
    let found = aside(move || rollouts.view(&asked_namespace, &asked, view)).await?;
    found.ok_or_else(|| missing(&namespace, &name))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WatchQuery {
    generation: Option<u64>,
}

/// Answers as soon as the generation is another than the given one, at the latest after [`WATCH`]. The generation
/// begins anew with the process, hence another and not a greater one.
async fn watch_one(
    State(state): State<Arc<AdminState>>,
    Path((namespace, name)): Name,
    query: Result<Query<WatchQuery>, QueryRejection>,
) -> Result<Response, Response> {
    let Query(query) = query.map_err(|error| wrong(&error))?;
    let rollouts = known(&state).map_err(failure)?;
    let mut changes = rollouts.changes();
    if let Some(seen) = query.generation {
        // Late or closed: what is there is the answer.
        let _ = tokio::time::timeout(WATCH, changes.wait_for(|now| *now != seen)).await;
    }
    // Read before the object: what changes in between is told twice rather than never.
    let generation = *changes.borrow();
    let (asked_namespace, asked) = (namespace.clone(), name.clone());
    let found = aside(move || rollouts.get(&asked_namespace, &asked)).await?;
    let object = found.ok_or_else(|| missing(&namespace, &name))?;
    Ok(Json(json!({"generation": generation, "object": object})).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VerdictQuery {
    when: Option<String>,
}

/// Who polls reads the body and gets 200. A webhook (POST) reads the status alone: 200 when the verdict is one of
/// `when` (`pass` where it is not said), else 409.
async fn verdict(
    State(state): State<Arc<AdminState>>,
    Path((namespace, name)): Name,
    query: Result<Query<VerdictQuery>, QueryRejection>,
    method: Method,
    _: Bytes,
) -> Result<Response, Response> {
    let Query(query) = query.map_err(|error| wrong(&error))?;
    let when = query.when.or_else(|| (method == Method::POST).then(|| "pass".into()));
    let unknown = |word: &&str| !matches!(*word, "pass" | "hold" | "fail");
    if let Some(word) = when.as_deref().and_then(|when| when.split(',').find(unknown)) {
        let message = format!("when={word}: a verdict is pass, hold or fail; several are written when=pass,hold");
        return Err(failure((StatusCode::BAD_REQUEST, message)));
    }
    let value = look(&state, namespace, name, RolloutView::Verdict).await?;
    let word = value.get("verdict").and_then(Value::as_str).unwrap_or_default();
    let agrees = when.is_none_or(|when| when.split(',').any(|wanted| wanted == word));
    let status = if agrees { StatusCode::OK } else { StatusCode::CONFLICT };
    Ok((status, Json(value)).into_response())
}

/// Takes a command; the token was looked at before.
pub(crate) async fn command(
    State(state): State<Arc<AdminState>>,
    Path((namespace, name)): Name,
    body: Bytes,
) -> Result<Response, Response> {
    let rollouts = known(&state).map_err(failure)?;
    let command: Value = serde_json::from_slice(&body).map_err(|error| {
        let message =
            format!("the body is no JSON ({error}); write {{\"verb\": \"pause\", \"id\": \"any-text-once\"}}");
        failure((StatusCode::BAD_REQUEST, message))
    })?;
    match rollouts.command(&namespace, &name, command).await {
        Ok(value) => Ok(Json(value).into_response()),
        Err(refusal) => Err(refusal.answer()),
    }
}
