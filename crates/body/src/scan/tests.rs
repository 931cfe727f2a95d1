use std::fmt;

use proptest::prelude::*;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::*;

/// What serde_json reads of a body: each top-level key that counts, with its value.
#[derive(Debug)]
enum Member {
    Model(Option<String>),
    Stream(bool),
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

struct Text(Option<String>);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Text;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a value")
            }
            fn visit_str<E>(self, text: &str) -> Result<Text, E> {
                Ok(Text(Some(text.into())))
            }
            fn visit_unit<E>(self) -> Result<Text, E> {
                Ok(Text(None))
            }
            fn visit_bool<E>(self, _: bool) -> Result<Text, E> {
                Ok(Text(None))
            }
            fn visit_u64<E>(self, _: u64) -> Result<Text, E> {
                Ok(Text(None))
            }
            fn visit_i64<E>(self, _: i64) -> Result<Text, E> {
                Ok(Text(None))
            }
            fn visit_f64<E>(self, _: f64) -> Result<Text, E> {
                Ok(Text(None))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Text, A::Error> {
                while items.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Text(None))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Text, A::Error> {
                while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Text(None))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

struct Body(Vec<Member>);

impl<'de> Deserialize<'de> for Body {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Body;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Body, A::Error> {
                let mut members = Vec::new();
                while let Some(Key(key)) = map.next_key()? {
                    match key.as_slice() {
                        b"model" => members.push(Member::Model(map.next_value::<Text>()?.0)),
                        b"stream" => {
                            let value: serde_json::Value = map.next_value()?;
                            members.push(Member::Stream(value == true));
                        }
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(Body(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// Compares one scan with serde_json. Its reader of ignored values knows no depth limit and no UTF-8, so grammar is
/// compared exactly.
fn compare(body: &[u8]) -> Result<(), TestCaseError> {
    let found = scan(body);
    let grammatical = serde_json::from_slice::<IgnoredAny>(body).is_ok();
    let object = body.trim_ascii_start().starts_with(b"{") && !body.starts_with(b"\x0c");
    if found.is_ok() {
        prop_assert!(grammatical && object, "accepted {:?}", String::from_utf8_lossy(body));
    }
    if matches!(found, Err(ScanError::Invalid { .. })) {
        prop_assert!(!grammatical || !object, "refused {:?}: {found:?}", String::from_utf8_lossy(body));
        return Ok(());
    }
    if !grammatical {
        // A model that is refused where it stands, before the error behind it.
        return Ok(());
    }
    let Ok(Body(members)) = serde_json::from_slice::<Body>(body) else {
        // The model is a string without meaning, or a number out of range; or `stream` is.
        return Ok(());
    };
    let mut models =
        members.iter().filter_map(|member| if let Member::Model(name) = member { Some(name) } else { None });
    let stream = members.iter().rev().find_map(|member| if let Member::Stream(on) = member { Some(*on) } else { None });
    match (models.next(), models.next(), found) {
        (None, _, Ok(found)) => {
            prop_assert_eq!(&found.model, &None);
            prop_assert_eq!(found.stream, stream.unwrap_or(false));
        }
        (Some(Some(name)), None, Ok(found)) => {
            let field = found.model.ok_or_else(|| TestCaseError::fail("model not found"))?;
            prop_assert_eq!(&field.name, name);
            let value: String =
                serde_json::from_slice(&body[field.span]).map_err(|e| TestCaseError::fail(e.to_string()))?;
            prop_assert_eq!(&value, name);
            prop_assert_eq!(found.stream, stream.unwrap_or(false));
        }
        (Some(None), _, Err(ScanError::InvalidModel { .. })) => {}
        (Some(_), Some(_), Err(ScanError::DuplicateModel { .. })) => {}
        other => return Err(TestCaseError::fail(format!("{other:?} of {:?}", String::from_utf8_lossy(body)))),
    }
    Ok(())
}

/// Pieces that make bodies which are nearly right.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        6 => prop::sample::select(vec![
            "{", "}", "[", "]", ",", ":", "\"", "\\", " ", "\n", "\"model\"", "\"model\":", "\"mod\\u0065l\":", "\"stream\":",
            "true", "false", "null", "0", "-1", "1.5e3", "1e", "01", "-", "\"a\"", "\"\\ud83d\\ude00\"", "\"\\ud800\"",
            "\"x\":", "{}", "[]", "\u{feff}", "\"b\":1,", "\u{1}", "é", "\"\\q\"", "tru", "\t", "\u{b}",
        ]).prop_map(|text| text.as_bytes().to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 1..3),
    ];
    proptest::collection::vec(piece, 0..14).prop_map(|pieces| pieces.concat())
}

fn value() -> impl Strategy<Value = String> {
    let scalar = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|value| value.to_string()),
        any::<f64>().prop_map(|value| serde_json::Value::from(value).to_string()),
        any::<i64>().prop_map(|value| value.to_string()),
        ".{0,80}".prop_map(|text| serde_json::Value::from(text).to_string()),
        Just("\"\\ud83d\\uDE00\"".to_owned()),
    ];
    scalar.prop_recursive(6, 40, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(" ,\n"))),
            proptest::collection::vec((key(), inner), 0..4).prop_map(object),
        ]
    })
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        2 => Just("model".to_owned()),
        1 => Just("stream".to_owned()),
        1 => Just("\\u006d\\u006F\\u0064el".to_owned()),
        1 => Just("stre\\u0061m".to_owned()),
        5 => "[a-z\u{e0}-\u{ff}]{0,6}",
    ]
}

