//! Who may speak to the admin port.
//!
//! A web page in a browser on this machine can send requests to a loopback port. Two things give it away: under DNS
//! rebinding the `Host` is the attacker's name, and a script's cross-site request carries its `Origin`. Both are
//! refused before anything else is looked at. What changes something needs the token beside.

use std::net::{IpAddr, SocketAddr};

use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, StatusCode, header};

use crate::Token;

/// A refusal: status, and a sentence that says what to do.
pub(crate) type Refusal = (StatusCode, String);

/// Refuses a `Host` (or an absolute request target) that is not this port's own.
pub(crate) fn check_host(parts: &Parts, bound: SocketAddr) -> Result<(), Refusal> {
    let foreign = |found: &str| {
        let message = format!(
            "Host {found:?} is not this admin API's own: use http://localhost:{port}, http://127.0.0.1:{port} or \
             http://{bound}",
            port = bound.port()
        );
        Err((StatusCode::MISDIRECTED_REQUEST, message))
    };
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return foreign("") };
    let Ok(host) = host.to_str() else { return foreign("") };
    let names = [Some(host), parts.uri.authority().map(Authority::as_str)];
    for name in names.into_iter().flatten() {
        if !own(name, bound) {
            return foreign(name);
        }
    }
    Ok(())
}

/// Refuses an `Origin` that is not this port's own: `http://` and the request's `Host`.
pub(crate) fn check_origin(headers: &HeaderMap) -> Result<(), Refusal> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    for origin in headers.get_all(header::ORIGIN) {
        let same = origin
            .to_str()
            .ok()
            .and_then(|origin| origin.strip_prefix("http://"))
            .is_some_and(|authority| !authority.is_empty() && authority.eq_ignore_ascii_case(host));
        if !same {
            return Err((StatusCode::FORBIDDEN, "requests from other web pages (Origin) are refused".into()));
        }
    }
    Ok(())
}

/// Refuses a call without the token.
pub(crate) fn check_token(headers: &HeaderMap, token: &Token) -> Result<(), Refusal> {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| bearer(value.as_bytes()));
    if given.is_some_and(|given| token.matches(given)) {
        return Ok(());
    }
    let found = if given.is_some() { "another one was sent" } else { "none was sent" };
    let message = format!(
        "this call changes something and needs Authorization: Bearer with the token in the file admin-token of the \
         gateway's --state-dir; {found}"
    );
    Err((StatusCode::UNAUTHORIZED, message))
}

fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

fn own(host: &str, bound: SocketAddr) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    if authority.as_str().contains('@') || authority.port_u16().unwrap_or(80) != bound.port() {
        return false;
    }
    let name = authority.host();
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    match address {
        // A port on all interfaces is reached by any address of the machine. A name could be anybody's; an address in
        // Host is where the browser really connected to.
        Ok(address) => address.is_loopback() || bound.ip().is_unspecified() || address == bound.ip(),
        Err(_) => name.eq_ignore_ascii_case("localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(uri: &str, host: &str) -> Parts {
        let request = http::Request::builder().uri(uri).header("host", host);
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn own_hosts_pass_and_foreign_ones_do_not() {
        let loopback: SocketAddr = "127.0.0.1:15000".parse().unwrap();
        let everywhere: SocketAddr = "0.0.0.0:15000".parse().unwrap();
        let named: SocketAddr = "10.1.2.3:80".parse().unwrap();
        let cases = [
            (loopback, "127.0.0.1:15000", true),
            (loopback, "localhost:15000", true),
            (loopback, "LOCALHOST:15000", true),
            (loopback, "[::1]:15000", true),
            (loopback, "localhost", false),
            (loopback, "localhost:15001", false),
            (loopback, "evil.example:15000", false),
            (loopback, "localhost.evil.example:15000", false),
            (loopback, "127.0.0.1.evil.example:15000", false),
            (loopback, "localhost@evil.example:15000", false),
            (loopback, "evil.example@localhost:15000", false),
            (loopback, "10.1.2.3:15000", false),
            (loopback, "", false),
            (everywhere, "10.1.2.3:15000", true),
            (everywhere, "evil.example:15000", false),
            (named, "10.1.2.3", true),
            (named, "10.1.2.4", false),
        ];
        for (bound, host, passes) in cases {
            assert_eq!(check_host(&parts("/snapshot", host), bound).is_ok(), passes, "{host} at {bound}");
        }
    }

    #[test]
    fn the_request_target_counts_as_the_host_does() {
        let bound: SocketAddr = "127.0.0.1:15000".parse().unwrap();
        assert!(check_host(&parts("http://localhost:15000/x", "localhost:15000"), bound).is_ok());
        assert!(check_host(&parts("http://evil.example:15000/x", "localhost:15000"), bound).is_err());
        let mut two = parts("/", "localhost:15000");
        two.headers.append("host", "evil.example:15000".parse().unwrap());
        assert!(check_host(&two, bound).is_err());
        two.headers.remove("host");
        assert!(check_host(&two, bound).is_err());
    }

    #[test]
    fn only_the_own_origin_passes() {
        let cases = [
            ("http://localhost:15000", true),
            ("http://localhost:3000", false),
            ("https://localhost:15000", false),
            ("http://evil.example", false),
            ("null", false),
            ("", false),
        ];
        for (origin, passes) in cases {
            let mut headers = parts("/", "localhost:15000").headers;
            headers.insert(header::ORIGIN, origin.parse().unwrap());
            assert_eq!(check_origin(&headers).is_ok(), passes, "{origin}");
        }
        assert!(check_origin(&HeaderMap::new()).is_ok(), "curl sends none");
    }

    #[test]
    fn the_scheme_is_read_as_http_says() {
        assert_eq!(bearer(b"Bearer abc"), Some(&b"abc"[..]));
        assert_eq!(bearer(b"bearer  abc "), Some(&b"abc"[..]));
        assert_eq!(bearer(b"Basic abc"), None);
        assert_eq!(bearer(b"Bear"), None);
    }
}
