//! Bodies cut anywhere, and bodies that are none.

use proptest::prelude::*;

use super::*;

type Decoded = (Vec<u8>, Option<HeaderMap>, Vec<u8>, usize);

/// Feeds `wire` in pieces cut at `cuts`; gives data, trailers, what is left over, and how many pieces of data there
/// were.
fn decode(content: Content, wire: &[u8], cuts: &[usize]) -> Result<Decoded, ContentFault> {
    let mut decoder = Decoder::new(content);
    let (mut buffer, mut out, mut trailers, mut pieces) = (BytesMut::new(), Vec::new(), None, 0);
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (wire.len() + 1)).collect();
    ends.push(wire.len());
    ends.sort_unstable();
    let mut from = 0;
    for end in ends {
        buffer.extend_from_slice(&wire[from..end]);
        from = end;
        while let Some(frame) = decoder.decode(&mut buffer)? {
            match frame.into_data() {
                Ok(data) => {
                    pieces += 1;
                    out.extend_from_slice(&data);
                }
                Err(frame) => trailers = frame.into_trailers().ok(),
            }
        }
    }
    decoder.end()?;
    Ok((out, trailers, buffer.to_vec(), pieces))
}

fn chunked(chunks: &[Vec<u8>], end: &str) -> Vec<u8> {
    let mut wire = Vec::new();
    for chunk in chunks.iter().filter(|chunk| !chunk.is_empty()) {
        wire.extend_from_slice(format!("{:X};ext=1\r\n", chunk.len()).as_bytes());
        wire.extend_from_slice(chunk);
        wire.extend_from_slice(b"\r\n");
    }
    wire.extend_from_slice(end.as_bytes());
    wire
}

#[test]
fn chunks_that_came_together_go_together() {
    let wire = b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\nHTTP/1.1";
    let (data, trailers, left, pieces) = decode(Content::Chunked, wire, &[]).unwrap();
    assert_eq!((&*data, trailers, &*left, pieces), (&b"abcde"[..], None, &b"HTTP/1.1"[..], 1));
}

#[test]
fn a_length_leaves_what_follows() {
    let (data, _, left, _) = decode(Content::Length(3), b"abcdef", &[1]).unwrap();
    assert_eq!((&*data, &*left), (&b"abc"[..], &b"def"[..]));
    assert_eq!(decode(Content::Length(7), b"abcdef", &[]).unwrap_err(), ContentFault::BrokenOff);
    assert_eq!(decode(Content::UntilClose, b"abcdef", &[2, 3]).unwrap().0, b"abcdef");
    assert_eq!(decode(Content::None, b"abc", &[]).unwrap().2, b"abc");
}

#[test]
fn trailers_come_behind_the_data() {
    let (data, trailers, left, _) = decode(Content::Chunked, b"1\r\na\r\n0\r\nx-sum: 7\r\n\r\nmore", &[]).unwrap();
    assert_eq!((&*data, &*left), (&b"a"[..], &b"more"[..]));
    assert_eq!(trailers.unwrap()["x-sum"], "7");
}

#[test]
fn malformed_chunks_are_refused() {
    for wire in [
        &b"\r\n"[..],
        b"g\r\n",
        b" 1\r\na",
        b"-1\r\n",
        b"0x1\r\n",
        b"1\na\n",
        b"1\r\nab\r\n",
        b"1\r\na\n",
        b"11111111111111111\r\n",
        b"1;a\nb\r\n",
        b"1\rx",
    ] {
        let outcome = decode(Content::Chunked, wire, &[]);
        assert!(matches!(outcome, Err(ContentFault::Chunk(_))), "{wire:?} {outcome:?}");
    }
    let endless = [b"1;".as_slice(), &[b'x'; EXTENSIONS as usize + 2]].concat();
    assert!(matches!(decode(Content::Chunked, &endless, &[]), Err(ContentFault::Chunk(_))));
    let trailers = [b"0\r\n".as_slice(), &[b'x'; LONGEST_TRAILERS + 2]].concat();
    assert_eq!(decode(Content::Chunked, &trailers, &[]).unwrap_err(), ContentFault::Trailers);
    for broken in [&b"1\r\n"[..], b"5\r\nabc", b"1\r\na\r\n", b"0\r\n", b"0\r\nx: y\r\n"] {
        assert_eq!(decode(Content::Chunked, broken, &[]).unwrap_err(), ContentFault::BrokenOff, "{broken:?}");
    }
    // The largest size there can be is no reason to panic.
    assert_eq!(decode(Content::Chunked, b"ffffffffffffffff\r\nabc", &[]).unwrap_err(), ContentFault::BrokenOff);
}

proptest! {
    #[test]
    fn wherever_it_is_cut_a_body_is_the_same(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..12),
        cuts in prop::collection::vec(any::<usize>(), 0..20),
        trailing in any::<bool>(),
    ) {
        let end = if trailing { "0\r\na: b\r\n\r\nrest" } else { "0\r\n\r\nrest" };
        let (data, trailers, left, _) = decode(Content::Chunked, &chunked(&chunks, end), &cuts).unwrap();
        prop_assert_eq!(data, chunks.concat());
        prop_assert_eq!(trailers.is_some(), trailing);
        prop_assert_eq!(left, b"rest");
    }

    #[test]
    fn no_bytes_panic_and_cuts_do_not_change_the_outcome(
        wire in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'\r'), Just(b'\n'), Just(b'1'), Just(b'0')], 0..60),
        cuts in prop::collection::vec(any::<usize>(), 0..20),
    ) {
        let whole = decode(Content::Chunked, &wire, &[]).map(|(data, trailers, left, _)| (data, trailers, left));
        let cut = decode(Content::Chunked, &wire, &cuts).map(|(data, trailers, left, _)| (data, trailers, left));
        prop_assert_eq!(whole, cut);
    }
}
