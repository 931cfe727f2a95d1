//! A document: an object as its author wrote it, and where it stands.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use crate::key::FieldStep;
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
    /// The position of `path`, or of its nearest parent that has one. A mapping that was read as a list of one has no
    /// `[0]` in the file: that step is passed over.
    pub fn position(&self, path: &FieldPath) -> Option<Position> {
        let (exact, exact_depth) = self.nearest(path, false);
        let (tolerant, tolerant_depth) = self.nearest(path, true);
        if tolerant_depth > exact_depth { tolerant } else { exact }
    }

    /// The position of the longest part of `path` that has one, and how many steps of `path` that part has.
    fn nearest(&self, path: &FieldPath, pass_over_first_items: bool) -> (Option<Position>, usize) {
        let mut written = FieldPath::root();
        let mut best = (self.positions.get(&written).copied(), 0);
        for (depth, step) in path.0.iter().enumerate() {
            written.0.push(step.clone());
            if let Some(position) = self.positions.get(&written) {
                best = (Some(*position), depth + 1);
            } else if pass_over_first_items && *step == FieldStep::Index(0) {
                written.0.pop();
            }
        }
        best
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn position_falls_back_to_the_nearest_parent_and_passes_over_repaired_lists() {
        let rules = FieldPath::root().key("spec").key("rules");
        let at = |line| Position { line, column: 1 };
        let positions = BTreeMap::from([
            (FieldPath::root(), at(1)),
            (rules.clone(), at(5)),
            (rules.key("backendRefs").index(1), at(9)),
        ]);
        let origin = Origin { source: "a.yaml".into(), index: 0, positions: Arc::new(positions) };
        let line = |path: &FieldPath| origin.position(path).map(|position| position.line);
        assert_eq!(line(&rules.index(0).key("backendRefs").index(1).key("group")), Some(9));
        assert_eq!(line(&rules.index(0).key("backendRefs").index(0)), Some(5));
        assert_eq!(line(&FieldPath::root().key("metadata").key("name")), Some(1));
        assert_eq!(origin.to_string(), "a.yaml:1");
    }
}
