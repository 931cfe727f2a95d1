//! Cuts a YAML stream into its documents, without parsing, so that a broken one takes no other with it.
//!
//! A line that begins with `---` is a marker wherever it stands: YAML forbids it inside scalars.

/// One document's bytes, and where they begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chunk<'a> {
    /// The bytes, markers and directives among them.
    pub(crate) bytes: &'a [u8],
    /// Line of the first byte, from 1.
    pub(crate) line: usize,
    /// Column of the first byte, from 1.
    pub(crate) column: usize,
}

/// The documents of a file, those without content among them.
pub(crate) fn split(bytes: &[u8]) -> Vec<Chunk<'_>> {
    let mut chunks = Vec::new();
    let mut start = 0;
    let mut start_line = 1;
    // Directives and comments before a marker belong to the document that it begins.
    let mut has_content = false;
    let mut offset = 0;
    let mut line_number = 1;
    while offset < bytes.len() {
        let rest = bytes.get(offset..).unwrap_or_default();
        let line = rest.get(..line_length(rest)).unwrap_or(rest);
        if is_marker(line, b"---") {
            if has_content {
                chunks.push(Chunk { bytes: bytes.get(start..offset).unwrap_or_default(), line: start_line, column: 1 });
                start = offset;
                start_line = line_number;
            }
            has_content = true;
        } else if is_marker(line, b"...") {
            let end = offset.saturating_add(line.len());
            chunks.push(Chunk { bytes: bytes.get(start..end).unwrap_or_default(), line: start_line, column: 1 });
            start = end;
            start_line = line_number.saturating_add(1);
            has_content = false;
        } else if !has_content {
            has_content = !matches!(line.trim_ascii().first(), None | Some(b'#')) && line.first() != Some(&b'%');
        }
        offset = offset.saturating_add(line.len());
        line_number = line_number.saturating_add(1);
    }
    if start < bytes.len() {
        chunks.push(Chunk { bytes: bytes.get(start..).unwrap_or_default(), line: start_line, column: 1 });
    }
    chunks
}

/// Bytes to the end of the line, its break included; `\n`, `\r\n` and `\r` are breaks.
fn line_length(rest: &[u8]) -> usize {
    let Some(end) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else { return rest.len() };
    let is_pair = rest.get(end) == Some(&b'\r') && rest.get(end.saturating_add(1)) == Some(&b'\n');
    end.saturating_add(if is_pair { 2 } else { 1 })
}

fn is_marker(line: &[u8], marker: &[u8]) -> bool {
    line.strip_prefix(marker).is_some_and(|rest| rest.first().is_none_or(u8::is_ascii_whitespace))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> Vec<(&str, usize)> {
        split(text.as_bytes()).iter().map(|chunk| (std::str::from_utf8(chunk.bytes).unwrap(), chunk.line)).collect()
    }

    #[test]
    fn markers_begin_documents() {
        assert_eq!(parts(""), []);
        assert_eq!(parts("a: 1\n---\nb: 2\n"), [("a: 1\n", 1), ("---\nb: 2\n", 2)]);
        assert_eq!(
            parts("---\r\na: 1\r\n---\r\n--- # c\nb"),
            [("---\r\na: 1\r\n", 1), ("---\r\n", 3), ("--- # c\nb", 4)]
        );
        assert_eq!(
            parts("# c\n%YAML 1.2\n---\na\n...\n# d\n---\nb"),
            [("# c\n%YAML 1.2\n---\na\n...\n", 1), ("# d\n---\nb", 6)]
        );
    }

    #[test]
    fn text_that_looks_like_a_marker_is_none() {
        assert_eq!(parts("a: |\n  ---\n  x\n----\n---a\n"), [("a: |\n  ---\n  x\n----\n---a\n", 1)]);
    }
}
