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

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Removes what is for one connection only (RFC 9110, 7.6.1), and what `Connection` names.
pub(crate) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| name.trim().parse().ok())
            // `Connection: host` or `: content-length` would change what the request is.
            .filter(|name| *name != HOST && *name != CONTENT_LENGTH)
            .collect();
        for name in named {
            headers.remove(name);
        }
        headers.remove(header::CONNECTION);
    }
    for name in [
        KEEP_ALIVE,
        PROXY_CONNECTION,
        header::PROXY_AUTHENTICATE,
        header::PROXY_AUTHORIZATION,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
    ] {
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

/// Where a request came from, for the endpoint to know.
fn add_forwarded(headers: &mut HeaderMap, connection: &Connection, authority: &HeaderValue) {
    let joined = headers.get(FORWARDED_FOR).and_then(|before| {
        HeaderValue::from_bytes(&[before.as_bytes(), b", ", connection.peer.as_bytes()].concat()).ok()
    });
    headers.insert(FORWARDED_FOR, joined.unwrap_or_else(|| connection.peer.clone()));
    if !headers.contains_key(FORWARDED_PROTO) {
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static(if connection.tls { "https" } else { "http" }));
    }
    if !headers.contains_key(FORWARDED_HOST) {
        headers.insert(FORWARDED_HOST, authority.clone());
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

/// Makes a head ready for an endpoint: `filters` are the rule's, then the arm's.
pub(crate) fn head(
    head: &mut request::Parts,
    filters: [&Filters; 2],
    prefix_length: usize,
    authority: HeaderValue,
    connection: &Connection,
) {
    head.version = Version::HTTP_11;
    // The client's connection put things there that are of no use on another.
    head.extensions.clear();
    remove_hop_by_hop(&mut head.headers);
    head.headers.remove(header::EXPECT);
    join_cookies(&mut head.headers);
    add_forwarded(&mut head.headers, connection, &authority);
    head.headers.insert(HOST, authority);
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
}

/// The body for an endpoint, the same bytes but for the model's name; Content-Length follows.
pub(crate) fn body(headers: &mut HeaderMap, read: &ReadBody, target: Option<&str>) -> ForwardBody {
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
    headers.insert(CONTENT_LENGTH, HeaderValue::from(spliced.length));
    ForwardBody::Buffered(spliced.parts)
}

#[cfg(test)]
mod tests;
