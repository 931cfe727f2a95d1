//! Route match: from a request's head to the one rule that takes it.
//!
//! Precedence is the Gateway API's (HTTPRouteRule, HTTPRouteSpec.hostnames): most specific hostname, then Exact path,
//! RegularExpression (ours to place; longest pattern first), longest PathPrefix, method, number of headers, number of
//! query parameters, oldest route, `namespace/name`, order in the list.

use std::sync::Arc;

use crate::snapshot::Rule;

/// The compiled rules of one listener.
#[derive(Debug, Default)]
pub struct Router {
    // (the routing author fills this in)
    rules: Vec<Arc<Rule>>,
}

/// What a request matched.
#[derive(Debug)]
pub struct Matched<'a> {
    /// The rule.
    pub rule: &'a Arc<Rule>,
    /// Length in bytes of the path prefix that matched (for `ReplacePrefixMatch`), 0 when not a prefix match.
    pub prefix_length: usize,
}

impl Router {
    /// The rule for a request. `host` is the Host header or `:authority` without port, lower case.
    pub fn route(&self, host: &str, request: &http::request::Parts) -> Option<Matched<'_>> {
        let _ = (host, request);
        self.rules.first().map(|rule| Matched { rule, prefix_length: 0 })
    }

    /// All rules, most specific first (for `/v1/models`, `/snapshot`).
    pub fn rules(&self) -> impl Iterator<Item = &Arc<Rule>> {
        self.rules.iter()
    }
}
