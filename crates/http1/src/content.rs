//! The body of an answer, out of the bytes of the connection.
//!
//! All chunks that lie in the buffer are given as one piece: what came at once goes on at once.

use bytes::{Buf as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::Frame;
use httparse::{EMPTY_HEADER, Status};

use crate::answer::HEAD_END;

/// Bytes of trailers at most.
const LONGEST_TRAILERS: usize = 16 * 1024;
/// Trailers at most.
const MANY: usize = 64;
/// Bytes of chunk extensions, which mean nothing here, at most in one body.
const EXTENSIONS: u32 = 16 * 1024;

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// There is none.
    None,
    /// After that many bytes.
    Length(u64),
    /// With a chunk of length 0.
    Chunked,
    /// With the connection.
    UntilClose,
}

/// Why a body cannot be read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContentFault {
    /// Its chunks are malformed.
    #[error("the answer's chunks are malformed: {0}")]
    Chunk(&'static str),
    /// Its trailers are malformed or too long.
    #[error("the answer's trailers are malformed")]
    Trailers,
    /// The connection ended before the body did.
    #[error("the answer broke off")]
    BrokenOff,
}

/// Takes a body out of a buffer.
#[derive(Debug)]
pub struct Decoder {
    state: State,
    extensions: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Length(u64),
    UntilClose,
    /// In a chunk's size line; how many digits have come.
    Size {
        size: u64,
        digits: u8,
    },
    Extension {
        size: u64,
    },
    SizeEnd {
        size: u64,
    },
    Data(u64),
    DataEnd,
    DataEnded,
    Trailers,
    End,
}

/// What one step through a chunked body found.
enum Step {
    /// Data from a position, that long.
    Data(usize, usize),
    /// Nothing but framing.
    Framing,
}

impl Decoder {
    /// At the body's first byte.
    pub fn new(content: Content) -> Self {
        let state = match content {
            Content::None | Content::Length(0) => State::End,
            Content::Length(length) => State::Length(length),
            Content::Chunked => State::Size { size: 0, digits: 0 },
            Content::UntilClose => State::UntilClose,
        };
        Self { state, extensions: EXTENSIONS }
    }

    /// Whether the body has been read to its end.
    pub fn is_end(&self) -> bool {
        self.state == State::End
    }

    /// Bytes that are still to come where that is known.
    pub fn remaining(&self) -> Option<u64> {
        match self.state {
            State::Length(left) => Some(left),
            State::End => Some(0),
            _ => None,
        }
    }

