//! Route match: from a request's head to the one rule that takes it.
//!
//! Precedence is the Gateway API's (HTTPRouteRule, HTTPRouteSpec.hostnames): most specific hostname, then Exact path,
//! RegularExpression (ours to place; longest pattern first), longest PathPrefix, method, number of headers, number of
//! query parameters, oldest route, `namespace/name`, order in the list. Where the most specific hostname has no rule
//! for a request, less specific ones are asked. Exact paths and prefixes are found by hash, so that the cost of a
//! request does not grow with the number of routes.

use std::cmp::Reverse;
use std::sync::Arc;

use foldhash::HashMap;
use http::request::Parts;
use http::{HeaderName, Method};
use regex::Regex;

use crate::snapshot::{Hostname, Rule};

/// The compiled rules of one listener.
#[derive(Debug, Default)]
pub struct Router {
    exact_hosts: HashMap<String, Table>,
    /// By suffix with its dot, `.example.com`.
    wildcard_hosts: HashMap<String, Table>,
    any_host: Table,
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

/// One match of one rule, as compile hands it over.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Where the rule leads.
    pub rule: Arc<Rule>,
    /// On the path.
    pub path: PathMatch,
    /// On the method.
    pub method: Option<Method>,
    /// On headers, all of them.
    pub headers: Vec<(HeaderName, ValueMatch)>,
    /// On query parameters, all of them.
    pub queries: Vec<(String, ValueMatch)>,
    /// Age of its route: `creationTimestamp`, then `namespace/name`, then the positions of rule and match. `None`
    /// sorts first: routes without a time count as equally old, and a time is only compared with a time.
    pub age: (Option<String>, String, usize, usize),
}

/// A match on the path.
#[derive(Clone, Debug)]
pub enum PathMatch {
    /// The whole path.
    Exact(String),
    /// Whole segments from the start; `/` matches everything.
    Prefix(String),
    /// The whole path, by a pattern.
    Pattern(Regex),
}

/// A match on a header's or parameter's value.
#[derive(Clone, Debug)]
pub enum ValueMatch {
    /// The same bytes.
    Exact(String),
    /// A pattern over the whole value.
    Pattern(Regex),
}

impl ValueMatch {
    fn takes(&self, value: &str) -> bool {
        match self {
            Self::Exact(wanted) => wanted == value,
            Self::Pattern(pattern) => pattern.is_match(value),
        }
    }
}

/// The rules for one hostname.
#[derive(Debug, Default)]
struct Table {
    exact: HashMap<String, Vec<Entry>>,
    patterns: Vec<Entry>,
    /// By prefix without its trailing slash; `/` is the empty one.
    prefixes: HashMap<String, Vec<Entry>>,
}

impl Router {
    /// Compiles entries, each with the hostnames it is for; an entry without hostnames takes every host.
    pub fn new(entries: Vec<(Vec<Hostname>, Entry)>, rules: Vec<Arc<Rule>>) -> Self {
        let mut router = Self { rules, ..Self::default() };
        for (hostnames, entry) in entries {
            if hostnames.is_empty() {
                router.any_host.add(entry);
                continue;
            }
            for hostname in hostnames {
                let table = match hostname {
                    Hostname::Exact(name) => router.exact_hosts.entry(name).or_default(),
                    Hostname::Wildcard(suffix) => router.wildcard_hosts.entry(suffix).or_default(),
                };
                table.add(entry.clone());
            }
        }
        let tables = router.exact_hosts.values_mut().chain(router.wildcard_hosts.values_mut());
        tables.chain([&mut router.any_host]).for_each(Table::sort);
        router
    }

    /// The rule for a request. `host` is the Host header or `:authority` without port, lower case.
    pub fn route(&self, host: &str, request: &Parts) -> Option<Matched<'_>> {
        if let Some(matched) = self.exact_hosts.get(host).and_then(|table| table.find(request)) {
            return Some(matched);
        }
        if !self.wildcard_hosts.is_empty() {
            // `.b.example.com` before `.example.com`: the longest suffix first.
            for (dot, _) in host.match_indices('.').filter(|(dot, _)| *dot > 0) {
                let table = host.get(dot..).and_then(|suffix| self.wildcard_hosts.get(suffix));
                if let Some(matched) = table.and_then(|table| table.find(request)) {
                    return Some(matched);
                }
            }
        }
        self.any_host.find(request)
    }

    /// All rules, in the order in which compile gave them (for `/v1/models`, `/snapshot`).
    pub fn rules(&self) -> impl Iterator<Item = &Arc<Rule>> {
        self.rules.iter()
    }
}

