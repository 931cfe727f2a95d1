use std::time::Duration;

use super::*;
use crate::observation::{EjectionReason, Redistribution, RedistributionReason, Tokens};
use crate::{EndedBy, Reason};

fn observation() -> Observation {
    Observation {
        listener: "default/gateway/http".into(),
        route: Some("default/route".into()),
        rule: Some(0),
        arm: Some("default/stable".into()),
        requested_model: Some("chat".into()),
        target_model: Some("chat-v1".into()),
        endpoint: Some("127.0.0.1:8001".into()),
        status: 200,
        stream: true,
        ttft: Some(Duration::from_millis(30)),
        duration: Duration::from_secs(3),
        gap_mean: Some(Duration::from_millis(12)),
        gap_max: Some(Duration::from_millis(90)),
        tokens: Tokens { prompt: Some(100), completion: Some(20), cached: Some(64), estimated: false },
        finish_reason: Some("stop".into()),
        bytes_in: 500,
        bytes_out: 9_000,
        ..Observation::default()
    }
}

fn metrics(models: &[&str]) -> Metrics {
    let known = Arc::new(KnownModels::default());
    known.set(models.iter().copied());
    Metrics::new(known, "1.2.3")
}

/// The value of the one line that begins with `name{labels}`.
fn value(text: &str, series: &str) -> f64 {
    let mut found = text.lines().filter_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    let value = found.next().unwrap_or_else(|| panic!("{series} is not in:\n{text}"));
    assert!(found.next().is_none(), "{series} is there twice");
    value.parse().unwrap()
}

