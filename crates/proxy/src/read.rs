//! Read: the request's body, and what it says of its model.
//!
//! On rules with an InferencePool a body is taken into memory once (so that it can be sent again elsewhere) and
//! scanned once. On other rules it is left to stream. Must not change a byte.

use std::future::poll_fn;
use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT};
use http::{HeaderMap, HeaderValue, Method, request};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tidegate_body::scan::{Fields, ModelField, ScanError};
use tidegate_body::{multipart, scan};
use tidegate_routing::snapshot::Limits;
use tidegate_telemetry::Reason;
use tokio::time::{Instant, timeout_at};

use crate::error::Refusal;

/// A body in memory and what it says.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReadBody {
    /// As it came.
    pub(crate) bytes: Bytes,
    /// The model asked for.
    pub(crate) model: Option<Arc<str>>,
    /// Where the model can be put.
    pub(crate) place: ModelPlace,
    /// `stream: true`.
    pub(crate) stream: bool,
    /// Members that tell a session, or how long the answer may be.
    pub(crate) fields: Fields,
    /// It was taken into memory; else it still is to come from the client.
    pub(crate) kept: bool,
}

/// Where in a body a model's name stands, or could.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum ModelPlace {
    /// Nowhere: a body that has no such thing.
    #[default]
    None,
    /// A JSON string, quotes included.
    Json(Range<usize>),
    /// A JSON object without `model`, which can be inserted there.
    Insert { object_start: usize, empty: bool },
    /// The content of a multipart part.
    Multipart(Range<usize>),
}

/// What a content type says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    Json,
    Multipart,
    Other,
}

/// How much of a body that is refused is read and dropped, so that a client which sends before it reads gets the answer
/// instead of a reset.
const DISCARD_BYTES: u64 = 64 * 1024 * 1024;
const DISCARD_TIME: Duration = Duration::from_secs(5);
/// Room made for a body before its first byte came, whatever length its head claims.
const FIRST_ROOM: u64 = 256 * 1024;

/// Takes the body of a request into memory and scans it.
///
/// # Errors
/// 400, 408, 413 or 415; see [`Reason`].
pub(crate) async fn read(
    head: &request::Parts,
    body: &mut Option<Incoming>,
    limits: &Limits,
    started: Instant,
) -> Result<ReadBody, Refusal> {
    let described = Described::of(&head.headers);
    if described.encoded {
        return Err(Refusal::new(
            Reason::CompressedBody,
            "compressed request bodies are not read here; send the body without Content-Encoding",
        ));
    }
    let kept = keep_described(described, body, limits, started).await?;
    if head.method != Method::POST || (kept.bytes.is_empty() && described.content != Content::Json) {
        return Ok(kept);
    }
    interpret(described.content, &head.headers, kept.bytes)
}

/// Takes the body of a request into memory and does not look at it.
///
/// # Errors
/// 408 or 413; see [`Reason`].
pub(crate) async fn keep(
    head: &request::Parts,
    body: &mut Option<Incoming>,
    limits: &Limits,
    started: Instant,
) -> Result<ReadBody, Refusal> {
    keep_described(Described::of(&head.headers), body, limits, started).await
}

async fn keep_described(
    described: Described,
    body: &mut Option<Incoming>,
    limits: &Limits,
    started: Instant,
) -> Result<ReadBody, Refusal> {
    described.check_length(limits)?;
    Ok(ReadBody { bytes: collect(body, limits, started).await?, kept: true, ..ReadBody::default() })
}

/// Refuses a body whose announced length is over the limit, before a byte of it is read.
pub(crate) fn check_length(headers: &HeaderMap, limits: &Limits) -> Result<(), Refusal> {
    Described::of(headers).check_length(limits)
}

/// What a head says of its body, found in one pass over the headers.
#[derive(Clone, Copy, Debug)]
struct Described {
    content: Content,
    length: Option<u64>,
    encoded: bool,
}

impl Described {
    fn of(headers: &HeaderMap) -> Self {
        let mut described = Self { content: Content::Other, length: None, encoded: false };
        for (name, value) in headers {
            match *name {
                CONTENT_TYPE => described.content = content(value),
                CONTENT_LENGTH => described.length = value.to_str().ok().and_then(|length| length.trim().parse().ok()),
                CONTENT_ENCODING => described.encoded |= !value.as_bytes().eq_ignore_ascii_case(b"identity"),
                _ => {}
            }
        }
        described
    }

    fn check_length(self, limits: &Limits) -> Result<(), Refusal> {
        match self.length {
            Some(length) if length > limits.body_bytes => Err(too_large(limits)),
            _ => Ok(()),
        }
    }
}