impl Table {
    fn add(&mut self, entry: Entry) {
        match &entry.path {
            PathMatch::Exact(path) => self.exact.entry(path.clone()).or_default().push(entry),
            PathMatch::Prefix(prefix) => {
                self.prefixes.entry(prefix.trim_end_matches('/').to_owned()).or_default().push(entry);
            }
            PathMatch::Pattern(_) => self.patterns.push(entry),
        }
    }

    fn sort(&mut self) {
        for entries in self.exact.values_mut().chain(self.prefixes.values_mut()) {
            entries.sort_by(|one, other| one.rank().cmp(&other.rank()));
        }
        self.patterns.sort_by(|one, other| (one.pattern_rank(), one.rank()).cmp(&(other.pattern_rank(), other.rank())));
    }

    fn find(&self, request: &Parts) -> Option<Matched<'_>> {
        let path = request.uri.path();
        let exact = self.exact.get(path).into_iter().flatten().find(|entry| entry.takes(request));
        let by_pattern = || {
            self.patterns.iter().find(|entry| {
                matches!(&entry.path, PathMatch::Pattern(pattern) if pattern.is_match(path)) && entry.takes(request)
            })
        };
        if let Some(entry) = exact.or_else(by_pattern) {
            return Some(Matched { rule: &entry.rule, prefix_length: 0 });
        }
        let mut prefix = path;
        while let Some(shorter) = prefix.strip_suffix('/') {
            prefix = shorter;
        }
        loop {
            let mut entries = self.prefixes.get(prefix).into_iter().flatten();
            if let Some(entry) = entries.find(|entry| entry.takes(request)) {
                return Some(Matched { rule: &entry.rule, prefix_length: prefix.len() });
            }
            // Segments are short: over bytes, not by a search that is made for any character.
            prefix = prefix.get(..prefix.bytes().rposition(|byte| byte == b'/')?)?;
        }
    }
}

impl Entry {
    /// Smaller comes first, among entries with the same path.
    fn rank(&self) -> impl Ord + '_ {
        (self.method.is_none(), Reverse(self.headers.len()), Reverse(self.queries.len()), &self.age)
    }

    fn pattern_rank(&self) -> Reverse<usize> {
        match &self.path {
            PathMatch::Pattern(pattern) => Reverse(pattern.as_str().len()),
            _ => Reverse(0),
        }
    }

    /// Whether everything but the path matches.
    fn takes(&self, request: &Parts) -> bool {
        self.method.as_ref().is_none_or(|method| *method == request.method)
            && self.headers.iter().all(|(name, wanted)| takes_header(request, name, wanted))
            && self.queries.iter().all(|(name, wanted)| takes_query(request, name, wanted))
    }
}

/// A header given several times counts as one with its values joined by commas (RFC 9110, section 5.2).
fn takes_header(request: &Parts, name: &HeaderName, wanted: &ValueMatch) -> bool {
    let mut values = request.headers.get_all(name).iter();
    let Some(first) = values.next() else { return false };
    match values.next() {
        None => first.to_str().is_ok_and(|value| wanted.takes(value)),
        Some(_) => {
            let all: Result<Vec<&str>, _> =
                request.headers.get_all(name).iter().map(http::HeaderValue::to_str).collect();
            all.is_ok_and(|all| wanted.takes(&all.join(",")))
        }
    }
}

/// The first parameter of that name counts; names and values are compared after percent decoding.
fn takes_query(request: &Parts, name: &str, wanted: &ValueMatch) -> bool {
    let parameters = request.uri.query().unwrap_or_default().split('&');
    for parameter in parameters {
        let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        if decoded(key).as_deref() == Some(name) {
            return decoded(value).is_some_and(|value| wanted.takes(&value));
        }
    }
    false
}

/// `application/x-www-form-urlencoded` text decoded; `None` when it is not UTF-8.
fn decoded(text: &str) -> Option<std::borrow::Cow<'_, str>> {
    if !text.contains(['%', '+']) {
        return Some(text.into());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let hexadecimal = |ahead: &std::str::Bytes<'_>| {
            let mut ahead = ahead.clone();
            let (high, low) = (char::from(ahead.next()?).to_digit(16)?, char::from(ahead.next()?).to_digit(16)?);
            u8::try_from(high * 16 + low).ok()
        };
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => match hexadecimal(&rest) {
                Some(value) => {
                    bytes.push(value);
                    rest.nth(1);
                }
                None => bytes.push(b'%'),
            },
            other => bytes.push(other),
        }
    }
    String::from_utf8(bytes).ok().map(Into::into)
}

#[cfg(test)]
mod tests;
