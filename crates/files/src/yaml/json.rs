//! JSON files: strict about the grammar, with the same values and positions as YAML.

use serde_json::Value;
use tidegate_api::Position;

use super::{Chunk, Fault};

/// The documents of a JSON file (one value, or several one after the other), each with its text; then the fault that
/// ended reading, if one did.
pub(crate) fn json_documents(bytes: &[u8]) -> (Vec<Chunk<'_>>, Option<Fault>) {
    let mut chunks = Vec::new();
    let mut stream = serde_json::Deserializer::from_slice(bytes).into_iter::<Value>();
    let mut place = (0, 1, 1);
    loop {
        let before = stream.byte_offset();
        match stream.next() {
            None => return (chunks, None),
            Some(Ok(_)) => {
                let text = bytes.get(before..stream.byte_offset()).unwrap_or_default();
                let blank = text.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
                let start = before.saturating_add(blank);
                place = advance(bytes, place, start);
                let (_, line, column) = place;
                chunks.push(Chunk { bytes: text.get(blank..).unwrap_or_default(), line, column });
            }
            Some(Err(error)) => {
                let position = Position { line: error.line().max(1), column: error.column().max(1) };
                let text = error.to_string();
                let what = text.split(" at line ").next().unwrap_or(&text);
                return (chunks, Some(Fault::new(position, format!("not JSON: {what}"))));
            }
        }
    }
}

/// Line and column of the byte `to`, counted on from a known place before it.
fn advance(bytes: &[u8], from: (usize, usize, usize), to: usize) -> (usize, usize, usize) {
    let (offset, mut line, mut column) = from;
    for byte in bytes.get(offset..to).unwrap_or_default() {
        if *byte == b'\n' {
            line = line.saturating_add(1);
            column = 1;
        } else if (*byte & 0xC0) != 0x80 {
            column = column.saturating_add(1);
        }
    }
    (to, line, column)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_one_after_the_other() {
        let text = b"{\"a\": 1}\n {\"b\": 2} [3]";
        let (chunks, fault) = json_documents(text);
        assert_eq!(fault, None);
        let places: Vec<_> = chunks.iter().map(|chunk| (chunk.bytes, chunk.line, chunk.column)).collect();
        assert_eq!(places, [(&b"{\"a\": 1}"[..], 1, 1), (b"{\"b\": 2}", 2, 2), (b"[3]", 2, 11)]);
    }

    #[test]
    fn what_is_only_yaml_is_refused_with_its_place() {
        let (chunks, fault) = json_documents(b"{\"a\": 1}\n{a: 1}");
        assert_eq!(chunks.len(), 1);
        let fault = fault.unwrap();
        assert_eq!((fault.position.line, fault.position.column), (2, 2));
        assert!(fault.message.starts_with("not JSON: key must be a string"), "{}", fault.message);
    }
}
