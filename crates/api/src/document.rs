//! A document: an object as its author wrote it, and where it stands.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use crate::{FieldPath, Finding, ObjectKey};

/// A place in a file; lines and columns count from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Position {
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
}

/// Where a document comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The file's path as reached from `-f`, or `cluster`.
    pub source: Arc<str>,
    /// Which document of that file, from 0.
    pub index: usize,
    /// Where each field stands; for a field, the position of its value (of its key when the value is a block mapping
    /// or list that begins on a later line).
    pub positions: Arc<BTreeMap<FieldPath, Position>>,
}

impl Origin {
    /// The position of `path`, or of its nearest parent that has one.
    pub fn position(&self, path: &FieldPath) -> Option<Position> {
        let mut current = Some(path.clone());
        while let Some(path) = current {
            if let Some(position) = self.positions.get(&path) {
                return Some(*position);
            }
            current = path.parent();
        }
        None
    }
}

/// `path.yaml:12` (the line on which the document begins).
impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.position(&FieldPath::root()) {
            Some(position) => write!(formatter, "{}:{}", self.source, position.line),
            None => formatter.write_str(&self.source),
        }
    }
}

/// An object as its author wrote it, with its namespace filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// Which object it describes.
    pub key: ObjectKey,
    /// `apiVersion` as written, `gateway.networking.k8s.io/v1`.
    pub api_version: String,
    /// The whole object as JSON.
    pub value: Value,
    /// Where it stands.
    pub origin: Origin,
    /// What the source has to say about it: text repaired, file stale.
    pub findings: Vec<Finding>,
}