/// What a POST's body says.
fn interpret(content: Content, headers: &HeaderMap, bytes: Bytes) -> Result<ReadBody, Refusal> {
    let read = match content {
        Content::Json => json(scan::scan(&bytes).map_err(refusal)?),
        Content::Multipart => {
            let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
            let boundary = multipart::boundary(kind).ok_or_else(|| {
                Refusal::new(Reason::InvalidMultipart, "the multipart content type names no valid boundary")
            })?;
            match multipart::find_model(&bytes, &boundary).map_err(multipart_refusal)? {
                Some(ModelField { span, name }) => ReadBody {
                    model: Some(Arc::from(&*name)),
                    place: ModelPlace::Multipart(span),
                    ..ReadBody::default()
                },
                None => ReadBody::default(),
            }
        }
        // Clients forget the content type. What reads as JSON is treated so, all else passes by its route alone.
        Content::Other => scan::scan(&bytes).map(json).unwrap_or_default(),
    };
    Ok(ReadBody { bytes, kept: true, ..read })
}

/// What a JSON body says; its bytes are still to be put in.
fn json(scanned: scan::Scan<'_>) -> ReadBody {
    let scan::Scan { model, stream, object_start, empty, fields } = scanned;
    let (model, place) = match model {
        Some(ModelField { span, name }) => (Some(Arc::from(&*name)), ModelPlace::Json(span)),
        None => (None, ModelPlace::Insert { object_start, empty }),
    };
    ReadBody { model, place, stream, fields, ..ReadBody::default() }
}

/// All frames of a body in one piece; a single frame is not copied.
async fn collect(body: &mut Option<Incoming>, limits: &Limits, started: Instant) -> Result<Bytes, Refusal> {
    let Some(incoming) = body.as_mut().filter(|incoming| !incoming.is_end_stream()) else { return Ok(Bytes::new()) };
    let bytes = in_time(gather(incoming, limits), limits, started).await?;
    *body = None;
    Ok(bytes)
}

/// Gives a body's coming the rule's time.
async fn in_time(
    coming: impl Future<Output = Result<Bytes, Refusal>>,
    limits: &Limits,
    started: Instant,
) -> Result<Bytes, Refusal> {
    let mut coming = pin!(coming);
    // A small body came with its head: then no timer is made.
    let at_once = poll_fn(|context| Poll::Ready(coming.as_mut().poll(context))).await;
    match (at_once, limits.request_body) {
        (Poll::Ready(outcome), _) => outcome,
        (Poll::Pending, Some(limit)) => timeout_at(started + limit, coming).await.unwrap_or_else(|_| {
            let message = format!("the request's body was not complete within the limit of {limit:?}");
            Err(Refusal::new(Reason::RequestTimeout, message).closing())
        }),
        (Poll::Pending, None) => coming.await,
    }
}

async fn gather(incoming: &mut Incoming, limits: &Limits) -> Result<Bytes, Refusal> {
    let mut first = Bytes::new();
    let mut joined: Option<BytesMut> = None;
    let mut length = 0_u64;
    let claimed = incoming.size_hint().lower();
    while let Some(frame) = incoming.frame().await {
        let frame = frame.map_err(|_| Refusal::new(Reason::ClientLeft, "the request's body broke off").closing())?;
        let Ok(data) = frame.into_data() else { continue };
        length = length.saturating_add(data.len() as u64);
        if length > limits.body_bytes {
            return Err(too_large(limits));
        }
        match &mut joined {
            _ if data.is_empty() => {}
            Some(joined) => joined.extend_from_slice(&data),
            None if first.is_empty() => first = data,
            None => {
                let room = claimed.min(FIRST_ROOM.max(length * 2)).max(length);
                let mut all = BytesMut::with_capacity(usize::try_from(room).unwrap_or_default());
                all.extend_from_slice(&first);
                all.extend_from_slice(&data);
                joined = Some(all);
            }
        }
        // Where the length is known the end is not waited for: it comes in a turn of its own.
        if incoming.is_end_stream() {
            break;
        }
    }
    Ok(joined.map_or(first, BytesMut::freeze))
}

/// Reads and drops what is left of a refused request's body, within bounds.
pub(crate) async fn discard(headers: &HeaderMap, body: &mut Option<Incoming>) {
    // A client that waits for 100 Continue has sent nothing, and needs not send.
    let Some(incoming) = body.as_mut().filter(|_| !headers.contains_key(EXPECT)) else { return };
    if incoming.is_end_stream() || incoming.size_hint().lower() > DISCARD_BYTES {
        return;
    }
    let dropping = async {
        let mut dropped = 0_u64;
        while let Some(Ok(frame)) = incoming.frame().await {
            dropped += frame.data_ref().map_or(0, Bytes::len) as u64;
            if dropped > DISCARD_BYTES {
                break;
            }
        }
    };
    // Whether it ended or was given up, the answer goes out now.
    drop(timeout_at(Instant::now() + DISCARD_TIME, dropping).await);
}

