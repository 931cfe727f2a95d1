//! The tap: what an observation needs of an answer, read as it passes.
//!
//! An event's facts count once its JSON has ended whole; half an event says nothing.

use super::events::{EventLines, EventSink};
use super::json::{JsonReader, Listener, Text};
use super::whole::Interest;
use super::{AnswerKind, AnswerSummary, FirstEvent, whole};
use crate::json_string::unescape;

/// Looks at the first bytes of an event stream. Comments and empty events are skipped.
pub fn first_event(bytes: &[u8]) -> FirstEvent {
    struct First {
        payload: Payload,
        found: FirstEvent,
    }
    impl EventSink for First {
        fn data(&mut self, bytes: &[u8], _: usize) {
            if self.found == FirstEvent::Incomplete {
                self.payload.feed(bytes);
            }
        }
        fn data_line_end(&mut self, _: usize) {
            self.payload.feed_line_end();
        }
        fn event_end(&mut self) {
            if self.found == FirstEvent::Incomplete && !self.payload.is_empty() {
                let error = self.payload.facts().and_then(|facts| facts.error);
                self.found = error.map_or(FirstEvent::Content, |code| FirstEvent::Error { code });
            }
            self.payload.restart();
        }
    }
    let mut first = First { payload: Payload::new(), found: FirstEvent::Incomplete };
    EventLines::new().push(bytes, &mut first);
    first.found
}

/// Follows an answer without holding it back or changing it. Memory is bounded whatever the answer's size.
#[derive(Debug)]
pub struct AnswerTap {
    kind: AnswerKind,
    lines: EventLines,
    payload: Payload,
    summary: AnswerSummary,
}

impl AnswerTap {
    /// A tap for one answer.
    pub fn new(kind: AnswerKind) -> Self {
        Self { kind, lines: EventLines::new(), payload: Payload::new(), summary: AnswerSummary::default() }
    }

    /// Takes the next bytes; returns how many stream events ended in them, `[DONE]` and empty ones not counted.
    pub fn push(&mut self, bytes: &[u8]) -> u32 {
        match self.kind {
            AnswerKind::Opaque => 0,
            AnswerKind::Json => {
                let had_ended = self.payload.tracker.ended;
                self.payload.feed(bytes);
                if self.payload.tracker.ended && !had_ended {
                    self.payload.tracker.facts.report(&mut self.summary);
                    self.summary.whole = true;
                }
                0
            }
            AnswerKind::EventStream => {
                let mut stream = Stream { payload: &mut self.payload, summary: &mut self.summary, ended: 0 };
                self.lines.push(bytes, &mut stream);
                stream.ended
            }
        }
    }

    /// Whether the answer is one JSON text.
    pub fn is_json(&self) -> bool {
        self.kind == AnswerKind::Json
    }

    /// What is known so far.
    pub fn summary(&self) -> &AnswerSummary {
        &self.summary
    }
}

struct Stream<'a> {
    payload: &'a mut Payload,
    summary: &'a mut AnswerSummary,
    ended: u32,
}

impl EventSink for Stream<'_> {
    fn data(&mut self, bytes: &[u8], _: usize) {
        self.payload.feed(bytes);
    }

    fn data_line_end(&mut self, _: usize) {
        self.payload.feed_line_end();
    }

    fn event_end(&mut self) {
        if self.payload.is_done() {
            self.summary.done = true;
        } else if !self.payload.is_empty() {
            self.ended = self.ended.saturating_add(1);
            self.summary.events += 1;
            if let Some(facts) = self.payload.facts() {
                self.summary.content_events += u64::from(facts.content);
                facts.report(self.summary);
            }
        }
        self.payload.restart();
    }
}

const DONE: &[u8] = b"[DONE]";
/// Room for `[DONE]` and some space around it.
const HEAD: usize = 16;

/// One JSON text: an event's data, or a whole answer.
#[derive(Debug)]
struct Payload {
    reader: JsonReader,
    tracker: Tracker,
    head: [u8; HEAD],
    length: usize,
}

impl Payload {
    fn new() -> Self {
        Self { reader: JsonReader::new(), tracker: Tracker::default(), head: [0; HEAD], length: 0 }
    }

