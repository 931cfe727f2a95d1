//! The router against a naive model: all entries that match, the first by the specification's precedence.

use std::cmp::Reverse;
use std::sync::Arc;

use http::{Method, Request, request::Parts};
use proptest::prelude::{Just, Strategy, any, prop_assert_eq, prop_oneof, proptest};
use regex::Regex;
use tidegate_api::ObjectKey;

use super::{Entry, PathMatch, Router, ValueMatch};
use crate::Split;
use crate::snapshot::{Filters, Hostname, Limits, RetryPolicy, Rule};

fn rule(number: usize) -> Arc<Rule> {
    Arc::new(Rule {
        route: Arc::new(ObjectKey::new("g", "HTTPRoute", "ns", "r")),
        route_label: "ns/r".into(),
        index: number,
        name: None,
        filters: Filters::default(),
        arms: Vec::new(),
        split: Split::default(),
        pair: None,
        limits: Limits::default(),
        attempt_timeout: None,
        retry: RetryPolicy::default(),
        inference: false,
        model_aware: true,
        allow_paths: Vec::new(),
    })
}

fn entry(number: usize, path: PathMatch) -> Entry {
    Entry {
        rule: rule(number),
        path,
        method: None,
        headers: Vec::new(),
        queries: Vec::new(),
        age: (None, "ns/r".into(), number, 0),
    }
}

fn request(uri: &str) -> Parts {
    Request::get(uri).body(()).expect("a request").into_parts().0
}

fn found(router: &Router, host: &str, parts: &Parts) -> Option<usize> {
    router.route(host, parts).map(|matched| matched.rule.index)
}

#[test]
fn prefixes_match_by_segments() {
    let router = Router::new(vec![(vec![], entry(0, PathMatch::Prefix("/foo/".into())))], vec![]);
    for (path, length) in [("/foo", 4), ("/foo/", 4), ("/foo/bar", 4)] {
        assert_eq!(router.route("h", &request(path)).map(|matched| matched.prefix_length), Some(length), "{path}");
    }
    assert!(router.route("h", &request("/foobar")).is_none() && router.route("h", &request("/")).is_none());
}

#[test]
fn queries_are_decoded_and_the_first_counts() {
    let mut one = entry(0, PathMatch::Prefix("/".into()));
    one.queries.push(("a b".into(), ValueMatch::Exact("ü".into())));
    let router = Router::new(vec![(vec![], one)], vec![]);
    assert!(router.route("h", &request("/?a+b=%C3%BC&a%20b=x")).is_some());
    assert!(router.route("h", &request("/?a+b=x&a%20b=%C3%BC")).is_none());
    assert!(router.route("h", &request("/?a+b=%zz")).is_none() && router.route("h", &request("/")).is_none());
}

#[test]
fn several_values_of_a_header_count_as_one() {
    let mut one = entry(0, PathMatch::Prefix("/".into()));
    one.headers.push((http::HeaderName::from_static("x"), ValueMatch::Exact("a,b".into())));
    let router = Router::new(vec![(vec![], one)], vec![]);
    let mut parts = request("/");
    parts.headers.append("x", http::HeaderValue::from_static("a"));
    assert_eq!(found(&router, "h", &parts), None);
    parts.headers.append("x", http::HeaderValue::from_static("b"));
    assert_eq!(found(&router, "h", &parts), Some(0));
}

#[test]
fn less_specific_hostnames_are_asked_when_the_most_specific_has_no_rule() {
    let entries = vec![
        (vec![Hostname::Exact("a.b.c".into())], entry(0, PathMatch::Exact("/only".into()))),
        (vec![Hostname::Wildcard(".b.c".into())], entry(1, PathMatch::Exact("/wide".into()))),
        (vec![Hostname::Wildcard(".c".into())], entry(2, PathMatch::Prefix("/".into()))),
        (vec![], entry(3, PathMatch::Exact("/only".into()))),
    ];
    let router = Router::new(entries, vec![]);
    assert_eq!(found(&router, "a.b.c", &request("/only")), Some(0));
    assert_eq!(found(&router, "a.b.c", &request("/wide")), Some(1));
    assert_eq!(found(&router, "a.b.c", &request("/other")), Some(2));
    assert_eq!(found(&router, "b.c", &request("/wide")), Some(2));
    assert_eq!(found(&router, "elsewhere", &request("/only")), Some(3));
    assert_eq!(found(&router, "elsewhere", &request("/x")), None);
}

#[derive(Clone, Debug)]
struct Wanted {
    path: (u8, String),
    method: bool,
    headers: usize,
    created: Option<String>,
}

fn paths() -> impl Strategy<Value = String> {
    proptest::collection::vec(prop_oneof![Just("a"), Just("b")], 0..4).prop_map(|parts| format!("/{}", parts.join("/")))
}

fn wanted() -> impl Strategy<Value = Wanted> {
    let created = prop_oneof![Just(None), (1_u8..4).prop_map(|day| Some(format!("2025-01-0{day}T00:00:00Z")))];
    (0_u8..3, paths(), any::<bool>(), 0_usize..3, created).prop_map(|(kind, path, method, headers, created)| Wanted {
        path: (kind, path),
        method,
        headers,
        created,
    })
}

proptest! {
    #[test]
    fn agrees_with_a_naive_model(all in proptest::collection::vec(wanted(), 0..12), path in paths(), post in any::<bool>(), headers in 0_usize..3) {
        let names = ["x-a", "x-b"];
        let entries: Vec<Entry> = all.iter().enumerate().map(|(number, wanted)| {
            let (kind, path) = &wanted.path;
            let path = match kind {
                0 => PathMatch::Exact(path.clone()),
                1 => PathMatch::Prefix(path.clone()),
                _ => PathMatch::Pattern(Regex::new(&format!("^(?:{path}.*)$")).expect("a pattern")),
            };
            let mut one = entry(number, path);
            one.method = wanted.method.then_some(Method::POST);
            one.headers = names.iter().take(wanted.headers)
                .map(|name| (http::HeaderName::from_static(name), ValueMatch::Exact("1".into()))).collect();
            one.age.0.clone_from(&wanted.created);
            one
        }).collect();
        let mut parts = request(&path);
        parts.method = if post { Method::POST } else { Method::GET };
        for name in names.iter().take(headers) {
            parts.headers.insert(*name, http::HeaderValue::from_static("1"));
        }
        let matches = |one: &Entry| {
            let by_path = match &one.path {
                PathMatch::Exact(wanted) => *wanted == path,
                PathMatch::Prefix(wanted) => {
                    let wanted = wanted.trim_end_matches('/');
                    path.trim_end_matches('/') == wanted || path.starts_with(&format!("{wanted}/"))
                }
                PathMatch::Pattern(wanted) => wanted.is_match(&path),
            };
            by_path && (one.method.is_none() || post) && one.headers.len() <= headers
        };
        let rank = |one: &&Entry| {
            let by_path = match &one.path {
                PathMatch::Exact(_) => (0, Reverse(0)),
                PathMatch::Pattern(wanted) => (1, Reverse(wanted.as_str().len())),
                PathMatch::Prefix(wanted) => (2, Reverse(wanted.trim_end_matches('/').len())),
            };
            (by_path, one.method.is_none(), Reverse(one.headers.len()), one.age.clone())
        };
        let expected = entries.iter().filter(|one| matches(one)).min_by_key(rank).map(|one| one.rule.index);
        let router = Router::new(entries.iter().map(|one| (vec![], one.clone())).collect(), vec![]);
        prop_assert_eq!(found(&router, "h", &parts), expected);
    }
}
