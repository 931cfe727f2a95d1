//! Guard: what is done to a request's head before anything reads it.
//!
//! First stage of the flow: headers by which a client could choose an endpoint or rename a model are removed, the
//! request gets its id, and the host it is for is found out. Must not look at routes.

use std::borrow::Cow;

use http::header::HOST;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version, request};
use tidegate_telemetry::Reason;

use crate::error::Refusal;

/// The request's id: the client's where it is sane.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest id of a client that is kept, in bytes.
const LONGEST_ID: usize = 128;

/// Headers by which pickers, proxies and sidecars are told where to send a request or what to call its model. Sources:
/// endpoint picker protocol (proposal 004), llm-d-router `pkg/epp/metadata`, llm-d routing sidecar.
fn steers(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("x-") else { return false };
    rest.starts_with("gateway-destination-endpoint")
        || rest.starts_with("llm-d-destination-endpoint")
        || rest.starts_with("prefiller-")
        || matches!(
            rest,
            "llm-d-model-name-rewrite"
                | "gateway-model-name-rewrite"
                | "encoder-hosts-ports"
                | "data-parallel-host-port"
        )
}

/// Removes them.
fn strip(headers: &mut HeaderMap) {
    while let Some(name) = headers.keys().find(|name| steers(name.as_str())).cloned() {
        headers.remove(name);
    }
}

/// The request's id, kept or made, and set in the head.
fn request_id(headers: &mut HeaderMap) -> String {
    let kept = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok()).filter(|id| {
        (1..=LONGEST_ID).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"')
    });
    if let Some(kept) = kept {
        return kept.to_owned();
    }
    let id = hexadecimal(fastrand::u128(..));
    if let Ok(value) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID, value);
    }
    id
}

/// 32 digits; formatting them by the standard library costs twenty times as much.
fn hexadecimal(number: u128) -> String {
    let mut text = [0; 32];
    let (high, low) = ((number >> 64) as u64, number as u64);
    for (eight, half) in text.as_chunks_mut::<8>().0.iter_mut().zip([high >> 32, high, low >> 32, low]) {
        *eight = eight_digits(half as u32);
    }
    std::str::from_utf8(&text).unwrap_or_default().to_owned()
}

/// All eight at once, each in a byte of one number.
fn eight_digits(number: u32) -> [u8; 8] {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let mut digits = u64::from(number);
    digits = (digits | digits << 16) & 0x0000_FFFF_0000_FFFF;
    digits = (digits | digits << 8) & 0x00FF_00FF_00FF_00FF;
    digits = (digits | digits << 4) & 0x0F0F_0F0F_0F0F_0F0F;
    // From 10 on, adding 6 carries into the byte's upper half.
    let letters = ((digits + 6 * ONES) >> 4) & ONES;
    (digits + u64::from(b'0') * ONES + letters * u64::from(b'a' - b'0' - 10)).to_be_bytes()
}

/// A head that passed the guard.
#[derive(Debug)]
pub(crate) struct Guarded {
    /// The host as the client wrote it, with port.
    pub(crate) authority: HeaderValue,
}

/// Removes what steers, and gives the request's id, which is kept or made.
pub(crate) fn clean(head: &mut request::Parts) -> String {
    strip(&mut head.headers);
    request_id(&mut head.headers)
}

/// Finds out what a head is for.
///
/// # Errors
/// [`Reason::BadRequest`] when it is not clear which host or path it is for.
pub(crate) fn admit(head: &request::Parts) -> Result<Guarded, Refusal> {
    if head.method == Method::CONNECT {
        return Err(bad("CONNECT is not served here: this is a gateway, not a forward proxy"));
    }
    if !head.uri.path().starts_with('/') {
        return Err(bad("the request's target must be a path that begins with \"/\""));
    }
    let mut hosts = head.headers.get_all(HOST).iter();
    let (host, second) = (hosts.next(), hosts.next());
    if second.is_some() {
        return Err(bad("the request has more than one Host header; send one"));
    }
    // RFC 9112, 3.2.2: the authority of an absolute target (and `:authority`) counts, not the header.
    let authority = match (head.uri.authority(), host) {
        (Some(authority), _) => HeaderValue::from_str(authority.as_str()).ok(),
        (None, Some(host)) => Some(host.clone()),
        (None, None) if head.version < Version::HTTP_11 => Some(HeaderValue::from_static("")),
        (None, None) => return Err(bad("the request has no Host header")),
    };
    let authority = authority
        .filter(|value| value.to_str().is_ok_and(|text| !text.bytes().fold(false, |odd, byte| odd | ends_host(byte))))
        .ok_or_else(|| bad("the request's Host is not a host name"))?;
    Ok(Guarded { authority })
}

