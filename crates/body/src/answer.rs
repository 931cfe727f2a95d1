//! An answer's bytes as they pass: server-sent events, usage, finish reason, error events, and the model's name.

use bytes::Bytes;

/// What kind of body passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerKind {
    /// `text/event-stream`.
    EventStream,
    /// JSON.
    Json,
    /// Anything else: only counted.
    Opaque,
}

/// What the bytes held back so far say of a stream's first event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstEvent {
    /// No complete event yet.
    Incomplete,
    /// A complete event that is no error.
    Content,
    /// An error event (`data: {"error": …}`), with its `code` where it is a number.
    Error {
        /// `error.code`.
        code: Option<u16>,
    },
}

/// Looks at the first bytes of an event stream. Comments and empty events are skipped.
pub fn first_event(bytes: &[u8]) -> FirstEvent {
    let _ = bytes;
    FirstEvent::Content
}

/// What an answer said by its end. `None` is unknown, never 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnswerSummary {
    /// `usage.prompt_tokens`.
    pub prompt_tokens: Option<u64>,
    /// `usage.completion_tokens`.
    pub completion_tokens: Option<u64>,
    /// `usage.prompt_tokens_details.cached_tokens`.
    pub cached_tokens: Option<u64>,
    /// `finish_reason` of the first choice that has one.
    pub finish_reason: Option<String>,
    /// Stream events that carried content (a choice with text, a tool call or a reasoning delta), for an estimate.
    pub content_events: u64,
    /// Events of any kind, `[DONE]` not counted.
    pub events: u64,
    /// An error event (or error object) was seen, with its code where it is a number.
    pub error: Option<Option<u16>>,
    /// `[DONE]` was seen.
    pub done: bool,
}

/// Follows an answer without holding it back or changing it. Memory is bounded whatever the answer's size.
#[derive(Debug)]
pub struct AnswerTap {
    summary: AnswerSummary,
}

impl AnswerTap {
    /// A tap for one answer.
    pub fn new(kind: AnswerKind) -> Self {
        let _ = kind;
        Self { summary: AnswerSummary::default() }
    }

    /// Takes the next bytes; returns how many stream events ended in them.
    pub fn push(&mut self, bytes: &[u8]) -> u32 {
        let _ = bytes;
        0
    }

    /// What is known so far.
    pub fn summary(&self) -> &AnswerSummary {
        &self.summary
    }
}

/// Gives the client's model name back in the top-level `model` field of an answer (each event's, in a stream), also
/// across chunk borders; every other byte, generated text that looks alike among them, passes unchanged. Holds back at
/// most the bytes of a key or name that is not yet complete.
#[derive(Debug)]
pub struct ModelReplacer {
    requested: String,
}

impl ModelReplacer {
    /// A replacer for one answer.
    pub fn new(kind: AnswerKind, requested: &str) -> Self {
        let _ = kind;
        Self { requested: requested.into() }
    }

    /// Takes the next bytes and gives what can go on, in order, into `out`.
    pub fn push(&mut self, bytes: Bytes, out: &mut Vec<Bytes>) {
        let _ = &self.requested;
        out.push(bytes);
    }

    /// Gives what was held back when the answer ends.
    pub fn finish(&mut self, out: &mut Vec<Bytes>) {
        let _ = out;
    }
}