/// `Content-Length` as a number.
pub(crate) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}

fn content(value: &HeaderValue) -> Content {
    // As nearly every client says it.
    if value.as_bytes() == b"application/json" {
        return Content::Json;
    }
    let Ok(value) = value.to_str() else { return Content::Other };
    let kind = value.split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case("application/json")
        || kind.eq_ignore_ascii_case("text/json")
        || ends_with(kind, "+json")
    {
        Content::Json
    } else if kind.eq_ignore_ascii_case("multipart/form-data") {
        Content::Multipart
    } else {
        Content::Other
    }
}

fn ends_with(text: &str, suffix: &str) -> bool {
    text.len()
        .checked_sub(suffix.len())
        .and_then(|at| text.get(at..))
        .is_some_and(|end| end.eq_ignore_ascii_case(suffix))
}

/// 413, naming the limit.
fn too_large(limits: &Limits) -> Refusal {
    let message = format!("the request's body is larger than this gateway's limit of {} bytes", limits.body_bytes);
    Refusal::new(Reason::BodyTooLarge, message)
}

fn refusal(error: ScanError) -> Refusal {
    let reason = match error {
        ScanError::Invalid { .. } => Reason::InvalidJson,
        ScanError::DuplicateModel { .. } => Reason::DuplicateModel,
        ScanError::InvalidModel { .. } => Reason::InvalidModel,
    };
    Refusal::new(reason, error.to_string())
}

fn multipart_refusal(error: ScanError) -> Refusal {
    match error {
        ScanError::Invalid { what, offset } => Refusal::new(
            Reason::InvalidMultipart,
            format!("the multipart body cannot be read: {what} at byte {offset}"),
        ),
        other => refusal(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(kind: Option<&str>) -> HeaderMap {
        kind.map(|kind| (CONTENT_TYPE, kind.parse().unwrap())).into_iter().collect()
    }

    fn interpret(headers: &HeaderMap, bytes: Bytes) -> Result<ReadBody, Refusal> {
        super::interpret(Described::of(headers).content, headers, bytes)
    }

    #[test]
    fn content_types_are_told_apart() {
        for (kind, expected) in [
            (Some("application/json"), Content::Json),
            (Some("Application/JSON; charset=utf-8"), Content::Json),
            (Some("application/vnd.api+json"), Content::Json),
            (Some("multipart/form-data; boundary=x"), Content::Multipart),
            (Some("text/plain"), Content::Other),
            (Some("é"), Content::Other),
            (None, Content::Other),
        ] {
            assert_eq!(Described::of(&headers(kind)).content, expected, "{kind:?}");
        }
    }

    #[test]
    fn json_bodies_are_strict_and_others_are_not() {
        let body = Bytes::from_static(br#"{"stream":true,"model":"m"}"#);
        for kind in [Some("application/json"), None, Some("text/plain")] {
            let read = interpret(&headers(kind), body.clone()).unwrap();
            assert_eq!((read.model.as_deref(), read.stream), (Some("m"), true), "{kind:?}");
            assert_eq!(read.place, ModelPlace::Json(23..26));
        }
        for (text, reason) in [
            (&b""[..], Reason::InvalidJson),
            (b"{", Reason::InvalidJson),
            (b"[]", Reason::InvalidJson),
            (br#"{"model":"a","model":"b"}"#, Reason::DuplicateModel),
            (b"{\"model\":\"\xff\"}", Reason::InvalidModel),
        ] {
            let body = Bytes::from_static(text);
            let refused = interpret(&headers(Some("application/json")), body.clone()).unwrap_err();
            assert_eq!(refused.reason, reason, "{}", refused.message);
            assert!(refused.message.contains("byte"), "{}", refused.message);
            let passed = interpret(&headers(Some("application/octet-stream")), body.clone()).unwrap();
            assert_eq!((passed.bytes, passed.model, passed.place), (body, None, ModelPlace::None));
        }
    }

    #[test]
    fn an_object_without_a_model_says_where_one_fits() {
        let read = interpret(&headers(Some("application/json")), Bytes::from_static(b" {}")).unwrap();
        assert_eq!(read.place, ModelPlace::Insert { object_start: 2, empty: true });
    }

    #[test]
    fn the_model_of_a_multipart_body_is_found() {
        let body = "--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper\r\n--b--\r\n";
        let read = interpret(&headers(Some("multipart/form-data; boundary=b")), Bytes::from(body)).unwrap();
        assert_eq!(read.model.as_deref(), Some("whisper"));
        let ModelPlace::Multipart(span) = read.place else { panic!("{:?}", read.place) };
        assert_eq!(&body[span], "whisper");
        let refused = interpret(&headers(Some("multipart/form-data")), Bytes::from(body)).unwrap_err();
        assert_eq!(refused.reason, Reason::InvalidMultipart);
    }
}
