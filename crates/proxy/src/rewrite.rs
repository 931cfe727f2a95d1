//! Rewrite: the head and the body as the endpoint is to get them.
//!
//! Header filters, host, path, forwarding headers, and the model's name spliced into the body. Must not decide
//! anything: the rule and the arm say what changes.

use http::header::{self, CONTENT_LENGTH, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Uri, Version, request};
use tidegate_body::splice;
use tidegate_routing::snapshot::{Filters, HeaderChanges, PathRewrite};

use crate::connection::Connection;
use crate::forward::ForwardBody;
use crate::read::{ModelPlace, ReadBody};
use crate::upstream::CameFrom;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Whether a header is for one connection only (RFC 9110, 7.6.1), whatever `Connection` names.
fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// Removes what is for one connection only, and what `Connection` names.
pub(crate) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    // One look at the names that are there costs less than a search for each that may be.
    if !headers.keys().any(is_hop_by_hop) {
        return;
    }
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|name| !name.eq_ignore_ascii_case("keep-alive") && !name.eq_ignore_ascii_case("close"))
        .filter_map(|name| name.parse().ok())
        // `Connection: host` or `: content-length` would change what the request is.
        .filter(|name| *name != HOST && *name != CONTENT_LENGTH)
        .collect();
    for name in named {
        headers.remove(name);
    }
    while let Some(name) = headers.keys().find(|name| is_hop_by_hop(name)).cloned() {
        headers.remove(name);
    }
}

/// Applies header filters: set, add, remove.
pub(crate) fn change_headers(headers: &mut HeaderMap, changes: &HeaderChanges) {
    for (name, value) in &changes.set {
        headers.insert(name.clone(), value.clone());
    }
    for (name, value) in &changes.add {
        headers.append(name.clone(), value.clone());
    }
    for name in &changes.remove {
        headers.remove(name);
    }
}

/// Which headers that are looked for here a request has: found in one pass, since most have none of them.
#[derive(Default)]
struct Present {
    host: bool,
    expect: bool,
    cookie: bool,
    forwarded_for: bool,
    forwarded_proto: bool,
    forwarded_host: bool,
}

impl Present {
    fn of(headers: &HeaderMap) -> Self {
        let mut present = Self::default();
        for name in headers.keys() {
            match name.as_str() {
                "host" => present.host = true,
                "expect" => present.expect = true,
                "cookie" => present.cookie = true,
                "x-forwarded-for" => present.forwarded_for = true,
                "x-forwarded-proto" => present.forwarded_proto = true,
                "x-forwarded-host" => present.forwarded_host = true,
                _ => {}
            }
        }
        present
    }
}

/// Where a request came from, as far as its headers do not say it yet.
fn came_from(headers: &mut HeaderMap, present: &Present, connection: &Connection, authority: &HeaderValue) -> CameFrom {
    let before = if present.forwarded_for { headers.get(FORWARDED_FOR) } else { None };
    let joined = before.and_then(|before| {
        HeaderValue::from_bytes(&[before.as_bytes(), b", ", connection.peer.as_bytes()].concat()).ok()
    });
    if present.forwarded_for {
        headers.insert(FORWARDED_FOR, joined.unwrap_or_else(|| connection.peer.clone()));
    }
    CameFrom {
        address: (!present.forwarded_for).then(|| connection.peer.clone()),
        protocol: (!present.forwarded_proto).then_some(if connection.tls { "https" } else { "http" }),
        host: (!present.forwarded_host).then(|| authority.clone()),
    }
}

/// HTTP/2 clients may send cookies in pieces, which HTTP/1.1 does not know (RFC 9113, 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let pieces: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if pieces.len() < 2 {
        return;
    }
    if let Ok(joined) = HeaderValue::from_bytes(&pieces.join(&b"; "[..])) {
        headers.insert(header::COOKIE, joined);
    }
}

/// The path and query that replace a request's; `None` when they stay.
pub(crate) fn rewritten_path(uri: &Uri, rewrite: &PathRewrite, prefix_length: usize) -> String {
    let path = match rewrite {
        PathRewrite::Full(path) => with_slash(path),
        PathRewrite::Prefix(prefix) => {
            let rest = uri.path().get(prefix_length..).unwrap_or_default().trim_start_matches('/');
            let prefix = prefix.trim_end_matches('/');
            // `/foo` with prefix `/foo` replaced by `/` is `/`, by `/bar` is `/bar`; `/foo/` keeps its slash.
            let slash = if rest.is_empty() && !uri.path().ends_with('/') && !prefix.is_empty() { "" } else { "/" };
            with_slash(&format!("{prefix}{slash}{rest}"))
        }
    };
    match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path,
    }
}

fn with_slash(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}

/// Makes a head ready for an endpoint: `filters` are the rule's, then the arm's. Gives what is to be said beside it.
pub(crate) fn head(
    head: &mut request::Parts,
    filters: [&Filters; 2],
    prefix_length: usize,
    authority: HeaderValue,
    connection: &Connection,
) -> CameFrom {
    head.version = Version::HTTP_11;
    // The client's connection put things there that are of no use on another.
    head.extensions.clear();
    remove_hop_by_hop(&mut head.headers);
    let present = Present::of(&head.headers);
    if present.expect {
        head.headers.remove(header::EXPECT);
    }
    if present.cookie {
        join_cookies(&mut head.headers);
    }
    let mut came_from = came_from(&mut head.headers, &present, connection, &authority);
    if filters.iter().any(|filters| !filters.request_headers.is_empty()) {
        // A filter may change or remove these too.
        std::mem::take(&mut came_from).put_into(&mut head.headers);
    }
    // Without an authority in the target, the header is where the authority was taken from.
    if !present.host || head.uri.authority().is_some() {
        head.headers.insert(HOST, authority);
    }
    let mut target: Option<String> = None;
    for filters in filters {
        change_headers(&mut head.headers, &filters.request_headers);
        let Some(rewrite) = &filters.rewrite else { continue };
        if let Some(hostname) = &rewrite.hostname {
            head.headers.insert(HOST, hostname.clone());
        }
        if let Some(path) = &rewrite.path {
            target = Some(rewritten_path(&head.uri, path, prefix_length));
        }
    }
    let rewritten = target.and_then(|target| Uri::try_from(target).ok());
    if let Some(uri) = rewritten {
        head.uri = uri;
    } else if head.uri.authority().is_some() {
        // Absolute form is for proxies; the endpoint gets the path alone.
        let path = head.uri.path_and_query().cloned();
        head.uri = path.map_or_else(|| Uri::from_static("/"), Uri::from);
    }
    came_from
}

/// The body for an endpoint, the same bytes but for the model's name. Its length is told where it is sent.
pub(crate) fn body(read: &ReadBody, target: Option<&str>) -> ForwardBody {
    if read.bytes.is_empty() {
        return ForwardBody::Empty;
    }
    let changed = target.filter(|target| read.model.as_deref() != Some(target));
    let spliced = match (changed, &read.place) {
        (Some(target), ModelPlace::Json(span)) => splice::replace(&read.bytes, span, target),
        (Some(target), ModelPlace::Insert { object_start, empty }) => {
            splice::insert(&read.bytes, *object_start, *empty, target)
        }
        (Some(target), ModelPlace::Multipart(span)) => splice::replace_raw(&read.bytes, span, target),
        (None, _) | (Some(_), ModelPlace::None) => {
            splice::Spliced { length: read.bytes.len(), parts: vec![read.bytes.clone()] }
        }
    };
    ForwardBody::Buffered(spliced.parts)
}

#[cfg(test)]
mod tests;
