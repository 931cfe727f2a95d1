//! What a client asks: the body of a chat or completion request, checked as vLLM checks it.

use serde_json::{Map, Value};

use crate::problem::Problem;
use crate::tokens::{self, Token};

/// Which API was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Chat,
    Completion,
}

/// A request that may go to the engine.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) kind: Kind,
    /// The name that the answer gives back.
    pub(crate) model: String,
    /// Set when the name is an adapter's.
    pub(crate) adapter: Option<String>,
    pub(crate) prompt: Vec<Token>,
    pub(crate) max_tokens: usize,
    /// Whether the client set `max_tokens`.
    pub(crate) limited: bool,
    pub(crate) stream: bool,
    pub(crate) include_usage: bool,
    pub(crate) continuous_usage: bool,
    pub(crate) stop: Vec<String>,
    /// Fixed for temperature 0 or a given seed.
    pub(crate) salt: Option<u64>,
}

/// What the server can serve.
#[derive(Debug)]
pub(crate) struct Serves<'a> {
    pub(crate) bases: &'a [String],
    pub(crate) base: &'a str,
    pub(crate) adapters: &'a [(String, String)],
    pub(crate) max_model_len: usize,
}

/// Reads JSON as vLLM's front end does.
pub(crate) fn json(body: &[u8]) -> Result<Map<String, Value>, Problem> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(Problem::invalid("model_attributes_type", "body", "Input should be a valid dictionary", 0)),
        Err(error) => Err(Problem::bad_json(offset(body, &error))),
    }
}

fn offset(body: &[u8], error: &serde_json::Error) -> usize {
    let before = body.split_inclusive(|byte| *byte == b'\n').take(error.line().saturating_sub(1)).map(<[u8]>::len);
    before.sum::<usize>().saturating_add(error.column())
}

impl Asked {
    /// Checks and reads a body.
    pub(crate) fn read(kind: Kind, fields: &Map<String, Value>, serves: &Serves<'_>) -> Result<Self, Problem> {
        let prompt = prompt(kind, fields)?;
        let (model, adapter) = target(fields, serves)?;
        let whole = |name: &str| fields.get(name).and_then(Value::as_u64).map(|count| count as usize);
        let asked = match kind {
            Kind::Chat => whole("max_completion_tokens").or_else(|| whole("max_tokens")),
            // The OpenAI API's own default.
            Kind::Completion => whole("max_tokens").or(Some(16)),
        };
        let max_tokens = limit(asked, prompt.len(), serves.max_model_len)?;
        if fields.get("n").and_then(Value::as_u64).is_some_and(|n| n != 1) {
            return Err(Problem::bad_request("n: only 1 is simulated".into(), Some("n")));
        }
        let options = fields.get("stream_options").and_then(Value::as_object);
        let option = |name: &str| options.and_then(|options| options.get(name)).and_then(Value::as_bool) == Some(true);
        let cold = fields.get("temperature").and_then(Value::as_f64) == Some(0.0);
        Ok(Self {
            kind,
            model,
            adapter,
            prompt,
            max_tokens,
            limited: asked.is_some(),
            stream: fields.get("stream").and_then(Value::as_bool) == Some(true),
            include_usage: option("include_usage"),
            continuous_usage: option("include_usage") && option("continuous_usage_stats"),
            stop: strings(fields.get("stop")),
            salt: fields.get("seed").and_then(Value::as_u64).or(cold.then_some(0)),
        })
    }
}

fn limit(asked: Option<usize>, prompt: usize, max_model_len: usize) -> Result<usize, Problem> {
    if asked == Some(0) {
        return Err(Problem::bad_request(
            "max_tokens must be at least 1, got 0. (parameter=max_tokens, value=0)".into(),
            Some("max_tokens"),
        ));
    }
    if let Some(asked) = asked
        && asked > max_model_len
    {
        return Err(Problem::bad_request(
            format!(
                "max_tokens={asked} cannot be greater than max_model_len={max_model_len}. Please request fewer output tokens. (parameter=max_tokens, value={asked})"
            ),
            Some("max_tokens"),
        ));
    }
    let room = max_model_len.saturating_sub(prompt);
    if room == 0 {
        let value = max_model_len.saturating_add(1);
        return Err(Problem::bad_request(
            format!(
                "This model's maximum context length is {max_model_len} tokens. However, your prompt contains at least {value} input tokens, which exceeds this limit even without any output tokens. Please reduce the length of the input prompt. (parameter=input_tokens, value={value})"
            ),
            Some("input_tokens"),
        ));
    }
    if let Some(asked) = asked
        && asked > room
    {
        return Err(Problem::bad_request(
            format!(
                "This model's maximum context length is {max_model_len} tokens. However, you requested {asked} output tokens and your prompt contains {prompt} input tokens. Please reduce either. (parameter=input_tokens, value={prompt})"
            ),
            Some("input_tokens"),
        ));
    }
    Ok(asked.unwrap_or(room))
}

/// The name to answer with, and the adapter it stands for.
fn target(fields: &Map<String, Value>, serves: &Serves<'_>) -> Result<(String, Option<String>), Problem> {
    let name = match fields.get("model") {
        None | Some(Value::Null) => return Ok((serves.base.to_owned(), None)),
        Some(Value::String(name)) => name,
        Some(_) => {
            return Err(Problem::invalid("string_type", "body.model", "Input should be a valid string", fields.len()));
        }
    };
    if name == serves.base || serves.bases.iter().any(|base| base == name) {
        return Ok((name.clone(), None));
    }
    if serves.adapters.iter().any(|(adapter, _)| adapter == name) {
        return Ok((name.clone(), Some(name.clone())));
    }
    Err(Problem::unknown_model(name, serves.bases, serves.base))
}

fn prompt(kind: Kind, fields: &Map<String, Value>) -> Result<Vec<Token>, Problem> {
    let (name, missing) = match kind {
        Kind::Chat => ("messages", "body.messages"),
        Kind::Completion => ("prompt", "body.prompt"),
    };
    let Some(value) = fields.get(name).filter(|value| !value.is_null()) else {
        return Err(Problem::invalid("missing", missing, "Field required", fields.len()));
    };
    if kind == Kind::Completion {
        return match value {
            Value::String(text) => Ok(tokens::of_text(text)),
            Value::Array(items) => Ok(items.iter().flat_map(completion_part).collect()),
            _ => Err(Problem::invalid("string_type", missing, "Input should be a valid string", fields.len())),
        };
    }
    let Some(messages) = value.as_array() else {
        return Err(Problem::invalid("list_type", missing, "Input should be a valid list", fields.len()));
    };
    let messages: Vec<(&str, String)> = messages.iter().map(message).collect();
    Ok(tokens::of_messages(messages.iter().map(|(role, content)| (*role, content.as_str()))))
}

fn completion_part(item: &Value) -> Vec<Token> {
    match item {
        Value::String(text) => tokens::of_text(text),
        Value::Number(number) => vec![number.as_u64().unwrap_or_default() as Token],
        _ => Vec::new(),
    }
}

fn message(message: &Value) -> (&str, String) {
    let role = message.get("role").and_then(Value::as_str).unwrap_or("user");
    let content = match message.get("content") {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => {
            parts.iter().filter_map(|part| part.get("text").and_then(Value::as_str)).collect::<Vec<_>>().concat()
        }
        _ => String::new(),
    };
    (role, content)
}

fn strings(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::String(text)) => vec![text.clone()],
        Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}
