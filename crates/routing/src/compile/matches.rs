//! Matches of a rule, compiled.

use gateway_api::experimental::httproutes::{
    HttpRouteRulesMatches, HttpRouteRulesMatchesHeadersType, HttpRouteRulesMatchesMethod,
    HttpRouteRulesMatchesPathType, HttpRouteRulesMatchesQueryParamsType,
};
use http::{HeaderName, Method};
use regex::{Regex, RegexBuilder};

use crate::route_match::{PathMatch, ValueMatch};

/// What one match asks for.
pub(super) struct Match {
    pub(super) path: PathMatch,
    pub(super) method: Option<Method>,
    pub(super) headers: Vec<(HeaderName, ValueMatch)>,
    pub(super) queries: Vec<(String, ValueMatch)>,
}

/// Compiles one match; decoding has checked it, so an error is a disagreement between the two.
pub(super) fn compile(one: &HttpRouteRulesMatches) -> Result<Match, String> {
    let path = match &one.path {
        None => PathMatch::Prefix("/".into()),
        Some(path) => {
            let value = path.value.clone().unwrap_or_else(|| "/".into());
            match path.r#type {
                Some(HttpRouteRulesMatchesPathType::Exact) => PathMatch::Exact(value),
                Some(HttpRouteRulesMatchesPathType::RegularExpression) => PathMatch::Pattern(whole(&value)?),
                Some(HttpRouteRulesMatchesPathType::PathPrefix) | None => PathMatch::Prefix(value),
            }
        }
    };
    // Of several matches on one name the first counts, and the others must be ignored (HTTPRouteMatch).
    let mut headers: Vec<(HeaderName, ValueMatch)> = Vec::new();
    for header in one.headers.iter().flatten() {
        let name = HeaderName::try_from(header.name.as_str()).map_err(|error| error.to_string())?;
        let pattern = header.r#type == Some(HttpRouteRulesMatchesHeadersType::RegularExpression);
        if !headers.iter().any(|(known, _)| *known == name) {
            headers.push((name, value(&header.value, pattern)?));
        }
    }
    let mut queries: Vec<(String, ValueMatch)> = Vec::new();
    for query in one.query_params.iter().flatten() {
        let pattern = query.r#type == Some(HttpRouteRulesMatchesQueryParamsType::RegularExpression);
        if !queries.iter().any(|(known, _)| *known == query.name) {
            queries.push((query.name.clone(), value(&query.value, pattern)?));
        }
    }
    Ok(Match { path, method: one.method.as_ref().map(method), headers, queries })
}

fn value(text: &str, pattern: bool) -> Result<ValueMatch, String> {
    Ok(if pattern { ValueMatch::Pattern(whole(text)?) } else { ValueMatch::Exact(text.to_owned()) })
}

/// A pattern over the whole value.
fn whole(pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(&format!("^(?:{pattern})$"))
        .size_limit(tidegate_api::REGULAR_EXPRESSION_SIZE_LIMIT)
        .build()
        .map_err(|error| error.to_string())
}

fn method(method: &HttpRouteRulesMatchesMethod) -> Method {
    match method {
        HttpRouteRulesMatchesMethod::Get => Method::GET,
        HttpRouteRulesMatchesMethod::Head => Method::HEAD,
        HttpRouteRulesMatchesMethod::Post => Method::POST,
        HttpRouteRulesMatchesMethod::Put => Method::PUT,
        HttpRouteRulesMatchesMethod::Delete => Method::DELETE,
        HttpRouteRulesMatchesMethod::Connect => Method::CONNECT,
        HttpRouteRulesMatchesMethod::Options => Method::OPTIONS,
        HttpRouteRulesMatchesMethod::Trace => Method::TRACE,
        HttpRouteRulesMatchesMethod::Patch => Method::PATCH,
    }
}
