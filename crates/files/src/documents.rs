//! A file's bytes to documents.
//!
//! Takes the file apart (documents, lists), names each object, and turns what cannot be one into a problem with its
//! place. What an object means is decided elsewhere.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use tidegate_api::key::FieldStep;
use tidegate_api::{Document, FieldPath, Finding, ObjectKey, Origin, Position, Severity};

use crate::problem::Problem;
use crate::scope::is_cluster_scoped;
use crate::yaml::{self, Budget, Chunk, Fault, Tree};

/// More documents than this in one file are not read.
const MAX_DOCUMENTS: usize = 100_000;

/// What a file holds.
#[derive(Debug, Default)]
pub(crate) struct Parsed {
    /// Documents that are whole.
    pub(crate) documents: Vec<Arc<Document>>,
    /// What is not.
    pub(crate) problems: Vec<Problem>,
    /// Whether there was nothing to read: no document, or only empty ones.
    pub(crate) is_empty: bool,
}

/// Reads the documents of a file. `source` is its path as reached from `-f`.
pub(crate) fn parse_file(source: &str, bytes: &[u8], default_namespace: &str) -> Parsed {
    let mut reader = Reader {
        source: source.into(),
        default_namespace,
        budget: Budget::default(),
        index: 0,
        parsed: Parsed { is_empty: true, ..Parsed::default() },
    };
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        reader.parsed.is_empty = false;
        reader.problem(
            Fault::new(Position { line: 1, column: 1 }, "the file is UTF-16: save it as UTF-8"),
            "InvalidYaml",
        );
        return reader.parsed;
    }
    if has_json_name(source) {
        let (chunks, fault) = yaml::json_documents(bytes);
        reader.chunks(chunks);
        if let Some(fault) = fault {
            // An empty file is an empty file, whatever its name.
            reader.parsed.is_empty = false;
            reader.problem(fault, "InvalidYaml");
        }
    } else {
        reader.chunks(yaml::split(bytes));
    }
    reader.parsed
}

fn has_json_name(source: &str) -> bool {
    std::path::Path::new(source).extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"))
}

struct Reader<'a> {
    source: Arc<str>,
    default_namespace: &'a str,
    budget: Budget,
    index: usize,
    parsed: Parsed,
}

