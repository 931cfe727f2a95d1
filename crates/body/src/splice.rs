//! The splice: a body with another model name, every other byte as it was.
//!
//! Takes what [`crate::scan`] and [`crate::multipart`] found. The pieces share the original's memory; only the name is
//! new.

use std::ops::Range;

use bytes::Bytes;

/// A body in pieces, to be sent one after the other; no piece of the original is copied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spliced {
    /// The pieces, none of them empty.
    pub parts: Vec<Bytes>,
    /// Sum of their lengths.
    pub length: usize,
}

/// Replaces the bytes at `span` (quotes included) by `model` as a JSON string. A span that does not lie in the body
/// changes nothing.
pub fn replace(body: &Bytes, span: &Range<usize>, model: &str) -> Spliced {
    splice(body, span, quoted(model).into())
}

/// Inserts `"model":"<model>"` (and a comma unless the object is empty) at `object_start`. An offset that does not lie in
/// the body changes nothing.
pub fn insert(body: &Bytes, object_start: usize, empty: bool, model: &str) -> Spliced {
    let comma = if empty { "" } else { "," };
    let member = format!("\"model\":{}{comma}", quoted(model));
    splice(body, &(object_start..object_start), member.into())
}

/// Replaces the bytes at `span` by `model` as it is (a multipart part's content). A span that does not lie in the body
/// changes nothing.
pub fn replace_raw(body: &Bytes, span: &Range<usize>, model: &str) -> Spliced {
    splice(body, span, Bytes::copy_from_slice(model.as_bytes()))
}

/// A text as a JSON string, quotes included.
pub(crate) fn quoted(text: &str) -> String {
    // Writing a text into memory cannot fail.
    serde_json::to_string(text).unwrap_or_default()
}

fn splice(body: &Bytes, span: &Range<usize>, middle: Bytes) -> Spliced {
    let pieces = if body.get(span.clone()).is_some() {
        [body.slice(..span.start), middle, body.slice(span.end..)]
    } else {
        [body.clone(), Bytes::new(), Bytes::new()]
    };
    let parts: Vec<Bytes> = pieces.into_iter().filter(|piece| !piece.is_empty()).collect();
    Spliced { length: parts.iter().map(Bytes::len).sum(), parts }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value};

    use super::*;
    use crate::scan::scan;

    fn joined(spliced: &Spliced) -> Vec<u8> {
        assert!(spliced.parts.iter().all(|part| !part.is_empty()));
        let bytes = spliced.parts.concat();
        assert_eq!(bytes.len(), spliced.length);
        bytes
    }

    proptest! {
        #[test]
        fn only_the_model_changes(
            members in proptest::collection::vec((".{0,8}", ".{0,30}"), 0..5),
            at in 0_usize..6,
            old in ".{0,40}",
            new in ".{0,40}",
            pretty: bool,
        ) {
            let mut object = Map::new();
            for (index, (key, value)) in members.iter().enumerate() {
                if index == at {
                    object.insert("model".into(), old.clone().into());
                }
                object.insert(key.clone(), value.clone().into());
            }
            let text = if pretty { serde_json::to_string_pretty(&object) } else { serde_json::to_string(&object) };
            let body = Bytes::from(text.unwrap());
            let found = scan(&body).unwrap();
            let spliced = match (&found.model, object.get("model")) {
                (Some(field), Some(Value::String(name))) => {
                    prop_assert_eq!(&field.name, name);
                    replace(&body, &field.span, &new)
                }
                (None, None) => insert(&body, found.object_start, found.empty, &new),
                other => return Err(TestCaseError::fail(format!("{other:?}"))),
            };
            object.insert("model".into(), new.into());
            let after: Map<String, Value> = serde_json::from_slice(&joined(&spliced)).unwrap();
            prop_assert_eq!(after, object);
        }
    }

    #[test]
    fn pieces_share_the_body_and_empty_ones_are_left_out() {
        let body = Bytes::from_static(br#"{"model":"a","n":1}"#);
        let spliced = replace(&body, &(9..12), "b\"");
        assert_eq!(joined(&spliced), br#"{"model":"b\"","n":1}"#);
        assert_eq!(spliced.parts.first().map(|part| part.as_ptr()), Some(body.as_ptr()));
        assert_eq!(joined(&replace_raw(&body, &(0..body.len()), "x")), b"x");
        assert_eq!(replace_raw(&body, &(0..1), "").parts.len(), 1);
        assert_eq!(joined(&insert(&Bytes::from_static(b"{}"), 1, true, "m")), br#"{"model":"m"}"#);
        assert_eq!(joined(&insert(&Bytes::from_static(b" { \"a\":1}"), 2, false, "m")), br#" {"model":"m", "a":1}"#);
    }

    #[test]
    fn a_span_outside_the_body_changes_nothing() {
        let body = Bytes::from_static(b"{}");
        #[expect(clippy::reversed_empty_ranges, reason = "a span that no scan gives must still not panic")]
        for span in [1..9, 7..9, 2..1] {
            assert_eq!(joined(&replace(&body, &span, "m")), b"{}");
        }
    }
}
