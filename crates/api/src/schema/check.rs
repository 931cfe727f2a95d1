//! The check of a value against a shape, and the pruning of a value to what its shape knows.

use serde_json::{Map, Value};

use super::{Kind, Limits, Shape};
use crate::FieldPath;
use crate::node::Found;
use crate::report::Report;

impl Shape {
    /// Says everything that is wrong with `value`. `null` in a mapping counts as absent.
    pub(crate) fn check(&self, value: &Value, path: &FieldPath, report: &mut Report) {
        if !self.has_type(value) {
            report.error(
                "WrongType",
                path,
                format!(
                    "is {}, but must be {}{}",
                    Found(Some(value)),
                    self.expected(),
                    quoting_hint(&self.kind, value)
                ),
            );
            return;
        }
        self.check_limits(value, path, report);
        match (&self.kind, value) {
            (Kind::List(item), Value::Array(list)) => {
                for (index, value) in list.iter().enumerate() {
                    item.check(value, &path.index(index), report);
                }
            }
            (Kind::Map(entry), Value::Object(mapping)) => {
                for (name, value) in mapping.iter().filter(|(_, value)| !value.is_null()) {
                    entry.check(value, &path.key(name), report);
                }
            }
            (Kind::Object { fields, required, open }, Value::Object(mapping)) => {
                for (name, value) in mapping.iter().filter(|(_, value)| !value.is_null()) {
                    match fields.get(name) {
                        Some(shape) => shape.check(value, &path.key(name), report),
                        None if *open => {}
                        None => report.warn("UnknownField", &path.key(name), unknown_field(name, fields.keys())),
                    }
                }
                for name in required.iter().filter(|name| mapping.get(*name).is_none_or(Value::is_null)) {
                    let expected = fields.get(name).map(Self::expected).unwrap_or_default();
                    report.error("RequiredField", &path.key(name), format!("is missing; it must be {expected}"));
                }
            }
            _ => {}
        }
    }

    /// The same value without `null`s in mappings and without fields that the shape does not know, as Kubernetes
    /// stores it: what is left decodes into the typed object when the check found no error.
    pub(crate) fn prune(&self, value: &Value) -> Value {
        match (&self.kind, value) {
            (Kind::List(item), Value::Array(list)) => list.iter().map(|value| item.prune(value)).collect(),
            (Kind::Map(entry), Value::Object(mapping)) => prune_mapping(mapping, |_| Some(entry)),
            (Kind::Object { fields, open, .. }, Value::Object(mapping)) if *open => {
                let mut all = mapping.clone();
                for (name, shape) in fields {
                    if let Some(value) = all.get_mut(name) {
                        *value = shape.prune(value);
                    }
                }
                all.into_iter().filter(|(_, value)| !value.is_null()).collect()
            }
            (Kind::Object { fields, .. }, Value::Object(mapping)) => prune_mapping(mapping, |name| fields.get(name)),
            _ => value.clone(),
        }
    }

    fn has_type(&self, value: &Value) -> bool {
        match &self.kind {
            Kind::Any => true,
            Kind::Text => value.is_string(),
            Kind::Whole => value.is_i64(),
            Kind::Number => value.is_number(),
            Kind::Truth => value.is_boolean(),
            Kind::WholeOrText => value.is_i64() || value.is_string(),
            Kind::List(_) => value.is_array(),
            Kind::Map(_) | Kind::Object { .. } => value.is_object(),
        }
    }

    fn check_limits(&self, value: &Value, path: &FieldPath, report: &mut Report) {
        let limits = &self.limits;
        if !limits.choices.is_empty() && !limits.choices.contains(value) {
            report.error("InvalidValue", path, format!("is {}, but must be {}", Found(Some(value)), self.expected()));
            return;
        }
        let size = match value {
            Value::String(text) => i64::try_from(text.chars().count()).ok(),
            Value::Array(list) => i64::try_from(list.len()).ok(),
            Value::Object(mapping) => i64::try_from(mapping.len()).ok(),
            number => number.as_i64(),
        };
        if size.is_some_and(|size| !limits.allow(size))
            && !(matches!(self.kind, Kind::WholeOrText) && value.is_string())
        {
            report.error("OutOfRange", path, format!("is {}, but must be {}", Found(Some(value)), self.expected()));
            return;
        }
        if let (Some(format), Some(text)) = (limits.format, value.as_str())
            && !format.accepts(text)
        {
            report.error("InvalidValue", path, format!("is {}, but must be {}", Found(Some(value)), format.expected));
        }
        if let (Some(format), Some(mapping)) = (limits.keys, value.as_object()) {
            for name in mapping.keys().filter(|name| !format.accepts(name)) {
                let sentence = format!("has the key {name:?}, which must be {}", format.expected);
                report.error("InvalidValue", &path.key(name), sentence);
            }
        }
        self.check_distinct(value, path, report);
    }

