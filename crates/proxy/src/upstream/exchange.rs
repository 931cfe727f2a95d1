//! One request and its answer on one HTTP/1.1 connection.
//!
//! The task that serves the client drives this too: no other task is woken, and what came at once goes on at once. A
//! connection whose answer was read to its end goes back to its endpoint; any other is closed when this is dropped.

use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use http::{Method, response};
use http_body::Frame;
use tidegate_http1::{Content, Decoder, LONGEST_HEAD, read_head, write_chunk, write_end};
use tokio::io::{AsyncReadExt as _, AsyncWrite as _};
use tokio::net::TcpStream;

use super::Upstream;
use super::answer::AnswerFault;
use super::body::Streaming;
use super::outgoing::{Cursor, Outgoing};

/// Room for a read: an answer's head and a whole small answer, or some tokens.
const ROOM: usize = 8 * 1024;
/// Room once a read has filled the usual one, and how much is taken from the socket before any of it goes on.
const MUCH: usize = 64 * 1024;

/// A connection between two requests.
#[derive(Debug)]
pub(super) struct Kept {
    stream: TcpStream,
    buffer: BytesMut,
}

impl Kept {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, buffer: BytesMut::new() }
    }

    /// Whether the endpoint has neither closed it nor sent what nobody asked for. Asks what the runtime knows; the
    /// system is asked only where there is news.
    pub(super) fn is_sound(&self) -> bool {
        let mut byte = [0; 1];
        matches!(self.stream.try_read(&mut byte), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}

/// A request that is being sent and its answer that comes.
#[derive(Debug)]
pub(crate) struct Exchange {
    /// `None` once it was given back or is of no use any more.
    stream: Option<TcpStream>,
    buffer: BytesMut,
    sending: Sending,
    decoder: Decoder,
    keep_alive: bool,
    home: Arc<Upstream>,
    idle: Option<Duration>,
}

/// What is still to be sent.
#[derive(Debug)]
enum Sending {
    /// Of what the caller holds.
    Pieces(Cursor),
    /// Bytes, then what is to come from the client.
    Staged { bytes: BytesMut, body: Option<(Box<Streaming>, bool)> },
    /// Nothing.
    Over,
}

/// A request that could not be sent or was not answered.
pub(super) struct Unanswered {
    pub(super) fault: AnswerFault,
    /// Nothing of it was written.
    pub(super) unsent: bool,
}

impl Exchange {
    /// An exchange that is to begin.
    pub(super) fn new(kept: Kept, home: Arc<Upstream>, idle: Option<Duration>) -> Box<Self> {
        let Kept { stream, buffer } = kept;
        Box::new(Self {
            stream: Some(stream),
            buffer,
            sending: Sending::Pieces(Cursor::default()),
            decoder: Decoder::new(Content::None),
            keep_alive: false,
            home,
            idle,
        })
    }

    /// Sends the request and waits for the answer's head. A server may answer before it has all of the request.
    pub(super) async fn head(&mut self, outgoing: &mut Outgoing) -> Result<response::Parts, Unanswered> {
        outgoing.encode();
        let mut sent = 0_u64;
        let mut broken = None;
        let outcome = std::future::poll_fn(|context| {
            if broken.is_none()
                && let Poll::Ready(Err(fault)) = self.poll_send(context, Some(outgoing), &mut sent)
            {
                if sent == 0 || matches!(fault, AnswerFault::Body(_)) {
                    return Poll::Ready(Err(fault));
                }
                // It may have said why it takes no more.
                broken = Some(fault);
            }
            match ready!(self.poll_head(context, &outgoing.head.method)) {
                Err(AnswerFault::Connection(error)) => {
                    Poll::Ready(Err(broken.take().unwrap_or(AnswerFault::Connection(error))))
                }
                outcome => Poll::Ready(outcome),
            }
        })
        .await;
        match outcome {
            Ok(head) => {
                self.detach(outgoing, broken.is_some());
                Ok(head)
            }
            Err(fault) => Err(Unanswered { fault, unsent: sent == 0 }),
        }
    }

    /// Takes along what is still to be sent behind the answer's head.
    fn detach(&mut self, outgoing: &Outgoing, broken: bool) {
        if let Sending::Pieces(cursor) = self.sending {
            self.sending = Sending::Staged { bytes: outgoing.rest(cursor), body: None };
        }
        if broken {
            self.sending = Sending::Over;
            self.keep_alive = false;
        }
        if self.decoder.is_end() {
            self.finish();
        }
    }

    /// Sends as much as goes; ready when all has gone.
    fn poll_send(
        &mut self,
        context: &mut Context<'_>,
        mut outgoing: Option<&mut Outgoing>,
        sent: &mut u64,
    ) -> Poll<Result<(), AnswerFault>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(Ok(())) };
        loop {
            match &mut self.sending {
                Sending::Over => return Poll::Ready(Ok(())),
                Sending::Pieces(cursor) => {
                    let Some(outgoing) = outgoing.as_deref_mut() else { return Poll::Ready(Ok(())) };
                    if let Some((slices, count)) = outgoing.slices(*cursor) {
                        let written = ready!(write(stream, context, slices.get(..count).unwrap_or_default()))?;
                        *sent += written as u64;
                        outgoing.advance(cursor, written);
                    } else {
                        self.sending = match outgoing.take_streaming() {
                            Some(body) => Sending::Staged { bytes: BytesMut::new(), body: Some(body) },
                            None => Sending::Over,
                        };
                    }
                }
                Sending::Staged { bytes, .. } if !bytes.is_empty() => {
                    let written = ready!(write(stream, context, &[IoSlice::new(bytes)]))?;
                    *sent += written as u64;
                    bytes.advance(written);
                }
                Sending::Staged { body: None, .. } => self.sending = Sending::Over,
                Sending::Staged { bytes, body: body @ Some(_) } => ready!(stage(bytes, body, context))?,
            }
        }
    }

    /// Reads until the answer's head is whole.
    fn poll_head(&mut self, context: &mut Context<'_>, method: &Method) -> Poll<Result<response::Parts, AnswerFault>> {
        loop {
            if !self.buffer.is_empty()
                && let Some(answer) = read_head(&mut self.buffer, method)?
            {
                self.decoder = Decoder::new(answer.content);
                self.keep_alive = answer.keep_alive;
                return Poll::Ready(Ok(answer.head));
            }
            if ready!(self.poll_read(context, LONGEST_HEAD))? == 0 {
                let kind = io::ErrorKind::UnexpectedEof;
                let error = io::Error::new(kind, "the endpoint closed the connection without an answer");
                return Poll::Ready(Err(error.into()));
            }
        }
    }

    /// Reads what has come, `most` bytes or somewhat more; 0 at the connection's end.
    fn poll_read(&mut self, context: &mut Context<'_>, most: usize) -> Poll<io::Result<usize>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(Ok(0)) };
        let mut all = 0;
        loop {
            if self.buffer.capacity() - self.buffer.len() < ROOM / 8 {
                self.buffer.reserve(if all == 0 { ROOM } else { MUCH });
            }
            let room = self.buffer.capacity() - self.buffer.len();
            match pin!(stream.read_buf(&mut self.buffer)).poll(context) {
                Poll::Ready(Ok(read)) => {
                    all += read;
                    if read < room || all >= most {
                        return Poll::Ready(Ok(all));
                    }
                }
                // What came before goes on; the error, if it is one, comes again.
                _ if all > 0 => return Poll::Ready(Ok(all)),
                other => return other,
            }
        }
    }

    pub(super) fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, AnswerFault>>> {
        if !matches!(self.sending, Sending::Over)
            && let Poll::Ready(Err(_)) = self.poll_send(context, None, &mut 0)
        {
            // The answer is what counts now; the connection cannot be used again.
            self.sending = Sending::Over;
            self.keep_alive = false;
        }
        loop {
            let frame = match self.decoder.decode(&mut self.buffer) {
                Ok(frame) => frame,
                Err(fault) => return Poll::Ready(Some(Err(self.broken(fault.into())))),
            };
            if self.decoder.is_end() {
                self.finish();
                return Poll::Ready(frame.map(Ok));
            }
            if let Some(frame) = frame {
                return Poll::Ready(Some(Ok(frame)));
            }
            match ready!(self.poll_read(context, MUCH)) {
                Ok(0) => {
                    self.stream = None;
                    return Poll::Ready(self.decoder.end().err().map(|fault| Err(fault.into())));
                }
                Ok(_) => {}
                Err(error) => return Poll::Ready(Some(Err(self.broken(error.into())))),
            }
        }
    }

    fn broken(&mut self, fault: AnswerFault) -> AnswerFault {
        self.stream = None;
        fault
    }

    /// Whether the answer was read to its end.
    pub(super) fn is_end(&self) -> bool {
        self.decoder.is_end()
    }

    /// Gives the connection back where another request may use it, else closes it.
    fn finish(&mut self) {
        let Some(stream) = self.stream.take() else { return };
        let sent = match &self.sending {
            Sending::Over => true,
            Sending::Staged { bytes, body } => bytes.is_empty() && body.is_none(),
            Sending::Pieces(_) => false,
        };
        if self.keep_alive && sent && self.buffer.is_empty() && self.idle != Some(Duration::ZERO) {
            let buffer = std::mem::take(&mut self.buffer);
            self.home.connections.push(Kept { stream, buffer }, self.idle);
        }
    }
}

