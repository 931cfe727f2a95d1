//! A roll-out's pair on the way of a request: who answers, what the client sees, what the judge is told.

use std::net::SocketAddr;
use std::sync::Arc;

use http::{Response, StatusCode};
use tidegate_api::ObjectKey;
use tidegate_api::rollout::{
    ArmName, ArmSettings, AssignmentSettings, ForceRule, RolloutTarget, RouteTarget, SessionKey, WHOLE_SHARE,
};
use tidegate_routing::snapshot::{ModelRule, Target};
use tidegate_routing::{Overlay, Pair, Split};
use tidegate_telemetry::{PairEnd, PairEvent, PairOutcome};

use crate::testing::*;

const CHAT: &str = "/v1/chat/completions";

fn pair(share: u32) -> Pair {
    let pool = |name: &str| ArmSettings::Pool { group: None, name: name.into() };
    let overlay = Overlay {
        rollout: ObjectKey::new("tidegate.dev", "InferenceRollout", "default", "release"),
        uid: "uid".into(),
        target: RolloutTarget::Route(RouteTarget { name: "route".into(), rule: None }),
        stable: pool("old"),
        candidate: pool("new"),
        candidate_share_ppm: share,
        assignment: AssignmentSettings {
            keys: vec![
                SessionKey::Header("x-session-id".into()),
                SessionKey::PromptCacheKey,
                SessionKey::FirstMessages,
            ],
            force: vec![ForceRule { header: "x-arm".into(), value: "new".into(), arm: ArmName::Candidate }],
        },
        admits_forced: true,
        shield: true,
        excluded_models: ["only-stable".to_owned()].into(),
        shadow: None,
        keeps_prompts: false,
    };
    Pair::new(&overlay, 0, 1, vec![0, 1])
}

/// A gateway whose rule has stable and a candidate with this share.
async fn between(stable: &[SocketAddr], candidate: &[SocketAddr], share: u32) -> Running {
    let mut rule = rule(vec![arm(0, 1), arm(1, 0)]);
    rule.pair = Some(Arc::new(pair(share)));
    run(snapshot(vec![pool("old", stable), pool("new", candidate)], vec![rule])).await
}

async fn answers(status: u16, kind: &'static str, text: &'static str) -> SocketAddr {
    endpoint(move |_| async move {
        let mut response = Response::new(full(text));
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        response.headers_mut().insert("content-type", kind.parse().unwrap());
        response
    })
    .await
}

/// What the judge is told of one request: whether it arrived on the candidate, and how it ended.
async fn told(running: &Running) -> (bool, PairEnd) {
    let seen = running.kept.take(1).await.remove(0);
    assert_eq!(seen.rollout.as_ref().map(|(label, _)| &**label), Some("default/release"));
    let mut events = running.kept.pairs().into_iter();
    let Some(PairEvent::Arrived(arrival)) = events.next() else { panic!("no arrival") };
    let Some(PairEvent::Ended(end)) = events.next_back() else { panic!("no end") };
    assert_eq!((arrival.request, arrival.candidate), (end.arrival.request, end.arrival.candidate));
    assert_eq!(seen.shielded, seen.arm.as_deref() == Some("default/pool-0") && arrival.candidate);
    (arrival.candidate, *end)
}

