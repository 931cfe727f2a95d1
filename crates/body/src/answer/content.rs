//! The content check: whether an answer holds what was asked for, looked at while a roll-out is judged.
//!
//! Stands beside the tap in the respond stage, for requests of a roll-out's pair alone. Think tags are counted as bytes
//! pass. The answer is kept, within bounds, only where tools or JSON were asked for, and read once it has ended. An answer
//! that was cut short by its length says nothing here.

use std::collections::BTreeMap;

use memchr::memmem;
use serde_json::Value;

use super::AnswerKind;

/// Longest answer that is kept for a look; a longer one is not judged.
const LONGEST: usize = 256 * 1024;

/// What a request asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AskedFor {
    /// `tools` were offered.
    pub tools: bool,
    /// `response_format` (or one of its kin) asks for JSON.
    pub json: bool,
}

/// What is wrong with an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ContentFaults {
    /// A tool call whose arguments are no JSON object.
    pub tool_call: bool,
    /// JSON was asked for, and the content is none.
    pub json: bool,
    /// A think tag opened and not closed, or closed and not opened.
    pub think_tag: bool,
}

/// Follows one answer. Memory is bounded whatever the answer's size.
#[derive(Debug)]
pub struct ContentCheck {
    kind: AnswerKind,
    asked: AskedFor,
    kept: Vec<u8>,
    too_long: bool,
    opened: usize,
    closed: usize,
}

/// One choice of an answer.
#[derive(Debug, Default)]
struct Choice {
    content: String,
    /// Arguments by the call's place.
    calls: BTreeMap<u64, String>,
    cut_short: bool,
}

impl ContentCheck {
    /// A check of one answer.
    pub fn new(kind: AnswerKind, asked: AskedFor) -> Self {
        Self { kind, asked, kept: Vec::new(), too_long: false, opened: 0, closed: 0 }
    }

    /// Takes the next bytes. A tag is a token of its own, which servers do not divide between two chunks.
    pub fn push(&mut self, bytes: &[u8]) {
        self.opened += memmem::find_iter(bytes, b"<think>").count();
        self.closed += memmem::find_iter(bytes, b"</think>").count();
        if !(self.asked.tools || self.asked.json) || self.kind == AnswerKind::Opaque {
            return;
        }
        self.too_long |= self.kept.len().saturating_add(bytes.len()) > LONGEST;
        if !self.too_long {
            self.kept.extend_from_slice(bytes);
        }
    }

    /// What is wrong with the answer, now that it has ended. Not to be asked of one that was cut short.
    pub fn finish(&self) -> ContentFaults {
        let mut faults = ContentFaults { think_tag: self.opened != self.closed, ..ContentFaults::default() };
        if self.too_long || self.kept.is_empty() {
            return faults;
        }
        for choice in self.choices().values().filter(|choice| !choice.cut_short) {
            let is_object = |text: &String| serde_json::from_str::<Value>(text).is_ok_and(|value| value.is_object());
            faults.tool_call |= choice.calls.values().any(|arguments| !is_object(arguments));
            let said_json = || serde_json::from_str::<Value>(choice.content.trim()).is_ok();
            faults.json |= self.asked.json && choice.calls.is_empty() && !said_json();
        }
        faults
    }

    fn choices(&self) -> BTreeMap<u64, Choice> {
        let mut choices = BTreeMap::new();
        if self.kind == AnswerKind::Json {
            read(&self.kept, &mut choices);
            return choices;
        }
        for line in self.kept.split(|byte| *byte == b'\n') {
            if let Some(data) = line.strip_prefix(b"data:") {
                read(data, &mut choices);
            }
        }
        choices
    }
}

/// Adds what one JSON text says of its choices. What cannot be read adds nothing: the tap counts it.
fn read(text: &[u8], choices: &mut BTreeMap<u64, Choice>) {
    let Ok(answer) = serde_json::from_slice::<Value>(text) else { return };
    for said in answer.get("choices").and_then(Value::as_array).into_iter().flatten() {
        let index = said.get("index").and_then(Value::as_u64).unwrap_or(0);
        let choice = choices.entry(index).or_default();
        choice.cut_short |= said.get("finish_reason").and_then(Value::as_str) == Some("length");
        let message = said.get("delta").or_else(|| said.get("message")).unwrap_or(said);
        let text = message.get("content").or_else(|| message.get("text")).and_then(Value::as_str);
        choice.content.push_str(text.unwrap_or_default());
        for (place, call) in message.get("tool_calls").and_then(Value::as_array).into_iter().flatten().enumerate() {
            let place = call.get("index").and_then(Value::as_u64).unwrap_or(place as u64);
            let arguments = call.pointer("/function/arguments").and_then(Value::as_str).unwrap_or_default();
            choice.calls.entry(place).or_default().push_str(arguments);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: AskedFor = AskedFor { tools: true, json: true };

    fn faults(kind: AnswerKind, pieces: &[&str]) -> ContentFaults {
        let mut check = ContentCheck::new(kind, ASKED);
        for piece in pieces {
            check.push(piece.as_bytes());
        }
        check.finish()
    }

    #[test]
    fn tool_calls_are_put_together_from_their_pieces() {
        let piece = |arguments: &str| {
            let delta = serde_json::json!({"tool_calls": [{"index": 1, "function": {"arguments": arguments}}]});
            format!("data: {}\n\n", serde_json::json!({"choices": [{"index": 0, "delta": delta}]}))
        };
        let whole = [piece("{\"a\""), piece(": 1}")].concat();
        let (first, last) = whole.split_at(whole.len() / 2);
        assert_eq!(faults(AnswerKind::EventStream, &[first, last, "data: [DONE]\n\n"]), ContentFaults::default());
        let broken = faults(AnswerKind::EventStream, &[&piece("{\"a\""), "data: [DONE]\n\n"]);
        assert_eq!(broken, ContentFaults { tool_call: true, ..ContentFaults::default() });
    }

    #[test]
    fn json_that_was_asked_for_is_looked_at() {
        let answer = |content: &str, finish: &str| {
            let message = serde_json::json!({"content": content});
            serde_json::json!({"choices": [{"message": message, "finish_reason": finish}]}).to_string()
        };
        assert!(!faults(AnswerKind::Json, &[&answer(" {\"a\": [1]}", "stop")]).json);
        assert!(faults(AnswerKind::Json, &[&answer("Sure! {", "stop")]).json);
        assert!(!faults(AnswerKind::Json, &[&answer("{\"a\": [", "length")]).json, "cut short says nothing");
        let mut unasked = ContentCheck::new(AnswerKind::Json, AskedFor::default());
        unasked.push(answer("Sure!", "stop").as_bytes());
        assert_eq!(unasked.finish(), ContentFaults::default());
        let long = answer(&"x".repeat(LONGEST), "stop");
        assert!(!faults(AnswerKind::Json, &[&long]).json, "too long to be kept");
    }

    #[test]
    fn think_tags_are_to_be_balanced() {
        let check = |text: &str| {
            let mut check = ContentCheck::new(AnswerKind::Json, AskedFor::default());
            check.push(text.as_bytes());
            check.finish().think_tag
        };
        assert!(!check("<think>a</think>b") && check("<think>a") && check("b</think>"));
    }
}
