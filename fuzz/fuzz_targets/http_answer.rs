//! However an HTTP/1.1 answer is cut, its head and body are the same; nothing is read behind its end.

#![no_main]

use bytes::BytesMut;
use http::{HeaderMap, Method, StatusCode};
use libfuzzer_sys::fuzz_target;
use tidegate_http1::{ContentFault, Decoder, HeadFault, read_head};

#[derive(Debug, PartialEq)]
enum Outcome {
    Head(HeadFault),
    NoHead,
    Content(StatusCode, Vec<u8>, ContentFault),
    Whole { status: StatusCode, headers: HeaderMap, data: Vec<u8>, trailers: Option<HeaderMap>, left: usize, kept: bool },
}

fn read<'a>(chunks: impl Iterator<Item = &'a [u8]>, method: &Method) -> Outcome {
    let (mut buffer, mut begun) = (BytesMut::new(), None);
    let (mut data, mut trailers) = (Vec::new(), None);
    for chunk in chunks {
        buffer.extend_from_slice(chunk);
        if begun.is_none() {
            begun = match read_head(&mut buffer, method) {
                Ok(answer) => answer.map(|answer| (Decoder::new(answer.content), answer)),
                Err(fault) => return Outcome::Head(fault),
            };
        }
        let Some((decoder, answer)) = &mut begun else { continue };
        loop {
            match decoder.decode(&mut buffer) {
                Ok(Some(frame)) => match frame.into_data() {
                    Ok(more) => data.extend_from_slice(&more),
                    Err(frame) => trailers = frame.into_trailers().ok(),
                },
                Ok(None) => break,
                Err(fault) => return Outcome::Content(answer.head.status, data, fault),
            }
        }
    }
    let Some((mut decoder, answer)) = begun else { return Outcome::NoHead };
    let (status, kept) = (answer.head.status, answer.keep_alive);
    match decoder.end() {
        Ok(()) => Outcome::Whole { status, headers: answer.head.headers, data, trailers, left: buffer.len(), kept },
        Err(fault) => Outcome::Content(status, data, fault),
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((first, bytes)) = input.split_first() else { return };
    let method = if first & 1 == 0 { Method::POST } else { Method::HEAD };
    let whole = read(std::iter::once(bytes), &method);
    let pieces = read(bytes.chunks(usize::from(first >> 1).max(1)), &method);
    match (&whole, &pieces) {
        // What came in front of a fault may have been given away already.
        (Outcome::Content(status, _, fault), Outcome::Content(other, _, same)) => {
            assert_eq!((status, fault), (other, same));
        }
        _ => assert_eq!(whole, pieces),
    }
});
