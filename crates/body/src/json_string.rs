//! JSON strings as bytes: where plain text ends, and what an escaped string means.
//!
//! Under both the request scan and the answer reader. The skip is what a request costs most in, because a prompt is one
//! long string; it must not look at a byte twice and must not allocate.

use std::borrow::Cow;

use wide::u8x16;

const LANES: usize = 16;
const BLOCK: usize = 4 * LANES;

/// Number of leading bytes that need no attention inside a JSON string: neither `"`, nor `\`, nor a control character.
pub(crate) fn plain_length(bytes: &[u8]) -> usize {
    stop::<false>(bytes).unwrap_or(bytes.len())
}

/// Where the closing quote stands in the bytes behind an opening one.
///
/// # Errors
/// The offset at which this is no JSON string: a control character, an escape that JSON does not know, or the end.
pub(crate) fn closing_quote(bytes: &[u8]) -> Result<usize, usize> {
    let stop = stop::<true>(bytes).unwrap_or(bytes.len());
    if bytes.get(stop) == Some(&b'"') { Ok(stop) } else { Err(stop) }
}

/// How long the escape is that begins at an offset; `None` when none does.
#[inline(always)]
fn escape_length(bytes: &[u8], at: usize) -> Option<usize> {
    match (bytes.get(at)?, bytes.get(at + 1)?) {
        (b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Some(2),
        (b'\\', b'u') => unicode_length(bytes.get(at..)?),
        _ => None,
    }
}

fn unicode_length(bytes: &[u8]) -> Option<usize> {
    match bytes {
        [b'\\', b'u', a, b, c, d, ..] if [a, b, c, d].iter().all(|digit| digit.is_ascii_hexdigit()) => Some(6),
        _ => None,
    }
}

/// The first special byte; with `ESCAPES`, the first that begins no escape. A block is looked at once, however many
/// special bytes it has.
#[inline(always)]
fn stop<const ESCAPES: bool>(bytes: &[u8]) -> Option<usize> {
    let mut resume = 0;
    // Most strings are keys, identifiers or tokens and end within one lane.
    let (lanes, _) = bytes.as_chunks::<LANES>();
    let mut base = 0;
    if let Some(lane) = lanes.first() {
        if let Some(at) = first_stop::<ESCAPES>(special(lane).to_bitmask().into(), base, &mut resume, bytes) {
            return Some(at);
        }
        base = LANES;
    }
    let (blocks, _) = bytes.get(base..)?.as_chunks::<BLOCK>();
    for block in blocks {
        let lanes = marked(block);
        if lanes.iter().fold(u8x16::splat(0), |any, lane| any | *lane).to_bitmask() != 0 {
            let marks = lanes.iter().rev().fold(0, |marks, lane| (marks << LANES) | u64::from(lane.to_bitmask()));
            if let Some(at) = first_stop::<ESCAPES>(marks, base, &mut resume, bytes) {
                return Some(at);
            }
        }
        base += BLOCK;
    }
    for chunk in bytes.get(base..)?.chunks(BLOCK) {
        let marks = chunk.iter().rev().fold(0, |marks, byte| (marks << 1) | u64::from(is_special(*byte)));
        if let Some(at) = first_stop::<ESCAPES>(marks, base, &mut resume, bytes) {
            return Some(at);
        }
        base += BLOCK;
    }
    None
}

/// The first of these marks, bit 0 standing for offset `base`, that is not passed over. Those in front of `resume` lie in
/// an escape that was.
#[inline(always)]
fn first_stop<const ESCAPES: bool>(mut marks: u64, base: usize, resume: &mut usize, bytes: &[u8]) -> Option<usize> {
    while marks != 0 {
        let at = base + marks.trailing_zeros() as usize;
        marks &= marks - 1;
        if at >= *resume {
            let length = if ESCAPES { escape_length(bytes, at) } else { None };
            let Some(length) = length else { return Some(at) };
            *resume = at + length;
        }
    }
    None
}

fn is_special(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// The special bytes of one lane, marked with all bits.
fn special(lane: &[u8; LANES]) -> u8x16 {
    let bytes = u8x16::new(*lane);
    let control = bytes.min(u8x16::splat(0x1F)).simd_eq(bytes);
    control | bytes.simd_eq(u8x16::splat(b'"')) | bytes.simd_eq(u8x16::splat(b'\\'))
}

/// The same for the lanes of a block.
fn marked(block: &[u8; BLOCK]) -> [u8x16; BLOCK / LANES] {
    let (lanes, _) = block.as_chunks::<LANES>();
    let mut marks = [u8x16::splat(0); BLOCK / LANES];
    for (mark, lane) in marks.iter_mut().zip(lanes) {
        *mark = special(lane);
    }
    marks
}

/// The text of a string whose grammar has been checked, given without its quotes. `None` when it is not valid UTF-8 or
/// holds half a surrogate pair.
pub(crate) fn unescape(raw: &[u8]) -> Option<Cow<'_, str>> {
    let text = std::str::from_utf8(raw).ok()?;
    let Some((plain, _)) = text.split_once('\\') else { return Some(Cow::Borrowed(text)) };
    let mut out = String::with_capacity(text.len());
    out.push_str(plain);
    let mut rest = text.get(plain.len()..)?;
    while let Some(escaped) = rest.strip_prefix('\\') {
        let mut tail = escaped.chars();
        let character = match tail.next()? {
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => {
                let (character, behind) = unicode_escape(tail.as_str())?;
                tail = behind.chars();
                character
            }
            same @ ('"' | '\\' | '/') => same,
            _ => return None,
        };
        out.push(character);
        let behind = tail.as_str();
        let plain = behind.split('\\').next().unwrap_or_default();
        out.push_str(plain);
        rest = behind.get(plain.len()..)?;
    }
    Some(Cow::Owned(out))
}

/// Reads what stands behind `\u`: one unit, or a pair of surrogates.
fn unicode_escape(text: &str) -> Option<(char, &str)> {
    let (first, rest) = hex_unit(text)?;
    match first {
        0xD800..=0xDBFF => {
            let (second, rest) = hex_unit(rest.strip_prefix("\\u")?)?;
            let low = second.checked_sub(0xDC00).filter(|low| *low < 0x400)?;
            Some((char::from_u32(0x1_0000 + ((first - 0xD800) << 10) + low)?, rest))
        }
        unit => Some((char::from_u32(unit)?, rest)),
    }
}

fn hex_unit(text: &str) -> Option<(u32, &str)> {
    let (digits, rest) = text.split_at_checked(4)?;
    let mut unit = 0;
    for digit in digits.chars() {
        unit = unit * 16 + digit.to_digit(16)?;
    }
    Some((unit, rest))
}

/// Whether a raw string (without quotes) means `name`, which is ASCII.
pub(crate) fn means(raw: &[u8], name: &str) -> bool {
    raw == name.as_bytes() || (raw.contains(&b'\\') && unescape(raw).is_some_and(|text| text == name))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn plain_length_finds_the_first_special_byte(
            bytes in proptest::collection::vec(prop_oneof![20 => 0x20_u8..=255, 1 => any::<u8>()], 0..400),
        ) {
            let expected = bytes.iter().position(|byte| is_special(*byte)).unwrap_or(bytes.len());
            prop_assert_eq!(plain_length(&bytes), expected);
        }

        #[test]
        fn unescape_reads_what_serde_json_reads(text in r#"([a-zé\u{10000}]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4}|\\ud8[0-9a-f]{2}\\udc[0-9a-f]{2}){0,12}"#) {
            let expected: Option<String> = serde_json::from_str(&format!("\"{text}\"")).ok();
            prop_assert_eq!(unescape(text.as_bytes()).map(Cow::into_owned), expected);
        }
    }

    #[test]
    fn every_special_byte_is_found_at_every_place() {
        for length in [1, 7, 8, 31, 32, 33, 95, 96, 97, 161] {
            for at in 0..length {
                for special in (0..0x20).chain([b'"', b'\\']) {
                    let mut bytes = vec![0xFF_u8; length];
                    bytes[at] = special;
                    assert_eq!(plain_length(&bytes), at, "length {length}, byte {special:#x}");
                }
            }
        }
    }

    #[test]
    fn a_string_ends_where_its_quote_stands_and_escapes_are_passed_whole() {
        for length in 0..150 {
            for escape in [r"\\", r#"\""#, r"\u0022", r"\n\n", r#"\\\""#] {
                let text = format!("{}{escape}{escape}{escape}", "x".repeat(length));
                assert_eq!(closing_quote(format!("{text}\"\"").as_bytes()), Ok(text.len()), "{text}");
                assert_eq!(closing_quote(text.as_bytes()), Err(text.len()), "{text}");
                for wrong in [r"\x", "\n", r"\u00g0", r"\u000", "\\"] {
                    assert_eq!(closing_quote(format!("{text}{wrong}").as_bytes()), Err(text.len()), "{text}{wrong}");
                }
            }
        }
    }

    #[test]
    fn half_a_pair_and_bytes_that_are_no_text_have_no_meaning() {
        for raw in [&br"\ud800"[..], br"\udc00", br"\ud800\u0041", br"\ud800x", b"\xff", br"\u12", br"\u+123", br"\x"] {
            assert_eq!(unescape(raw), None, "{raw:?}");
        }
        assert_eq!(unescape(br"\ud83d\ude00").as_deref(), Some("😀"));
    }
}
