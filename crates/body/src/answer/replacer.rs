//! The client's model name, given back in an answer.

use bytes::Bytes;

use super::AnswerKind;
use super::events::{EventLines, EventSink};
use super::json::{JsonReader, Listener, Text};
use crate::json_string::means;
use crate::splice::quoted;

/// A longer name than this is none of ours, and is not held back for.
const LONGEST_NAME: usize = 4096;

/// Gives the client's model name back in the top-level `model` field of an answer (each event's, in a stream), also
/// across chunk borders; every other byte, generated text that looks alike among them, passes unchanged. Holds back at
/// most the bytes of a name that is not yet complete, and never more than 4 KiB.
#[derive(Debug)]
pub struct ModelReplacer {
    kind: AnswerKind,
    lines: EventLines,
    reader: JsonReader,
    hold: Hold,
}

impl ModelReplacer {
    /// A replacer for one answer.
    pub fn new(kind: AnswerKind, requested: &str) -> Self {
        let hold = Hold { name: quoted(requested).into(), is_model: false, active: false, held: Vec::new() };
        Self { kind, lines: EventLines::new(), reader: JsonReader::new(), hold }
    }

    /// Takes the next bytes and gives what can go on, in order, into `out`.
    pub fn push(&mut self, bytes: Bytes, out: &mut Vec<Bytes>) {
        let mut chunk = Chunk { bytes: &bytes, passed: 0, hold: &mut self.hold, out };
        match self.kind {
            AnswerKind::Opaque => {}
            AnswerKind::Json => self.reader.feed(&bytes, 0, &mut chunk),
            AnswerKind::EventStream => {
                self.lines.push(&bytes, &mut Stream { reader: &mut self.reader, chunk: &mut chunk });
            }
        }
        chunk.end();
    }

    /// Gives what was held back when the answer ends.
    pub fn finish(&mut self, out: &mut Vec<Bytes>) {
        self.hold.release(out);
    }
}

/// A value of `model` whose end has not been seen.
#[derive(Debug)]
struct Hold {
    /// What stands in its place, as a JSON string.
    name: Bytes,
    /// The last key at the top was `model`.
    is_model: bool,
    active: bool,
    /// What earlier chunks had of it.
    held: Vec<u8>,
}

impl Hold {
    /// Gives up: the bytes go on as they came.
    fn release(&mut self, out: &mut Vec<Bytes>) {
        self.active = false;
        if !self.held.is_empty() {
            out.push(std::mem::take(&mut self.held).into());
        }
    }
}

/// The chunk that is being pushed.
struct Chunk<'a> {
    bytes: &'a Bytes,
    /// Offset up to which its bytes have gone on or been replaced.
    passed: usize,
    hold: &'a mut Hold,
    out: &'a mut Vec<Bytes>,
}

impl Chunk<'_> {
    fn pass(&mut self, end: usize) {
        if self.passed < end && end <= self.bytes.len() {
            self.out.push(self.bytes.slice(self.passed..end));
        }
        self.passed = end;
    }

    fn end(mut self) {
        if self.hold.active {
            self.hold.held.extend_from_slice(self.bytes.get(self.passed..).unwrap_or_default());
            if self.hold.held.len() > LONGEST_NAME + 1 {
                self.hold.release(self.out);
            }
        } else {
            self.pass(self.bytes.len());
        }
    }
}

impl Listener for Chunk<'_> {
    fn key(&mut self, depth: usize, raw: &[u8]) {
        if depth == 1 {
            self.hold.is_model = means(raw, "model");
        }
    }

    fn opened(&mut self, depth: usize, _: bool) {
        if depth == 1 {
            self.hold.is_model = false;
        }
    }

    fn closed(&mut self, _: usize) {}

    fn string_begins(&mut self, depth: usize, at: usize) {
        if depth == 1 && self.hold.is_model {
            self.pass(at);
            self.hold.active = true;
        }
    }

    fn string(&mut self, _: usize, text: Text<'_>, end: usize) {
        if !self.hold.active {
            return;
        }
        if text.length > LONGEST_NAME {
            self.hold.release(self.out);
            return;
        }
        self.hold.active = false;
        self.hold.held.clear();
        self.out.push(self.hold.name.clone());
        self.passed = end;
    }

    fn scalar(&mut self, _: usize, _: &[u8]) {}

    fn broken(&mut self) {
        if self.hold.active {
            self.hold.release(self.out);
        }
    }
}

struct Stream<'a, 'b> {
    reader: &'a mut JsonReader,
    chunk: &'a mut Chunk<'b>,
}

impl EventSink for Stream<'_, '_> {
    fn data(&mut self, bytes: &[u8], at: usize) {
        self.reader.feed(bytes, at, self.chunk);
    }

    fn data_line_end(&mut self, at: usize) {
        self.reader.feed(b"\n", at, self.chunk);
    }

    fn event_end(&mut self) {
        self.reader.restart();
        self.chunk.hold.is_model = false;
    }
}

#[cfg(test)]
mod tests;
