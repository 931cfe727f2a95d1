//! Errors as vLLM says them.

use http::StatusCode;
use serde_json::{Value, json};

/// An error answer.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    message: String,
    kind: &'static str,
    param: Option<String>,
}

impl Problem {
    fn new(status: StatusCode, message: String, kind: &'static str, param: Option<&str>) -> Self {
        Self { status, message, kind, param: param.map(str::to_owned) }
    }

    pub(crate) fn bad_request(message: String, param: Option<&str>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message, "BadRequestError", param)
    }

    /// A field that its schema refuses, in a body with so many fields.
    pub(crate) fn invalid(kind: &str, place: &str, message: &str, fields: usize) -> Self {
        let message = format!(
            "1 validation error:\n  {{'type': '{kind}', 'loc': '{place}', 'msg': '{message}', 'input': '<dict of {fields} items>'}}"
        );
        Self::new(StatusCode::BAD_REQUEST, message, "Bad Request", Some(place))
    }

    pub(crate) fn bad_json(offset: usize) -> Self {
        let place = format!("body.{offset}");
        let message = format!(
            "1 validation error:\n  {{'type': 'json_invalid', 'loc': '{place}', 'msg': 'JSON decode error', 'input': '<dict of 0 items>', 'ctx': {{'error': 'Expecting value'}}}}"
        );
        Self::new(StatusCode::BAD_REQUEST, message, "Bad Request", Some(&place))
    }

    pub(crate) fn content_type() -> Self {
        let message = "1 validation error:\n  Unsupported Media Type: Only 'application/json' is allowed".into();
        Self::new(StatusCode::BAD_REQUEST, message, "Bad Request", None)
    }

    pub(crate) fn unknown_model(name: &str, bases: &[String], base: &str) -> Self {
        let aliases = if bases.is_empty() { base.to_owned() } else { bases.join(", ") };
        let message = format!("The model `{name}` does not exist. Valid aliases: {aliases}.");
        Self::new(StatusCode::NOT_FOUND, message, "NotFoundError", Some("model"))
    }

    pub(crate) fn busy() -> Self {
        let message = "The engine is currently busy and cannot accept new requests. Please try again later or on a different instance.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message.into(), "Service Unavailable", None)
    }

    pub(crate) fn draining() -> Self {
        Self::internal("cannot schedule new futures after shutdown")
    }

    pub(crate) fn engine_died() -> Self {
        Self::internal("EngineCore encountered an issue. See stack trace (above) for the root cause.")
    }

    pub(crate) fn internal(message: &str) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message.into(), "InternalServerError", None)
    }

    pub(crate) fn adapter_loaded(name: &str) -> Self {
        let message = format!(
            "The lora adapter '{name}' has already been loaded. If you want to load the adapter in place, set 'load_inplace' to True."
        );
        Self::new(StatusCode::BAD_REQUEST, message, "InvalidUserInput", None)
    }

    pub(crate) fn adapter_fields(fields: &str) -> Self {
        let message = format!("{fields} must be provided.");
        Self::new(StatusCode::BAD_REQUEST, message, "InvalidUserInput", None)
    }

    pub(crate) fn adapter_path(name: &str, path: &str) -> Self {
        let message = format!("Loading lora {name} failed: No adapter found for {path}");
        Self::new(StatusCode::NOT_FOUND, message, "NotFoundError", None)
    }

    pub(crate) fn adapter_unknown(name: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("The lora adapter '{name}' cannot be found."), "NotFoundError", None)
    }

    /// The body of the answer.
    pub(crate) fn body(&self) -> Value {
        json!({"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.status.as_u16()}})
    }

    /// The event inside a stream (written with spaces, unlike bodies).
    pub(crate) fn event(&self) -> String {
        let text = |value: &str| Value::from(value).to_string();
        let param = self.param.as_deref().map_or_else(|| "null".to_owned(), text);
        format!(
            "data: {{\"error\": {{\"message\": {}, \"type\": {}, \"param\": {param}, \"code\": {}}}}}\n\n",
            text(&self.message),
            text(self.kind),
            self.status.as_u16()
        )
    }
}
