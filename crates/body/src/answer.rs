//! An answer's bytes as they pass: server-sent events, usage, finish reason, error events, and the model's name.
//!
//! Stands in the respond stage. [`first_event`] tells a refusal inside a 200 stream before a byte goes on;
//! [`AnswerTap`] reads what an observation needs; [`ModelReplacer`] gives the client's model name back. None of them
//! holds an event back, builds a tree or keeps more than a few hundred bytes, whatever the answer's size, and how the
//! bytes were cut into chunks changes nothing.

mod content;
mod events;
mod json;
mod replacer;
mod tap;
mod whole;

pub use content::{AskedFor, ContentCheck, ContentFaults};
pub use replacer::ModelReplacer;
pub use tap::{AnswerTap, first_event};

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

/// What an answer said by its end. `None` is unknown, never 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnswerSummary {
    /// `usage.prompt_tokens`.
    pub prompt_tokens: Option<u64>,
    /// `usage.completion_tokens`.
    pub completion_tokens: Option<u64>,
    /// `usage.prompt_tokens_details.cached_tokens`.
    pub cached_tokens: Option<u64>,
    /// `finish_reason` of the first choice that has one, at most 64 characters of it.
    pub finish_reason: Option<String>,
    /// Stream events that carried content (a choice with text, a tool call or a reasoning delta), for an estimate.
    pub content_events: u64,
    /// Something that a reader sees was in the answer: text, a tool call, reasoning.
    pub content: bool,
    /// A JSON answer came to its end; meaningless for other kinds.
    pub whole: bool,
    /// Events of any kind, `[DONE]` not counted.
    pub events: u64,
    /// An error event (or error object) was seen, with its code where it is a number.
    pub error: Option<Option<u16>>,
    /// `[DONE]` was seen.
    pub done: bool,
}
