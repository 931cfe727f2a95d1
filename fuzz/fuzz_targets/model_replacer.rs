//! However an answer is cut into chunks, the same bytes leave; of a JSON answer, those that scan and splice give.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tidegate_body::answer::{AnswerKind, ModelReplacer};
use tidegate_body::scan::scan;
use tidegate_body::splice::replace;

const NAME: &str = "new \"name\"";

fn replaced<'a>(kind: AnswerKind, chunks: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut replacer = ModelReplacer::new(kind, NAME);
    let mut out = Vec::new();
    for chunk in chunks {
        replacer.push(Bytes::copy_from_slice(chunk), &mut out);
    }
    replacer.finish(&mut out);
    assert!(out.iter().all(|piece| !piece.is_empty()));
    out.concat()
}

fuzz_target!(|input: &[u8]| {
    let Some((cut, answer)) = input.split_first() else { return };
    for kind in [AnswerKind::EventStream, AnswerKind::Json] {
        let whole = replaced(kind, std::iter::once(answer));
        assert_eq!(replaced(kind, answer.chunks(1)), whole);
        assert_eq!(replaced(kind, answer.chunks(usize::from(*cut).max(2))), whole);
        if kind == AnswerKind::Json
            && let Ok(found) = scan(answer)
        {
            let body = Bytes::copy_from_slice(answer);
            match found.model {
                Some(field) if field.span.len() <= 4096 => {
                    assert_eq!(whole, replace(&body, &field.span, NAME).parts.concat());
                }
                Some(_) => {}
                None => assert_eq!(whole, answer),
            }
        }
    }
    assert_eq!(replaced(AnswerKind::Opaque, answer.chunks(3)), answer);
});
