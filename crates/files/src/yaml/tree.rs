//! One document's text to a value, with the position of every field.
//!
//! Builds JSON values from parser events, within limits that hold whatever the text says: depth, nodes, copies made by
//! aliases, memory for positions.

use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};

use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput, Tag};
use serde_json::{Map, Value};
use tidegate_api::key::FieldStep;
use tidegate_api::{FieldPath, Position};

use super::{Fault, hint, scalar};

/// Deepest nesting, aliases included.
const MAX_DEPTH: usize = 128;

/// What one file may use up; documents of a file share it.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    /// Values that may still be written.
    nodes: usize,
    /// Values that anchors and aliases may still copy.
    copied_nodes: usize,
    /// Bytes of text that they may still copy.
    copied_bytes: usize,
    /// Bytes that positions may still take; beyond, a field stands where its parent does.
    position_bytes: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { nodes: 2_000_000, copied_nodes: 100_000, copied_bytes: 16 << 20, position_bytes: 256 << 20 }
    }
}

/// A document's value, and where its fields stand.
#[derive(Debug)]
pub(crate) struct Tree {
    /// The value; null for an empty document.
    pub(crate) value: Value,
    /// Positions inside the file.
    pub(crate) positions: BTreeMap<FieldPath, Position>,
}

/// Parses the text of one document, whose first character stands at `start` of its file.
pub(crate) fn parse(text: &str, start: Position, budget: &mut Budget) -> Result<Tree, Fault> {
    let fault = match catch_unwind(AssertUnwindSafe(|| Builder::new(text, start, budget).document())) {
        Ok(Ok(tree)) => return Ok(tree),
        Ok(Err(BuildError::Ours(fault))) => return Err(fault),
        Ok(Err(BuildError::Syntax(fault))) => fault,
        // The parser's own invariants are not ours to prove; its failure is one document's failure.
        Err(_) => Fault::new(start, "not YAML: the parser cannot read it"),
    };
    // JSON knows escapes (surrogate pairs) that YAML does not; what is JSON is read, if without positions.
    if text.trim_start().starts_with(['{', '['])
        && let Ok(value) = serde_json::from_str(text)
    {
        return Ok(Tree { value, positions: BTreeMap::from([(FieldPath::root(), start)]) });
    }
    Err(fault)
}

enum BuildError {
    /// The text is not YAML.
    Syntax(Fault),
    /// It is, and breaks one of our rules.
    Ours(Fault),
}

/// What it costs to copy a value.
#[derive(Clone, Copy, Debug, Default)]
struct Weight {
    nodes: usize,
    bytes: usize,
    height: usize,
}

struct Builder<'a> {
    text: &'a str,
    start: Position,
    parser: Parser<'a, StrInput<'a>>,
    budget: &'a mut Budget,
    /// Values of anchors by the parser's number; `None` while the anchored value is being built.
    anchors: HashMap<usize, Option<(Value, Weight)>>,
    path: FieldPath,
    positions: BTreeMap<FieldPath, Position>,
}

impl<'a> Builder<'a> {
    fn new(text: &'a str, start: Position, budget: &'a mut Budget) -> Self {
        let parser = Parser::new_from_str(text);
        Self {
            text,
            start,
            parser,
            budget,
            anchors: HashMap::new(),
            path: FieldPath::root(),
            positions: BTreeMap::new(),
        }
    }

