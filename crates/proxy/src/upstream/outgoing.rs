//! A request as its attempts send it: in memory as often as needed, or once from the client.
//!
//! Its HTTP/1.1 bytes are made once and serve every attempt.

use std::io::IoSlice;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Version, header, request};
use tidegate_http1::{RequestLength, write_head};

use super::body::{Buffered, Streaming, UpstreamBody};

/// A body up to this many bytes goes into the head's buffer: one copy costs less than one more piece to write.
const SMALL: usize = 8 * 1024;
/// Pieces that one write takes.
const PIECES: usize = 8;

/// Where a request came from, for the endpoint to know. Beside the head's map, which would have to grow for it; what the
/// client's own headers, or a filter, say already is in the map and not here.
#[derive(Clone, Debug, Default)]
pub struct CameFrom {
    /// `x-forwarded-for`.
    pub address: Option<HeaderValue>,
    /// `x-forwarded-proto`.
    pub protocol: Option<&'static str>,
    /// `x-forwarded-host`.
    pub host: Option<HeaderValue>,
}

impl CameFrom {
    fn lines(&self) -> impl Iterator<Item = (&'static str, &[u8])> {
        let address = self.address.as_ref().map(|value| ("x-forwarded-for", value.as_bytes()));
        let protocol = self.protocol.map(|protocol| ("x-forwarded-proto", protocol.as_bytes()));
        let host = self.host.as_ref().map(|value| ("x-forwarded-host", value.as_bytes()));
        [address, protocol, host].into_iter().flatten()
    }

    /// Puts it into a map.
    pub(crate) fn put_into(self, headers: &mut HeaderMap) {
        for (name, value) in self.lines() {
            if let Ok(value) = HeaderValue::from_bytes(value) {
                headers.insert(name, value);
            }
        }
    }
}

/// A request to be sent.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) head: request::Parts,
    came_from: CameFrom,
    body: OutgoingBody,
    /// The head as HTTP/1.1, with the body where that is small; empty until it is first needed.
    wire: BytesMut,
    /// The body is in `wire`.
    inline: bool,
}

/// Its body.
#[derive(Debug)]
pub(crate) enum OutgoingBody {
    /// None.
    Empty,
    /// In memory.
    Kept(Vec<Bytes>),
    /// Still to come from the client; gone once an attempt took it.
    Once(Option<Box<Streaming>>),
}

/// How far the pieces of a request have been written.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cursor {
    piece: usize,
    offset: usize,
}

impl Outgoing {
    pub(crate) fn new(head: request::Parts, came_from: CameFrom, body: OutgoingBody) -> Self {
        Self { head, came_from, body, wire: BytesMut::new(), inline: false }
    }

    /// Whether all of it is still there to be sent.
    pub(crate) fn is_there(&self) -> bool {
        !matches!(self.body, OutgoingBody::Once(None))
    }

    /// Makes the HTTP/1.1 bytes, where they are not there yet.
    pub(super) fn encode(&mut self) {
        if !self.wire.is_empty() {
            return;
        }
        match &self.body {
            OutgoingBody::Empty => {
                write_head(&self.head, self.came_from.lines(), RequestLength::Empty, &mut self.wire);
            }
            OutgoingBody::Kept(parts) => {
                let length: usize = parts.iter().map(Bytes::len).sum();
                self.inline = length <= SMALL;
                // Room for a usual head, so that the buffer does not grow while it is filled.
                self.wire.reserve(if self.inline { length + 1024 } else { 1024 });
                write_head(&self.head, self.came_from.lines(), RequestLength::Exact(length as u64), &mut self.wire);
                for part in parts.iter().filter(|_| self.inline) {
                    self.wire.extend_from_slice(part);
                }
            }
            OutgoingBody::Once(body) => {
                let length = body.as_ref().and_then(|body| body.length());
                let length = length.map_or(RequestLength::Chunked, RequestLength::Exact);
                write_head(&self.head, self.came_from.lines(), length, &mut self.wire);
            }
        }
    }

    /// The client's body, for the attempt that sends it, and whether it goes in chunks.
    pub(super) fn take_streaming(&mut self) -> Option<(Box<Streaming>, bool)> {
        let OutgoingBody::Once(body) = &mut self.body else { return None };
        body.take().map(|body| {
            let chunked = body.length().is_none();
            (body, chunked)
        })
    }

    fn piece(&self, index: usize) -> Option<&[u8]> {
        match (index.checked_sub(1), &self.body) {
            (None, _) => Some(&self.wire),
            (Some(part), OutgoingBody::Kept(parts)) if !self.inline => parts.get(part).map(|part| &**part),
            _ => None,
        }
    }

