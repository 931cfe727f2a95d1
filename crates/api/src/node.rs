//! Node: a place in a document together with its field path, so that no rule spells a path by hand.
//!
//! Rules are written on nodes rather than on typed objects: they then speak of every part that can be read, also when
//! another part of the same document has a wrong type.

use std::fmt;

use serde_json::Value;

use crate::FieldPath;

/// A field that may be there; `null` counts as absent, as in Kubernetes.
#[derive(Clone, Debug)]
pub(crate) struct Node<'a> {
    value: Option<&'a Value>,
    path: FieldPath,
}

impl<'a> Node<'a> {
    /// The whole document.
    pub(crate) fn root(value: &'a Value) -> Self {
        Self { value: Some(value), path: FieldPath::root() }
    }

    /// A field of a mapping.
    pub(crate) fn key(&self, name: &str) -> Self {
        let value = self.value.and_then(|value| value.get(name)).filter(|value| !value.is_null());
        Self { value, path: self.path.key(name) }
    }

    /// The items of a list; none where there is no list.
    pub(crate) fn items(&self) -> Vec<Self> {
        let list = self.value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        list.iter()
            .enumerate()
            .map(|(index, value)| Self { value: Some(value), path: self.path.index(index) })
            .collect()
    }

    /// The fields of a mapping with their names; none where there is no mapping.
    pub(crate) fn entries(&self) -> Vec<(&'a str, Self)> {
        let Some(mapping) = self.value.and_then(Value::as_object) else { return Vec::new() };
        mapping
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name.as_str(), Self { value: Some(value), path: self.path.key(name) }))
            .collect()
    }

    /// Where it stands.
    pub(crate) fn path(&self) -> &FieldPath {
        &self.path
    }

    /// Its value.
    pub(crate) fn value(&self) -> Option<&'a Value> {
        self.value
    }

    /// Whether it is there.
    pub(crate) fn present(&self) -> bool {
        self.value.is_some()
    }

    /// Its text, when it is text.
    pub(crate) fn text(&self) -> Option<&'a str> {
        self.value.and_then(Value::as_str)
    }

    /// Its text, or `default` when it is absent (not when it is something else).
    pub(crate) fn text_or(&self, default: &'a str) -> Option<&'a str> {
        if self.present() { self.text() } else { Some(default) }
    }

    /// Its number, when it is a whole number.
    pub(crate) fn whole(&self) -> Option<i64> {
        self.value.and_then(Value::as_i64)
    }

    /// Its number as a port, when it is one.
    pub(crate) fn port(&self) -> Option<u16> {
        self.whole().and_then(|number| u16::try_from(number).ok())
    }
}

/// What was found, in few words: texts and numbers as written, the rest by its type.
pub(crate) struct Found<'a>(pub(crate) Option<&'a Value>);

/// How much of a text is repeated in a message.
const SHOWN_CHARACTERS: usize = 80;

impl fmt::Display for Found<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None | Some(Value::Null) => formatter.write_str("empty"),
            Some(Value::Bool(truth)) => write!(formatter, "{truth}"),
            Some(Value::Number(number)) => write!(formatter, "{number}"),
            Some(Value::String(text)) if text.chars().count() <= SHOWN_CHARACTERS => write!(formatter, "{text:?}"),
            Some(Value::String(text)) => {
                let start: String = text.chars().take(SHOWN_CHARACTERS).collect();
                write!(formatter, "{start:?}… ({} characters)", text.chars().count())
            }
            Some(Value::Array(list)) => write!(formatter, "a list of {}", list.len()),
            Some(Value::Object(_)) => formatter.write_str("a mapping"),
        }
    }
}
