//! The head of an answer, and what it says of the body's length and the connection's future.

use std::sync::LazyLock;

use bytes::BytesMut;
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version, response};
use httparse::{EMPTY_HEADER, Status};
use memchr::memmem::Finder;

use crate::content::Content;

/// Bytes of an answer's head at most.
pub const LONGEST_HEAD: usize = 64 * 1024;
/// Made once: to prepare a search costs more than to search an answer's head.
pub(crate) static HEAD_END: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\r\n\r\n"));
/// Headers at most where the usual number is not enough.
const MANY: usize = 512;
const USUAL: usize = 48;

/// An answer's head.
#[derive(Debug)]
pub struct Answer {
    /// Status and headers as the server sent them.
    pub head: response::Parts,
    /// How its body ends.
    pub content: Content,
    /// Whether the server will take another request on the connection.
    pub keep_alive: bool,
}

/// Why a head cannot be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadFault {
    /// It is not an HTTP/1 answer.
    #[error("the answer's head is not HTTP/1.1: {0}")]
    Syntax(&'static str),
    /// Its length headers contradict each other, or mean nothing.
    #[error("the answer's {0} cannot be relied upon")]
    Framing(&'static str),
    /// It is longer than [`LONGEST_HEAD`].
    #[error("the answer's head is longer than {LONGEST_HEAD} bytes")]
    TooLong,
    /// It agrees to an upgrade that was never asked for.
    #[error("the answer changes the protocol, which was not asked for")]
    Upgrade,
}

/// Takes the head of an answer to `method` off the front of `buffer`; `None` while it is not whole. Interim answers
/// (1xx) are taken off and passed over.
///
/// # Errors
/// What is there is no head that can be relied upon; the connection cannot be used further.
pub fn read_head(buffer: &mut BytesMut, method: &Method) -> Result<Option<Answer>, HeadFault> {
    loop {
        let Some(end) = HEAD_END.find(buffer) else {
            return if buffer.len() > LONGEST_HEAD { Err(HeadFault::TooLong) } else { Ok(None) };
        };
        if end > LONGEST_HEAD {
            return Err(HeadFault::TooLong);
        }
        let (version, head, framing) = parse(buffer, end + 4)?;
        match head.status {
            StatusCode::SWITCHING_PROTOCOLS => return Err(HeadFault::Upgrade),
            status if status.is_informational() => {}
            _ => return answer(version, head, framing, method).map(Some),
        }
    }
}

/// Which headers there are of those that say how the answer ends. Found while the head is read: to search for each of
/// them costs more than all of the rest.
#[derive(Clone, Copy, Debug, Default)]
struct Framing {
    coding: bool,
    length: bool,
    connection: bool,
}

/// The head in the first `length` bytes.
fn parse(buffer: &mut BytesMut, length: usize) -> Result<(Version, response::Parts, Framing), HeadFault> {
    let bytes = buffer.split_to(length).freeze();
    let mut usual = [EMPTY_HEADER; USUAL];
    let mut answer = httparse::Response::new(&mut usual);
    let mut many;
    let mut parsed = answer.parse(&bytes);
    if parsed == Err(httparse::Error::TooManyHeaders) {
        many = vec![EMPTY_HEADER; MANY];
        answer = httparse::Response::new(&mut many);
        parsed = answer.parse(&bytes);
    }
    match parsed {
        Ok(Status::Complete(used)) if used == bytes.len() => {}
        Ok(_) => return Err(HeadFault::Syntax("an empty line is missing or too many")),
        Err(httparse::Error::Version) => return Err(HeadFault::Syntax("version")),
        Err(httparse::Error::Status) => return Err(HeadFault::Syntax("status")),
        Err(httparse::Error::TooManyHeaders) => return Err(HeadFault::Syntax("more than 512 headers")),
        Err(_) => return Err(HeadFault::Syntax("header")),
    }
    let (mut head, ()) = Response::new(()).into_parts();
    head.status = answer.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or(HeadFault::Syntax("status"))?;
    head.headers.reserve(answer.headers.len());
    let mut framing = Framing::default();
    for header in answer.headers.iter() {
        let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|_| HeadFault::Syntax("a header's name"))?;
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(header.value))
            .map_err(|_| HeadFault::Syntax("a header's value"))?;
        framing.coding |= name == TRANSFER_ENCODING;
        framing.length |= name == CONTENT_LENGTH;
        framing.connection |= name == CONNECTION;
        head.headers.append(name, value);
    }
    let version = if answer.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    Ok((version, head, framing))
}

/// RFC 9112, 6.3 and 9.3.
fn answer(version: Version, head: response::Parts, framing: Framing, method: &Method) -> Result<Answer, HeadFault> {
    let coded = framing.coding && is_chunked(&head.headers)?;
    let length = if framing.length { content_length(&head.headers)? } else { None };
    // RFC 9112, 6.1 and 6.3: with both, and with chunks in HTTP/1.0, the connection's further bytes are in doubt.
    let doubtful = coded && (length.is_some() || version == Version::HTTP_10);
    let bodiless =
        *method == Method::HEAD || head.status == StatusCode::NO_CONTENT || head.status == StatusCode::NOT_MODIFIED;
    let content = match (bodiless, coded, length) {
        (true, _, _) | (_, false, Some(0)) => Content::None,
        (_, true, _) => Content::Chunked,
        (_, _, Some(length)) => Content::Length(length),
        (_, _, None) => Content::UntilClose,
    };
    let kept = if framing.connection { is_kept(version, &head.headers) } else { version == Version::HTTP_11 };
    let keep_alive = !doubtful && content != Content::UntilClose && kept;
    Ok(Answer { head, content, keep_alive })
}

fn is_chunked(headers: &HeaderMap) -> Result<bool, HeadFault> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => Ok(false),
        (Some(only), None) if only.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked") => Ok(true),
        _ => Err(HeadFault::Framing("Transfer-Encoding")),
    }
}

fn content_length(headers: &HeaderMap) -> Result<Option<u64>, HeadFault> {
    let fault = HeadFault::Framing("Content-Length");
    let mut found = None;
    for value in headers.get_all(CONTENT_LENGTH) {
        let text = value.to_str().map_err(|_| fault)?.trim_matches([' ', '\t']);
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(fault);
        }
        let length: u64 = text.parse().map_err(|_| fault)?;
        if found.replace(length).is_some_and(|before| before != length) {
            return Err(fault);
        }
    }
    Ok(found)
}

fn is_kept(version: Version, headers: &HeaderMap) -> bool {
    let says = |word: &[u8]| {
        let values = headers.get_all(CONNECTION).iter();
        values
            .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
            .any(|named| named.trim_ascii().eq_ignore_ascii_case(word))
    };
    !says(b"close") && (version == Version::HTTP_11 || says(b"keep-alive"))
}

#[cfg(test)]
mod tests;
