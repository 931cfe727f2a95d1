//! An HTTPRoute's timeouts and retries.

use std::time::Duration;

use serde_json::Value;

use crate::node::Node;
use crate::report::Report;

/// `backendRequest` fits into `request`.
pub(crate) fn check(route: &Value, report: &mut Report) {
    for rule in Node::root(route).key("spec").key("rules").items() {
        let timeouts = rule.key("timeouts");
        let (whole, part) = (timeouts.key("request"), timeouts.key("backendRequest"));
        let (Some(request), Some(backend)) = (duration(&whole), duration(&part)) else { continue };
        // A request timeout of zero switches it off, so nothing is longer.
        if !request.is_zero() && backend > request {
            let sentence = format!(
                "is {:?}, longer than request {:?}, in which it must fit; shorten it or lengthen request",
                part.text().unwrap_or_default(),
                whole.text().unwrap_or_default()
            );
            report.error("InvalidValue", part.path(), sentence);
        }
    }
}

fn duration(node: &Node<'_>) -> Option<Duration> {
    crate::duration::parse(node.text()?)
}