    fn restart(&mut self) {
        self.reader.restart();
        self.tracker = Tracker::default();
        self.length = 0;
    }

    fn feed(&mut self, bytes: &[u8]) {
        if let Some(room) = self.head.get_mut(self.length..) {
            room.iter_mut().zip(bytes).for_each(|(slot, byte)| *slot = *byte);
        }
        let first = self.length == 0;
        self.length = self.length.saturating_add(bytes.len());
        if !first || !whole::read(bytes, &mut self.tracker) {
            if first {
                self.tracker = Tracker::default();
            }
            self.reader.feed(bytes, 0, &mut self.tracker);
        } else {
            self.reader.complete();
        }
    }

    /// The line break between two lines of data; behind the last one it changes nothing.
    fn feed_line_end(&mut self) {
        if self.length > 0 {
            self.feed(b"\n");
        }
    }

    fn is_empty(&self) -> bool {
        self.length == 0
    }

    fn is_done(&self) -> bool {
        self.head.get(..self.length).is_some_and(|head| head.trim_ascii() == DONE)
    }

    fn facts(&self) -> Option<&Facts> {
        self.reader.is_complete().then_some(&self.tracker.facts)
    }
}

/// What one JSON text said.
#[derive(Debug, Default, PartialEq, Eq)]
struct Facts {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    cached_tokens: Option<u64>,
    finish_reason: Option<String>,
    content: bool,
    error: Option<Option<u16>>,
}

impl Facts {
    /// The last usage wins, the first finish reason and the first error do.
    fn report(&self, summary: &mut AnswerSummary) {
        summary.prompt_tokens = self.prompt_tokens.or(summary.prompt_tokens);
        summary.completion_tokens = self.completion_tokens.or(summary.completion_tokens);
        summary.cached_tokens = self.cached_tokens.or(summary.cached_tokens);
        if summary.finish_reason.is_none() {
            summary.finish_reason.clone_from(&self.finish_reason);
        }
        summary.error = summary.error.or(self.error);
        summary.content |= self.content;
    }
}

/// The containers that hold something asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Other,
    Top,
    Error,
    Usage,
    UsageDetails,
    Choices,
    Choice,
    Delta,
    Calls,
}

/// The member whose value comes next, if it is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Member {
    #[default]
    Other,
    Object,
    Error,
    Code,
    Usage,
    PromptTokens,
    CompletionTokens,
    Details,
    CachedTokens,
    Choices,
    FinishReason,
    Delta,
    Text,
    Calls,
}

impl Member {
    fn of(place: Place, name: &[u8]) -> Self {
        match (place, name) {
            (Place::Top, b"choices") => Self::Choices,
            (Place::Top, b"usage") => Self::Usage,
            (Place::Top, b"error") => Self::Error,
            (Place::Top, b"object") => Self::Object,
            (Place::Top | Place::Error, b"code") => Self::Code,
            (Place::Usage, b"prompt_tokens") => Self::PromptTokens,
            (Place::Usage, b"completion_tokens") => Self::CompletionTokens,
            (Place::Usage, b"prompt_tokens_details") => Self::Details,
            (Place::UsageDetails, b"cached_tokens") => Self::CachedTokens,
            (Place::Choice, b"delta" | b"message") => Self::Delta,
            (Place::Choice, b"text") => Self::Text,
            (Place::Choice, b"finish_reason") => Self::FinishReason,
            (Place::Delta, b"content" | b"reasoning" | b"reasoning_content" | b"refusal") => Self::Text,
            (Place::Delta, b"tool_calls" | b"function_call") => Self::Calls,
            _ => Self::Other,
        }
    }
}

/// Depths at which something asked for can stand: a tool call stands at 5.
const DEPTHS: usize = 6;
const FINISH_REASON_CHARACTERS: usize = 64;

/// Follows one JSON text from place to place.
#[derive(Debug, Default)]
struct Tracker {
    places: [Place; DEPTHS],
    member: Member,
    facts: Facts,
    /// `"object": "error"`, as some servers mark an error whose members stand at the top.
    is_error_object: bool,
    top_code: Option<u16>,
    /// The outermost container closed.
    ended: bool,
}

