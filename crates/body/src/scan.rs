//! The scan of a JSON request body: one pass, top-level keys only, no tree.
//!
//! Stands between reading a request and assigning it: what it finds decides the arm, and the span it gives is what
//! [`crate::splice`] changes. The whole grammar of RFC 8259 is checked, so that a body is refused here and not by one
//! server of many; it never recurses, so that no depth of nesting can exhaust the stack. Bytes inside strings other
//! than `model` need not be valid UTF-8: they pass as they came, and the server judges them.

use std::borrow::Cow;
use std::ops::Range;

use crate::answer::AskedFor;
use crate::json_string::{closing_quote, means, unescape};

/// What a request body says at its top level.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scan<'a> {
    /// The top-level `model`, if its value is a string.
    pub model: Option<ModelField<'a>>,
    /// Top-level `stream` is `true` (the last one, where it stands twice).
    pub stream: bool,
    /// Offset just behind the opening brace: where a member can be inserted.
    pub object_start: usize,
    /// The object has no members.
    pub empty: bool,
    /// Other members that decide how a request is treated.
    pub fields: Fields,
}

/// Top-level members of a request, as spans of the body: what may tell a session, and how long the answer may be. Keys
/// that are written with escapes are not found; of a key that stands twice the last one counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    /// `prompt_cache_key`.
    pub prompt_cache_key: Option<Range<usize>>,
    /// `user`.
    pub user: Option<Range<usize>>,
    /// `conversation`: a text or an object.
    pub conversation: Option<Range<usize>>,
    /// `messages`.
    pub messages: Option<Range<usize>>,
    /// `max_completion_tokens`, `max_output_tokens` or `max_tokens`.
    pub max_tokens: Option<u64>,
    /// What an answer must hold.
    pub asked: AskedFor,
}

impl Fields {
    fn note(&mut self, key: &[u8], value: Range<usize>, body: &[u8]) {
        match key {
            b"prompt_cache_key" => self.prompt_cache_key = Some(value),
            b"user" => self.user = Some(value),
            b"conversation" => self.conversation = Some(value),
            b"messages" => self.messages = Some(value),
            b"max_tokens" | b"max_completion_tokens" | b"max_output_tokens" => {
                let digits = body.get(value).and_then(|digits| std::str::from_utf8(digits).ok());
                self.max_tokens = digits.and_then(|digits| digits.parse().ok()).or(self.max_tokens);
            }
            b"tools" => self.asked.tools = body.get(value).is_some_and(|tools| tools.len() > 2 && tools != b"null"),
            b"response_format" | b"guided_json" | b"structured_outputs" => {
                self.asked.json |=
                    body.get(value).is_some_and(|format| memchr::memmem::find(format, b"\"json").is_some());
            }
            _ => {}
        }
    }
}

/// What a member says that may tell a session: the inside of a text, an object as it is written. Nothing for `null`,
/// numbers and empty texts.
pub fn session_value(body: &[u8], span: &Range<usize>) -> Option<Range<usize>> {
    let value = body.get(span.clone())?;
    match value.first()? {
        b'"' if value.len() > 2 => Some(span.start + 1..span.end - 1),
        b'{' if value.len() > 2 => Some(span.clone()),
        _ => None,
    }
}

/// The beginning of a conversation: its `messages` up to the end of the first that the user wrote. They stay the same
/// over its turns. Nothing when no message is the user's, or the member is no array.
pub fn first_messages(body: &[u8], messages: &Range<usize>) -> Option<Range<usize>> {
    let mut reader = Reader { body: body.get(..messages.end)?, at: messages.start };
    reader.expect(b'[', "expected `[`").ok()?;
    loop {
        reader.skip_whitespace();
        let is_users = reader.peek() == Some(b'{') && reader.is_users_message().ok()?;
        if is_users {
            return Some(messages.start..reader.at);
        }
        reader.skip_whitespace();
        reader.expect(b',', "expected `,`").ok()?;
    }
}

/// Where the model's name stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelField<'a> {
    /// The bytes of the value, quotes included (in multipart: the part's content, without quotes).
    pub span: Range<usize>,
    /// The name, unescaped.
    pub name: Cow<'a, str>,
}

