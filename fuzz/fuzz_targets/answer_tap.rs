//! However an answer is cut into chunks, the tap sees the same; the first event is what the tap calls it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate_body::answer::{AnswerKind, AnswerSummary, AnswerTap, FirstEvent, first_event};

fn tapped<'a>(kind: AnswerKind, chunks: impl Iterator<Item = &'a [u8]>) -> AnswerSummary {
    let mut tap = AnswerTap::new(kind);
    let ended: u64 = chunks.map(|chunk| u64::from(tap.push(chunk))).sum();
    assert_eq!(ended, tap.summary().events);
    tap.summary().clone()
}

fn is_json(text: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(text).is_ok()
}

/// What is no JSON may be noticed sooner or later, depending on how it is read.
fn is_regular(kind: AnswerKind, answer: &[u8]) -> bool {
    match kind {
        AnswerKind::Opaque => true,
        AnswerKind::Json => is_json(answer),
        AnswerKind::EventStream => answer.split(|byte| matches!(byte, b'\r' | b'\n')).all(|line| {
            let data = line.strip_prefix(b"data:").unwrap_or_default().trim_ascii();
            data.is_empty() || data == b"[DONE]" || is_json(data)
        }),
    }
}

/// Without what is read from JSON.
fn counted(summary: AnswerSummary) -> (u64, bool) {
    (summary.events, summary.done)
}

fuzz_target!(|input: &[u8]| {
    let Some((cut, answer)) = input.split_first() else { return };
    for kind in [AnswerKind::EventStream, AnswerKind::Json, AnswerKind::Opaque] {
        let whole = tapped(kind, std::iter::once(answer));
        let regular = is_regular(kind, answer);
        for size in [1, usize::from(*cut).max(2)] {
            let pieces = tapped(kind, answer.chunks(size));
            if regular {
                assert_eq!(pieces, whole);
            } else {
                assert_eq!(counted(pieces), counted(whole.clone()));
            }
        }
        assert!(whole.content_events <= whole.events);
        if kind == AnswerKind::EventStream {
            match first_event(answer) {
                FirstEvent::Incomplete => assert_eq!((whole.events, whole.done), (0, false)),
                FirstEvent::Content => assert!(whole.events > 0 || whole.done),
                FirstEvent::Error { code } => assert_eq!(whole.error, Some(code)),
            }
        }
        if kind == AnswerKind::Json
            && let Ok(parsed) = serde_json::from_slice::<serde_json::Value>(answer)
        {
            let error = parsed.get("error").is_some_and(|error| !error.is_null() && error != false);
            assert!(!error || whole.error.is_some(), "an error not seen");
        }
    }
});