    fn check_distinct(&self, value: &Value, path: &FieldPath, report: &mut Report) {
        let limits = &self.limits;
        let Some(list) = value.as_array().filter(|_| limits.distinct || !limits.distinct_by.is_empty()) else { return };
        let mut seen: std::collections::HashMap<String, usize> = std::collections::HashMap::new();
        for (index, item) in list.iter().enumerate() {
            let identity = if limits.distinct {
                item.to_string()
            } else {
                let parts: Vec<&Value> = limits.distinct_by.iter().filter_map(|name| item.get(name)).collect();
                if parts.len() < limits.distinct_by.len() {
                    continue;
                }
                serde_json::json!(parts).to_string()
            };
            if let Some(first) = seen.get(&identity) {
                let what = limits.distinct_by.first().map_or_else(String::new, |name| format!(".{name}"));
                let field = limits.distinct_by.first().map_or(path.index(index), |name| path.index(index).key(name));
                let sentence = format!("is the same as {}{what}; write each only once", path.index(*first));
                report.error("Duplicate", &field, sentence);
            } else {
                seen.insert(identity, index);
            }
        }
    }

    /// What it must be, to follow "must be".
    pub(crate) fn expected(&self) -> String {
        let limits = &self.limits;
        if !limits.choices.is_empty() {
            let names: Vec<String> = limits
                .choices
                .iter()
                .map(|choice| choice.as_str().map_or_else(|| choice.to_string(), str::to_owned))
                .collect();
            return if let [only] = names.as_slice() { only.clone() } else { format!("one of {}", names.join(", ")) };
        }
        match &self.kind {
            Kind::Any => "given".to_owned(),
            Kind::Text => match limits.format {
                Some(format) => format.expected.to_owned() + &limits.range(" (", " characters)"),
                None => "text".to_owned() + &limits.range(" of ", " characters"),
            },
            Kind::Whole => "a whole number".to_owned() + &limits.range(" ", ""),
            Kind::Number => "a number".to_owned(),
            Kind::Truth => "true or false".to_owned(),
            Kind::WholeOrText => limits.format.map_or("a whole number or text", |format| format.expected).to_owned(),
            Kind::List(_) => "a list".to_owned() + &limits.range(" of ", " items"),
            Kind::Map(_) => "a mapping".to_owned() + &limits.range(" of ", " entries"),
            Kind::Object { fields, required, .. } => {
                let named = if required.is_empty() {
                    fields.keys().take(4).collect()
                } else {
                    required.iter().collect::<Vec<_>>()
                };
                let names: Vec<&str> = named.into_iter().map(String::as_str).collect();
                format!("a mapping with fields such as {}", names.join(", "))
            }
        }
    }
}

impl Limits {
    fn allow(&self, size: i64) -> bool {
        self.least.is_none_or(|least| size >= least) && self.most.is_none_or(|most| size <= most)
    }

    fn range(&self, before: &str, after: &str) -> String {
        match (self.least, self.most) {
            (Some(least), Some(most)) if (least, most) != (i32::MIN.into(), i32::MAX.into()) => {
                format!("{before}{least} to {most}{after}")
            }
            (Some(least), None) => format!("{before}at least {least}{after}"),
            (None, Some(most)) => format!("{before}at most {most}{after}"),
            _ => String::new(),
        }
    }
}

fn prune_mapping<'a>(mapping: &Map<String, Value>, shape: impl Fn(&str) -> Option<&'a Shape>) -> Value
where
    Shape: 'a,
{
    mapping
        .iter()
        .filter(|(_, value)| !value.is_null())
        .filter_map(|(name, value)| Some((name.clone(), shape(name)?.prune(value))))
        .collect()
}

/// YAML reads `8000` and `true` as a number and a truth value; where text is wanted, quotes are what is missing.
fn quoting_hint(kind: &Kind, value: &Value) -> String {
    match (kind, value) {
        (Kind::Text, Value::Number(_) | Value::Bool(_)) => format!("; put it in quotes: \"{value}\""),
        (Kind::Whole, Value::String(text)) if text.parse::<i64>().is_ok() => format!("; write {text} without quotes"),
        _ => String::new(),
    }
}

fn unknown_field<'a>(name: &str, known: impl Iterator<Item = &'a String>) -> String {
    let plain = |text: &str| text.to_ascii_lowercase().replace(['-', '_'], "");
    let close = known.into_iter().find(|other| plain(other) == plain(name) || plain(other) == plain(name) + "s");
    match close {
        Some(close) => format!("is an unknown field and has no effect; did you mean {close}?"),
        None => "is an unknown field and has no effect; remove it, or look for its right name".to_owned(),
    }
}
