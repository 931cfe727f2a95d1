//! The scan accepts what serde_json accepts and finds the same model; the splice changes that model and nothing else.

#![no_main]

use std::fmt;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use tidegate_body::scan::{ScanError, scan};
use tidegate_body::splice::{insert, replace};

/// The keys of an object, unescaped, as bytes (they need not be valid UTF-8).
struct Keys(Vec<Vec<u8>>);

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Keys;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
                let mut keys = Vec::new();
                while let Some((Key(key), IgnoredAny)) = map.next_entry()? {
                    keys.push(key);
                }
                Ok(Keys(keys))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

struct Key(Vec<u8>);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Key;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a key")
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Key, E> {
                Ok(Key(bytes.to_vec()))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

/// What serde_json ignores it reads without a depth limit and without looking at UTF-8: grammar alone.
fn is_object(body: &[u8]) -> bool {
    let space = body.iter().take_while(|byte| b" \t\r\n".contains(byte)).count();
    body[space..].starts_with(b"{") && serde_json::from_slice::<IgnoredAny>(body).is_ok()
}

fuzz_target!(|body: &[u8]| {
    let found = scan(body);
    let object = is_object(body);
    match &found {
        Ok(_) => assert!(object, "accepted what is no object"),
        Err(ScanError::Invalid { what, offset }) => {
            assert!(!object, "refused an object: {what} at {offset}");
            assert!(*offset <= body.len());
        }
        Err(ScanError::DuplicateModel { offset } | ScanError::InvalidModel { offset }) => assert!(*offset < body.len()),
    }
    if !object {
        return;
    }
    let Keys(keys) = serde_json::from_slice(body).expect("keys of an object");
    let models = keys.iter().filter(|key| *key == b"model").count();
    match &found {
        Ok(found) => {
            assert_eq!(models, usize::from(found.model.is_some()));
            assert_eq!(found.empty, keys.is_empty());
            let bytes = Bytes::copy_from_slice(body);
            let new = "new \"model\"\u{1F600}";
            let spliced = match &found.model {
                Some(field) => {
                    let name: String = serde_json::from_slice(&body[field.span.clone()]).expect("a string");
                    assert_eq!(name, field.name);
                    let spliced = replace(&bytes, &field.span, new);
                    let joined = spliced.parts.concat();
                    assert!(joined.starts_with(&body[..field.span.start]));
                    assert!(joined.ends_with(&body[field.span.end..]));
                    spliced
                }
                None => {
                    let spliced = insert(&bytes, found.object_start, found.empty, new);
                    let joined = spliced.parts.concat();
                    assert!(joined.starts_with(&body[..found.object_start]));
                    assert!(joined.ends_with(&body[found.object_start..]));
                    spliced
                }
            };
            assert_eq!(spliced.length, spliced.parts.iter().map(Bytes::len).sum::<usize>());
            let joined = spliced.parts.concat();
            assert!(is_object(&joined));
            let again = scan(&joined).expect("a spliced body");
            assert_eq!(again.model.expect("the new model").name, new);
            assert_eq!(again.stream, found.stream);
        }
        Err(ScanError::DuplicateModel { .. }) => assert!(models > 1),
        Err(ScanError::InvalidModel { offset }) => {
            assert!(models > 0);
            let mut values = serde_json::Deserializer::from_slice(&body[*offset..]).into_iter::<String>();
            assert!(!matches!(values.next(), Some(Ok(_))), "refused a valid string");
        }
        Err(ScanError::Invalid { .. }) => {}
    }
});