    fn document(mut self) -> Result<Tree, BuildError> {
        let mut value = Value::Null;
        let mut documents = 0_usize;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => break,
                Event::StreamStart | Event::DocumentEnd | Event::Nothing => {}
                Event::DocumentStart(_) => {
                    documents = documents.saturating_add(1);
                    let (event, span) = self.next()?;
                    if documents > 1 {
                        return Err(
                            self.ours(span, "a second document begins here: write --- on a line of its own before it")
                        );
                    }
                    self.record(self.position(span));
                    value = self.node(event, span, 0)?;
                }
                _ => return Err(self.ours(span, "text stands outside a document")),
            }
        }
        Ok(Tree { value, positions: self.positions })
    }

    fn next(&mut self) -> Result<(Event<'a>, Span), BuildError> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => {
                let marker = error.marker();
                let inside = Position { line: marker.line().max(1), column: marker.col().saturating_add(1) };
                let message = hint::explain(self.text, inside, error.info());
                Err(BuildError::Syntax(Fault::new(self.in_file(inside), message)))
            }
            None => Err(BuildError::Syntax(Fault::new(self.start, "not YAML: it ends too early"))),
        }
    }

    fn in_file(&self, inside: Position) -> Position {
        let line = inside.line.saturating_add(self.start.line).saturating_sub(1);
        let moved = if inside.line == 1 { self.start.column.saturating_sub(1) } else { 0 };
        Position { line, column: inside.column.saturating_add(moved) }
    }

    fn position(&self, span: Span) -> Position {
        self.in_file(Position { line: span.start.line().max(1), column: span.start.col().saturating_add(1) })
    }

    fn ours(&self, span: Span, message: impl Into<String>) -> BuildError {
        BuildError::Ours(Fault::new(self.position(span), message))
    }

    fn record(&mut self, position: Position) {
        let step_bytes = |step: &FieldStep| match step {
            FieldStep::Key(name) => name.len().saturating_add(40),
            FieldStep::Index(_) => 24,
        };
        let bytes = self.path.0.iter().map(step_bytes).fold(64_usize, usize::saturating_add);
        if let Some(left) = self.budget.position_bytes.checked_sub(bytes) {
            self.budget.position_bytes = left;
            self.positions.insert(self.path.clone(), position);
        }
    }

    /// The value that begins with `event`.
    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Value, BuildError> {
        if depth >= MAX_DEPTH {
            return Err(self.ours(span, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        let Some(left) = self.budget.nodes.checked_sub(1) else {
            return Err(self.ours(span, "the file holds more than 2,000,000 values: split it into several files"));
        };
        self.budget.nodes = left;
        let (anchor, value) = match event {
            Event::Alias(anchor) => return self.alias(anchor, span, depth),
            Event::Scalar(text, style, anchor, tag) => {
                let value = scalar_value(&text, style, tag.as_deref()).map_err(|message| self.ours(span, message))?;
                (anchor, value)
            }
            Event::SequenceStart(anchor, tag) => {
                self.check_tag(tag.as_deref(), "seq", span)?;
                self.open(anchor);
                (anchor, self.sequence(depth)?)
            }
            Event::MappingStart(anchor, tag) => {
                self.check_tag(tag.as_deref(), "map", span)?;
                self.open(anchor);
                (anchor, self.mapping(depth)?)
            }
            _ => return Err(self.ours(span, "a value is missing here")),
        };
        if anchor != 0 {
            let weight = weigh(&value);
            self.spend(weight, span)?;
            self.anchors.insert(anchor, Some((value.clone(), weight)));
        }
        Ok(value)
    }

    fn open(&mut self, anchor: usize) {
        if anchor != 0 {
            self.anchors.insert(anchor, None);
        }
    }

    fn alias(&mut self, anchor: usize, span: Span, depth: usize) -> Result<Value, BuildError> {
        let weight = match self.anchors.get(&anchor) {
            Some(Some((_, weight))) => *weight,
            Some(None) => {
                return Err(self.ours(span, "this alias stands inside the value that it names: it has no end"));
            }
            None => return Err(self.ours(span, "this alias names no anchor of this document")),
        };
        if depth.saturating_add(weight.height) > MAX_DEPTH {
            return Err(self.ours(span, format!("nested deeper than {MAX_DEPTH} levels by this alias")));
        }
        self.spend(weight, span)?;
        let value = self.anchors.get(&anchor).and_then(Option::as_ref).map(|(value, _)| value.clone());
        Ok(value.unwrap_or_default())
    }

    /// Pays for a copy.
    fn spend(&mut self, weight: Weight, span: Span) -> Result<(), BuildError> {
        let nodes = self.budget.copied_nodes.checked_sub(weight.nodes);
        let bytes = self.budget.copied_bytes.checked_sub(weight.bytes);
        let (Some(nodes), Some(bytes)) = (nodes, bytes) else {
            return Err(
                self.ours(span, "anchors and aliases copy more than 100,000 values or 16 MiB of text: write it out")
            );
        };
        self.budget.copied_nodes = nodes;
        self.budget.copied_bytes = bytes;
        Ok(())
    }

    fn sequence(&mut self, depth: usize) -> Result<Value, BuildError> {
        let mut items = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::SequenceEnd) {
                return Ok(Value::Array(items));
            }
            self.path.0.push(FieldStep::Index(items.len()));
            self.record(self.position(span));
            let item = self.node(event, span, depth.saturating_add(1))?;
            self.path.0.pop();
            items.push(item);
        }
    }

    fn mapping(&mut self, depth: usize) -> Result<Value, BuildError> {
        let mut map = Map::new();
        let mut merged = Vec::new();
        loop {
            let (event, key_span) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                break;
            }
            let key = self.mapping_key(event, key_span)?;
            let (event, span) = self.next()?;
            let Some(key) = key else {
                let value = self.node(event, span, depth.saturating_add(1))?;
                merged.push((value, span));
                continue;
            };
            if map.contains_key(&key) {
                return Err(
                    self.ours(key_span, format!("the key {key} stands twice in one mapping: remove one of them"))
                );
            }
            self.path.0.push(FieldStep::Key(key));
            self.record(self.value_position(&event, span, key_span));
            let value = self.node(event, span, depth.saturating_add(1))?;
            if let Some(FieldStep::Key(key)) = self.path.0.pop() {
                map.insert(key, value);
            }
        }
        for (value, span) in merged {
            self.merge(&mut map, value, span)?;
        }
        Ok(Value::Object(map))
    }

    /// Where a field stands: at its value, or at its key when the value is a block that begins on a later line.
    fn value_position(&self, event: &Event<'_>, span: Span, key: Span) -> Position {
        let is_block = match event {
            Event::MappingStart(..) | Event::SequenceStart(..) => true,
            Event::Scalar(text, ScalarStyle::Plain, _, _) => text.is_empty(),
            _ => false,
        };
        self.position(if is_block && span.start.line() > key.start.line() { key } else { span })
    }

    /// The key; `None` for the merge key.
    fn mapping_key(&mut self, event: Event<'a>, span: Span) -> Result<Option<String>, BuildError> {
        if matches!(&event, Event::Scalar(text, ScalarStyle::Plain, 0, None) if text == "<<") {
            return Ok(None);
        }
        let value = match event {
            Event::SequenceStart(..) | Event::MappingStart(..) => {
                return Err(self.ours(
                    span,
                    "a list or mapping cannot be a key (a value that begins with { or [ belongs in quotes)",
                ));
            }
            event => self.node(event, span, 0)?,
        };
        match value {
            Value::String(key) => Ok(Some(key)),
            other => Err(self.ours(span, format!("the key {other} is no text: put it in quotes, write \"{other}\""))),
        }
    }

    /// `<<`: what the mapping itself says comes first, then earlier merged mappings.
    fn merge(&mut self, map: &mut Map<String, Value>, value: Value, span: Span) -> Result<(), BuildError> {
        let sources = match value {
            Value::Array(list) => list,
            one => vec![one],
        };
        for source in sources {
            let Value::Object(source) = source else {
                return Err(self.ours(span, "the merge key << takes a mapping or a list of mappings"));
            };
            for (key, value) in source {
                if !map.contains_key(&key) {
                    self.path.0.push(FieldStep::Key(key.clone()));
                    self.record(self.position(span));
                    self.path.0.pop();
                    map.insert(key, value);
                }
            }
        }
        Ok(())
    }

    fn check_tag(&self, tag: Option<&Tag>, expected: &str, span: Span) -> Result<(), BuildError> {
        match tag {
            Some(tag) if !(tag.is_yaml_core_schema() && tag.suffix == expected) => {
                Err(self.ours(span, unknown_tag(tag)))
            }
            _ => Ok(()),
        }
    }
}

