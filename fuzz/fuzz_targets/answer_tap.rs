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

fuzz_target!(|input: &[u8]| {
    let Some((cut, answer)) = input.split_first() else { return };
    for kind in [AnswerKind::EventStream, AnswerKind::Json, AnswerKind::Opaque] {
        let whole = tapped(kind, std::iter::once(answer));
        assert_eq!(tapped(kind, answer.chunks(1)), whole);
        assert_eq!(tapped(kind, answer.chunks(usize::from(*cut).max(2))), whole);
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
