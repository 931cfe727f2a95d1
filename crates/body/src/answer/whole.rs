//! The shortcut for a JSON text that lies whole in one piece, as nearly every answer and every event does.
//!
//! Finds quotes and brackets 64 bytes at a time (after Langdale and Lemire, "Parsing Gigabytes of JSON per Second",
//! VLDB Journal 2019, section 3.1) and tells the listener what [`super::json`] would, but for what no place asks for.
//! On JSON the two agree; what is not JSON may be noticed by one and not by the other, and says nothing either way.

use memchr::memchr2;
use wide::u8x16;

use super::json::{CAPTURE, Listener, Text};

const LANES: usize = 16;
const BLOCK: usize = 64;
/// Deepest nesting that is followed here.
const DEEPEST: usize = 64;

/// What a listener wants to hear of.
pub(super) trait Interest: Listener {
    /// A member's key that has no escapes.
    fn plain_key(&mut self, depth: usize, name: &[u8]);
    /// Whether anything is asked for directly inside the container at this depth.
    fn is_asked_for(&self, depth: usize) -> bool;
    /// Whether the member whose key was told last is asked for.
    fn wants_member(&self) -> bool;
    /// The string that such a member has; longer than [`CAPTURE`], its length is only known to be that.
    fn member_text(&mut self, depth: usize, text: Text<'_>);
}

/// Reads a text; `false` when it is no JSON object, whole and not too deep. The listener then heard part of it.
pub(super) fn read(text: &[u8], listener: &mut impl Interest) -> bool {
    let text = text.trim_ascii();
    // A piece of a text nearly always shows itself here.
    if text.first() != Some(&b'{') || text.last() != Some(&b'}') {
        return false;
    }
    let mut walk = Walk { text, depth: 0, objects: 0, ended: false, carry: Carry::default(), asked: false, opened: 0 };
    let (blocks, rest) = text.as_chunks::<BLOCK>();
    let mut base = 0;
    for block in blocks {
        if !walk.block(block, base, listener) {
            return false;
        }
        base += BLOCK;
    }
    let mut last = [b' '; BLOCK];
    if let Some(place) = last.get_mut(..rest.len()) {
        place.copy_from_slice(rest);
    }
    walk.block(&last, base, listener) && walk.ended && !walk.carry.inside
}

struct Walk<'a> {
    text: &'a [u8],
    depth: usize,
    /// Bit 0: the innermost container is an object.
    objects: u64,
    ended: bool,
    carry: Carry,
    /// Something is asked for directly inside the innermost container.
    asked: bool,
    /// Where the last string of an earlier block begins.
    opened: usize,
}

impl Walk<'_> {
    /// Takes the block whose first byte stands at `base`; `false` where this shows not to be JSON.
    #[inline(always)]
    fn block(&mut self, block: &[u8; BLOCK], base: usize, listener: &mut impl Interest) -> bool {
        let Marks { begins, keys, brackets } = self.carry.marks(block);
        // Where nothing is asked for, keys are passed over without a look; values always are.
        let mut bits = brackets | if self.asked { keys } else { 0 };
        while bits != 0 {
            let at = bits.trailing_zeros();
            let in_front = (1 << at) - 1;
            if (brackets >> at) & 1 == 1 {
                if !self.bracket(base + at as usize, listener) {
                    return false;
                }
                self.asked = listener.is_asked_for(self.depth);
                bits = (brackets | if self.asked { keys } else { 0 }) & !(in_front | 1 << at);
            } else {
                let begun = begins & in_front;
                let quote = if begun == 0 { self.opened } else { base + begun.ilog2() as usize };
                self.key(quote, base + at as usize, listener);
                bits &= bits - 1;
            }
        }
        if begins != 0 {
            self.opened = base + begins.ilog2() as usize;
        }
        true
    }

    /// A bracket outside of strings.
    fn bracket(&mut self, at: usize, listener: &mut impl Interest) -> bool {
        if self.ended {
            return false;
        }
        match self.text.get(at) {
            Some(open @ (b'{' | b'[')) => {
                if self.depth == DEEPEST {
                    return false;
                }
                self.depth += 1;
                self.objects = (self.objects << 1) | u64::from(*open == b'{');
                listener.opened(self.depth, *open == b'[');
            }
            Some(close) => {
                if self.depth == 0 || (self.objects & 1 == 1) != (*close == b'}') {
                    return false;
                }
                listener.closed(self.depth);
                self.objects >>= 1;
                self.depth -= 1;
                self.ended = self.depth == 0;
            }
            None => return false,
        }
        true
    }

    /// A string between two quotes that may be a key, where something is asked for.
    fn key(&self, quote: usize, end: usize, listener: &mut impl Interest) {
        if self.objects & 1 == 0 {
            return;
        }
        let Some(value) = self.behind_colon(end + 1) else { return };
        let raw = self.text.get(quote + 1..end).unwrap_or_default();
        let name = raw.get(..CAPTURE).unwrap_or(raw);
        if self.carry.escapes {
            listener.key(self.depth, name);
        } else {
            listener.plain_key(self.depth, name);
        }
        if listener.wants_member() {
            self.value(self.text.get(value..).unwrap_or_default(), listener);
        }
    }

    /// What a member has that is asked for. Containers are told of when their brackets come.
    fn value(&self, rest: &[u8], listener: &mut impl Interest) {
        if let Some(string) = rest.strip_prefix(b"\"") {
            listener.member_text(self.depth, text(string));
            return;
        }
        let is_scalar = |byte: &&u8| matches!(byte, b'0'..=b'9' | b'a'..=b'z' | b'E' | b'+' | b'-' | b'.');
        let length = rest.iter().take_while(is_scalar).count();
        if let Some(scalar) = rest.get(..length.min(CAPTURE)).filter(|scalar| !scalar.is_empty()) {
            listener.scalar(self.depth, scalar);
        }
    }

    /// Where the value begins if a colon comes next: only a key has one behind it.
    fn behind_colon(&self, at: usize) -> Option<usize> {
        let colon = self.behind_space(at);
        (self.text.get(colon) == Some(&b':')).then(|| self.behind_space(colon + 1))
    }

    fn behind_space(&self, mut at: usize) -> usize {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.text.get(at) {
            at += 1;
        }
        at
    }
}

