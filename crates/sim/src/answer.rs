//! Answers' JSON, whole and in chunks, with the keys and the order that vLLM gives them.

use serde_json::{Value, json};

use crate::engine::Finish;
use crate::request::{Asked, Kind};

/// What vLLM of this version says of itself.
pub(crate) const FINGERPRINT: &str = "vllm-0.32.0-bb8f91e1";

/// Counts of an answer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) prompt: usize,
    pub(crate) completion: usize,
    /// Where the server tells it.
    pub(crate) cached: Option<usize>,
}

impl Usage {
    fn counts(self) -> Value {
        let total = self.prompt.saturating_add(self.completion);
        json!({"prompt_tokens": self.prompt, "total_tokens": total, "completion_tokens": self.completion})
    }

    fn cached_details(self) -> Option<Value> {
        self.cached.map(|cached| json!({"audio_tokens": null, "cached_tokens": cached}))
    }

    fn whole(self) -> Value {
        let mut usage = self.counts();
        put(&mut usage, "prompt_tokens_details", self.cached_details().unwrap_or_default());
        put(&mut usage, "completion_tokens_details", Value::Null);
        usage
    }

    fn last_chunk(self) -> Value {
        let mut usage = self.counts();
        if let Some(details) = self.cached_details() {
            put(&mut usage, "prompt_tokens_details", details);
        }
        usage
    }

    fn any_chunk(self) -> Value {
        let mut usage = self.counts();
        put(&mut usage, "completion_tokens_details", Value::Null);
        usage
    }
}

fn put(object: &mut Value, key: &str, value: Value) {
    if let Some(fields) = object.as_object_mut() {
        fields.insert(key.to_owned(), value);
    }
}

/// How an answer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    pub(crate) finish: Finish,
    /// The stop string that was met.
    pub(crate) stop: Option<String>,
}

impl Ending {
    fn reason(&self) -> &'static str {
        match self.finish {
            Finish::Stop => "stop",
            Finish::Length => "length",
        }
    }
}

/// Writes one request's answer.
#[derive(Clone, Debug)]
pub(crate) struct Writer {
    pub(crate) id: String,
    pub(crate) created: u64,
    pub(crate) asked: Asked,
}

impl Writer {
    /// The whole answer.
    pub(crate) fn whole(&self, text: &str, ending: &Ending, usage: Usage) -> Value {
        let (reason, stop) = (ending.reason(), &ending.stop);
        match self.asked.kind {
            Kind::Chat => json!({
                "id": self.id, "object": "chat.completion", "created": self.created, "model": self.asked.model,
                "choices": [{
                    "index": 0,
                    "message": {
                        "role": "assistant", "content": text, "refusal": null, "annotations": null, "audio": null,
                        "function_call": null, "reasoning": null
                    },
                    "logprobs": null, "finish_reason": reason, "stop_reason": stop, "token_ids": null,
                    "routed_experts": null
                }],
                "service_tier": null, "system_fingerprint": FINGERPRINT, "usage": usage.whole(),
                "prompt_logprobs": null, "prompt_token_ids": null, "prompt_text": null, "kv_transfer_params": null,
                "ec_transfer_params": null, "metrics": null
            }),
            Kind::Completion => json!({
                "id": self.id, "object": "text_completion", "created": self.created, "model": self.asked.model,
                "choices": [{
                    "index": 0, "text": text, "logprobs": null, "finish_reason": reason, "stop_reason": stop,
                    "token_ids": null, "prompt_logprobs": null, "prompt_token_ids": null, "routed_experts": null
                }],
                "service_tier": null, "system_fingerprint": FINGERPRINT, "usage": usage.whole(),
                "kv_transfer_params": null, "ec_transfer_params": null, "metrics": null
            }),
        }
    }

    fn chunk(&self, choices: Value) -> Value {
        let object = match self.asked.kind {
            Kind::Chat => "chat.completion.chunk",
            Kind::Completion => "text_completion",
        };
        json!({"id": self.id, "object": object, "created": self.created, "model": self.asked.model, "choices": choices})
    }

    /// What comes before the first token; completions have nothing there.
    pub(crate) fn first(&self, usage: Usage) -> Option<String> {
        if self.asked.kind == Kind::Completion {
            return None;
        }
        let mut chunk = self.chunk(json!([{
            "index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": null, "finish_reason": null
        }]));
        if self.asked.continuous_usage {
            put(&mut chunk, "usage", usage.any_chunk());
        }
        put(&mut chunk, "prompt_token_ids", Value::Null);
        put(&mut chunk, "prompt_text", Value::Null);
        Some(event(&chunk))
    }

    /// A token's chunk.
    pub(crate) fn token(&self, text: &str, ending: Option<&Ending>, usage: Usage) -> String {
        let reason = ending.map(Ending::reason);
        let stop = ending.and_then(|ending| ending.stop.as_deref());
        let choice = match (self.asked.kind, ending) {
            (Kind::Chat, None) => json!({
                "index": 0, "delta": {"content": text}, "logprobs": null, "finish_reason": null, "token_ids": null
            }),
            (Kind::Chat, Some(_)) => json!({
                "index": 0, "delta": {"content": text}, "logprobs": null, "finish_reason": reason,
                "stop_reason": stop, "token_ids": null
            }),
            (Kind::Completion, _) => json!({
                "index": 0, "text": text, "logprobs": null, "finish_reason": reason, "stop_reason": stop,
                "prompt_token_ids": null, "token_ids": null
            }),
        };
        let mut chunk = self.chunk(json!([choice]));
        if self.asked.continuous_usage {
            put(&mut chunk, "usage", usage.any_chunk());
        }
        if ending.is_some() && !self.asked.include_usage {
            put(&mut chunk, "system_fingerprint", FINGERPRINT.into());
        }
        event(&chunk)
    }

    /// The chunk with the counts, where the client wants it.
    pub(crate) fn counts(&self, usage: Usage) -> Option<String> {
        self.asked.include_usage.then(|| {
            let mut chunk = self.chunk(json!([]));
            put(&mut chunk, "usage", usage.last_chunk());
            put(&mut chunk, "system_fingerprint", FINGERPRINT.into());
            event(&chunk)
        })
    }
}

/// The end of every stream.
pub(crate) const DONE: &str = "data: [DONE]\n\n";

fn event(value: &Value) -> String {
    format!("data: {value}\n\n")
}
