//! kubectl's JSONPath templates: text with paths in braces, `{range …}…{end}`, `{"\n"}`.

use serde_json::Value;
use serde_json_path::JsonPath;

/// A parsed template.
#[derive(Clone, Debug)]
pub(crate) struct Template(Vec<Part>);

#[derive(Clone, Debug)]
enum Part {
    Text(String),
    Path(JsonPath),
    Range(JsonPath, Vec<Part>),
}

impl Template {
    /// Parses what stands behind `jsonpath=`. A path without braces is taken as one in braces, as kubectl does.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let wrapped;
        let mut rest = if text.contains('{') {
            text
        } else {
            wrapped = format!("{{{text}}}");
            &wrapped
        };
        // The innermost range that is open comes last; the outermost parts come first.
        let mut open: Vec<(Option<JsonPath>, Vec<Part>)> = vec![(None, Vec::new())];
        while !rest.is_empty() {
            let (literal, after) = rest.split_once('{').unwrap_or((rest, ""));
            push(&mut open, Part::Text(literal.into()));
            if literal.len() == rest.len() {
                break;
            }
            let end = end_of_braces(after).ok_or_else(|| format!("jsonpath: {{{after} has no closing brace"))?;
            let inner = after.get(..end).unwrap_or_default().trim();
            rest = after.get(end.saturating_add(1)..).unwrap_or_default();
            if let Some(path) = inner.strip_prefix("range ") {
                open.push((Some(path_of(path)?), Vec::new()));
            } else if inner == "end" {
                match open.pop() {
                    Some((Some(path), parts)) => push(&mut open, Part::Range(path, parts)),
                    _ => return Err("jsonpath: {end} without {range}".into()),
                }
            } else if let Some(literal) = quoted(inner) {
                push(&mut open, Part::Text(literal));
            } else {
                push(&mut open, Part::Path(path_of(inner)?));
            }
        }
        match open.pop() {
            Some((None, parts)) => Ok(Self(parts)),
            _ => Err("jsonpath: {range} without {end}".into()),
        }
    }

    /// The template filled in. What is not there prints nothing; several values are separated by spaces.
    pub(crate) fn render(&self, value: &Value) -> String {
        let mut text = String::new();
        render(&self.0, value, &mut text);
        text
    }
}

fn push(open: &mut [(Option<JsonPath>, Vec<Part>)], part: Part) {
    if let Some((_, parts)) = open.last_mut() {
        parts.push(part);
    }
}