fn unknown_tag(tag: &Tag) -> String {
    let name =
        if tag.is_yaml_core_schema() { format!("!!{}", tag.suffix) } else { format!("{}{}", tag.handle, tag.suffix) };
    format!("the tag {name} has no meaning here: remove it")
}

fn scalar_value(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Value, String> {
    let Some(tag) = tag else {
        return if style == ScalarStyle::Plain { scalar::plain(text) } else { Ok(Value::String(text.into())) };
    };
    if tag.handle.is_empty() && tag.suffix == "!" || tag.handle == "!" && tag.suffix.is_empty() {
        return Ok(Value::String(text.into()));
    }
    if !tag.is_yaml_core_schema() {
        return Err(unknown_tag(tag));
    }
    let value = match tag.suffix.as_str() {
        "str" => return Ok(Value::String(text.into())),
        "null" | "bool" | "int" | "float" => scalar::plain(text)?,
        _ => return Err(unknown_tag(tag)),
    };
    let fits = match (tag.suffix.as_str(), &value) {
        ("null", Value::Null) | ("bool", Value::Bool(_)) | ("float", Value::Number(_)) => true,
        ("int", Value::Number(number)) => !number.is_f64(),
        _ => false,
    };
    if fits { Ok(value) } else { Err(format!("{text} is not what its tag !!{} says: remove the tag", tag.suffix)) }
}

fn weigh(value: &Value) -> Weight {
    let mut weight = Weight { nodes: 1, bytes: 0, height: 1 };
    let mut add = |child: Weight| {
        weight.nodes = weight.nodes.saturating_add(child.nodes);
        weight.bytes = weight.bytes.saturating_add(child.bytes);
        weight.height = weight.height.max(child.height.saturating_add(1));
    };
    match value {
        Value::String(text) => weight.bytes = text.len(),
        Value::Array(items) => items.iter().for_each(|item| add(weigh(item))),
        Value::Object(map) => {
            for (key, item) in map {
                let mut child = weigh(item);
                child.bytes = child.bytes.saturating_add(key.len());
                add(child);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
    weight
}

#[cfg(test)]
mod tests;