/// Writes some; an end of the connection is an error.
fn write(stream: &mut TcpStream, context: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
    let outcome = match slices {
        [slice] => Pin::new(stream).poll_write(context, slice),
        slices => Pin::new(stream).poll_write_vectored(context, slices),
    };
    match ready!(outcome)? {
        0 => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
        written => Poll::Ready(Ok(written)),
    }
}

/// Takes the next frame of a client's body into `bytes`; `body` is gone at its end.
fn stage(
    bytes: &mut BytesMut,
    body: &mut Option<(Box<Streaming>, bool)>,
    context: &mut Context<'_>,
) -> Poll<Result<(), AnswerFault>> {
    let Some((streaming, chunked)) = body else { return Poll::Ready(Ok(())) };
    let frame = ready!(streaming.poll(context)).transpose()?;
    match frame.map(Frame::into_data) {
        Some(Ok(data)) if *chunked => write_chunk(&data, bytes),
        Some(Ok(data)) => bytes.extend_from_slice(&data),
        Some(Err(other)) => {
            if *chunked {
                write_end(other.trailers_ref(), bytes);
            }
            *body = None;
        }
        None => {
            if *chunked {
                write_end(None, bytes);
            }
            *body = None;
        }
    }
    Poll::Ready(Ok(()))
}