fn render(parts: &[Part], value: &Value, text: &mut String) {
    for part in parts {
        match part {
            Part::Text(literal) => text.push_str(literal),
            Part::Path(path) => {
                let found: Vec<String> = path.query(value).iter().map(|found| plain(found)).collect();
                text.push_str(&found.join(" "));
            }
            Part::Range(path, inner) => {
                for item in path.query(value).iter() {
                    render(inner, item, text);
                }
            }
        }
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Where the braces that are open at the start of `text` close, quotes respected.
fn end_of_braces(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    for (offset, character) in text.char_indices() {
        match (quote, character) {
            _ if escaped => escaped = false,
            (_, '\\') => escaped = true,
            (Some(open), _) if open == character => quote = None,
            (None, '"' | '\'') => quote = Some(character),
            (None, '}') => return Some(offset),
            _ => {}
        }
    }
    None
}

/// The text of `"…"` or `'…'`.
fn quoted(text: &str) -> Option<String> {
    if let Some(inner) = text.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')) {
        return Some(inner.replace("\\n", "\n").replace("\\t", "\t"));
    }
    text.starts_with('"').then(|| serde_json::from_str(text).ok()).flatten()
}

fn path_of(text: &str) -> Result<JsonPath, String> {
    let standard = standard_path(text.trim());
    JsonPath::parse(&standard).map_err(|error| format!("jsonpath: {text}: {error}"))
}

/// kubectl's dialect as RFC 9535: no `$` needed, names with dashes and slashes, dots in names behind a backslash.
fn standard_path(text: &str) -> String {
    let text = text.strip_prefix(['$', '@']).unwrap_or(text);
    let mut standard = String::from("$");
    let mut characters = text.chars().peekable();
    let mut at_start = true;
    while let Some(character) = characters.next() {
        match character {
            '[' => copy_bracket(&mut characters, &mut standard),
            '.' if characters.peek() == Some(&'.') => {
                characters.next();
                standard.push_str("..");
                copy_name(None, &mut characters, &mut standard);
            }
            // kubectl takes `.` for the whole.
            '.' if characters.peek().is_none() && at_start => {}
            '.' if characters.peek() == Some(&'[') => {}
            '.' => copy_name(None, &mut characters, &mut standard),
            first => copy_name(Some(first), &mut characters, &mut standard),
        }
        at_start = false;
    }
    standard
}

type Characters<'a> = std::iter::Peekable<std::str::Chars<'a>>;

fn copy_bracket(characters: &mut Characters<'_>, standard: &mut String) {
    standard.push('[');
    let mut depth = 1_usize;
    let mut quote = None;
    for character in characters.by_ref() {
        standard.push(character);
        match (quote, character) {
            (Some(open), _) if open == character => quote = None,
            (None, '"' | '\'') => quote = Some(character),
            (None, '[') => depth = depth.saturating_add(1),
            (None, ']') => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return;
        }
    }
}

fn copy_name(first: Option<char>, characters: &mut Characters<'_>, standard: &mut String) {
    let mut name: String = first.into_iter().collect();
    while let Some(character) = characters.next_if(|character| !matches!(character, '.' | '[')) {
        match character {
            '\\' => name.extend(characters.next()),
            other => name.push(other),
        }
    }
    match name.as_str() {
        "" => {}
        "*" => standard.push_str("[*]"),
        name => standard.push_str(&format!("['{}']", name.replace('\\', "\\\\").replace('\'', "\\'"))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fill(template: &str) -> String {
        let value = json!({
            "kind": "List",
            "metadata": {"annotations": {"tidegate.dev/empty-arm": "redistribute"}, "my-label": "x"},
            "status": {"addresses": [{"value": "127.0.0.1"}, {"value": "::1"}]},
            "items": [{"name": "a", "n": 1}, {"name": "b", "n": 2}],
        });
        Template::parse(template).unwrap().render(&value)
    }

    #[test]
    fn as_kubectl_prints() {
        for (template, expected) in [
            ("{.status.addresses[0].value}", "127.0.0.1"),
            ("{$.status.addresses[0].value}", "127.0.0.1"),
            ("{@.kind}", "List"),
            (".kind", "List"),
            ("kind", "List"),
            ("http://{.status.addresses[0].value}:80/", "http://127.0.0.1:80/"),
            ("{.items[*].name}", "a b"),
            ("{.items[?(@.name==\"b\")].n}", "2"),
            ("{.items[?(@.n > 1)]['name']}", "b"),
            ("{..name}", "a b"),
            ("{.metadata.annotations.tidegate\\.dev/empty-arm}", "redistribute"),
            ("{.metadata.annotations['tidegate.dev/empty-arm']}", "redistribute"),
            ("{.metadata.my-label}", "x"),
            ("{range .items[*]}{.name}={.n}{\"\\n\"}{end}", "a=1\nb=2\n"),
            ("{.nothing.there}", ""),
            ("{.items[0]}", "{\"name\":\"a\",\"n\":1}"),
        ] {
            assert_eq!(fill(template), expected, "{template}");
        }
    }

    #[test]
    fn what_is_no_template() {
        for template in ["{.a", "{range .a}", "{end}", "{.a[}", "{.a[?]}"] {
            assert!(Template::parse(template).is_err(), "{template}");
        }
    }
}
