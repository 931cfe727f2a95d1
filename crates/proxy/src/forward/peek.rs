//! What the beginning of an answer says: that it can pass, or that the server is going away.
//!
//! Holds back only what has to be seen before a byte goes to the client: the first event of a stream, because model
//! servers refuse inside a 200 stream, and the text of a 500.

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode, response};
use tidegate_body::answer::{AnswerKind, FirstEvent, first_event};

use crate::upstream::answer::{AnswerFault, AnswerStream};

/// Most of an error's body that is looked at.
const ERROR_BYTES: usize = 4 * 1024;
/// Most of a stream that is held back for its first event; a longer one is no refusal.
const EVENT_BYTES: usize = 64 * 1024;
/// What an engine that is shutting down, or has died, writes into its 500.
const GONE: [&[u8]; 3] =
    [b"cannot schedule new futures after shutdown", b"EngineCore encountered an issue", b"EngineDeadError"];

/// What an answer means for the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is the answer.
    Pass,
    /// Another endpoint may do better. Says nothing against this one (it has too much to do, or the rule asks for it).
    Refused,
    /// Another endpoint may do better, and this one is broken.
    Broken,
}

/// An answer's beginning.
#[derive(Debug)]
pub(crate) struct Peeked {
    pub(crate) head: response::Parts,
    pub(crate) kind: AnswerKind,
    /// Content-Length.
    pub(crate) length: Option<u64>,
    pub(crate) first: Bytes,
    /// `None` when `first` is all.
    pub(crate) body: Option<AnswerStream>,
    pub(crate) verdict: Verdict,
}

/// Looks at as much of an answer as its meaning needs.
///
/// # Errors
/// The endpoint broke off before that much had come.
pub(crate) async fn peek(
    head: response::Parts,
    body: AnswerStream,
    codes: &[u16],
    inference: bool,
) -> Result<Peeked, AnswerFault> {
    let status = head.status;
    let verdict = if status == StatusCode::SERVICE_UNAVAILABLE || codes.contains(&status.as_u16()) {
        Verdict::Refused
    } else {
        Verdict::Pass
    };
    let (kind, length) = described(&head.headers);
    let mut peeked = Peeked { head, kind, length, first: Bytes::new(), body: Some(body), verdict };
    if status == StatusCode::INTERNAL_SERVER_ERROR {
        peeked.gather(|seen| seen.len() >= ERROR_BYTES).await?;
        let seen = peeked.first.get(..ERROR_BYTES).unwrap_or(&peeked.first);
        if GONE.iter().any(|text| seen.windows(text.len()).any(|window| window == *text)) {
            peeked.verdict = Verdict::Broken;
        }
    } else if inference && status == StatusCode::OK && kind == AnswerKind::EventStream {
        peeked.gather(|seen| seen.len() >= EVENT_BYTES || first_event(seen) != FirstEvent::Incomplete).await?;
        match first_event(&peeked.first) {
            FirstEvent::Error { code: Some(500) } => peeked.verdict = Verdict::Broken,
            FirstEvent::Error { code: Some(503) } => peeked.verdict = Verdict::Refused,
            // It ended, or was broken off, before it said anything.
            FirstEvent::Incomplete if peeked.body.is_none() => peeked.verdict = Verdict::Broken,
            _ => {}
        }
    }
    Ok(peeked)
}

impl Peeked {
    /// Reads until `enough` is true of what came, or to the end.
    async fn gather(&mut self, enough: impl Fn(&[u8]) -> bool) -> Result<(), AnswerFault> {
        let mut joined = BytesMut::new();
        while let Some(body) = &mut self.body {
            // Trailers end a body, and neither errors nor event streams have any that mean something.
            let Some(data) = body.frame().await.transpose()?.and_then(|frame| frame.into_data().ok()) else {
                self.body = None;
                break;
            };
            // Nearly always all of it comes in one piece, and then it is not copied.
            let seen: &[u8] = if self.first.is_empty() && joined.is_empty() {
                self.first = data;
                &self.first
            } else {
                joined.extend_from_slice(&std::mem::take(&mut self.first));
                joined.extend_from_slice(&data);
                &joined
            };
            if enough(seen) {
                break;
            }
        }
        if !joined.is_empty() {
            self.first = joined.freeze();
        }
        Ok(())
    }
}

/// What the head says of the body: how it is read, and how long it is where that is known.
fn described(headers: &HeaderMap) -> (AnswerKind, Option<u64>) {
    let (mut kind, mut length, mut encoded) = (AnswerKind::Opaque, None, false);
    // One pass: three searches cost more than a look at the few headers that an answer has.
    for (name, value) in headers {
        match *name {
            CONTENT_TYPE => kind = kind_of(value),
            CONTENT_LENGTH => length = value.to_str().ok().and_then(|length| length.trim().parse().ok()),
            CONTENT_ENCODING => encoded = !value.as_bytes().eq_ignore_ascii_case(b"identity"),
            _ => {}
        }
    }
    (if encoded { AnswerKind::Opaque } else { kind }, length)
}

fn kind_of(value: &HeaderValue) -> AnswerKind {
    let kind = value.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    if kind.eq_ignore_ascii_case(b"text/event-stream") {
        AnswerKind::EventStream
    } else if kind.eq_ignore_ascii_case(b"application/json") {
        AnswerKind::Json
    } else {
        AnswerKind::Opaque
    }
}
