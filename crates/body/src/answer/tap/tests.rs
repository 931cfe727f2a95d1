use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn tapped(kind: AnswerKind, chunks: &[&[u8]]) -> (AnswerSummary, u32) {
    let mut tap = AnswerTap::new(kind);
    let ended = chunks.iter().map(|chunk| tap.push(chunk)).sum();
    (tap.summary().clone(), ended)
}

fn stream(text: &str) -> AnswerSummary {
    let (summary, ended) = tapped(AnswerKind::EventStream, &[text.as_bytes()]);
    assert_eq!(u64::from(ended), summary.events);
    summary
}

fn answer(text: &str) -> AnswerSummary {
    tapped(AnswerKind::Json, &[text.as_bytes()]).0
}

/// The body of an answer that a real server gave, or `None` (said aloud) where the captured answers are not at hand.
fn captured(name: &str) -> Option<String> {
    let shared = std::env::var("TIDEGATE_SHARED")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared").to_owned());
    let path = format!("{shared}/vllm/captured/{name}.http");
    let Ok(bytes) = std::fs::read(&path) else {
        eprintln!("left out: {name} is not among the captured answers");
        return None;
    };
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (_, body) = text.split_once("\r\n\r\n").or_else(|| text.split_once("\n\n"))?;
    Some(body.to_owned())
}

#[test]
fn real_streams_are_read_as_they_were_served() {
    let expected = |events, content_events, usage: Option<(u64, u64)>| AnswerSummary {
        events,
        content_events,
        prompt_tokens: usage.map(|(prompt, _)| prompt),
        completion_tokens: usage.map(|(_, completion)| completion),
        finish_reason: Some("length".into()),
        content: true,
        done: true,
        ..AnswerSummary::default()
    };
    for (name, expected) in [
        ("stream-base", expected(7, 6, None)),
        ("stream-continuous-usage", expected(5, 3, Some((21, 3)))),
        ("stream-v1-usage", expected(8, 4, Some((21, 6)))),
        ("completions-stream-v2", expected(5, 4, Some((2, 4)))),
    ] {
        let Some(body) = captured(name) else { continue };
        assert_eq!(stream(&body), expected, "{name}");
        assert_eq!(first_event(body.as_bytes()), FirstEvent::Content, "{name}");
    }
}

#[test]
fn real_refusals_inside_a_stream_are_seen() {
    if let Some(body) = captured("error-busy-inside-200-stream") {
        assert_eq!(first_event(body.as_bytes()), FirstEvent::Error { code: Some(503) });
        let summary = stream(&body);
        assert_eq!((summary.error, summary.events, summary.done), (Some(Some(503)), 1, true));
    }
    if let Some(body) = captured("error-engine-died-inside-stream") {
        assert_eq!(first_event(body.as_bytes()), FirstEvent::Content);
        let summary = stream(&body);
        assert_eq!((summary.error, summary.content_events), (Some(Some(500)), 1));
    }
}

#[test]
fn real_answers_are_read_as_they_were_served() {
    for (name, usage, finish, error) in [
        ("chat-base", Some((21, 12)), Some("length"), None),
        ("completions-v2", Some((2, 4)), Some("length"), None),
        ("error-busy-503", None, None, Some(Some(503))),
        ("error-unknown-model", None, None, Some(Some(404))),
    ] {
        let Some(body) = captured(name) else { continue };
        let summary = answer(&body);
        assert_eq!(summary.prompt_tokens.zip(summary.completion_tokens), usage, "{name}");
        assert_eq!((summary.finish_reason.as_deref(), summary.error), (finish, error), "{name}");
        assert_eq!((summary.events, summary.cached_tokens), (0, None), "{name}");
    }
}

#[test]
fn what_is_not_given_is_unknown() {
    let summary =
        stream("data: {\"usage\":null,\"choices\":[{\"finish_reason\":null,\"delta\":{\"content\":\"a\"}}]}\n\n");
    assert_eq!(summary, AnswerSummary { events: 1, content_events: 1, content: true, ..AnswerSummary::default() });
    let summary = answer(r#"{"usage":{"prompt_tokens":-1,"completion_tokens":1.5,"prompt_tokens_details":null}}"#);
    assert_eq!(summary, AnswerSummary { whole: true, ..AnswerSummary::default() });
    let half = answer(r#"{"choices":[{"finish_reason":"stop"}],"usage":{"prompt_tokens":1}"#);
    assert_eq!(half, AnswerSummary::default(), "half an answer says nothing");
}

#[test]
fn the_last_usage_wins_and_the_first_reason() {
    let summary = stream(concat!(
        "data: {\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":1,\"prompt_tokens_details\":{\"cached_tokens\":4}}}\n\n",
        "data: {\"choices\":[{\"finish_reason\":\"stop\"},{\"finish_reason\":\"length\"}]}\n\n",
        "data: {\"choices\":[{\"finish_reason\":\"length\"}],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":9}}\n\n",
        "data: {\"usage\":null}\n\n",
    ));
    assert_eq!((summary.prompt_tokens, summary.completion_tokens, summary.cached_tokens), (Some(5), Some(9), Some(4)));
    assert_eq!(summary.finish_reason.as_deref(), Some("stop"));
}