#[tokio::test]
async fn what_fails_on_the_candidate_before_its_first_byte_is_answered_by_stable() {
    let refusal = "data: {\"error\": {\"message\": \"died\", \"code\": 500}}\n\n";
    for candidate in [
        answers(500, "application/json", "{}").await,
        answers(503, "application/json", "{}").await,
        answers(200, "text/event-stream", refusal).await,
        answers(200, "text/event-stream", "").await,
        breaks_off().await,
        nobody(),
    ] {
        let running = between(&[echo("old").await], &[candidate], WHOLE_SHARE).await;
        let answer = send(running.address, post(CHAT, r#"{"model":"m","stream":true}"#)).await;
        assert_eq!((answer.status, &answer.headers["x-endpoint"]), (StatusCode::OK, &"old".parse().unwrap()));
        assert!(answer.text().ends_with(r#"{"model":"m","stream":true}"#), "{}", answer.text());
        let (on_candidate, end) = told(&running).await;
        assert!(on_candidate && end.first_attempt_failed && end.rescued, "{end:?}");
        assert_eq!((end.outcome, end.ttft), (PairOutcome::Answered, None));
    }
}

#[tokio::test]
async fn a_refusal_counts_against_the_candidate_only_where_stable_would_not_have_refused() {
    let missing = || answers(404, "application/json", "{}");
    let running = between(&[missing().await], &[missing().await], WHOLE_SHARE).await;
    assert_eq!(send(running.address, post(CHAT, "{}")).await.status, 404);
    let (_, end) = told(&running).await;
    assert_eq!((end.outcome, end.first_attempt_failed, end.rescued), (PairOutcome::RequestFault, false, false));
    let running = between(&[echo("old").await], &[missing().await], WHOLE_SHARE).await;
    assert_eq!(send(running.address, post(CHAT, "{}")).await.status, 200);
    let (_, end) = told(&running).await;
    assert_eq!((end.outcome, end.first_attempt_failed, end.rescued), (PairOutcome::Answered, true, true));
}

#[tokio::test]
async fn what_is_the_requests_fault_passes_as_it_is() {
    let running = between(&[echo("old").await], &[answers(400, "application/json", "{}").await], WHOLE_SHARE).await;
    assert_eq!(send(running.address, post(CHAT, "{}")).await.status, 400);
    let (_, end) = told(&running).await;
    assert_eq!((end.outcome, end.first_attempt_failed), (PairOutcome::RequestFault, false));
}

#[tokio::test]
async fn who_demands_the_candidate_gets_it_as_it_is() {
    let running = between(&[echo("old").await], &[answers(500, "application/json", "{}").await], 0).await;
    let mut request = post(CHAT, "{}");
    request.headers_mut().insert("x-arm", "new".parse().unwrap());
    assert_eq!(send(running.address, request).await.status, 500);
    let (on_candidate, end) = told(&running).await;
    assert!(on_candidate && end.arrival.forced && !end.arrival.keyed);
    assert_eq!((end.outcome, end.first_attempt_failed), (PairOutcome::Error, false));
}

#[tokio::test]
async fn a_candidate_without_endpoints_gives_its_share_to_stable() {
    let running = between(&[echo("old").await], &[], WHOLE_SHARE).await;
    assert_eq!(send(running.address, post(CHAT, "{}")).await.status, 200);
    let (on_candidate, end) = told(&running).await;
    assert!(!on_candidate && end.arrival.forced, "no chance chose stable");
    // The other way about nothing moves: nobody but the roll-out raises the candidate's share.
    let running = between(&[], &[echo("new").await], WHOLE_SHARE / 2).await;
    let mut statuses = Vec::new();
    for _ in 0..40 {
        statuses.push(send(running.address, post(CHAT, "{}")).await.status.as_u16());
    }
    assert!(statuses.contains(&503) && statuses.contains(&200), "{statuses:?}");
}

#[tokio::test]
async fn a_session_is_found_in_the_body_and_stays_on_its_arm() {
    let running = between(&[echo("old").await], &[echo("new").await], WHOLE_SHARE / 2).await;
    let bodies: Vec<String> = (0..30)
        .flat_map(|number| {
            let user = format!(r#"{{"role":"user","content":"q{number}"}}"#);
            [
                format!(r#"{{"model":"m","prompt_cache_key":"k{number}","n":1}}"#),
                format!(r#"{{"n":2,"prompt_cache_key":"k{number}","model":"m"}}"#),
                format!(r#"{{"model":"m","messages":[{user}]}}"#),
                format!(r#"{{"model":"m","messages":[{user},{{"role":"assistant","content":"a"}}]}}"#),
            ]
        })
        .collect();
    let mut on_candidate = 0;
    for turns in bodies.chunks(2) {
        let mut arms = Vec::new();
        for body in turns {
            let answer = send(running.address, post(CHAT, body.clone())).await;
            arms.push(answer.headers["x-endpoint"].to_str().unwrap().to_owned());
        }
        assert_eq!(arms[0], arms[1], "{turns:?}");
        on_candidate += usize::from(arms[0] == "new");
    }
    assert!((5..55).contains(&on_candidate), "{on_candidate} of 60");
    running.kept.take(120).await;
    let ends: Vec<PairEnd> = running.kept.ends();
    assert!(ends.len() == 120 && ends.iter().all(|end| end.arrival.keyed && !end.arrival.forced && end.ttft.is_some()));
}

#[tokio::test]
async fn a_model_that_the_candidate_lacks_stays_on_stable() {
    let running = between(&[echo("old").await], &[echo("new").await], WHOLE_SHARE).await;
    let answer = send(running.address, post(CHAT, r#"{"model":"only-stable"}"#)).await;
    assert_eq!(answer.headers["x-endpoint"], "old");
    assert!(told(&running).await.1.arrival.forced);
}

#[tokio::test]
async fn an_adapters_failure_is_made_good_by_the_one_before_it() {
    let server = endpoint(|request| async move {
        let body = http_body_util::BodyExt::collect(request.into_body()).await.unwrap().to_bytes();
        let is_new = String::from_utf8_lossy(&body).contains("helper-v2");
        let mut response = Response::new(full(body));
        *response.status_mut() = if is_new { StatusCode::NOT_FOUND } else { StatusCode::OK };
        response
    })
    .await;
    let mut pool = pool("pool", &[server]);
    let targets = [("helper-v1", 1), ("helper-v2", 0)];
    pool.models.exact.insert(
        "helper".into(),
        Arc::new(ModelRule {
            owner: Arc::new(ObjectKey::new("", "InferenceModel", "default", "helper")),
            targets: targets.iter().map(|(name, weight)| Target { model: (*name).into(), weight: *weight }).collect(),
            split: Split::new("helper", &targets),
            pair: Some(Arc::new(pair(WHOLE_SHARE))),
            criticality: None,
        }),
    );
    let running = run(snapshot(vec![pool], vec![rule(vec![arm(0, 1)])])).await;
    let answer = send(running.address, post(CHAT, r#"{"model":"helper","n":1}"#)).await;
    assert_eq!((answer.status, answer.text().as_str()), (StatusCode::OK, r#"{"model":"helper-v1","n":1}"#));
    let seen = running.kept.take(1).await.remove(0);
    assert!(seen.shielded);
    assert_eq!(seen.target_model.as_deref(), Some("helper-v1"));
    let end = running.kept.ends().remove(0);
    assert!(end.arrival.candidate && end.first_attempt_failed && end.rescued);
}

#[tokio::test]
async fn answers_of_one_arm_are_cut_where_a_roll_out_says_so() {
    let (chunks, rest) = tokio::sync::mpsc::channel::<bytes::Bytes>(8);
    let rest = Arc::new(parking_lot::Mutex::new(Some(rest)));
    let server = endpoint(move |_| {
        let rest = rest.lock().take();
        async move {
            let frames = futures_util::stream::unfold(rest, |rest| async move {
                let mut rest = rest?;
                rest.recv().await.map(|bytes| (Ok(hyper::body::Frame::data(bytes)), Some(rest)))
            });
            let mut response = Response::new(http_body_util::BodyExt::boxed(http_body_util::StreamBody::new(frames)));
            response.headers_mut().insert("content-type", "text/event-stream".parse().unwrap());
            response
        }
    })
    .await;
    let running = between(&[echo("old").await], &[server], WHOLE_SHARE).await;
    chunks.send("data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n".into()).await.unwrap();
    let body = begin(running.address, post(CHAT, r#"{"stream":true}"#)).await.unwrap().into_body();
    assert_eq!(running.proxy.cut("default/release", false), 0, "stable has none");
    assert_eq!(running.proxy.cut("default/another", true), 0);
    assert_eq!(running.proxy.cut("default/release", true), 1);
    assert!(http_body_util::BodyExt::collect(body).await.is_err());
    let seen = running.kept.take(1).await.remove(0);
    assert_eq!(seen.reason, Some(tidegate_telemetry::Reason::RolloutCut));
    assert_eq!(running.kept.ends().remove(0).outcome, PairOutcome::Answered, "no fault of the candidate");
    assert_eq!(running.proxy.cut("default/release", true), 0, "it is over");
}

#[tokio::test]
async fn a_candidate_is_mirrored_to_and_prompts_are_kept_while_the_roll_out_prepares() {
    let (requests, mut taken) = tokio::sync::mpsc::channel(8);
    let candidate = endpoint(move |request| {
        let requests = requests.clone();
        async move {
            let body = http_body_util::BodyExt::collect(request.into_body()).await.unwrap().to_bytes();
            requests.send(String::from_utf8_lossy(&body).into_owned()).await.unwrap();
            Response::new(full("oops"))
        }
    })
    .await;
    let mut rule = rule(vec![arm(0, 1), arm(1, 0)]);
    let settings = tidegate_api::rollout::ShadowSettings {
        tokens_per_second: 1_000_000,
        max_tokens: 8,
        sample: Default::default(),
        before: std::time::Duration::from_secs(1),
    };
    let mut pair = pair(0);
    (pair.shadow, pair.keeps_prompts) = (Some(settings), true);
    rule.pair = Some(Arc::new(pair));
    let running = run(snapshot(vec![pool("old", &[echo("old").await]), pool("new", &[candidate])], vec![rule])).await;
    let text = r#"{"model":"m","max_tokens":100}"#;
    let copied = loop {
        // The budget is empty at first.
        assert_eq!(send(running.address, post(CHAT, text)).await.headers["x-endpoint"], "old");
        tokio::select! {
            copied = taken.recv() => break copied.unwrap(),
            () = tokio::time::sleep(std::time::Duration::from_millis(5)) => {}
        }
    };
    assert_eq!(copied, r#"{"model":"m","max_tokens":8}"#);
    let shadowed = async {
        loop {
            let found = running.kept.pairs().into_iter().find_map(|event| match event {
                PairEvent::Shadowed { outcome, .. } => Some(outcome),
                _ => None,
            });
            match found {
                Some(outcome) => return outcome,
                None => tokio::task::yield_now().await,
            }
        }
    };
    let outcome = tokio::time::timeout(PATIENCE, shadowed).await.unwrap();
    assert_eq!(outcome, tidegate_telemetry::ShadowOutcome::Misshapen, "no JSON");
    let kept = running.proxy.recent_prompts("default/release");
    assert_eq!((kept[0].path.as_str(), &kept[0].body[..]), (CHAT, text.as_bytes()));
    running.proxy.keep_prompts_of(&Default::default());
    assert!(running.proxy.recent_prompts("default/release").is_empty());
}