#[test]
fn a_good_stream_is_in_every_family_it_belongs_to() {
    let metrics = metrics(&["chat", "chat-v1"]);
    metrics.record(&observation());
    let text = metrics.render();
    let arm = r#"route="default/route",arm="default/stable""#;
    let model = format!(r#"{arm},target_model="chat-v1""#);
    let listener = r#"listener="default/gateway/http""#;
    let expect = [
        (
            format!(
                r#"tidegate_requests_total{{{listener},{arm},model="chat",target_model="chat-v1",class="2xx",code="200",reason=""}}"#
            ),
            1.0,
        ),
        (format!(r#"tidegate_request_duration_seconds_sum{{{model},class="2xx"}}"#), 3.0),
        (format!(r#"tidegate_request_duration_seconds_bucket{{le="2.5",{model},class="2xx"}}"#), 0.0),
        (format!(r#"tidegate_request_duration_seconds_bucket{{le="5.0",{model},class="2xx"}}"#), 1.0),
        (format!("tidegate_time_to_first_token_seconds_count{{{model}}}"), 1.0),
        (format!("tidegate_inter_token_gap_mean_seconds_sum{{{model}}}"), 0.012),
        (format!("tidegate_inter_token_gap_max_seconds_sum{{{model}}}"), 0.09),
        (format!(r#"tidegate_tokens_total{{{model},kind="prompt",estimated="false"}}"#), 100.0),
        (format!(r#"tidegate_tokens_total{{{model},kind="completion",estimated="false"}}"#), 20.0),
        (format!(r#"tidegate_tokens_total{{{model},kind="cached",estimated="false"}}"#), 64.0),
        (format!(r#"tidegate_body_bytes_total{{{listener},{arm},direction="in"}}"#), 500.0),
        (format!(r#"tidegate_body_bytes_total{{{listener},{arm},direction="out"}}"#), 9_000.0),
        (format!(r#"tidegate_requests_ended_total{{{arm},ended_by="completion"}}"#), 1.0),
        (format!(r#"tidegate_finish_reasons_total{{{model},finish_reason="stop"}}"#), 1.0),
        (r#"tidegate_endpoint_requests_total{arm="default/stable",endpoint="127.0.0.1:8001",class="2xx"}"#.into(), 1.0),
        (r#"tidegate_build_info{version="1.2.3"}"#.into(), 1.0),
    ];
    for (series, count) in expect {
        assert_eq!(value(&text, &series), count, "{series}");
    }
    assert!(text.ends_with("# EOF\n"), "OpenMetrics ends so");
}

#[test]
fn what_went_wrong_is_told() {
    let metrics = metrics(&["chat", "chat-v1"]);
    metrics.record(&Observation {
        reason: Some(Reason::ErrorEvent),
        ended_by: EndedBy::Upstream,
        retries: 2,
        tokens: Tokens { completion: Some(7), estimated: true, ..Tokens::default() },
        finish_reason: Some("made up by a server".into()),
        redistributed: Some(Redistribution {
            from: "default/candidate".into(),
            reason: RedistributionReason::ModelNotServed,
        }),
        ..observation()
    });
    let text = metrics.render();
    let arm = r#"route="default/route",arm="default/stable""#;
    let model = format!(r#"{arm},target_model="chat-v1""#);
    let expect = [
        (format!("tidegate_retries_total{{{arm}}}"), 2.0),
        (format!(r#"tidegate_requests_ended_total{{{arm},ended_by="upstream"}}"#), 1.0),
        (format!("tidegate_stream_error_events_total{{{model}}}"), 1.0),
        (format!(r#"tidegate_tokens_total{{{model},kind="completion",estimated="true"}}"#), 7.0),
        (format!(r#"tidegate_finish_reasons_total{{{model},finish_reason="other"}}"#), 1.0),
        (
            r#"tidegate_arm_redistributed_total{route="default/route",arm="default/candidate",reason="model_not_served"}"#
                .into(),
            1.0,
        ),
    ];
    for (series, count) in expect {
        assert_eq!(value(&text, &series), count, "{series}");
    }
    assert!(text.contains(r#"class="2xx",code="200",reason="error_event"} 1"#), "{text}");
    assert!(!text.contains(r#"kind="prompt""#), "unknown is not 0:\n{text}");
}

#[test]
fn a_request_without_route_model_or_answer_counts_too() {
    let metrics = metrics(&[]);
    metrics.record(&Observation {
        listener: "default/gateway/http".into(),
        reason: Some(Reason::ClientLeft),
        ended_by: EndedBy::Client,
        ..Observation::default()
    });
    metrics.record(&Observation { listener: "default/gateway/http".into(), status: 999, ..Observation::default() });
    let text = metrics.render();
    let series =
        r#"tidegate_requests_total{listener="default/gateway/http",route="",arm="",model="",target_model="",class="#;
    assert_eq!(value(&text, &format!(r#"{series}"none",code="0",reason="client_left"}}"#)), 1.0);
    assert_eq!(value(&text, &format!(r#"{series}"other",code="other",reason=""}}"#)), 1.0);
    assert!(!text.contains("tidegate_time_to_first_token_seconds_count"), "no stream, no first token:\n{text}");
}

#[test]
fn refused_streams_do_not_count_as_first_tokens() {
    let metrics = metrics(&["chat", "chat-v1"]);
    metrics.record(&Observation { status: 503, reason: Some(Reason::NoEndpoint), ..observation() });
    let text = metrics.render();
    assert!(!text.contains("tidegate_time_to_first_token_seconds_count"), "{text}");
    assert!(text.contains(r#"class="5xx",code="503",reason="no_endpoint"} 1"#), "{text}");
}

#[test]
fn events_reloads_and_live_gauges_appear() {
    let metrics = metrics(&[]);
    let (pool, endpoint): (Arc<str>, Arc<str>) = ("default/pool".into(), "127.0.0.1:8001".into());
    metrics.event(&Event::Ejected { pool: pool.clone(), endpoint: endpoint.clone(), reason: EjectionReason::Silent });
    metrics.event(&Event::Returned { pool: pool.clone(), endpoint: endpoint.clone() });
    metrics.reload(
        ReloadOutcome::Applied,
        Some(ConfigState { generation: 7, applied_seconds: 1_700_000_000, notes: 1, warnings: 2, errors: 3 }),
    );
    metrics.reload(ReloadOutcome::Failed, None);
    metrics.live().set(move || LiveGauges {
        connections: Some(6),
        endpoints: vec![
            EndpointGauges {
                pool: pool.clone(),
                endpoint: endpoint.clone(),
                in_flight: 4,
                ejected: true,
                models: Some(2),
            },
            EndpointGauges {
                pool: pool.clone(),
                endpoint: endpoint.clone(),
                in_flight: 3,
                ejected: false,
                models: None,
            },
            EndpointGauges {
                pool: pool.clone(),
                endpoint: "127.0.0.1:8002".into(),
                in_flight: 0,
                ejected: false,
                models: None,
            },
        ],
    });
    let text = metrics.render();
    let endpoint = r#"pool="default/pool",endpoint="127.0.0.1:8001""#;
    let expect = [
        (format!(r#"tidegate_endpoint_ejections_total{{{endpoint},reason="silent"}}"#), 1.0),
        (format!("tidegate_endpoint_returns_total{{{endpoint}}}"), 1.0),
        (r#"tidegate_config_reloads_total{result="applied"}"#.into(), 1.0),
        (r#"tidegate_config_reloads_total{result="failed"}"#.into(), 1.0),
        ("tidegate_config_generation".into(), 7.0),
        ("tidegate_config_last_applied_timestamp_seconds".into(), 1_700_000_000.0),
        (r#"tidegate_config_findings{severity="warning"}"#.into(), 2.0),
        ("tidegate_client_connections".into(), 6.0),
        (format!("tidegate_endpoint_requests_in_flight{{{endpoint}}}"), 7.0),
        (format!("tidegate_endpoint_ejected{{{endpoint}}}"), 1.0),
        (format!("tidegate_endpoint_models{{{endpoint}}}"), 2.0),
        ("tidegate_observations_dropped_total".into(), 0.0),
    ];
    for (series, count) in expect {
        assert_eq!(value(&text, &series), count, "{series}");
    }
    assert!(!text.contains(r#"tidegate_endpoint_models{pool="default/pool",endpoint="127.0.0.1:8002"}"#));
    for line in text.lines().filter(|line| line.starts_with("# TYPE")) {
        assert!(line.starts_with("# TYPE tidegate_") || line.starts_with("# TYPE process_"), "{line}");
    }
}

#[test]
fn names_that_clients_invent_make_no_series() {
    let known: Vec<String> = (0..5_000).map(|number| format!("adapter-{number}")).collect();
    let metrics = metrics(&known.iter().map(String::as_str).collect::<Vec<_>>());
    for number in 0..100_000 {
        let model: Arc<str> = format!("adapter-{number}").into();
        metrics.record(&Observation {
            requested_model: Some(model.clone()),
            target_model: Some(model),
            ..observation()
        });
    }
    let text = metrics.render();
    let series: Vec<&str> = text.lines().filter(|line| line.starts_with("tidegate_requests_total{")).collect();
    assert_eq!(series.len(), crate::models::MODEL_LABELS);
    let other = series.iter().find(|line| line.contains(r#"model="other",target_model="other""#)).unwrap();
    assert!(other.ends_with(&format!(" {}", 100_000 - (crate::models::MODEL_LABELS - 1))), "{other}");
}

#[test]
fn label_values_are_escaped() {
    let metrics = metrics(&["say \"hi\"\n"]);
    metrics.record(&Observation { requested_model: Some("say \"hi\"\n".into()), ..observation() });
    assert!(metrics.render().contains(r#"model="say \"hi\"\n","#));
}
