use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::scan::scan;
use crate::splice::replace;

fn replaced(kind: AnswerKind, requested: &str, chunks: &[&[u8]]) -> Vec<u8> {
    let mut replacer = ModelReplacer::new(kind, requested);
    let mut out = Vec::new();
    for chunk in chunks {
        replacer.push(Bytes::copy_from_slice(chunk), &mut out);
    }
    replacer.finish(&mut out);
    assert!(out.iter().all(|piece| !piece.is_empty()));
    out.concat()
}

fn one(kind: AnswerKind, text: &str) -> String {
    let whole = replaced(kind, "mine", &[text.as_bytes()]);
    let single: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
    assert_eq!(replaced(kind, "mine", &single), whole, "{text}");
    String::from_utf8(whole).unwrap()
}

#[test]
fn only_the_top_level_name_changes() {
    for (before, after) in [
        (r#"{"model":"served"}"#, r#"{"model":"mine"}"#),
        (
            r#" { "a":{"model":"x"}, "mod\u0065l" : "ser\u0076\"ed" } "#,
            r#" { "a":{"model":"x"}, "mod\u0065l" : "mine" } "#,
        ),
        (r#"{"model":null,"b":"model"}"#, r#"{"model":null,"b":"model"}"#),
        (r#"{"model":["a"],"c":"x"}"#, r#"{"model":["a"],"c":"x"}"#),
        (r#"[{"model":"a"}]"#, r#"[{"model":"a"}]"#),
        (r#"{"text":"{\"model\":\"a\"}"}"#, r#"{"text":"{\"model\":\"a\"}"}"#),
        (r#"{"model":"a","x":1,"model":""}"#, r#"{"model":"mine","x":1,"model":"mine"}"#),
        (r#"{"model":"cut of"#, r#"{"model":"cut of"#),
        ("{\"model\":\"line\nbreak\"}", "{\"model\":\"line\nbreak\"}"),
        ("model: \"a\"", "model: \"a\""),
    ] {
        assert_eq!(one(AnswerKind::Json, before), after);
        assert_eq!(one(AnswerKind::Opaque, before), before);
        if !before.contains('\n') {
            let (before, after) = (format!(": c\ndata: {before}\n\n"), format!(": c\ndata: {after}\n\n"));
            let expected = format!("{after}{after}data: [DONE]\n\n");
            assert_eq!(one(AnswerKind::EventStream, &format!("{before}{before}data: [DONE]\n\n")), expected);
        }
    }
}

#[test]
fn data_on_several_lines_is_one_text() {
    let before =
        "data: {\"model\":\r\ndata: \"a\"}\r\n\r\ndata: {\"model\":\"a\ndata: b\"}\n\nmodel: {\"model\":\"a\"}\n\n";
    let after =
        "data: {\"model\":\r\ndata: \"mine\"}\r\n\r\ndata: {\"model\":\"a\ndata: b\"}\n\nmodel: {\"model\":\"a\"}\n\n";
    assert_eq!(one(AnswerKind::EventStream, before), after);
}

#[test]
fn a_name_too_long_to_be_ours_passes_and_is_not_held_for() {
    let name = "n".repeat(LONGEST_NAME + 1);
    let text = format!("{{\"model\":\"{name}\",\"x\":\"model\"}}");
    assert_eq!(one(AnswerKind::Json, &text), text);
    let fits = format!("{{\"model\":\"{}\"}}", "n".repeat(LONGEST_NAME));
    assert_eq!(one(AnswerKind::Json, &fits), "{\"model\":\"mine\"}");
}

#[test]
fn only_the_name_is_held_back() {
    let mut replacer = ModelReplacer::new(AnswerKind::EventStream, "m\"\u{e9}\n");
    let mut out = Vec::new();
    replacer.push(Bytes::from_static(b"data: {\"id\":1,\"model\":\"ser"), &mut out);
    assert_eq!(out.concat(), b"data: {\"id\":1,\"model\":");
    out.clear();
    replacer.push(Bytes::from_static(b"ved\",\"x\":"), &mut out);
    assert_eq!(out.concat(), "\"m\\\"\u{e9}\\n\",\"x\":".as_bytes());
    out.clear();
    replacer.finish(&mut out);
    assert!(out.is_empty());
}

fn text() -> impl Strategy<Value = String> {
    let inner = prop_oneof![
        Just(json!(null)),
        Just(json!({"model": "inner", "x": [{"model": "deeper"}]})),
        Just(json!("\"model\":\"text\"")),
        "(model|[ -~é]){0,5}".prop_map(Value::from),
    ];
    let key = prop::sample::select(vec!["model", "a", "choices", "mod"]);
    (proptest::collection::vec((key, inner), 0..5), any::<bool>()).prop_map(|(members, pretty)| {
        let object = Value::Object(members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect());
        if pretty { object.to_string().replace(':', " : ").replace(',', " , ") } else { object.to_string() }
    })
}

/// The same change by scan and splice; a text whose model is no string stays.
fn expected(text: &str, requested: &str) -> Vec<u8> {
    let body = Bytes::copy_from_slice(text.as_bytes());
    match scan(&body) {
        Ok(found) => match found.model {
            Some(field) => replace(&body, &field.span, requested).parts.concat(),
            None => body.to_vec(),
        },
        Err(_) => body.to_vec(),
    }
}

proptest! {
    #[test]
    fn changes_what_scan_and_splice_change(
        events in proptest::collection::vec((text(), prop::sample::select(vec!["\n", "\r\n", "\r"])), 0..4),
        requested in ".{0,12}",
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let mut stream = Vec::new();
        let mut after = Vec::new();
        for (event, end) in &events {
            stream.extend(format!("data: {event}{end}{end}").bytes());
            after.extend([b"data: ", expected(event, &requested).as_slice(), end.as_bytes(), end.as_bytes()].concat());
        }
        let answer = events.first().map(|(event, _)| event.clone()).unwrap_or_else(|| "{}".into());
        let whole_after = expected(&answer, &requested);
        for (kind, bytes, after) in [
            (AnswerKind::EventStream, stream.as_slice(), after.as_slice()),
            (AnswerKind::Json, answer.as_bytes(), whole_after.as_slice()),
        ] {
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            prop_assert_eq!(&replaced(kind, &requested, &chunks), after);
            prop_assert_eq!(&replaced(kind, &requested, &[bytes]), after);
            prop_assert_eq!(&replaced(kind, &requested, &bytes.chunks(1).collect::<Vec<_>>()), after);
        }
    }

    #[test]
    fn any_bytes_pass_and_cuts_change_nothing(
        bytes in "(data: |model|[{}\":,\\\\]|\\{\"model\":\"|\n|\r|[a-z]){0,40}",
    ) {
        for kind in [AnswerKind::EventStream, AnswerKind::Json] {
            let whole = replaced(kind, "q", &[bytes.as_bytes()]);
            prop_assert_eq!(&replaced(kind, "q", &bytes.as_bytes().chunks(1).collect::<Vec<_>>()), &whole);
            prop_assert_eq!(&replaced(kind, "q", &bytes.as_bytes().chunks(3).collect::<Vec<_>>()), &whole);
        }
    }
}
