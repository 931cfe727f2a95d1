//! What is found lies in the body, is what its bytes say, and can be changed and found again.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tidegate_body::multipart::{boundary, find_model};
use tidegate_body::splice::replace_raw;

fuzz_target!(|input: &[u8]| {
    let (head, body) = match input.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&input[..end], &input[end + 1..]),
        None => (&b""[..], input),
    };
    let named = std::str::from_utf8(head).ok().and_then(boundary);
    if let Some(named) = &named {
        assert!((1..=70).contains(&named.len()));
    }
    let boundary = named.unwrap_or_else(|| "b".to_owned());
    if let Ok(Some(field)) = find_model(body, &boundary) {
        assert_eq!(&body[field.span.clone()], field.name.as_bytes());
        let changed = replace_raw(&Bytes::copy_from_slice(body), &field.span, "new").parts.concat();
        let again = find_model(&changed, &boundary).expect("the changed body").expect("the changed part");
        assert_eq!(again.name, "new");
    }
});