    /// What is to be written next, as many pieces as one write takes; `None` when all has been written.
    pub(super) fn slices(&self, cursor: Cursor) -> Option<([IoSlice<'_>; PIECES], usize)> {
        let mut slices = [IoSlice::new(&[]); PIECES];
        let mut count = 0;
        let mut offset = cursor.offset;
        for (slot, index) in slices.iter_mut().zip(cursor.piece..) {
            let Some(piece) = self.piece(index) else { break };
            *slot = IoSlice::new(piece.get(offset..).unwrap_or_default());
            offset = 0;
            count += 1;
        }
        (count > 0).then_some((slices, count))
    }

    /// Moves a cursor over bytes that were written, and over pieces that are empty.
    pub(super) fn advance(&self, cursor: &mut Cursor, mut written: usize) {
        while let Some(piece) = self.piece(cursor.piece) {
            let left = piece.len().saturating_sub(cursor.offset);
            if written < left {
                cursor.offset += written;
                return;
            }
            written -= left;
            *cursor = Cursor { piece: cursor.piece + 1, offset: 0 };
        }
    }

    /// Bytes that a cursor has not reached, for an exchange that outlives this.
    pub(super) fn rest(&self, cursor: Cursor) -> BytesMut {
        let mut rest = BytesMut::new();
        let mut offset = cursor.offset;
        for index in cursor.piece.. {
            let Some(piece) = self.piece(index) else { break };
            rest.extend_from_slice(piece.get(offset..).unwrap_or_default());
            offset = 0;
        }
        rest
    }

    /// Takes a body back of which nothing was sent.
    pub(super) fn take_back(&mut self, body: UpstreamBody) {
        if let (OutgoingBody::Once(place), UpstreamBody::Streaming(streaming)) = (&mut self.body, body) {
            *place = Some(streaming);
        }
    }

    /// The request for an HTTP/2 connection, with what that wants instead of a Host header.
    pub(super) fn http2(&mut self) -> Request<UpstreamBody> {
        let body = match &mut self.body {
            OutgoingBody::Empty | OutgoingBody::Once(None) => UpstreamBody::Empty,
            OutgoingBody::Kept(parts) => UpstreamBody::Buffered(Buffered::new(Arc::from(&**parts))),
            OutgoingBody::Once(body) => body.take().map_or(UpstreamBody::Empty, UpstreamBody::Streaming),
        };
        let mut request = Request::from_parts(self.head.clone(), body);
        *request.version_mut() = Version::HTTP_2;
        self.came_from.clone().put_into(request.headers_mut());
        // hyper says the length that the body has.
        request.headers_mut().remove(header::CONTENT_LENGTH);
        if let Some(host) = request.headers_mut().remove(header::HOST) {
            let mut parts = std::mem::take(request.uri_mut()).into_parts();
            parts.scheme = Some(http::uri::Scheme::HTTP);
            parts.authority = host.as_bytes().try_into().ok().or(parts.authority);
            *request.uri_mut() = http::Uri::from_parts(parts).unwrap_or_default();
        }
        request
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outgoing(parts: Vec<Bytes>) -> Outgoing {
        let (head, ()) = Request::post("/").body(()).unwrap().into_parts();
        let mut outgoing = Outgoing::new(head, CameFrom::default(), OutgoingBody::Kept(parts));
        outgoing.encode();
        outgoing
    }

    /// Writes it `step` bytes at a time.
    fn written(outgoing: &Outgoing, step: usize) -> Vec<u8> {
        let (mut out, mut cursor) = (Vec::new(), Cursor::default());
        while let Some((slices, count)) = outgoing.slices(cursor) {
            let all: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.iter().copied()).collect();
            let some = &all[..step.min(all.len())];
            assert_eq!(outgoing.rest(cursor)[..some.len()], *some);
            out.extend_from_slice(some);
            outgoing.advance(&mut cursor, some.len());
        }
        out
    }

    #[test]
    fn however_it_is_written_it_is_the_same() {
        for length in [0, 1, SMALL, SMALL + 1] {
            let parts: Vec<Bytes> = vec!["{".into(), Bytes::new(), vec![b'x'; length].into(), "}".into()];
            let expected =
                format!("POST / HTTP/1.1\r\ncontent-length: {}\r\n\r\n{{{}}}", length + 2, "x".repeat(length));
            let outgoing = outgoing(parts);
            for step in [1, 7, 100_000] {
                assert_eq!(written(&outgoing, step), expected.as_bytes(), "{length} {step}");
            }
        }
        let many = outgoing((0..PIECES * 2).map(|_| vec![b'y'; SMALL].into()).collect());
        assert!(written(&many, 1000).ends_with(&vec![b'y'; SMALL * PIECES * 2]));
    }
}