/// Why a body is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScanError {
    /// Not one complete JSON object.
    #[error("the body is not one complete JSON object: {what} at byte {offset}")]
    Invalid {
        /// What is wrong there.
        what: &'static str,
        /// Byte offset, from 0.
        offset: usize,
    },
    /// A second top-level `model`.
    #[error("the body has a second top-level \"model\" at byte {offset}")]
    DuplicateModel {
        /// Byte offset of the second key.
        offset: usize,
    },
    /// The model's value is not a string of valid UTF-8.
    #[error("the value of \"model\" is not a valid string at byte {offset}")]
    InvalidModel {
        /// Byte offset.
        offset: usize,
    },
}

/// Scans a body that is meant to be one JSON object.
///
/// # Errors
/// [`ScanError`] when it is not, when `model` stands twice, or when its value is not a valid string (`null` is none).
pub fn scan(body: &[u8]) -> Result<Scan<'_>, ScanError> {
    let mut reader = Reader { body, at: 0 };
    reader.skip_whitespace();
    reader.expect(b'{', "expected `{`")?;
    let mut scan = Scan { object_start: reader.at, empty: true, ..Scan::default() };
    reader.skip_whitespace();
    if reader.peek() == Some(b'}') {
        reader.at += 1;
    } else {
        scan.empty = false;
        reader.members(&mut scan)?;
    }
    reader.skip_whitespace();
    if reader.at == body.len() { Ok(scan) } else { reader.invalid("expected nothing behind the object") }
}

