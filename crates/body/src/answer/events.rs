//! The lines of an event stream: which bytes are data, and where an event ends.
//!
//! Gives the data on as it comes, without keeping it, so an event of any length costs no memory. Follows the HTML
//! standard: lines end with LF, CRLF or CR; a line that begins with a colon is a comment; one space behind `data:` does
//! not count; a byte order mark at the start is skipped.

use memchr::memchr2;

/// Takes what an event stream says.
pub(super) trait EventSink {
    /// The next bytes of a `data` line; `at` is their offset in the chunk that is being pushed.
    fn data(&mut self, bytes: &[u8], at: usize);
    /// A `data` line ended, in the byte at this offset.
    fn data_line_end(&mut self, at: usize);
    /// An event with at least one `data` line ended.
    fn event_end(&mut self);
}

const FIELD: &[u8] = b"data";
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

#[derive(Clone, Copy, Debug)]
enum Line {
    /// The start of the stream, with this much of a byte order mark read.
    Mark(usize),
    /// This much of the field name `data` read.
    Name(usize),
    /// Behind `data:`, where one space does not count.
    Colon,
    Data,
    /// A comment or another field.
    Other,
}

/// Where a stream stands between two chunks.
#[derive(Debug)]
pub(super) struct EventLines {
    line: Line,
    after_carriage_return: bool,
    has_data: bool,
}

impl EventLines {
    pub(super) fn new() -> Self {
        Self { line: Line::Mark(0), after_carriage_return: false, has_data: false }
    }

    pub(super) fn push(&mut self, chunk: &[u8], sink: &mut impl EventSink) {
        let mut at = 0;
        while let Some(&byte) = chunk.get(at) {
            if self.after_carriage_return {
                self.after_carriage_return = false;
                if byte == b'\n' {
                    at += 1;
                    continue;
                }
            }
            let rest = chunk.get(at..).unwrap_or_default();
            at += match self.line {
                Line::Data | Line::Other => self.rest_of_line(rest, at, sink),
                Line::Name(0) | Line::Mark(0) if rest.starts_with(b"data: ") => {
                    self.line = Line::Data;
                    6
                }
                Line::Colon => {
                    self.line = Line::Data;
                    usize::from(byte == b' ')
                }
                Line::Name(_) | Line::Mark(_) if byte == b'\n' || byte == b'\r' => {
                    self.end_line(byte, at, sink);
                    1
                }
                Line::Name(matched) => {
                    self.line = match FIELD.get(matched) {
                        Some(expected) if *expected == byte => Line::Name(matched + 1),
                        None if byte == b':' => Line::Colon,
                        _ => Line::Other,
                    };
                    1
                }
                Line::Mark(matched) => self.mark(matched, byte),
            };
        }
    }

    /// Bytes up to the end of the line, and the end itself where it is there.
    fn rest_of_line(&mut self, rest: &[u8], at: usize, sink: &mut impl EventSink) -> usize {
        let length = memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
        if matches!(self.line, Line::Data)
            && length > 0
            && let Some(data) = rest.get(..length)
        {
            sink.data(data, at);
        }
        let Some(&end) = rest.get(length) else { return length };
        self.end_line(end, at + length, sink);
        length + 1
    }

    fn end_line(&mut self, end: u8, at: usize, sink: &mut impl EventSink) {
        match self.line {
            Line::Mark(0) | Line::Name(0) => {
                if std::mem::take(&mut self.has_data) {
                    sink.event_end();
                }
            }
            Line::Data | Line::Colon => {
                self.has_data = true;
                sink.data_line_end(at);
            }
            Line::Name(matched) if matched == FIELD.len() => {
                self.has_data = true;
                sink.data_line_end(at);
            }
            Line::Name(_) | Line::Mark(_) | Line::Other => {}
        }
        self.line = Line::Name(0);
        self.after_carriage_return = end == b'\r';
    }

    /// One byte where a byte order mark may stand; gives how many bytes were taken.
    fn mark(&mut self, matched: usize, byte: u8) -> usize {
        let expected = BYTE_ORDER_MARK.get(matched) == Some(&byte);
        self.line = match (expected, matched) {
            (true, 2) => Line::Name(0),
            (true, _) => Line::Mark(matched + 1),
            (false, 0) => {
                self.line = Line::Name(0);
                return 0;
            }
            (false, _) => Line::Other,
        };
        1
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Default)]
    struct Collected {
        open: Vec<String>,
        line: Vec<u8>,
        events: Vec<String>,
    }

    impl EventSink for Collected {
        fn data(&mut self, bytes: &[u8], _: usize) {
            self.line.extend_from_slice(bytes);
        }
        fn data_line_end(&mut self, _: usize) {
            self.open.push(String::from_utf8(std::mem::take(&mut self.line)).unwrap());
        }
        fn event_end(&mut self) {
            self.events.push(std::mem::take(&mut self.open).join("\n"));
        }
    }

    fn read(chunks: &[&[u8]]) -> Vec<String> {
        let mut lines = EventLines::new();
        let mut collected = Collected::default();
        for chunk in chunks {
            lines.push(chunk, &mut collected);
        }
        collected.events
    }

    #[test]
    fn lines_and_fields_as_the_standard_has_them() {
        for (stream, events) in [
            ("data: a\n\n", &["a"][..]),
            ("data:a\r\n\r\n", &["a"]),
            ("data: a\r\rdata:  b\r\r", &["a", " b"]),
            ("\u{feff}data: a\n\n", &["a"]),
            ("data: a\ndata: b\ndata\n\n", &["a\nb\n"]),
            (": data: x\n\nevent: data\nid: 1\n\ndata: a\n\n\n\n", &["a"]),
            ("data : a\n\ndat: b\n\ndatax: c\n\n data: d\n\nDATA: e\n\n", &[]),
            ("data: unfinished\n", &[]),
            ("\u{feff}\u{feff}data: a\n\n", &[]),
            ("data:\n\n", &[""]),
        ] {
            assert_eq!(read(&[stream.as_bytes()]), events, "{stream:?}");
        }
    }

    proptest! {
        #[test]
        fn cuts_change_nothing(
            stream in "(data: ?[a-z:]{0,5}|data|:c|\u{feff}|\r|\n|\r\n|\n\n){0,20}",
            cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let bytes = stream.as_bytes();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            prop_assert_eq!(read(&chunks), read(&[bytes]));
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            prop_assert_eq!(read(&single), read(&[bytes]));
        }
    }
}