/// The string whose first byte this is, as far as anyone looks at it.
fn text(bytes: &[u8]) -> Text<'_> {
    let seen = bytes.get(..CAPTURE).unwrap_or(bytes);
    let mut from = 0;
    while let Some(found) = seen.get(from..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
        let at = from + found;
        if seen.get(at) == Some(&b'"') {
            return Text { start: seen.get(..at).unwrap_or_default(), length: at };
        }
        from = at + 2;
    }
    Text { start: seen, length: seen.len() }
}

/// What one block tells the next.
#[derive(Default)]
struct Carry {
    /// A string is open.
    inside: bool,
    /// The next byte is escaped.
    escaped: bool,
    /// There was a backslash.
    escapes: bool,
}

/// The bytes of one block that mean something, bit 0 the first.
struct Marks {
    /// Quotes that begin a string.
    begins: u64,
    /// Quotes that end one which may be a key: a colon comes next, or space, or what is not seen yet.
    keys: u64,
    /// Brackets outside of strings.
    brackets: u64,
}

impl Carry {
    #[inline(always)]
    fn marks(&mut self, block: &[u8; BLOCK]) -> Marks {
        let (mut quotes, mut backslashes, mut brackets, mut colons) = (0, 0, 0, 0);
        let (lanes, _) = block.as_chunks::<LANES>();
        for lane in lanes.iter().rev() {
            let bytes = u8x16::new(*lane);
            // `[` and `{`, `]` and `}` differ in this bit alone.
            let folded = bytes | u8x16::splat(0x20);
            let bracket = folded.simd_eq(u8x16::splat(b'{')) | folded.simd_eq(u8x16::splat(b'}'));
            let colon = bytes.simd_eq(u8x16::splat(b':')) | bytes.min(u8x16::splat(b' ')).simd_eq(bytes);
            quotes = (quotes << LANES) | u64::from(bytes.simd_eq(u8x16::splat(b'"')).to_bitmask());
            backslashes = (backslashes << LANES) | u64::from(bytes.simd_eq(u8x16::splat(b'\\')).to_bitmask());
            brackets = (brackets << LANES) | u64::from(bracket.to_bitmask());
            colons = (colons << LANES) | u64::from(colon.to_bitmask());
        }
        self.escapes |= backslashes != 0;
        let quotes = quotes & !self.escaped(backslashes);
        let inside = below(quotes) ^ if self.inside { u64::MAX } else { 0 };
        self.inside = inside >> 63 == 1;
        let keys = quotes & !inside & (colons >> 1 | 1 << 63);
        Marks { begins: quotes & inside, keys, brackets: brackets & !inside }
    }

    /// The bytes that a backslash in front of them escapes.
    fn escaped(&mut self, backslashes: u64) -> u64 {
        let mut escaped = u64::from(self.escaped);
        let mut bits = backslashes & !escaped;
        self.escaped = false;
        while bits != 0 {
            let bit = bits & bits.wrapping_neg();
            let next = bit << 1;
            self.escaped = next == 0;
            escaped |= next;
            bits &= !(bit | next);
        }
        escaped
    }
}

/// Each bit is the parity of the bits up to and with it.
fn below(mut bits: u64) -> u64 {
    for shift in [1, 2, 4, 8, 16, 32] {
        bits ^= bits << shift;
    }
    bits
}
