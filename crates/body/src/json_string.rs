//! JSON strings as bytes: where plain text ends, and what an escaped string means.
//!
//! Under both the request scan and the answer reader. The skip is what a request costs most in, because a prompt is one
//! long string; it must not look at a byte twice and must not allocate.

use std::borrow::Cow;

use wide::u8x16;

const LANES: usize = 16;
const BLOCK: usize = 4 * LANES;
/// Short strings (keys, identifiers, tokens of a stream) and lines end within these many lanes, so blocks start behind.
const LANES_FIRST: usize = 4;

/// Number of leading bytes that need no attention inside a JSON string: neither `"`, nor `\`, nor a control character.
pub(crate) fn plain_length(bytes: &[u8]) -> usize {
    let (lanes, _) = bytes.as_chunks::<LANES>();
    let mut length = 0;
    for lane in lanes.iter().take(LANES_FIRST) {
        let marks = special(lane).to_bitmask();
        if marks != 0 {
            return length + marks.trailing_zeros() as usize;
        }
        length += LANES;
    }
    let (blocks, _) = bytes.get(length..).unwrap_or_default().as_chunks::<BLOCK>();
    length += BLOCK * blocks.iter().take_while(|block| !has_special(block)).count();
    let (lanes, tail) = bytes.get(length..).unwrap_or_default().as_chunks::<LANES>();
    for lane in lanes {
        let marks = special(lane).to_bitmask();
        if marks != 0 {
            return length + marks.trailing_zeros() as usize;
        }
        length += LANES;
    }
    length + tail.iter().take_while(|byte| !is_special(**byte)).count()
}

fn is_special(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// Marks the special bytes of one lane with all bits.
fn special(lane: &[u8; LANES]) -> u8x16 {
    let bytes = u8x16::new(*lane);
    let control = bytes.min(u8x16::splat(0x1F)).simd_eq(bytes);
    control | bytes.simd_eq(u8x16::splat(b'"')) | bytes.simd_eq(u8x16::splat(b'\\'))
}

fn has_special(block: &[u8; BLOCK]) -> bool {
    let (lanes, _) = block.as_chunks::<LANES>();
    lanes.iter().fold(u8x16::splat(0), |marks, lane| marks | special(lane)).to_bitmask() != 0
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
    fn half_a_pair_and_bytes_that_are_no_text_have_no_meaning() {
        for raw in [&br"\ud800"[..], br"\udc00", br"\ud800\u0041", br"\ud800x", b"\xff", br"\u12", br"\u+123", br"\x"] {
            assert_eq!(unescape(raw), None, "{raw:?}");
        }
        assert_eq!(unescape(br"\ud83d\ude00").as_deref(), Some("😀"));
    }
}
