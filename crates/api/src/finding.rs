//! Findings: what we have to say to the author of a document.

use serde::Serialize;

use crate::{FieldPath, Position};

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Severity {
    /// Good to know; nothing to do.
    Note,
    /// It works, but not as written, or not all of it.
    Warning,
    /// The document, or this part of it, is not accepted.
    Error,
}

/// One thing to say about a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// CamelCase word that stays the same between releases: `WrongType`, `RepairedList`, `GroupAssumed`,
    /// `UnknownField`, `Superseded`, `NotUsedFromFiles`.
    pub reason: &'static str,
    /// One sentence that names the object, the field, what was found and what to do.
    pub message: String,
    /// Which field; the root when it is the whole document.
    pub field: FieldPath,
    /// Where in the file, when known. The source of the document fills it in.
    pub position: Option<Position>,
    /// The exact text to write instead, when a repair was made.
    pub replacement: Option<String>,
}

impl Finding {
    /// A finding about `field`, without position or replacement.
    pub fn new(severity: Severity, reason: &'static str, field: FieldPath, message: impl Into<String>) -> Self {
        Self { severity, reason, message: message.into(), field, position: None, replacement: None }
    }

    /// The same with the exact text to write instead.
    #[must_use]
    pub fn with_replacement(mut self, text: impl Into<String>) -> Self {
        self.replacement = Some(text.into());
        self
    }
}