    /// Takes what can be taken: data, or trailers behind all data; `None` when more has to come, or at the end.
    ///
    /// # Errors
    /// The body cannot be read on; the connection cannot be used further.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame<Bytes>>, ContentFault> {
        let data = match &mut self.state {
            State::End => return Ok(None),
            State::UntilClose => buffer.split(),
            State::Length(left) => {
                let length = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
                *left -= length as u64;
                if *left == 0 {
                    self.state = State::End;
                }
                buffer.split_to(length)
            }
            _ => self.chunks(buffer)?,
        };
        if !data.is_empty() {
            // Said with the last data where it is known: then no one has to ask for the end.
            if self.state == State::Trailers && buffer.starts_with(b"\r\n") {
                buffer.advance(2);
                self.state = State::End;
            }
            return Ok(Some(Frame::data(data.freeze())));
        }
        if self.state == State::Trailers {
            return self.trailers(buffer).map(|trailers| trailers.map(Frame::trailers));
        }
        Ok(None)
    }

    /// The connection has ended.
    ///
    /// # Errors
    /// The body has not.
    pub fn end(&mut self) -> Result<(), ContentFault> {
        match self.state {
            State::End => Ok(()),
            State::UntilClose => {
                self.state = State::End;
                Ok(())
            }
            _ => Err(ContentFault::BrokenOff),
        }
    }

    /// The data of all chunks in the buffer, moved together at the place of the first.
    fn chunks(&mut self, buffer: &mut BytesMut) -> Result<BytesMut, ContentFault> {
        let (mut at, mut data) = (0, None::<(usize, usize)>);
        while at < buffer.len() && !matches!(self.state, State::Trailers | State::End) {
            match self.step(buffer, &mut at)? {
                Step::Framing => {}
                Step::Data(from, length) => match &mut data {
                    None => data = Some((from, from + length)),
                    Some((_, end)) => {
                        buffer.copy_within(from..from + length, *end);
                        *end += length;
                    }
                },
            }
        }
        let Some((start, end)) = data else {
            buffer.advance(at);
            return Ok(BytesMut::new());
        };
        buffer.advance(start);
        let mut taken = buffer.split_to(at - start);
        taken.truncate(end - start);
        Ok(taken)
    }

    /// One byte of framing, or as much of a chunk's data as is there.
    fn step(&mut self, buffer: &[u8], at: &mut usize) -> Result<Step, ContentFault> {
        if let State::Data(left) = self.state {
            let length = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len() - *at);
            let from = *at;
            *at += length;
            let left = left - length as u64;
            self.state = if left == 0 { State::DataEnd } else { State::Data(left) };
            return Ok(Step::Data(from, length));
        }
        let Some(byte) = buffer.get(*at).copied() else { return Ok(Step::Framing) };
        *at += 1;
        self.state = match (self.state, byte) {
            (State::Size { size, digits }, digit) if digit.is_ascii_hexdigit() => {
                if digits >= 16 {
                    return Err(ContentFault::Chunk("a size of more than 16 digits"));
                }
                let value = char::from(digit).to_digit(16).unwrap_or_default();
                State::Size { size: size << 4 | u64::from(value), digits: digits + 1 }
            }
            (State::Size { digits: 0, .. }, _) => return Err(ContentFault::Chunk("no size")),
            (State::Size { size, .. }, b'\r') => State::SizeEnd { size },
            (State::Size { size, .. }, b';' | b' ' | b'\t') => State::Extension { size },
            (State::Extension { size }, b'\r') => State::SizeEnd { size },
            (State::Extension { size }, byte) if byte != b'\n' => {
                self.extensions =
                    self.extensions.checked_sub(1).ok_or(ContentFault::Chunk("extensions without end"))?;
                State::Extension { size }
            }
            (State::SizeEnd { size: 0 }, b'\n') => State::Trailers,
            (State::SizeEnd { size }, b'\n') => State::Data(size),
            (State::DataEnd, b'\r') => State::DataEnded,
            (State::DataEnded, b'\n') => State::Size { size: 0, digits: 0 },
            (State::DataEnd | State::DataEnded, _) => return Err(ContentFault::Chunk("more data than its size")),
            _ => return Err(ContentFault::Chunk("its size is no number")),
        };
        Ok(Step::Framing)
    }

    /// Trailers, once they are whole; `None` also where there are none, and then the body has ended.
    fn trailers(&mut self, buffer: &mut BytesMut) -> Result<Option<HeaderMap>, ContentFault> {
        if buffer.starts_with(b"\r\n") {
            buffer.advance(2);
            self.state = State::End;
            return Ok(None);
        }
        let Some(end) = HEAD_END.find(buffer) else {
            return if buffer.len() > LONGEST_TRAILERS { Err(ContentFault::Trailers) } else { Ok(None) };
        };
        if end > LONGEST_TRAILERS {
            return Err(ContentFault::Trailers);
        }
        let bytes = buffer.split_to(end + 4).freeze();
        let mut room = [EMPTY_HEADER; MANY];
        let Ok(Status::Complete((used, headers))) = httparse::parse_headers(&bytes, &mut room) else {
            return Err(ContentFault::Trailers);
        };
        if used != bytes.len() {
            return Err(ContentFault::Trailers);
        }
        let mut trailers = HeaderMap::with_capacity(headers.len());
        for header in headers {
            let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|_| ContentFault::Trailers)?;
            let value =
                HeaderValue::from_maybe_shared(bytes.slice_ref(header.value)).map_err(|_| ContentFault::Trailers)?;
            trailers.append(name, value);
        }
        self.state = State::End;
        Ok(Some(trailers))
    }
}

#[cfg(test)]
mod tests;
