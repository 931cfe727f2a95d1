//! JSON read in pieces: says what passes and at which depth, and keeps nothing but the start of the string it is in.
//!
//! Servers' answers are followed, not judged: the grammar is only checked as far as it is needed to know where a string
//! stands, and what is not JSON is left alone from where that shows.

use crate::json_string::plain_length;

/// Takes what passes. `depth` is the number of containers that are open around it.
pub(super) trait Listener {
    /// A member's key, without quotes, as it is written, at most [`CAPTURE`] bytes.
    fn key(&mut self, depth: usize, raw: &[u8]);
    /// A container opened around what follows at `depth`.
    fn opened(&mut self, depth: usize, array: bool);
    /// The container around what stood at `depth` closed.
    fn closed(&mut self, depth: usize);
    /// A string that is no key begins with the quote at this offset of what is being fed.
    fn string_begins(&mut self, depth: usize, at: usize);
    /// A string that is no key ended in front of this offset.
    fn string(&mut self, depth: usize, text: Text<'_>, end: usize);
    /// A number, `true`, `false` or `null`, at most [`CAPTURE`] bytes.
    fn scalar(&mut self, depth: usize, raw: &[u8]);
    /// This is not JSON, at the latest from here on.
    fn broken(&mut self);
}

/// A string as it is written, without quotes.
#[derive(Clone, Copy)]
pub(super) struct Text<'a> {
    /// Its first bytes, at most [`CAPTURE`].
    pub(super) start: &'a [u8],
    /// How many bytes it has.
    pub(super) length: usize,
}

/// The longest key that is asked for is `prompt_tokens_details`, which has 126 bytes if each letter is escaped.
pub(super) const CAPTURE: usize = 128;
/// Deeper than this, arrays and objects are not told apart; nothing that is asked for stands so deep.
const TRACKED: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Between,
    String { key: bool },
    Escape { key: bool },
    Scalar,
    Complete,
    Broken,
}

/// Where a JSON text stands between two pieces.
#[derive(Debug)]
pub(super) struct JsonReader {
    state: State,
    depth: usize,
    /// Bit n: the container at depth n + 1 is an object.
    objects: u64,
    expects_key: bool,
    captured: [u8; CAPTURE],
    captured_length: usize,
    /// Bytes of the string or scalar so far, captured or not.
    length: usize,
}

impl JsonReader {
    pub(super) fn new() -> Self {
        Self {
            state: State::Between,
            depth: 0,
            objects: 0,
            expects_key: false,
            captured: [0; CAPTURE],
            captured_length: 0,
            length: 0,
        }
    }

    /// Makes ready for another text.
    pub(super) fn restart(&mut self) {
        self.state = State::Between;
        self.depth = 0;
        self.expects_key = false;
    }

    /// A whole text was read by other means.
    pub(super) fn complete(&mut self) {
        self.state = State::Complete;
    }

    /// One value passed, whole, and nothing behind it.
    pub(super) fn is_complete(&self) -> bool {
        self.state == State::Complete
    }

    /// Reads the next bytes; the first of them has the offset `base`.
    pub(super) fn feed(&mut self, bytes: &[u8], base: usize, listener: &mut impl Listener) {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            at += match self.state {
                State::Between => self.between(rest, base + at, listener),
                State::String { key } => self.in_string(rest, base + at, key, listener),
                State::Escape { key } => {
                    self.capture(rest.get(..1).unwrap_or_default());
                    self.state = State::String { key };
                    1
                }
                State::Scalar => self.in_scalar(rest, listener),
                State::Complete => {
                    let space = rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
                    if space < rest.len() {
                        self.break_off(listener);
                    }
                    space
                }
                State::Broken => return,
            };
        }
    }

    fn break_off(&mut self, listener: &mut impl Listener) {
        self.state = State::Broken;
        listener.broken();
    }

    fn between(&mut self, rest: &[u8], at: usize, listener: &mut impl Listener) -> usize {
        let Some(&byte) = rest.first() else { return 0 };
        match byte {
            b' ' | b'\n' | b'\r' | b'\t' => {}
            b'"' => {
                let key = std::mem::take(&mut self.expects_key);
                self.begin();
                self.state = State::String { key };
                if !key {
                    listener.string_begins(self.depth, at);
                }
            }
            b'{' | b'[' => self.open(byte == b'[', listener),
            b'}' | b']' => self.close(byte == b']', listener),
            b',' => self.expects_key = self.in_object(),
            b':' => self.expects_key = false,
            b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => {
                self.begin();
                self.state = State::Scalar;
                return 0;
            }
            _ => self.break_off(listener),
        }
        1
    }

    fn in_object(&self) -> bool {
        (1..=TRACKED).contains(&self.depth) && (self.objects >> (self.depth - 1)) & 1 == 1
    }

    fn open(&mut self, array: bool, listener: &mut impl Listener) {
        if self.depth < TRACKED {
            let bit = 1 << self.depth;
            self.objects = if array { self.objects & !bit } else { self.objects | bit };
        }
        self.depth += 1;
        self.expects_key = self.in_object();
        listener.opened(self.depth, array);
    }

    fn close(&mut self, array: bool, listener: &mut impl Listener) {
        if self.depth == 0 || (self.depth <= TRACKED && self.in_object() == array) {
            self.break_off(listener);
            return;
        }
        listener.closed(self.depth);
        self.depth -= 1;
        self.expects_key = false;
        self.end_value();
    }

    fn end_value(&mut self) {
        self.state = if self.depth == 0 { State::Complete } else { State::Between };
    }

    fn in_string(&mut self, rest: &[u8], at: usize, key: bool, listener: &mut impl Listener) -> usize {
        let length = plain_length(rest);
        let segment = rest.get(..length).unwrap_or_default();
        let end = rest.get(length).copied();
        if end != Some(b'"') || self.length > 0 {
            self.capture(segment);
        }
        match end {
            None => return length,
            Some(b'\\') => {
                self.capture(b"\\");
                self.state = State::Escape { key };
            }
            Some(b'"') => {
                let start = if self.length > 0 { self.captured() } else { segment.get(..CAPTURE).unwrap_or(segment) };
                if key {
                    listener.key(self.depth, start);
                } else {
                    let length = self.length.max(segment.len());
                    listener.string(self.depth, Text { start, length }, at + segment.len() + 1);
                }
                if key { self.state = State::Between } else { self.end_value() }
            }
            Some(_) => self.break_off(listener),
        }
        length + 1
    }

    fn in_scalar(&mut self, rest: &[u8], listener: &mut impl Listener) -> usize {
        let length = rest
            .iter()
            .take_while(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'z' | b'E' | b'+' | b'-' | b'.'))
            .count();
        self.capture(rest.get(..length).unwrap_or_default());
        if length < rest.len() {
            listener.scalar(self.depth, self.captured());
            self.end_value();
        }
        length
    }

    fn begin(&mut self) {
        self.captured_length = 0;
        self.length = 0;
    }

    fn capture(&mut self, bytes: &[u8]) {
        self.length = self.length.saturating_add(bytes.len());
        for (slot, byte) in self.captured.iter_mut().skip(self.captured_length).zip(bytes) {
            *slot = *byte;
            self.captured_length += 1;
        }
    }

    fn captured(&self) -> &[u8] {
        self.captured.get(..self.captured_length).unwrap_or_default()
    }
}