#[test]
fn content_is_text_a_tool_call_or_reasoning() {
    for (choice, content) in [
        (json!({"delta": {"role": "assistant", "content": ""}}), false),
        (json!({"delta": {"content": null, "tool_calls": []}}), false),
        (json!({"delta": {"content": "\u{1b}"}}), true),
        (json!({"delta": {"reasoning": "so"}}), true),
        (json!({"delta": {"reasoning_content": "so"}}), true),
        (json!({"delta": {"tool_calls": [{"index": 0, "function": {"arguments": ""}}]}}), true),
        (json!({"delta": {"function_call": {"name": "f"}}}), true),
        (json!({"text": "a"}), true),
        (json!({"text": ""}), false),
        (json!({"logprobs": {"content": "a", "text": "b", "tool_calls": [{}]}}), false),
        (json!({"delta": {"x": {"content": "a"}}}), false),
    ] {
        let summary = stream(&format!("data: {}\n\n", json!({"choices": [choice]})));
        assert_eq!(summary.content_events == 1, content, "{choice}");
    }
    assert_eq!(stream("data: {\"delta\":{\"content\":\"a\"},\"text\":\"b\"}\n\n").content_events, 0);
}

#[test]
fn errors_of_every_form_and_nothing_that_only_looks_like_one() {
    for (event, error) in [
        (json!({"error": {"message": "m", "code": 400}}), Some(Some(400))),
        (json!({"error": {"code": "busy"}}), Some(None)),
        (json!({"error": {"code": 70_000}}), Some(None)),
        (json!({"error": {"inner": {"code": 400}}}), Some(None)),
        (json!({"error": "busy"}), Some(None)),
        (json!({"error": {}}), Some(None)),
        (json!({"object": "error", "message": "m", "code": 429}), Some(Some(429))),
        (json!({"code": 429, "object": "error"}), Some(Some(429))),
        (json!({"error": null}), None),
        (json!({"choices": [{"error": {"code": 1}, "text": "\"error\":{"}]}), None),
        (json!([{"error": {"code": 500}}]), None),
    ] {
        let text = format!("data: {event}\n\n");
        assert_eq!(stream(&text).error, error, "{event}");
        assert_eq!(answer(&event.to_string()).error, error, "{event}");
        let first = error.map_or(FirstEvent::Content, |code| FirstEvent::Error { code });
        assert_eq!(first_event(text.as_bytes()), first, "{event}");
    }
}

#[test]
fn the_first_event_is_the_first_with_data() {
    for (bytes, expected) in [
        ("", FirstEvent::Incomplete),
        (": ping\n\n", FirstEvent::Incomplete),
        ("data:\n\ndata: \n\n", FirstEvent::Incomplete),
        ("data: {\"error\":{}}\n", FirstEvent::Incomplete),
        (": ping\r\n\r\ndata: {\"error\":\r\ndata: {\"code\":503}}\r\n\r\n", FirstEvent::Error { code: Some(503) }),
        ("data: {}\n\ndata: {\"error\":{\"code\":1}}\n\n", FirstEvent::Content),
        ("data: [DONE]\n\n", FirstEvent::Content),
        ("data: not json\n\n", FirstEvent::Content),
        ("data: {\"error\":{\"code\":503}\n\n", FirstEvent::Content),
        ("event: error\ndata: {\"error\":{\"code\":503}}\n\n", FirstEvent::Error { code: Some(503) }),
    ] {
        assert_eq!(first_event(bytes.as_bytes()), expected, "{bytes:?}");
    }
}