/// Whether a byte shows that an authority is none.
fn ends_host(byte: u8) -> bool {
    matches!(byte, b'/' | b'@' | b' ' | b'?' | b'#')
}

impl Guarded {
    /// The host alone: without port, lower case, without a trailing dot.
    pub(crate) fn host(&self) -> Cow<'_, str> {
        let host = without_port(self.authority.to_str().unwrap_or_default());
        let host = host.strip_suffix('.').unwrap_or(host);
        // Without an early end, so that the compiler looks at many bytes at once.
        if host.bytes().fold(false, |upper, byte| upper | byte.is_ascii_uppercase()) {
            Cow::Owned(host.to_ascii_lowercase())
        } else {
            Cow::Borrowed(host)
        }
    }
}

/// An authority without its port.
pub(crate) fn without_port(authority: &str) -> &str {
    // A port is short: a search from the end over bytes, not one that is made for any character.
    let colon = authority.as_bytes().iter().rposition(|byte| *byte == b':');
    match colon.and_then(|colon| Some((authority.get(..colon)?, authority.get(colon + 1..)?))) {
        Some((host, port))
            if port.bytes().all(|byte| byte.is_ascii_digit()) && (!host.contains(':') || host.ends_with(']')) =>
        {
            host
        }
        _ => authority,
    }
}

fn bad(message: &'static str) -> Refusal {
    Refusal::new(Reason::BadRequest, message)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn head(builder: http::request::Builder) -> request::Parts {
        builder.body(()).unwrap().into_parts().0
    }

    #[test]
    fn steering_headers_are_removed_and_others_stay() {
        let mut head = head(
            Request::get("/")
                .header("host", "a")
                .header("x-gateway-destination-endpoint", "1.2.3.4:5")
                .header("x-gateway-destination-endpoint", "1.2.3.4:6")
                .header("X-Gateway-Destination-Endpoint-Subset", "1.2.3.4:5")
                .header("x-llm-d-model-name-rewrite", "m")
                .header("x-gateway-model-name-rewrite", "m")
                .header("x-prefiller-host-port", "1.2.3.4:5")
                .header("x-gateway-inference-objective", "fast")
                .header("x-llm-d-inference-fairness-id", "me")
                .header("x-session-id", "s"),
        );
        clean(&mut head);
        let mut left: Vec<&str> = head.headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        let expected =
            ["host", "x-gateway-inference-objective", "x-llm-d-inference-fairness-id", "x-request-id", "x-session-id"];
        assert_eq!(left, expected);
    }

    #[test]
    fn made_ids_have_32_digits() {
        for number in [0, 1, u128::MAX, 0x0123_4567_89ab_cdef_0011_2233_4455_6677] {
            assert_eq!(hexadecimal(number), format!("{number:032x}"));
        }
    }

    #[test]
    fn sane_request_ids_are_kept() {
        for (sent, kept) in [("my-req-1", true), ("with space", false), ("", false), (&"x".repeat(129), false)] {
            let mut head = head(Request::get("/").header("host", "a").header(REQUEST_ID, sent));
            let id = clean(&mut head);
            assert_eq!(id == sent, kept, "{sent}");
            assert_eq!(head.headers[REQUEST_ID], id.as_str());
        }
    }

    #[test]
    fn hosts_are_found() {
        for (uri, host, expected) in [
            ("/", "Example.COM:8080", "example.com"),
            ("/", "[::1]:80", "[::1]"),
            ("/", "[::1]", "[::1]"),
            ("/", "example.com.", "example.com"),
            ("http://Other.com/x", "example.com", "other.com"),
        ] {
            let head = head(Request::get(uri).header("host", host));
            assert_eq!(admit(&head).unwrap().host(), expected);
        }
        let none = head(Request::get("/").version(Version::HTTP_10));
        assert_eq!(admit(&none).unwrap().host(), "");
    }

    #[test]
    fn unclear_heads_are_refused() {
        for builder in [
            Request::get("/"),
            Request::get("/").header("host", "a").header("host", "b"),
            Request::get("/").header("host", "a/b"),
            Request::connect("a:1").header("host", "a"),
            Request::options("*").header("host", "a"),
        ] {
            let head = head(builder);
            assert_eq!(admit(&head).unwrap_err().reason, Reason::BadRequest, "{head:?}");
        }
    }
}
