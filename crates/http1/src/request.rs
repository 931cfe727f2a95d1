//! A request as bytes. The head's framing headers are ours alone: they say what will really be sent.

use bytes::{BufMut as _, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, Method, request};

/// How long a request's body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestLength {
    /// There is none.
    Empty,
    /// That many bytes.
    Exact(u64),
    /// Not known: it goes in chunks.
    Chunked,
}

/// Bytes of a header line beside name and value: `: ` and the line's end.
const AROUND: usize = 4;

/// Writes a request's head. Its target is origin-form, its headers go as they are but for Content-Length,
/// Transfer-Encoding and Connection, which follow from `length`; HTTP/1.1 keeps connections by itself. `more` are headers
/// that the map does not have, valid in name and value.
pub fn write_head<'a>(
    head: &request::Parts,
    more: impl Iterator<Item = (&'static str, &'a [u8])>,
    length: RequestLength,
    out: &mut BytesMut,
) {
    let target = head.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let headers: usize = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + AROUND).sum();
    out.reserve(head.method.as_str().len() + target.len() + headers + 64);
    out.put_slice(head.method.as_str().as_bytes());
    out.put_u8(b' ');
    out.put_slice(target.as_bytes());
    out.put_slice(b" HTTP/1.1\r\n");
    for (name, value) in &head.headers {
        if *name != CONTENT_LENGTH && *name != TRANSFER_ENCODING && *name != CONNECTION {
            write_header(name.as_str(), value.as_bytes(), out);
        }
    }
    for (name, value) in more {
        write_header(name, value, out);
    }
    match length {
        RequestLength::Exact(length) => {
            write_header(CONTENT_LENGTH.as_str(), itoa::Buffer::new().format(length).as_bytes(), out);
        }
        RequestLength::Chunked => write_header(TRANSFER_ENCODING.as_str(), b"chunked", out),
        // RFC 9110, 8.6: said where the method expects a body.
        RequestLength::Empty if [Method::POST, Method::PUT, Method::PATCH].contains(&head.method) => {
            write_header(CONTENT_LENGTH.as_str(), b"0", out);
        }
        RequestLength::Empty => {}
    }
    out.put_slice(b"\r\n");
}

fn write_header(name: &str, value: &[u8], out: &mut BytesMut) {
    out.put_slice(name.as_bytes());
    out.put_slice(b": ");
    out.put_slice(value);
    out.put_slice(b"\r\n");
}

/// Writes one chunk of a body that goes in chunks; an empty one would end the body and is left out.
pub fn write_chunk(data: &[u8], out: &mut BytesMut) {
    if data.is_empty() {
        return;
    }
    out.reserve(data.len() + 20);
    out.put_slice(format!("{:x}\r\n", data.len()).as_bytes());
    out.put_slice(data);
    out.put_slice(b"\r\n");
}

/// Ends a body that goes in chunks.
pub fn write_end(trailers: Option<&HeaderMap>, out: &mut BytesMut) {
    out.put_slice(b"0\r\n");
    for (name, value) in trailers.into_iter().flatten() {
        write_header(name.as_str(), value.as_bytes(), out);
    }
    out.put_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn written(builder: http::request::Builder, length: RequestLength) -> String {
        let (head, ()) = builder.body(()).unwrap().into_parts();
        let mut out = BytesMut::new();
        write_head(&head, std::iter::empty(), length, &mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn a_head_is_written_with_its_own_framing() {
        let request = Request::post("http://x/v1/chat/completions?a=b")
            .header("host", "x")
            .header("content-length", "7")
            .header("transfer-encoding", "chunked")
            .header("connection", "close")
            .header("x-a", "1")
            .header("x-a", "2");
        assert_eq!(
            written(request, RequestLength::Exact(12)),
            "POST /v1/chat/completions?a=b HTTP/1.1\r\nhost: x\r\nx-a: 1\r\nx-a: 2\r\ncontent-length: 12\r\n\r\n"
        );
        let chunked = written(Request::put("/"), RequestLength::Chunked);
        assert_eq!(chunked, "PUT / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n");
    }

    #[test]
    fn further_headers_come_behind_those_of_the_map() {
        let (head, ()) = Request::get("/").header("a", "1").body(()).unwrap().into_parts();
        let mut out = BytesMut::new();
        write_head(&head, [("b", &b"2"[..])].into_iter(), RequestLength::Empty, &mut out);
        assert_eq!(out, "GET / HTTP/1.1\r\na: 1\r\nb: 2\r\n\r\n");
    }

    #[test]
    fn a_length_of_nothing_is_said_where_a_body_is_expected() {
        assert_eq!(written(Request::post("/"), RequestLength::Empty), "POST / HTTP/1.1\r\ncontent-length: 0\r\n\r\n");
        for builder in [Request::get("/"), Request::delete("/"), Request::head("/")] {
            assert!(!written(builder, RequestLength::Empty).contains("content-length"));
        }
    }

    #[test]
    fn chunks_and_their_end() {
        let mut out = BytesMut::new();
        write_chunk(b"", &mut out);
        write_chunk(&[b'x'; 26], &mut out);
        let trailers = HeaderMap::from_iter([("x-sum".parse().unwrap(), "1".parse().unwrap())]);
        write_end(Some(&trailers), &mut out);
        assert_eq!(out, format!("1a\r\n{}\r\n0\r\nx-sum: 1\r\n\r\n", "x".repeat(26)));
    }
}