struct Reader<'a> {
    body: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.body.get(self.at).copied()
    }

    fn rest(&self) -> &'a [u8] {
        self.body.get(self.at..).unwrap_or_default()
    }

    fn invalid<T>(&self, what: &'static str) -> Result<T, ScanError> {
        Err(ScanError::Invalid { what, offset: self.at })
    }

    fn expect(&mut self, byte: u8, what: &'static str) -> Result<(), ScanError> {
        if self.peek() != Some(byte) {
            return self.invalid(what);
        }
        self.at += 1;
        Ok(())
    }

    fn skip_whitespace(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    /// The members of the top-level object, from the first key to behind the closing brace.
    fn members(&mut self, scan: &mut Scan<'a>) -> Result<(), ScanError> {
        loop {
            let key_at = self.at;
            let key = self.key()?;
            let key = self.body.get(key).unwrap_or_default();
            if means(key, "model") {
                if scan.model.is_some() {
                    return Err(ScanError::DuplicateModel { offset: key_at });
                }
                scan.model = Some(self.model()?);
            } else {
                let value_at = self.at;
                self.skip_value()?;
                if means(key, "stream") {
                    scan.stream = self.body.get(value_at..self.at) == Some(b"true");
                } else {
                    scan.fields.note(key, value_at..self.at, self.body);
                }
            }
            self.skip_whitespace();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return self.invalid("expected `,` or `}`"),
            }
            self.skip_whitespace();
        }
    }

    /// A key, its colon, and the space up to the value.
    fn key(&mut self) -> Result<Range<usize>, ScanError> {
        if self.peek() != Some(b'"') {
            return self.invalid("expected a key");
        }
        let key = self.string()?;
        self.skip_whitespace();
        self.expect(b':', "expected `:`")?;
        self.skip_whitespace();
        Ok(key)
    }

    /// Reads one message, a JSON object with members, to behind its end: whether its role is `user`.
    fn is_users_message(&mut self) -> Result<bool, ScanError> {
        let mut is_users = false;
        self.expect(b'{', "expected `{`")?;
        loop {
            self.skip_whitespace();
            let key = self.key()?;
            let value_at = self.at;
            self.skip_value()?;
            if self.body.get(key) == Some(b"role") {
                is_users = self.body.get(value_at..self.at) == Some(b"\"user\"");
            }
            self.skip_whitespace();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(is_users);
                }
                _ => return self.invalid("expected `,` or `}`"),
            }
        }
    }

    fn model(&mut self) -> Result<ModelField<'a>, ScanError> {
        let offset = self.at;
        if self.peek() != Some(b'"') {
            self.skip_value()?;
            return Err(ScanError::InvalidModel { offset });
        }
        let value = self.string()?;
        let raw = self.body.get(value).unwrap_or_default();
        let name = unescape(raw).ok_or(ScanError::InvalidModel { offset })?;
        Ok(ModelField { span: offset..self.at, name })
    }

    /// A string, from its opening quote to behind its closing one; gives the span between the two.
    fn string(&mut self) -> Result<Range<usize>, ScanError> {
        self.at += 1;
        let start = self.at;
        let found = closing_quote(self.rest());
        self.at += found.unwrap_or_else(|stop| stop);
        if found.is_err() {
            return self.invalid(match self.peek() {
                Some(b'\\') => "an escape that JSON does not know",
                Some(_) => "a control character in a string",
                None => "a string that does not end",
            });
        }
        let inner = start..self.at;
        self.at += 1;
        Ok(inner)
    }

    /// One value of any kind; containers by a loop with one bit of memory per depth.
    fn skip_value(&mut self) -> Result<(), ScanError> {
        let mut nesting = Nesting::default();
        loop {
            if let Some(container) = self.value_or_open()? {
                nesting.push(container);
                continue;
            }
            loop {
                let Some(container) = nesting.innermost() else { return Ok(()) };
                self.skip_whitespace();
                match (self.peek(), container) {
                    (Some(b','), Container::Array) => {
                        self.at += 1;
                        self.skip_whitespace();
                        break;
                    }
                    (Some(b','), Container::Object) => {
                        self.at += 1;
                        self.skip_whitespace();
                        self.key()?;
                        break;
                    }
                    (Some(b']'), Container::Array) | (Some(b'}'), Container::Object) => {
                        self.at += 1;
                        nesting.pop();
                    }
                    (_, Container::Array) => return self.invalid("expected `,` or `]`"),
                    (_, Container::Object) => return self.invalid("expected `,` or `}`"),
                }
            }
        }
    }

    /// Reads a whole scalar or an empty container, or opens one and stands at its first value.
    fn value_or_open(&mut self) -> Result<Option<Container>, ScanError> {
        match self.peek() {
            Some(b'"') => {
                self.string()?;
            }
            Some(b'{') => {
                self.at += 1;
                self.skip_whitespace();
                if self.peek() != Some(b'}') {
                    self.key()?;
                    return Ok(Some(Container::Object));
                }
                self.at += 1;
            }
            Some(b'[') => {
                self.at += 1;
                self.skip_whitespace();
                if self.peek() != Some(b']') {
                    return Ok(Some(Container::Array));
                }
                self.at += 1;
            }
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(b't') => self.literal(b"true")?,
            Some(b'f') => self.literal(b"false")?,
            Some(b'n') => self.literal(b"null")?,
            Some(_) => return self.invalid("expected a value"),
            None => return self.invalid("expected a value, not the end"),
        }
        Ok(None)
    }

    fn literal(&mut self, literal: &[u8]) -> Result<(), ScanError> {
        if !self.rest().starts_with(literal) {
            return self.invalid("expected `true`, `false` or `null`");
        }
        self.at += literal.len();
        Ok(())
    }

    fn number(&mut self) -> Result<(), ScanError> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), ScanError> {
        let count = self.rest().iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        if count == 0 { self.invalid("expected a digit") } else { Ok(()) }
    }
}

#[derive(Clone, Copy)]
enum Container {
    Array,
    Object,
}

/// Which kind of container is open at each depth: the innermost 64 in `recent`, the others, 64 to a word, in `outer`.
#[derive(Default)]
struct Nesting {
    recent: u64,
    in_recent: u32,
    outer: Vec<u64>,
}

impl Nesting {
    fn push(&mut self, container: Container) {
        if self.in_recent == u64::BITS {
            self.outer.push(self.recent);
            self.in_recent = 0;
        }
        self.recent = (self.recent << 1) | u64::from(matches!(container, Container::Object));
        self.in_recent += 1;
    }

    fn innermost(&self) -> Option<Container> {
        if self.in_recent == 0 {
            return None;
        }
        Some(if self.recent & 1 == 1 { Container::Object } else { Container::Array })
    }

    fn pop(&mut self) {
        self.recent >>= 1;
        self.in_recent = self.in_recent.saturating_sub(1);
        if self.in_recent == 0
            && let Some(word) = self.outer.pop()
        {
            self.recent = word;
            self.in_recent = u64::BITS;
        }
    }
}

#[cfg(test)]
mod tests;