impl Tracker {
    fn place(&self, depth: usize) -> Place {
        self.places.get(depth).copied().unwrap_or_default()
    }
}

impl Interest for Tracker {
    fn plain_key(&mut self, depth: usize, name: &[u8]) {
        self.member = Member::of(self.place(depth), name);
    }

    fn is_asked_for(&self, depth: usize) -> bool {
        self.place(depth) != Place::Other
    }

    fn wants_member(&self) -> bool {
        self.member != Member::Other
    }

    fn member_text(&mut self, depth: usize, text: Text<'_>) {
        match (self.place(depth), self.member) {
            (Place::Top, Member::Error) => self.facts.error = self.facts.error.or(Some(None)),
            (Place::Top, Member::Object) => self.is_error_object = text.start == b"error",
            (Place::Choice, Member::FinishReason) if self.facts.finish_reason.is_none() => {
                self.facts.finish_reason = unescape(text.start)
                    .filter(|reason| !reason.is_empty())
                    .map(|reason| reason.chars().take(FINISH_REASON_CHARACTERS).collect());
            }
            (Place::Choice | Place::Delta, Member::Text) => self.facts.content |= text.length > 0,
            _ => {}
        }
    }
}

impl Listener for Tracker {
    fn key(&mut self, depth: usize, raw: &[u8]) {
        let place = self.place(depth);
        self.member = match place {
            Place::Other => Member::Other,
            _ => match Member::of(place, raw) {
                Member::Other if raw.contains(&b'\\') => {
                    unescape(raw).map_or(Member::Other, |name| Member::of(place, name.as_bytes()))
                }
                member => member,
            },
        };
    }

    fn opened(&mut self, depth: usize, array: bool) {
        let outer = self.place(depth.saturating_sub(1));
        let place = match (outer, self.member, array) {
            _ if depth == 1 && !array => Place::Top,
            (Place::Top, Member::Error, _) => {
                self.facts.error = self.facts.error.or(Some(None));
                if array { Place::Other } else { Place::Error }
            }
            (Place::Top, Member::Usage, false) => Place::Usage,
            (Place::Usage, Member::Details, false) => Place::UsageDetails,
            (Place::Top, Member::Choices, true) => Place::Choices,
            (Place::Choices, _, false) => Place::Choice,
            (Place::Choice, Member::Delta, false) => Place::Delta,
            (Place::Delta, Member::Calls, true) => Place::Calls,
            (Place::Delta, Member::Calls, false) | (Place::Calls, _, false) => {
                self.facts.content = true;
                Place::Other
            }
            _ => Place::Other,
        };
        self.member = Member::Other;
        if let Some(slot) = self.places.get_mut(depth) {
            *slot = place;
        }
    }

    fn closed(&mut self, depth: usize) {
        if depth == 1 {
            self.ended = true;
            if self.is_error_object {
                self.facts.error = self.facts.error.or(Some(self.top_code));
            }
        }
    }

    fn string_begins(&mut self, _: usize, _: usize) {}

    fn string(&mut self, depth: usize, text: Text<'_>, _: usize) {
        self.member_text(depth, text);
    }

    fn scalar(&mut self, depth: usize, raw: &[u8]) {
        let number = || std::str::from_utf8(raw).ok()?.parse::<u64>().ok();
        match (self.place(depth), self.member) {
            (Place::Top, Member::Error) if raw != b"null" && raw != b"false" => {
                self.facts.error = self.facts.error.or(Some(None));
            }
            (Place::Top, Member::Code) => self.top_code = number().and_then(|code| u16::try_from(code).ok()),
            (Place::Error, Member::Code) => {
                self.facts.error = Some(number().and_then(|code| u16::try_from(code).ok()));
            }
            (Place::Usage, Member::PromptTokens) => self.facts.prompt_tokens = number(),
            (Place::Usage, Member::CompletionTokens) => self.facts.completion_tokens = number(),
            (Place::UsageDetails, Member::CachedTokens) => self.facts.cached_tokens = number(),
            _ => {}
        }
    }

    fn broken(&mut self) {}
}

#[cfg(test)]
mod tests;
