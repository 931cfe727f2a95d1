//! However an answer is cut into chunks, the same bytes leave; of a JSON answer, those that scan and splice give.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tidegate_body::answer::{AnswerKind, ModelReplacer};
use tidegate_body::scan::scan;
use tidegate_body::splice::replace;

const NAME: &str = "new \"name\"";

fn replaced(kind: AnswerKind, answer: &Bytes, cut: usize) -> Vec<u8> {
    let mut replacer = ModelReplacer::new(kind, NAME);
    let mut out = Vec::new();
    let mut rest = answer.clone();
    while !rest.is_empty() {
        let chunk = rest.split_to(cut.min(rest.len()));
        replacer.push(chunk, &mut out);
    }
    replacer.finish(&mut out);
    assert!(out.iter().all(|piece| !piece.is_empty()));
    out.concat()
}

fuzz_target!(|input: &[u8]| {
    let Some((cut, answer)) = input.split_first() else { return };
    let answer = Bytes::copy_from_slice(answer);
    for kind in [AnswerKind::EventStream, AnswerKind::Json] {
        let whole = replaced(kind, &answer, usize::MAX);
        assert_eq!(replaced(kind, &answer, 1), whole);
        assert_eq!(replaced(kind, &answer, usize::from(*cut).max(2)), whole);
        if kind == AnswerKind::Json
            && let Ok(found) = scan(&answer)
        {
            match found.model {
                Some(field) if field.span.len() <= 4096 => {
                    assert_eq!(whole, replace(&answer, &field.span, NAME).parts.concat());
                }
                Some(_) => {}
                None => assert_eq!(whole, answer),
            }
        }
    }
    assert_eq!(replaced(AnswerKind::Opaque, &answer, 3), answer);
});
