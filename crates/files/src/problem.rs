//! Problems: what could not be read, and so has no document to carry a finding.

use std::fmt;

use serde::Serialize;
use tidegate_api::Severity;

/// A path, file or document that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The path as reached from `-f`.
    pub path: String,
    /// Line, from 1, when it is about a place in the file.
    pub line: Option<usize>,
    /// Column in characters, from 1.
    pub column: Option<usize>,
    /// `Error` when something described there is not in force as written; `Warning` for a file without documents.
    pub severity: Severity,
    /// `InvalidYaml`, `InvalidDocument`, `FileEmpty`, `FileUnreadable`, `FileTooLarge` or `PathVanished`.
    pub reason: &'static str,
    /// One sentence: what was found and what to do.
    pub message: String,
    /// Whether objects from the last good version of this file go on serving because of it.
    pub stale: bool,
}

impl Problem {
    /// A problem with a whole file.
    pub(crate) fn of_file(path: &str, severity: Severity, reason: &'static str, message: impl Into<String>) -> Self {
        Self { path: path.into(), line: None, column: None, severity, reason, message: message.into(), stale: false }
    }
}

/// `path:line:column: message`
impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.path)?;
        if let Some(line) = self.line {
            write!(formatter, ":{line}")?;
        }
        if let Some(column) = self.column {
            write!(formatter, ":{column}")?;
        }
        write!(formatter, ": {}", self.message)?;
        if self.stale {
            formatter.write_str(" (the last good version goes on serving)")?;
        }
        Ok(())
    }
}
