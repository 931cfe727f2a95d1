//! The HTTP side: paths, heads, and the way of one request to the engine and back.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE, DATE, SERVER, VARY};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::answer::{DONE, Writer};
use crate::engine::Submission;
use crate::generation::{Generation, Plan};
use crate::problem::Problem;
use crate::request::{Asked, Kind, Serves};
use crate::shared::{Phase, Shared, unix_time};
use crate::{catalogue, metrics, tokens};

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// What a path answers, before the head is written.
pub(crate) struct Reply {
    status: StatusCode,
    content_type: Option<&'static str>,
    body: ReplyBody,
    /// Left out by a real server that is going away.
    vary: bool,
    headers: Vec<(HeaderName, String)>,
}

enum ReplyBody {
    Whole(Bytes),
    Stream(Body),
}

impl Reply {
    pub(crate) fn json(status: StatusCode, value: &Value) -> Self {
        Self::whole(status, Some("application/json"), value.to_string())
    }

    pub(crate) fn whole(status: StatusCode, content_type: Option<&'static str>, body: impl Into<Bytes>) -> Self {
        let body = ReplyBody::Whole(body.into());
        Self { status, content_type, body, vary: true, headers: Vec::new() }
    }

    fn stream(body: Body) -> Self {
        let content_type = Some("text/event-stream; charset=utf-8");
        let body = ReplyBody::Stream(body);
        Self { status: StatusCode::OK, content_type, body, vary: true, headers: Vec::new() }
    }

    fn into_response(self, shared: &Shared) -> Response<Body> {
        let (length, body) = match self.body {
            ReplyBody::Whole(bytes) => {
                (Some(bytes.len()), Full::new(bytes).map_err(|never| match never {}).boxed_unsync())
            }
            ReplyBody::Stream(body) => (None, body),
        };
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        let mut put = |name: HeaderName, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.append(name, value);
            }
        };
        put(DATE, &httpdate::fmt_http_date(SystemTime::now()));
        put(SERVER, "uvicorn");
        for (name, value) in &self.headers {
            put(name.clone(), value);
        }
        if let Some(length) = length {
            put(CONTENT_LENGTH, &length.to_string());
        }
        if let Some(content_type) = self.content_type {
            put(CONTENT_TYPE, content_type);
        }
        if self.vary {
            put(VARY, "Origin");
        }
        put(HeaderName::from_static("x-sim-server"), &shared.name);
        response
    }
}

impl From<Problem> for Reply {
    fn from(problem: Problem) -> Self {
        Self::json(problem.status, &problem.body())
    }
}

/// Answers one request. `reset` has the connection reset when set.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    reset: Arc<AtomicBool>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let started = Instant::now();
    let (head, body) = request.into_parts();
    let size = head.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(0);
    let path = head.uri.path();
    let routes = allowed(path);
    let (handler, reply) = if routes.is_empty() {
        ("none", Reply::json(StatusCode::NOT_FOUND, &json!({"detail": "Not Found"})))
    } else if !routes.contains(&head.method) {
        let mut reply = Reply::json(StatusCode::METHOD_NOT_ALLOWED, &json!({"detail": "Method Not Allowed"}));
        reply.headers.push((ALLOW, routes.iter().map(Method::as_str).collect::<Vec<_>>().join(", ")));
        ("none", reply)
    } else if head.method == Method::POST {
        let reply = match body.collect().await {
            Ok(body) => post(&shared, reset, path, &head.headers, &body.to_bytes()).await,
            // The client is gone; nobody reads this.
            Err(_) => Reply::from(Problem::bad_json(0)),
        };
        (path, reply)
    } else {
        (path, get(&shared, path, &head.method))
    };
    let written = match &reply.body {
        ReplyBody::Whole(bytes) => bytes.len() as u64,
        ReplyBody::Stream(_) => 0,
    };
    // As in vLLM, these do not count themselves.
    if !matches!(path, "/metrics" | "/health" | "/ping" | "/version" | "/load" | "/sim/faults") {
        let seconds = started.elapsed().as_secs_f64();
        let status = reply.status.as_u16();
        shared.exchanges.lock().count(handler, head.method.as_str(), status, seconds, (size, written));
    }
    Ok(reply.into_response(&shared))
}

/// Which methods a path takes; none for an unknown path.
fn allowed(path: &str) -> &'static [Method] {
    match path {
        "/health" | "/version" | "/load" | "/v1/models" => &[Method::GET],
        "/metrics" => &[Method::GET, Method::HEAD],
        "/ping" | "/sim/faults" => &[Method::GET, Method::POST],
        "/v1/chat/completions"
        | "/v1/completions"
        | "/v1/load_lora_adapter"
        | "/v1/unload_lora_adapter"
        | "/tokenize" => &[Method::POST],
        _ => &[],
    }
}