fn object(members: Vec<(String, String)>) -> String {
    let members: Vec<String> = members.into_iter().map(|(key, value)| format!("\"{key}\" :\t{value}")).collect();
    format!("{{{}}}", members.join(","))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn agrees_with_serde_json_on_pieces(body in pieces(), wrap: bool) {
        compare(&body)?;
        if wrap {
            compare(&[b"{", body.as_slice(), b"}"].concat())?;
        }
    }

    #[test]
    fn agrees_with_serde_json_on_objects(
        members in proptest::collection::vec((key(), value()), 0..5),
        cut in any::<prop::sample::Index>(),
        byte: u8,
    ) {
        let body = object(members);
        prop_assert!(!matches!(scan(body.as_bytes()), Err(ScanError::Invalid { .. })), "{}", body);
        compare(body.as_bytes())?;
        let at = cut.index(body.len());
        compare(&body.as_bytes()[..at])?;
        let mut spoiled = body.into_bytes();
        spoiled[at] = byte;
        compare(&spoiled)?;
    }

    #[test]
    fn never_panics(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        compare(&body)?;
    }
}

fn model(body: &[u8]) -> Option<String> {
    scan(body).unwrap().model.map(|field| field.name.into_owned())
}

#[test]
fn finds_the_top_level_model_alone() {
    let body = br#" {"messages":[{"model":"inner"}], "model" : "llama", "stream":true} "#;
    let found = scan(body).unwrap();
    let field = found.model.unwrap();
    assert_eq!(field.name, "llama");
    assert_eq!(&body[field.span], b"\"llama\"");
    assert!(found.stream && !found.empty);
    assert_eq!(found.object_start, 2);
    assert_eq!(model(br#"{"mod\u0065l":"a\"\ud83d\ude00\/"}"#).as_deref(), Some("a\"😀/"));
    assert_eq!(model(br#"{"Model":"a","model ":"b"}"#), None);
    assert!(scan(b"{ }").unwrap().empty);
}

#[test]
fn the_last_stream_wins() {
    assert!(!scan(br#"{"stream":true,"stream":false}"#).unwrap().stream);
    assert!(scan(br#"{"stream":1,"str\u0065am":true }"#).unwrap().stream);
    assert!(!scan(br#"{"stream":true,"stream":null}"#).unwrap().stream);
}

#[test]
fn a_model_that_cannot_be_told_is_refused_with_its_place() {
    assert_eq!(scan(br#"{"model":"a","mod\u0065l":"a"}"#), Err(ScanError::DuplicateModel { offset: 13 }));
    for value in ["null", "1", "[\"a\"]", "{}", "\"\\ud800\"", "\"\\udc00x\""] {
        let body = format!("{{\"model\": {value}}}");
        assert_eq!(scan(body.as_bytes()), Err(ScanError::InvalidModel { offset: 10 }), "{body}");
    }
    assert_eq!(scan(b"{\"model\":\"\xff\"}"), Err(ScanError::InvalidModel { offset: 9 }));
    assert!(scan(b"{\"prompt\":\"\xff\"}").is_ok());
}

#[test]
fn what_is_not_one_object_is_refused_with_its_place() {
    for (body, offset) in [
        (&b""[..], 0),
        (b"[]", 0),
        (b"\"a\"", 0),
        (b"\xef\xbb\xbf{}", 0),
        (b"{", 1),
        (b"{}{}", 2),
        (b"{} x", 3),
        (b"{\"a\":1,}", 7),
        (b"{\"a\" 1}", 5),
        (b"{\"a\":[1}", 7),
        (b"{\"a\":{]", 6),
        (b"{\"a\":\"\n\"}", 6),
        (b"{\"a\":\"", 6),
        (b"{\"a\":01}", 6),
        (b"{\"a\":.5}", 5),
        (b"{\"a\":1.}", 7),
        (b"{\"a\":nul}", 5),
        (b"{a:1}", 1),
        (b"{\"model\":nul}", 9),
    ] {
        let Err(ScanError::Invalid { offset: found, .. }) = scan(body) else {
            panic!("{:?} gave {:?}", String::from_utf8_lossy(body), scan(body));
        };
        assert_eq!(found, offset, "{:?}", String::from_utf8_lossy(body));
    }
}

#[test]
fn a_hundred_thousand_brackets_are_read_like_two() {
    let depth = 100_000;
    let arrays = format!("{{\"a\":{}{},\"model\":\"m\"}}", "[".repeat(depth), "]".repeat(depth));
    assert_eq!(model(arrays.as_bytes()).as_deref(), Some("m"));
    let mixed = format!("{{\"a\":{}1{},\"model\":\"m\"}}", "[{\"model\":".repeat(depth), "}]".repeat(depth));
    assert_eq!(model(mixed.as_bytes()).as_deref(), Some("m"));
    let crossed = mixed.replacen("}]", "]}", 1);
    assert!(scan(crossed.as_bytes()).is_err());
    assert!(scan("[".repeat(depth).as_bytes()).is_err());
    assert!(scan(format!("{{\"a\":{}", "[".repeat(depth)).as_bytes()).is_err());
}

#[test]
fn what_may_tell_a_session_is_found() {
    let body = br#"{"user": "ann", "max_tokens": 7, "conversation": {"id": "c"}, "prompt_cache_key": "", "user": "bob",
        "max_completion_tokens": null, "messages": []}"#;
    let fields = scan(body).unwrap().fields;
    let value = |span: &Option<std::ops::Range<usize>>| {
        let span = session_value(body, span.as_ref()?)?;
        Some(String::from_utf8(body[span].to_vec()).unwrap())
    };
    assert_eq!(value(&fields.user).as_deref(), Some("bob"));
    assert_eq!(value(&fields.conversation).as_deref(), Some(r#"{"id": "c"}"#));
    assert_eq!(value(&fields.prompt_cache_key), None, "an empty key tells nothing");
    assert_eq!(fields.max_tokens, Some(7));
    assert_eq!(first_messages(body, fields.messages.as_ref().unwrap()), None);
}

#[test]
fn the_beginning_of_a_conversation_stays_the_same_over_its_turns() {
    let turns = [
        r#"[{"role":"system","content":"be kind"},{"content":"a ] b","role":"user"}]"#,
        r#"[{"role":"system","content":"be kind"},{"content":"a ] b","role":"user"},{"role":"assistant","content":"c"}]"#,
    ];
    let beginning = |messages: &str| {
        let body = format!(r#"{{"messages":{messages}}}"#);
        let span = scan(body.as_bytes()).unwrap().fields.messages.unwrap();
        first_messages(body.as_bytes(), &span).map(|span| body[span].to_owned())
    };
    assert_eq!(beginning(turns[0]), beginning(turns[1]));
    assert_eq!(beginning(turns[0]).unwrap().matches("role").count(), 2);
    for none in [r#"[{"role":"system","content":"x"}]"#, "[1, 2]", r#""user""#, "[{}]", r#"[[{"role":"user"}]]"#] {
        assert_eq!(beginning(none), None, "{none}");
    }
}
