use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::observation::{Redistribution, RedistributionReason, Tokens, http_method::Method};
use crate::{EndedBy, Reason};

fn line(observation: &Observation) -> Value {
    let mut out = Vec::new();
    LineWriter::default().write(observation, &mut out);
    assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1, "one line a request");
    assert_eq!(out.last(), Some(&b'\n'));
    serde_json::from_slice(&out).unwrap()
}

#[test]
fn a_full_line_has_these_fields() {
    let observation = Observation {
        started_micros: 1_700_000_000_000_042,
        request_id: "req-1".into(),
        listener: "default/gateway/http".into(),
        route: Some("default/route".into()),
        rule: Some(1),
        arm: Some("default/stable".into()),
        requested_model: Some("chat".into()),
        target_model: Some("chat-v1".into()),
        endpoint: Some("127.0.0.1:8001".into()),
        method: Method::Post,
        path: "/v1/chat/completions".into(),
        status: 200,
        reason: Some(Reason::ErrorEvent),
        stream: true,
        session: true,
        ttft: Some(Duration::from_micros(30_125)),
        duration: Duration::from_secs(3),
        gap_mean: Some(Duration::from_millis(12)),
        gap_max: Some(Duration::from_millis(90)),
        tokens: Tokens { prompt: Some(100), completion: Some(20), cached: Some(64), estimated: true },
        finish_reason: Some("stop".into()),
        bytes_in: 500,
        bytes_out: 9_000,
        retries: 1,
        ended_by: EndedBy::Upstream,
        redistributed: Some(Redistribution {
            from: "default/candidate".into(),
            reason: RedistributionReason::EmptyArm,
        }),
        rollout: Some(("default/release".into(), true)),
        shielded: true,
        logged: true,
    };
    let expect = json!({
        "time": "2023-11-14T22:13:20.000042Z",
        "request_id": "req-1",
        "listener": "default/gateway/http",
        "route": "default/route",
        "rule": 1,
        "arm": "default/stable",
        "model": "chat",
        "target_model": "chat-v1",
        "endpoint": "127.0.0.1:8001",
        "method": "POST",
        "path": "/v1/chat/completions",
        "status": 200,
        "reason": "error_event",
        "ended_by": "upstream",
        "stream": true,
        "session": true,
        "retries": 1,
        "duration_ms": 3000.0,
        "ttft_ms": 30.125,
        "gap_mean_ms": 12.0,
        "gap_max_ms": 90.0,
        "prompt_tokens": 100,
        "completion_tokens": 20,
        "cached_tokens": 64,
        "tokens_estimated": true,
        "finish_reason": "stop",
        "bytes_in": 500,
        "bytes_out": 9000,
        "redistributed_from": "default/candidate",
        "redistribution_reason": "empty_arm",
        "rollout": "default/release",
        "rollout_arm": "candidate",
        "shielded": true,
    });
    assert_eq!(line(&observation), expect);
}

#[test]
fn what_is_unknown_is_absent() {
    let value = line(&Observation { listener: "l".into(), ..Observation::default() });
    let fields: BTreeSet<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    let expect = [
        "bytes_in",
        "bytes_out",
        "duration_ms",
        "ended_by",
        "listener",
        "method",
        "path",
        "request_id",
        "retries",
        "session",
        "status",
        "stream",
        "time",
    ];
    assert_eq!(fields, BTreeSet::from(expect));
}

#[test]
fn texts_from_outside_are_escaped_cut_and_stripped_of_queries() {
    let value = line(&Observation {
        request_id: "a\n{\"forged\":1}\u{7}".into(),
        path: "/v1/models?api_key=sk-secret".into(),
        requested_model: Some(Arc::from("ü".repeat(5_000))),
        finish_reason: Some("x".repeat(5_000)),
        ..Observation::default()
    });
    assert_eq!(value["request_id"], "a\n{\"forged\":1}\u{7}");
    assert_eq!(value["path"], "/v1/models");
    assert_eq!(value["model"], "ü".repeat(LONGEST_TEXT / 2));
    assert_eq!(value["finish_reason"].as_str().unwrap().len(), LONGEST_TEXT);
    let long = line(&Observation { path: format!("/{}", "p".repeat(9_000)), ..Observation::default() });
    assert_eq!(long["path"].as_str().unwrap().len(), LONGEST_PATH);
}

#[test]
fn times_follow_the_second() {
    let mut lines = LineWriter::default();
    for (micros, expected) in [
        (0, "1970-01-01T00:00:00.000000Z"),
        (1_999_999, "1970-01-01T00:00:01.999999Z"),
        (1_000_001, "1970-01-01T00:00:01.000001Z"),
        (u64::MAX, "1970-01-01T00:00:00.000000Z"),
    ] {
        let mut out = Vec::new();
        lines.time(micros, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