fn get(shared: &Arc<Shared>, path: &str, method: &Method) -> Reply {
    match path {
        "/v1/models" => Reply::json(StatusCode::OK, &catalogue::models(shared)),
        "/metrics" if *method == Method::HEAD => {
            Reply::whole(StatusCode::OK, Some("text/plain; version=0.0.4; charset=utf-8"), "")
        }
        "/metrics" => {
            Reply::whole(StatusCode::OK, Some("text/plain; version=1.0.0; charset=utf-8"), metrics::page(shared))
        }
        "/version" => Reply::json(StatusCode::OK, &json!({"version": "0.32.0"})),
        "/load" => {
            let load = if shared.config.load_tracking { shared.in_flight.load(Ordering::Relaxed) } else { 0 };
            Reply::json(StatusCode::OK, &json!({"server_load": load}))
        }
        "/sim/faults" => Reply::json(StatusCode::OK, &faults_json(shared)),
        _ => health(shared),
    }
}

fn health(shared: &Shared) -> Reply {
    let status = if *shared.phase.borrow() == Phase::Died { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    Reply::whole(status, None, "")
}

fn faults_json(shared: &Shared) -> Value {
    serde_json::to_value(&*shared.faults.borrow()).unwrap_or_default()
}

async fn post(shared: &Arc<Shared>, reset: Arc<AtomicBool>, path: &str, headers: &HeaderMap, body: &Bytes) -> Reply {
    if path == "/ping" {
        return health(shared);
    }
    if path != "/sim/faults" && !is_json(headers) {
        return Problem::content_type().into();
    }
    let fields = match crate::request::json(body) {
        Ok(fields) => fields,
        Err(problem) => return problem.into(),
    };
    match path {
        "/sim/faults" => change_faults(shared, fields),
        "/v1/load_lora_adapter" => catalogue::load(shared, &fields).unwrap_or_else(Reply::from),
        "/v1/unload_lora_adapter" => catalogue::unload(shared, &fields).unwrap_or_else(Reply::from),
        "/tokenize" => tokenize(shared, &fields),
        _ => {
            let kind = if path == "/v1/completions" { Kind::Completion } else { Kind::Chat };
            let mut reply = match generate(shared, reset, kind, headers, &fields).await {
                Ok(reply) => reply,
                Err(problem) => problem.into(),
            };
            reply.headers.extend(extra_headers(shared, headers));
            reply
        }
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().is_some_and(|media| media.trim().eq_ignore_ascii_case("application/json"))
}

fn change_faults(shared: &Shared, fields: Map<String, Value>) -> Reply {
    let changed = shared.faults.borrow().changed(&Value::Object(fields));
    match changed {
        Ok(faults) => {
            shared.set_faults(faults);
            Reply::json(StatusCode::OK, &faults_json(shared))
        }
        Err(error) => Problem::bad_request(error.to_string(), None).into(),
    }
}

fn tokenize(shared: &Shared, fields: &Map<String, Value>) -> Reply {
    let text = fields.get("prompt").and_then(Value::as_str).unwrap_or_default();
    let tokens = tokens::of_text(text);
    let (count, most) = (tokens.len(), shared.config.max_model_len);
    Reply::json(StatusCode::OK, &json!({"count": count, "max_model_len": most, "tokens": tokens, "token_strs": null}))
}

/// The head's extras: load on request, and the request's id where the server gives it back.
fn extra_headers(shared: &Shared, headers: &HeaderMap) -> Vec<(HeaderName, String)> {
    let mut extra = Vec::new();
    let format = headers.get("endpoint-load-metrics-format").and_then(|value| value.to_str().ok());
    if let Some(format) = format {
        let published = shared.published.lock();
        let (waiting, usage) = (published.gauges.waiting as f64, published.gauges.kv_usage);
        let line = if format.eq_ignore_ascii_case("text") {
            format!("TEXT named_metrics.num_requests_waiting={waiting:?}, named_metrics.kv_cache_usage_perc={usage:?}")
        } else {
            format!(
                "JSON {{\"named_metrics\": {{\"num_requests_waiting\": {waiting:?}, \"kv_cache_usage_perc\": {usage:?}}}}}"
            )
        };
        extra.push((HeaderName::from_static("endpoint-load-metrics"), line));
    }
    if shared.config.request_id_headers {
        let id = request_id(headers).unwrap_or_else(|| hexadecimal(shared));
        extra.push((HeaderName::from_static("x-request-id"), id));
    }
    extra
}

fn request_id(headers: &HeaderMap) -> Option<String> {
    headers.get("x-request-id").and_then(|value| value.to_str().ok()).map(str::to_owned)
}

fn hexadecimal(shared: &Shared) -> String {
    format!("{:016x}", shared.random.lock().u64(..))
}

async fn generate(
    shared: &Arc<Shared>,
    reset: Arc<AtomicBool>,
    kind: Kind,
    headers: &HeaderMap,
    fields: &Map<String, Value>,
) -> Result<Reply, Problem> {
    let asked = {
        let adapters = shared.adapters.lock();
        let serves = Serves {
            bases: &shared.config.served_model_names,
            base: shared.config.base(),
            adapters: &adapters,
            max_model_len: shared.config.max_model_len,
        };
        Asked::read(kind, fields, &serves)?
    };
    let faults = shared.faults.borrow().clone();
    match *shared.phase.borrow() {
        Phase::Died => return Err(Problem::engine_died()),
        Phase::Draining => return Ok(going_away()),
        Phase::Serving | Phase::Leaving => {}
    }
    if faults.draining {
        return Ok(going_away());
    }
    if shared.happens(faults.error_rate) {
        return Err(Problem::internal("Internal server error"));
    }
    // What the front end knows of the queue is as old as the engine's last step.
    let queued = shared.published.lock().gauges.waiting;
    if shared.config.engine.max_num_queued_reqs.is_some_and(|most| queued >= most)
        || shared.happens(faults.overload_rate)
    {
        return Err(Problem::busy());
    }
    if shared.happens(faults.refuse_in_stream_rate) {
        return refused(asked.stream);
    }
    begin(shared, reset, asked, headers, &faults).await
}

fn going_away() -> Reply {
    Reply { vary: false, ..Reply::from(Problem::draining()) }
}

/// The engine's own refusal, which a stream learns when its head is on the way.
fn refused(stream: bool) -> Result<Reply, Problem> {
    if !stream {
        return Err(Problem::busy());
    }
    let chunks = [Problem::busy().event(), DONE.to_owned()].map(|chunk| Ok(Frame::data(Bytes::from(chunk))));
    Ok(Reply::stream(StreamBody::new(futures_util::stream::iter(chunks)).boxed_unsync()))
}

async fn begin(
    shared: &Arc<Shared>,
    reset: Arc<AtomicBool>,
    asked: Asked,
    headers: &HeaderMap,
    faults: &crate::Faults,
) -> Result<Reply, Problem> {
    let plan = Plan::draw(shared, faults);
    let salt = asked.salt.unwrap_or_else(|| shared.random.lock().u64(1..));
    let model = asked.adapter.as_deref().unwrap_or(&shared.config.model);
    let seed = tokens::answer_seed(model, &asked.prompt, salt);
    let natural = tokens::natural_length(seed);
    let max_tokens = match plan.truncated {
        true if asked.limited => asked.max_tokens.div_ceil(2),
        true => asked.max_tokens.min(natural.div_ceil(2)),
        false => asked.max_tokens,
    };
    let submission = Submission {
        prompt: asked.prompt.clone(),
        adapter: asked.adapter.clone(),
        seed,
        max_tokens: if plan.empty { 1 } else { max_tokens },
        natural_length: (!asked.limited).then_some(natural),
    };
    let in_flight = shared.count_in();
    let Ok(receiver) = shared.submit(submission) else { return refused(asked.stream) };
    let prefix = if asked.kind == Kind::Chat { "chatcmpl" } else { "cmpl" };
    let id = request_id(headers).unwrap_or_else(|| hexadecimal(shared));
    let stream = asked.stream;
    let mut generation = Generation {
        writer: Writer { id: format!("{prefix}-{id}"), created: unix_time() as u64, asked },
        receiver,
        plan,
        tells_cached: shared.config.prompt_tokens_details,
        reset,
        in_flight,
        detokenizer: tokens::Detokenizer::default(),
        text: String::new(),
        completion: 0,
        cached: 0,
    };
    let first = generation.next().await?;
    if let Some(stall) = plan.stall {
        tokio::time::sleep(stall).await;
    }
    if stream {
        let chunks = generation.stream(first);
        let frames = futures_util::StreamExt::map(chunks, |chunk| chunk.map(Frame::data));
        return Ok(Reply::stream(StreamBody::new(frames).boxed_unsync()));
    }
    let body = generation.whole(first).await?;
    Ok(Reply::whole(StatusCode::OK, Some("application/json"), body))
}