impl Reader<'_> {
    fn problem(&mut self, fault: Fault, reason: &'static str) {
        let mut problem = Problem::of_file(&self.source, Severity::Error, reason, fault.message);
        problem.line = Some(fault.position.line);
        problem.column = Some(fault.position.column);
        self.parsed.problems.push(problem);
    }

    fn chunks(&mut self, chunks: Vec<Chunk<'_>>) {
        for chunk in chunks {
            if self.index >= MAX_DOCUMENTS {
                let message =
                    format!("the file holds more than {MAX_DOCUMENTS} documents; those from here on are not read");
                self.problem(Fault::new(Position { line: chunk.line, column: chunk.column }, message), "FileTooLarge");
                return;
            }
            self.chunk(chunk);
        }
    }

    fn chunk(&mut self, chunk: Chunk<'_>) {
        let start = Position { line: chunk.line, column: chunk.column };
        let tree = match std::str::from_utf8(chunk.bytes) {
            Ok(text) => yaml::parse(text, start, &mut self.budget),
            Err(error) => Err(not_utf8(chunk.bytes, error.valid_up_to(), start)),
        };
        match tree {
            Ok(Tree { value: Value::Null, .. }) => {}
            Ok(tree) => {
                self.parsed.is_empty = false;
                self.object(tree);
            }
            Err(fault) => {
                self.parsed.is_empty = false;
                self.index = self.index.saturating_add(1);
                self.problem(fault, "InvalidYaml");
            }
        }
    }

    /// One object, or the items of a list.
    fn object(&mut self, mut tree: Tree) {
        let kind = tree.value.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
        let is_list = kind.ends_with("List") && tree.value.get("items").is_some_and(Value::is_array);
        if !is_list {
            self.document(tree);
            return;
        }
        let api_version = tree.value.get("apiVersion").cloned();
        let item_kind = kind.strip_suffix("List").unwrap_or_default();
        let items = match tree.value.get_mut("items").map(Value::take) {
            Some(Value::Array(items)) => items,
            _ => Vec::new(),
        };
        let mut places = split_positions(tree.positions, items.len());
        for (mut value, positions) in items.into_iter().zip(places.drain(..)) {
            // Items of a typed list (`HTTPRouteList`) leave out what the list's own kind says.
            if let Value::Object(fields) = &mut value
                && !item_kind.is_empty()
                && let Some(api_version) = &api_version
            {
                fields.entry("apiVersion").or_insert_with(|| api_version.clone());
                fields.entry("kind").or_insert_with(|| item_kind.into());
            }
            self.document(Tree { value, positions });
        }
    }

    fn document(&mut self, tree: Tree) {
        let index = self.index;
        self.index = self.index.saturating_add(1);
        let origin = Origin { source: self.source.clone(), index, positions: Arc::new(tree.positions) };
        match self.named(tree.value, origin) {
            Ok(document) => self.parsed.documents.push(Arc::new(document)),
            Err(fault) => self.problem(fault, "InvalidDocument"),
        }
    }

    fn named(&self, value: Value, origin: Origin) -> Result<Document, Fault> {
        let root = FieldPath::root();
        let at = |path: &FieldPath| origin.position(path).unwrap_or(Position { line: 1, column: 1 });
        if !value.is_object() {
            return Err(Fault::new(
                at(&root),
                "an object is a mapping with apiVersion, kind and metadata; this is not a mapping",
            ));
        }
        let required = |path: FieldPath| match text_at(&value, &path) {
            Ok(Some(text)) if !text.is_empty() => Ok(text.to_owned()),
            Ok(_) => Err(Fault::new(at(&path), format!("the document has no {path}: add it"))),
            Err(message) => Err(Fault::new(at(&path), message)),
        };
        let api_version = required(root.key("apiVersion"))?;
        let kind = required(root.key("kind"))?;
        let group = api_version.split_once('/').map_or("", |(group, _)| group).to_owned();
        let metadata = root.key("metadata");
        if value.get("metadata").is_some_and(|metadata| !metadata.is_object() && !metadata.is_null()) {
            return Err(Fault::new(
                at(&metadata),
                format!("metadata of this {kind} is not a mapping: write metadata: {{name: …}}"),
            ));
        }
        let name = required(metadata.key("name"))?;
        let written = text_at(&value, &metadata.key("namespace"))
            .map_err(|message| Fault::new(at(&metadata.key("namespace")), message))?;
        let written = written.filter(|namespace| !namespace.is_empty());
        let mut findings = Vec::new();
        let namespace = if is_cluster_scoped(&group, &kind) {
            if written.is_some() {
                let message = format!("{kind} {name} has no namespace: metadata.namespace is ignored, remove it");
                let mut finding = Finding::new(Severity::Note, "NamespaceIgnored", metadata.key("namespace"), message);
                finding.position = Some(at(&finding.field));
                findings.push(finding);
            }
            ""
        } else {
            written.unwrap_or(self.default_namespace)
        };
        let key = ObjectKey::new(&group, &kind, namespace, &name);
        Ok(Document { key, api_version, value, origin, findings })
    }
}

/// The text at a path of keys; `None` where nothing (or null) is written.
fn text_at<'a>(value: &'a Value, path: &FieldPath) -> Result<Option<&'a str>, String> {
    let mut current = value;
    for step in &path.0 {
        let FieldStep::Key(key) = step else { return Ok(None) };
        let Some(child) = current.get(key) else { return Ok(None) };
        current = child;
    }
    match current {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text)),
        Value::Array(_) => Err(format!("{path} is a list; it must be a text")),
        Value::Object(_) => Err(format!("{path} is a mapping; it must be a text")),
        other => Err(format!("{path} is {other}, which is no text: put it in quotes, write \"{other}\"")),
    }
}

/// The positions of each of a list's items, from the item's root.
fn split_positions(positions: BTreeMap<FieldPath, Position>, items: usize) -> Vec<BTreeMap<FieldPath, Position>> {
    let mut split: Vec<BTreeMap<FieldPath, Position>> = (0..items).map(|_| BTreeMap::new()).collect();
    for (path, position) in positions {
        if let [FieldStep::Key(first), FieldStep::Index(index), rest @ ..] = path.0.as_slice()
            && first == "items"
            && let Some(item) = split.get_mut(*index)
        {
            item.insert(FieldPath(rest.to_vec()), position);
        }
    }
    split
}

fn not_utf8(bytes: &[u8], valid_up_to: usize, start: Position) -> Fault {
    let (valid, rest) = bytes.split_at_checked(valid_up_to).unwrap_or((bytes, &[]));
    let text = String::from_utf8_lossy(valid);
    let line = start.line.saturating_add(text.matches('\n').count());
    let column = text.rsplit('\n').next().unwrap_or_default().chars().count().saturating_add(1);
    let byte = rest.first().copied().unwrap_or_default();
    Fault::new(Position { line, column }, format!("the byte 0x{byte:02x} is not UTF-8: save the file as UTF-8"))
}

#[cfg(test)]
mod tests;
