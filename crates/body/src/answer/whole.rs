//! The shortcut for a JSON text that lies whole in one piece, as nearly every answer and every event does.
//!
//! Walks only where something that is asked for can stand and jumps over all else. Gives facts only for a text that is
//! regular in every way that [`super::json`] looks at; errors, escaped keys, tool calls and whatever is odd are left to
//! that slower reader, so that the two never differ.

use super::tap::{FINISH_REASON_CHARACTERS, Facts};
use crate::json_string::{plain_length, unescape};

/// Deepest nesting that is walked here.
const DEEPEST: u32 = 64;

/// The facts of a text, or `None` where the other reader has to look.
pub(super) fn facts(text: &[u8]) -> Option<Facts> {
    let text = text.trim_ascii();
    // A piece of a text nearly always shows itself here.
    if text.first() != Some(&b'{') || text.last() != Some(&b'}') {
        return None;
    }
    let mut walk = Walk { text, at: 0 };
    let mut facts = Facts::default();
    walk.members(|walk, key| match key {
        b"choices" if walk.peek() == Some(b'[') => walk.choices(&mut facts),
        b"usage" if walk.peek() == Some(b'{') => walk.usage(&mut facts),
        b"error" if !walk.rest().starts_with(b"null") => None,
        b"object" if walk.rest().starts_with(b"\"error\"") => None,
        _ => walk.skip_value(),
    })?;
    (walk.at == text.len()).then_some(facts)
}

struct Walk<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Walk<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn rest(&self) -> &'a [u8] {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    /// The members of an object, from its brace on; `member` reads each value.
    fn members(&mut self, mut member: impl FnMut(&mut Self, &'a [u8]) -> Option<()>) -> Option<()> {
        self.expect(b'{')?;
        self.skip_space();
        if self.peek()? == b'}' {
            self.at += 1;
            return Some(());
        }
        loop {
            let key = self.string().filter(|key| !key.contains(&b'\\'))?;
            self.skip_space();
            self.expect(b':')?;
            self.skip_space();
            member(self, key)?;
            self.skip_space();
            self.at += 1;
            match self.text.get(self.at - 1)? {
                b',' => self.skip_space(),
                b'}' => return Some(()),
                _ => return None,
            }
        }
    }

    fn choices(&mut self, facts: &mut Facts) -> Option<()> {
        self.expect(b'[')?;
        self.skip_space();
        if self.peek()? == b']' {
            self.at += 1;
            return Some(());
        }
        loop {
            if self.peek()? == b'{' { self.choice(facts)? } else { self.skip_value()? }
            self.skip_space();
            self.at += 1;
            match self.text.get(self.at - 1)? {
                b',' => self.skip_space(),
                b']' => return Some(()),
                _ => return None,
            }
        }
    }

    fn choice(&mut self, facts: &mut Facts) -> Option<()> {
        self.members(|walk, key| match key {
            b"delta" if walk.peek() == Some(b'{') => walk.delta(facts),
            b"text" if walk.peek() == Some(b'"') => {
                facts.content |= !walk.string()?.is_empty();
                Some(())
            }
            b"finish_reason" if walk.peek() == Some(b'"') => {
                let reason = walk.string()?;
                if facts.finish_reason.is_none() {
                    facts.finish_reason = unescape(reason)
                        .filter(|reason| !reason.is_empty())
                        .map(|reason| reason.chars().take(FINISH_REASON_CHARACTERS).collect());
                }
                // A longer one is cut in the middle of an escape by the other reader.
                (reason.len() <= FINISH_REASON_CHARACTERS).then_some(())
            }
            _ => walk.skip_value(),
        })
    }

    fn delta(&mut self, facts: &mut Facts) -> Option<()> {
        self.members(|walk, key| match key {
            b"content" | b"reasoning" | b"reasoning_content" | b"refusal" if walk.peek() == Some(b'"') => {
                facts.content |= !walk.string()?.is_empty();
                Some(())
            }
            b"tool_calls" | b"function_call" if !walk.rest().starts_with(b"null") => None,
            _ => walk.skip_value(),
        })
    }

    fn usage(&mut self, facts: &mut Facts) -> Option<()> {
        self.members(|walk, key| match key {
            b"prompt_tokens" => walk.number(&mut facts.prompt_tokens),
            b"completion_tokens" => walk.number(&mut facts.completion_tokens),
            b"prompt_tokens_details" if walk.peek() == Some(b'{') => walk.members(|walk, key| match key {
                b"cached_tokens" => walk.number(&mut facts.cached_tokens),
                _ => walk.skip_value(),
            }),
            _ => walk.skip_value(),
        })
    }

    /// A whole number into its place; `null` and all else make it unknown.
    fn number(&mut self, into: &mut Option<u64>) -> Option<()> {
        let start = self.at;
        self.skip_value()?;
        let raw = self.text.get(start..self.at)?;
        if !matches!(raw.first(), Some(b'"' | b'{' | b'[')) {
            *into = std::str::from_utf8(raw).ok().and_then(|number| number.parse().ok());
        }
        Some(())
    }

    /// A string, from its quote on, as it is written.
    fn string(&mut self) -> Option<&'a [u8]> {
        self.expect(b'"')?;
        let start = self.at;
        loop {
            self.at += plain_length(self.rest());
            match self.peek()? {
                b'"' => {
                    self.at += 1;
                    return self.text.get(start..self.at - 1);
                }
                // Whatever is escaped is one byte, or digits behind it.
                b'\\' => {
                    self.at += 2;
                    if self.at > self.text.len() {
                        return None;
                    }
                }
                _ => return None,
            }
        }
    }

    fn skip_value(&mut self) -> Option<()> {
        match self.peek()? {
            b'"' => self.string().map(|_| ()),
            b'{' | b'[' => self.skip_container(),
            b'n' => self.literal(b"null"),
            b't' => self.literal(b"true"),
            b'f' => self.literal(b"false"),
            b'-' | b'0'..=b'9' => {
                while let Some(b'0'..=b'9' | b'a'..=b'z' | b'E' | b'+' | b'-' | b'.') = self.peek() {
                    self.at += 1;
                }
                Some(())
            }
            _ => None,
        }
    }

    fn literal(&mut self, literal: &[u8]) -> Option<()> {
        self.rest().starts_with(literal).then(|| self.at += literal.len())?;
        // `nullx` is one scalar to the other reader.
        (!matches!(self.peek(), Some(b'0'..=b'9' | b'a'..=b'z' | b'E' | b'+' | b'-' | b'.'))).then_some(())
    }

    /// An array or object, to behind its end; of its grammar as much is looked at as the other reader does.
    fn skip_container(&mut self) -> Option<()> {
        let (mut kinds, mut depth) = (0_u64, 0_u32);
        loop {
            match self.peek()? {
                b'"' => {
                    self.string()?;
                    continue;
                }
                open @ (b'{' | b'[') => {
                    if depth == DEEPEST {
                        return None;
                    }
                    kinds = (kinds << 1) | u64::from(open == b'{');
                    depth += 1;
                }
                close @ (b'}' | b']') => {
                    if (kinds & 1 == 1) != (close == b'}') {
                        return None;
                    }
                    kinds >>= 1;
                    depth -= 1;
                    if depth == 0 {
                        self.at += 1;
                        return Some(());
                    }
                }
                b',' | b':' | b' ' | b'\n' | b'\r' | b'\t' => {}
                _ => {
                    self.skip_value()?;
                    continue;
                }
            }
            self.at += 1;
        }
    }
}