#[test]
fn events_are_counted_whatever_they_hold() {
    let summary =
        stream("data: x\n\ndata:\n\n: c\n\nevent: e\n\ndata: [1]\ndata: [2]\n\ndata:  [DONE] \n\ndata: [DONE]x\n\n");
    assert_eq!((summary.events, summary.done), (3, true));
    let opaque = tapped(AnswerKind::Opaque, &[b"data: {\"error\":{}}\n\n"]);
    assert_eq!(opaque, (AnswerSummary::default(), 0));
}

#[test]
fn a_huge_event_costs_no_memory_and_is_still_read() {
    let mut tap = AnswerTap::new(AnswerKind::EventStream);
    tap.push(b"data: {\"choices\":[{\"delta\":{\"content\":\"");
    let piece = vec![b'x'; 64 * 1024];
    for _ in 0..256 {
        assert_eq!(tap.push(&piece), 0);
    }
    assert_eq!(tap.push(b"\"},\"finish_reason\":\"stop\"}]}\n\n"), 1);
    assert_eq!((tap.summary().content_events, tap.summary().finish_reason.as_deref()), (1, Some("stop")));
    let deep = format!("{{\"x\":{}{},\"error\":{{\"code\":500}}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(answer(&deep).error, Some(Some(500)));
}

fn event() -> impl Strategy<Value = String> {
    let value = prop_oneof![
        Just(json!(null)),
        (0_u64..100).prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        Just(json!({"prompt_tokens": 7, "completion_tokens": 8, "prompt_tokens_details": {"cached_tokens": 2}})),
        Just(json!([{"delta": {"content": "hi"}, "finish_reason": "stop"}])),
        Just(json!([{"delta": {"tool_calls": [{"id": 1}]}}])),
        Just(json!({"message": "m", "code": 503})),
        Just(json!("error")),
    ];
    let key = prop::sample::select(vec!["usage", "error", "choices", "object", "code", "x"]);
    let text = proptest::collection::vec((key, value), 0..4).prop_map(|members| {
        Value::Object(members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()).to_string()
    });
    prop_oneof![4 => text, 1 => Just("[DONE]".to_owned()), 1 => "[ -~]{0,20}"]
}

proptest! {
    #[test]
    fn cuts_change_nothing(
        events in proptest::collection::vec((event(), prop::sample::select(vec!["\n", "\r\n", "\r"])), 0..5),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let text: String = events.iter().map(|(event, end)| format!("data: {event}{end}{end}")).collect();
        let answer = events.first().map(|(event, _)| event.clone()).unwrap_or_default();
        for (kind, bytes) in [(AnswerKind::EventStream, text.as_bytes()), (AnswerKind::Json, answer.as_bytes())] {
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            let whole = tapped(kind, &[bytes]);
            prop_assert_eq!(tapped(kind, &chunks), whole.clone());
            prop_assert_eq!(tapped(kind, &bytes.chunks(1).collect::<Vec<_>>()), whole);
        }
    }

    #[test]
    fn reads_what_a_parser_reads(event in event()) {
        let summary = answer(&event);
        let parsed: Value = serde_json::from_str(&event).unwrap_or_default();
        let number = |pointer: &str| parsed.pointer(pointer).and_then(Value::as_u64);
        prop_assert_eq!(summary.prompt_tokens, number("/usage/prompt_tokens"));
        prop_assert_eq!(summary.completion_tokens, number("/usage/completion_tokens"));
        prop_assert_eq!(summary.cached_tokens, number("/usage/prompt_tokens_details/cached_tokens"));
        prop_assert_eq!(summary.finish_reason.as_deref(), parsed.pointer("/choices/0/finish_reason").and_then(Value::as_str));
        let error = parsed.get("error").is_some_and(|error| !error.is_null())
            || parsed.get("object").is_some_and(|object| object == "error");
        prop_assert_eq!(summary.error.is_some(), error);
    }
}

/// The facts of a text as the shortcut finds them, if it takes it.
fn shortcut(text: &[u8]) -> Option<Facts> {
    let mut tracker = Tracker::default();
    super::whole::read(text, &mut tracker).then_some(tracker.facts)
}

/// What the shortcut gives must be what the reader gives that takes a byte at a time.
fn agrees(text: &[u8]) {
    let Some(facts) = shortcut(text) else { return };
    let mut payload = Payload::new();
    for byte in text {
        payload.reader.feed(&[*byte], 0, &mut payload.tracker);
    }
    assert_eq!(payload.facts(), Some(&facts), "{}", String::from_utf8_lossy(text));
}

#[test]
fn the_shortcut_takes_objects_that_are_whole() {
    let usage = r#""usage":{"prompt_tokens":7,"completion_tokens":3,"prompt_tokens_details":{"cached_tokens":2}}"#;
    for (text, taken) in [
        (
            format!(
                r#"{{"choices":[{{"message":{{"content":"a}}\"]"}},"finish_reason":"stop"}}],{usage},"error":null}}"#
            ),
            true,
        ),
        (r#" {"choices" : [ {"delta":{"content":"x","tool_calls":null},"finish_reason":null} ]} "#.to_owned(), true),
        (r#"{"object":"chat.completion.chunk","choices":[],"usage":null,"code":5}"#.to_owned(), true),
        (r#"{"choices":[1,{"text":""}],"usage":{"prompt_tokens":1.5,"completion_tokens":"x"}}"#.to_owned(), true),
        (r#"{"error":{"code":503}}"#.to_owned(), true),
        (r#"{"object":"error","code":404}"#.to_owned(), true),
        (r#"{"us\u0061ge":{"prompt_tokens":1}}"#.to_owned(), true),
        (r#"{"choices":[{"delta":{"tool_calls":[{}]}}]}"#.to_owned(), true),
        (format!("{}1{}", r#"{"a":"#.repeat(64), "}".repeat(64)), true),
        (format!("{}1{}", r#"{"a":"#.repeat(65), "}".repeat(65)), false),
        (r#"{"a":1}{}"#.to_owned(), false),
        (r#"{"a":[1}}"#.to_owned(), false),
        (r#"{"a":"}"#.to_owned(), false),
        (r#"[{"usage":{}}]"#.to_owned(), false),
        (r#""{}""#.to_owned(), false),
        (String::new(), false),
    ] {
        assert_eq!(shortcut(text.as_bytes()).is_some(), taken, "{text}");
        agrees(text.as_bytes());
    }
}

#[test]
fn escapes_are_followed_over_every_border() {
    for length in 40..140 {
        for escapes in [r"\\", r"\\\\", r#"\""#, r#"\\\""#, r#"\\\\\""#] {
            let text = format!(
                r#"{{"x":"{}{escapes}","choices":[{{"finish_reason":"stop"}}],"usage":{{"prompt_tokens":7}}}}"#,
                "y".repeat(length)
            );
            let facts = shortcut(text.as_bytes()).expect("whole");
            assert_eq!((facts.finish_reason.as_deref(), facts.prompt_tokens), (Some("stop"), Some(7)), "{text}");
            agrees(text.as_bytes());
        }
    }
}

fn jsonish() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("false".to_owned()),
        Just("12".to_owned()),
        Just("-1.5e3".to_owned()),
        Just("\"x\"".to_owned()),
        Just("\"\"".to_owned()),
        Just("\"\\\"\\u0041\\\\\"".to_owned()),
        Just("\"error\"".to_owned()),
        Just("\"stop\"".to_owned()),
        "\"[a-z{}:, ]{0,90}\"",
        // Longer than what is kept of a string, and with escapes at that border.
        "\"[a-z]{118,130}(\\\\[\"n\\\\]){0,6}\"",
    ];
    leaf.prop_recursive(6, 60, 5, |inner| {
        let key = prop::sample::select(vec![
            "choices",
            "usage",
            "error",
            "object",
            "code",
            "prompt_tokens",
            "completion_tokens",
            "prompt_tokens_details",
            "cached_tokens",
            "delta",
            "text",
            "finish_reason",
            "content",
            "refusal",
            "tool_calls",
            "other",
            "us\\u0061ge",
        ]);
        let colon = prop::sample::select(vec![":", ": ", " : ", "\n\t:\r\n"]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(", "))),
            prop::collection::vec((key, colon, inner), 0..6).prop_map(|members| {
                let member = |(key, colon, value): &(&str, &str, String)| format!("\"{key}\"{colon}{value}");
                format!("{{{}}}", members.iter().map(member).collect::<Vec<_>>().join(","))
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn the_shortcut_and_the_reader_agree_on_json(text in jsonish()) {
        prop_assert!(serde_json::from_str::<Value>(&text).is_ok());
        prop_assert_eq!(shortcut(text.as_bytes()).is_some(), text.starts_with('{'));
        agrees(text.as_bytes());
    }

    #[test]
    fn damaged_json_is_no_reason_to_panic(text in jsonish(), at: usize, byte: u8) {
        let mut bytes = text.into_bytes();
        let at = at % bytes.len();
        bytes[at] = byte;
        shortcut(&bytes);
    }
}
