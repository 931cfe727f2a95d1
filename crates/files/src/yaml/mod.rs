//! YAML and JSON text to values with positions.
//!
//! [`split`] cuts a file into documents, so that a broken one takes no other with it; [`tree`] turns one into a value;
//! [`scalar`] decides what an unquoted word is; [`hint`] says what to change when YAML forbids the text. Knows nothing
//! of Kubernetes.

pub(crate) mod hint;
mod json;
pub(crate) mod scalar;
pub(crate) mod split;
pub(crate) mod tree;

pub(crate) use json::json_documents;
pub(crate) use split::{Chunk, split};
pub(crate) use tree::{Budget, Tree, parse};

use tidegate_api::Position;

/// Why a text has no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Where.
    pub(crate) position: Position,
    /// What was found and what to do.
    pub(crate) message: String,
}

impl Fault {
    pub(crate) fn new(position: Position, message: impl Into<String>) -> Self {
        Self { position, message: message.into() }
    }
}
