//! What to write instead, where YAML forbids the text.

use tidegate_api::Position;

/// The message for text that the parser refused at `position` of `text` (both counted from 1) for `reason`.
pub(crate) fn explain(text: &str, position: Position, reason: &str) -> String {
    let line = text.lines().nth(position.line.saturating_sub(1)).unwrap_or_default();
    let before: String = line.chars().take(position.column.saturating_sub(1)).collect();
    let rest = line.get(before.len()..).unwrap_or_default();
    match rest.chars().next() {
        Some('`') => backtick(&before, rest),
        Some(sign @ ('@' | '%')) if reason.contains("unexpected character") => {
            format!(
                "a value cannot begin with {sign}: put it in quotes, write {}\"{}\"",
                before.trim_start(),
                rest.trim()
            )
        }
        _ if before.trim().is_empty() && before.contains('\t') || rest.starts_with('\t') => {
            format!("not YAML: {reason}; a tab cannot indent: write spaces")
        }
        _ if reason.contains("mapping values are not allowed") => {
            format!("not YAML: {reason}; check the indentation, and put a value that holds \": \" in quotes")
        }
        _ => format!("not YAML: {reason}"),
    }
}

/// A value that begins with a backtick, as copied from a page whose author meant code.
fn backtick(before: &str, rest: &str) -> String {
    let inner = rest.strip_prefix('`').unwrap_or(rest);
    let (value, characters) = match inner.find('`') {
        Some(end) => {
            let (value, after) = inner.split_at(end);
            (format!("{value}{}", after.strip_prefix('`').unwrap_or(after)), "the two backticks")
        }
        None => (inner.to_owned(), "the backtick"),
    };
    format!(
        "a value cannot begin with a backtick: remove {characters}, write {}{}",
        before.trim_start(),
        value.trim_end()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str, line: usize, column: usize) -> String {
        explain(text, Position { line, column }, "unexpected character: `x'")
    }

    #[test]
    fn backticks_are_named() {
        assert_eq!(
            at("a: 1\nkind: `HTTPRoute`\n", 2, 7),
            "a value cannot begin with a backtick: remove the two backticks, write kind: HTTPRoute"
        );
        assert_eq!(at("  - `x", 1, 5), "a value cannot begin with a backtick: remove the backtick, write - x");
    }

    #[test]
    fn other_signs_and_tabs() {
        assert_eq!(at("a: @b", 1, 4), "a value cannot begin with @: put it in quotes, write a: \"@b\"");
        assert!(at("\ta: b", 1, 2).ends_with("a tab cannot indent: write spaces"));
        assert!(at("", 7, 9).starts_with("not YAML"));
    }
}
