//! Redirect: the answer of a rule that sends the client elsewhere (HTTPRoute `requestRedirect`).

use bytes::Bytes;
use http::header::LOCATION;
use http::{HeaderValue, Response, StatusCode, Uri};
use tidegate_routing::snapshot::Redirect;

use crate::guard::without_port;
use crate::rewrite::rewritten_path;

/// What a redirect keeps of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestLine<'a> {
    pub(crate) uri: &'a Uri,
    /// The host as the client wrote it.
    pub(crate) authority: &'a str,
    /// Whether the request came over TLS.
    pub(crate) tls: bool,
    /// The listener's port.
    pub(crate) port: u16,
    /// Length of the matched path prefix.
    pub(crate) prefix_length: usize,
}

/// The answer.
pub(crate) fn answer(redirect: &Redirect, request: RequestLine<'_>) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::from_u16(redirect.status).unwrap_or(StatusCode::FOUND);
    if let Ok(location) = HeaderValue::try_from(location(redirect, request)) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

fn location(redirect: &Redirect, request: RequestLine<'_>) -> String {
    let scheme = redirect.scheme.as_deref().unwrap_or(if request.tls { "https" } else { "http" });
    let host = redirect.hostname.as_deref().unwrap_or_else(|| without_port(request.authority));
    // HTTPRequestRedirectFilter.port: the given port; else the scheme's well-known one if a scheme is given; else the
    // listener's.
    let port = redirect.port.unwrap_or(match redirect.scheme.as_deref() {
        Some("https") => 443,
        Some("http") => 80,
        _ => request.port,
    });
    let path = match &redirect.path {
        Some(path) => rewritten_path(request.uri, path, request.prefix_length),
        None => request.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
    };
    match (scheme, port) {
        ("http", 80) | ("https", 443) => format!("{scheme}://{host}{path}"),
        _ => format!("{scheme}://{host}:{port}{path}"),
    }
}

#[cfg(test)]
mod tests {
    use tidegate_routing::snapshot::PathRewrite;

    use super::*;

    fn redirect() -> Redirect {
        Redirect { scheme: None, hostname: None, path: None, port: None, status: 302 }
    }

    fn to(redirect: &Redirect, uri: &'static str, port: u16) -> String {
        let uri = Uri::from_static(uri);
        let request = RequestLine { uri: &uri, authority: "example.org:8080", tls: false, port, prefix_length: 6 };
        let response = answer(redirect, request);
        assert_eq!(response.status().as_u16(), redirect.status);
        response.headers()[LOCATION].to_str().unwrap().to_owned()
    }

    #[test]
    fn locations_follow_the_specification() {
        let host = Redirect { hostname: Some("a.com".into()), ..redirect() };
        assert_eq!(to(&host, "/x?y=1", 80), "http://a.com/x?y=1");
        assert_eq!(to(&host, "/x", 8080), "http://a.com:8080/x");
        let scheme = Redirect { scheme: Some("https".into()), status: 301, ..redirect() };
        assert_eq!(to(&scheme, "/x", 8080), "https://example.org/x");
        let port = Redirect { port: Some(8443), ..scheme };
        assert_eq!(to(&port, "/x", 80), "https://example.org:8443/x");
        let port = Redirect { port: Some(443), ..redirect() };
        assert_eq!(to(&port, "/x", 80), "http://example.org:443/x");
        let port = Redirect { port: Some(80), scheme: Some("http".into()), ..redirect() };
        assert_eq!(to(&port, "/x", 8080), "http://example.org/x");
    }

    #[test]
    fn paths_are_replaced() {
        let full = Redirect { path: Some(PathRewrite::Full("/new".into())), ..redirect() };
        assert_eq!(to(&full, "/whole/x?q", 80), "http://example.org/new?q");
        let prefix = Redirect { path: Some(PathRewrite::Prefix("/new/".into())), ..redirect() };
        assert_eq!(to(&prefix, "/whole/x?q", 80), "http://example.org/new/x?q");
    }
}
