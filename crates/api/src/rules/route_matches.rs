//! An HTTPRoute's matches: paths, regular expressions, and how many there are.

use serde_json::Value;

use super::regular_expression;
use crate::node::Node;
use crate::report::Report;

/// Matches of all rules together, as the CRD bounds them.
const MATCHES_PER_ROUTE: usize = 128;

/// Checks them all.
pub(crate) fn check(route: &Value, report: &mut Report) {
    let rules = Node::root(route).key("spec").key("rules");
    let mut count = 0;
    for rule in rules.items() {
        for one in rule.key("matches").items() {
            count += 1;
            path(&one.key("path"), report);
            for matched in one.key("headers").items().iter().chain(&one.key("queryParams").items()) {
                if matched.key("type").text() == Some("RegularExpression") {
                    regular_expression::check(&matched.key("value"), report);
                }
            }
        }
    }
    if count > MATCHES_PER_ROUTE {
        let sentence = format!("has {count} matches in all, but a route may have {MATCHES_PER_ROUTE}; split the route");
        report.error("OutOfRange", rules.path(), sentence);
    }
}

fn path(node: &Node<'_>, report: &mut Report) {
    let value = node.key("value");
    match node.key("type").text_or("PathPrefix") {
        Some("RegularExpression") => regular_expression::check(&value, report),
        Some("Exact" | "PathPrefix") => {
            if let Some(text) = value.text()
                && let Some(fault) = path_fault(text)
            {
                report.error("InvalidValue", value.path(), format!("is {text:?}, but {fault}"));
            }
        }
        _ => {}
    }
}

/// What a literal path must not be; requests are normalised, so such a path could never match.
fn path_fault(text: &str) -> Option<&'static str> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-/._~!$&'()*+,;=:@%".contains(&byte);
    if !text.starts_with('/') {
        return Some("a path must begin with '/'");
    }
    for (part, fault) in [
        ("//", "a path must not contain '//'"),
        ("/./", "a path must not contain '/./'"),
        ("/../", "a path must not contain '/../'"),
        ("%2f", "a path must not contain '%2f'"),
        ("%2F", "a path must not contain '%2F'"),
        ("#", "a path must not contain '#'"),
    ] {
        if text.contains(part) {
            return Some(fault);
        }
    }
    if text.ends_with("/..") || text.ends_with("/.") {
        return Some("a path must not end with '/.' or '/..'");
    }
    let encoded = text
        .split('%')
        .skip(1)
        .all(|rest| rest.as_bytes().get(..2).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)));
    if !text.bytes().all(allowed) || !encoded {
        return Some("a path may only contain letters, digits, -/._~!$&'()*+,;=:@ and %XX");
    }
    None
}
