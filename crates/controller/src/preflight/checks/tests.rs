use serde_json::json;
use tidegate_api::rollout::InferenceRolloutSpec;

use super::super::look::Slots;
use super::*;

fn node(preflight: Value) -> RolloutSettings {
    settings(json!({
        "type": "BaseModel", "target": {"routeRef": {"name": "route"}},
        "stable": {"poolRef": {"name": "v1"}}, "candidate": {"poolRef": {"name": "v2"}}, "preflight": preflight,
    }))
}

fn adapter() -> RolloutSettings {
    settings(json!({
        "type": "LoRA", "target": {"model": "helper", "poolRef": {"name": "pool"}},
        "stable": {"model": "helper-v1"}, "candidate": {"model": "helper-v2"}, "preflight": {"freeLoraSlots": 1},
    }))
}

fn settings(spec: Value) -> RolloutSettings {
    let spec: InferenceRolloutSpec = serde_json::from_value(spec).expect("a spec");
    spec.settings()
}

/// An endpoint that lists these models, each with its parent.
fn look(address: &str, models: &[(&str, Option<&str>)]) -> Look {
    let card = |(id, parent): &(&str, Option<&str>)| Card {
        id: (*id).into(),
        parent: parent.map(str::to_owned),
        max_model_len: Some(4096),
    };
    Look { address: address.into(), cards: models.iter().map(card).collect(), ..Look::default() }
}

fn seen(stable: Vec<Look>, candidate: Vec<Look>) -> Seen {
    Seen { stable, candidate, loads: BTreeMap::new() }
}

/// Reason and message of what is not passed.
#[track_caller]
fn objection(outcome: CheckOutcome, is_final: bool) -> (String, String) {
    match (outcome, is_final) {
        (CheckOutcome::Failed(refusal), true) | (CheckOutcome::Waiting(refusal), false) => {
            (refusal.reason, refusal.message)
        }
        (other, _) => panic!("{other:?}"),
    }
}

#[test]
fn every_endpoint_must_be_ready_unless_the_document_asks_for_less() {
    let down = Look { not_ready: Some("cannot connect".into()), ..look("b:1", &[]) };
    let seen = seen(vec![look("s:1", &[("m", None)])], vec![look("a:1", &[("m", None)]), down]);
    let (reason, message) = objection(read(Check::EndpointsReady, &seen, &node(json!({}))), false);
    assert_eq!(reason, "EndpointsNotReady");
    assert!(message.contains("1 of 2 endpoints of v2") && message.contains("b:1: cannot connect"), "{message}");
    let half = node(json!({"endpointsReady": "50%"}));
    assert_eq!(read(Check::EndpointsReady, &seen, &half), CheckOutcome::Passed);
    let nobody = self::seen(Vec::new(), Vec::new());
    assert_eq!(objection(read(Check::EndpointsReady, &nobody, &half), false).0, "EndpointsNotReady");
}

#[test]
fn each_endpoint_of_the_candidate_serves_what_stable_serves() {
    let stable = || vec![look("s:1", &[("m", None), ("helper", Some("m"))])];
    let settings = node(json!({}));
    let same = seen(stable(), vec![look("a:1", &[("m", None), ("other", None)])]);
    assert_eq!(
        read(Check::SameModels, &same, &settings),
        CheckOutcome::Passed,
        "more is no fault; adapters are not asked"
    );
    let one_differs = seen(stable(), vec![look("a:1", &[("m", None)]), look("b:1", &[("deepseek", None)])]);
    let (reason, message) = objection(read(Check::SameModels, &one_differs, &settings), true);
    assert_eq!(reason, "ModelsDiffer");
    assert!(
        message.starts_with("b:1 serves deepseek, and not m") && message.contains("--served-model-name"),
        "{message}"
    );
    let silent = seen(stable(), vec![look("a:1", &[])]);
    objection(read(Check::SameModels, &silent, &settings), false);
}

#[test]
fn adapters_with_traffic_are_excluded_or_stop_it() {
    let slots = Slots { most: 4, active: BTreeSet::new(), ever: BTreeSet::from(["busy".to_owned()]) };
    let stable = Look { slots: Some(slots), ..look("s:1", &[("m", None), ("busy", Some("m")), ("idle", Some("m"))]) };
    let seen = seen(vec![stable], vec![look("a:1", &[("m", None)])]);
    let exclude = node(json!({"adapters": {"require": "active", "onMissing": "ExcludeModel"}}));
    let models = BTreeSet::from(["busy".to_owned()]);
    assert_eq!(read(Check::Adapters, &seen, &exclude), CheckOutcome::PassedWithout { models });
    let all = node(json!({"adapters": {"require": "all", "onMissing": "Fail"}}));
    let (reason, message) = objection(read(Check::Adapters, &seen, &all), true);
    assert_eq!(reason, "IncompatibleAdapters");
    assert!(message.starts_with("busy, idle"), "{message}");
    let none = node(json!({"adapters": {"require": "none"}}));
    assert_eq!(read(Check::Adapters, &seen, &none), CheckOutcome::Passed);
}

#[test]
fn an_adapter_is_there_on_each_endpoint_and_belongs_to_the_base_that_is_served() {
    let settings = adapter();
    let both = |parent: &str| look("a:1", &[("m", None), ("helper-v1", Some("m")), ("helper-v2", Some(parent))]);
    let with = |candidate: Vec<Look>| seen(candidate.clone(), candidate);
    assert_eq!(read(Check::AdapterPresent, &with(vec![both("m")]), &settings), CheckOutcome::Passed);
    let one_lacks = with(vec![both("m"), look("b:1", &[("m", None), ("helper-v1", Some("m"))])]);
    let (reason, message) = objection(read(Check::AdapterPresent, &one_lacks, &settings), false);
    assert_eq!(reason, "AdapterMissing");
    assert!(message.contains("b:1") && !message.contains("a:1"), "{message}");
    assert_eq!(read(Check::ParentMatches, &with(vec![both("m")]), &settings), CheckOutcome::Passed);
    let (reason, message) = objection(read(Check::ParentMatches, &with(vec![both("qwen")]), &settings), true);
    assert_eq!(reason, "BaseMismatch");
    assert!(message.contains("helper-v2 belongs to qwen, and helper-v1 to m"), "{message}");
    let base = look("a:1", &[("m", None), ("helper-v1", Some("m")), ("helper-v2", None)]);
    assert_eq!(objection(read(Check::ParentMatches, &with(vec![base]), &settings), true).0, "BaseMismatch");
}

#[test]
fn what_cannot_be_loaded_says_so_at_once_and_what_is_late_waits() {
    let settings = adapter();
    let mut seen = seen(Vec::new(), vec![look("a:1", &[("m", None)])]);
    let mut load = |is_final| {
        let failed = NotLoaded { is_final, message: "no such path".into() };
        seen.loads.insert("a:1".into(), failed);
        read(Check::AdapterLoaded, &seen, &settings)
    };
    assert_eq!(objection(load(false), false).0, "AdapterNotLoaded");
    assert_eq!(objection(load(true), true), ("AdapterNotLoaded".into(), "no such path".into()));
}

#[test]
fn a_slot_must_be_free_for_both_versions() {
    let settings = adapter();
    let full = |active: &[&str]| {
        let active = active.iter().map(|name| (*name).to_owned()).collect();
        let slots = Slots { most: 2, active, ever: BTreeSet::new() };
        seen(Vec::new(), vec![Look { slots: Some(slots), ..look("a:1", &[("m", None)]) }])
    };
    assert_eq!(read(Check::FreeSlots, &full(&["helper-v1"]), &settings), CheckOutcome::Passed);
    assert_eq!(
        read(Check::FreeSlots, &full(&["helper-v1", "helper-v2"]), &settings),
        CheckOutcome::Passed,
        "it has its slot"
    );
    let (reason, message) = objection(read(Check::FreeSlots, &full(&["helper-v1", "other"]), &settings), false);
    assert_eq!(reason, "LoraSlotsFull");
    assert!(message.contains("2 of 2") && message.contains("--max-loras"), "{message}");
    let silent = seen(Vec::new(), vec![look("a:1", &[("m", None)])]);
    assert_eq!(
        read(Check::FreeSlots, &silent, &settings),
        CheckOutcome::Passed,
        "an engine without adapters says nothing"
    );
}

#[test]
fn each_endpoint_gives_a_token_in_the_shape_of_stables_answers() {
    let settings = node(json!({}));
    let answer = |body: Value| Look { probe: Some(Ok(body)), ..look("a:1", &[("m", None)]) };
    let usual = json!({"id": "c", "choices": [{"text": "x", "logprobs": null}], "usage": {"prompt_tokens": 1}});
    let with = |candidate: Look| seen(vec![answer(usual.clone())], vec![candidate]);
    let other_values =
        json!({"id": "d", "choices": [{"text": "y", "logprobs": {}}], "usage": {"prompt_tokens": 2}, "new": 1});
    for check in [Check::Probe, Check::ResponseShape] {
        assert_eq!(read(check, &with(answer(other_values.clone())), &settings), CheckOutcome::Passed, "{check:?}");
    }
    let without_usage = with(answer(json!({"id": "d", "choices": [{"text": "y"}]})));
    let (reason, message) = objection(read(Check::ResponseShape, &without_usage, &settings), true);
    assert_eq!((reason.as_str(), message.contains("no usage")), ("ResponseShape", true), "{message}");
    let number = with(answer(json!({"id": "d", "choices": [{"text": 7}], "usage": {"prompt_tokens": 1}})));
    assert!(objection(read(Check::ResponseShape, &number, &settings), true).1.contains("choices[0].text"));
    let fails = with(Look { probe: Some(Err("status 500".into())), ..look("a:1", &[("m", None)]) });
    let (reason, message) = objection(read(Check::Probe, &fails, &settings), false);
    assert_eq!((reason.as_str(), message.as_str()), ("ProbeFailed", "a:1 gave no token: status 500"));
}

#[test]
fn a_shorter_context_and_another_tokenizer_are_found() {
    let long = |length| {
        let mut look = look("a:1", &[("m", None)]);
        look.cards.iter_mut().for_each(|card| card.max_model_len = Some(length));
        look
    };
    let with = |candidate| seen(vec![look("s:1", &[("m", None)])], vec![candidate]);
    let check =
        |length, rule: &str| read(Check::ContextLength, &with(long(length)), &node(json!({"contextLength": rule})));
    assert_eq!(check(8192, "AtLeast"), CheckOutcome::Passed);
    assert_eq!(check(1024, "Ignore"), CheckOutcome::Passed);
    assert!(objection(check(1024, "AtLeast"), true).1.contains("takes 1024 tokens, stable takes 4096"));
    assert_eq!(objection(check(8192, "Equal"), true).0, "ContextLength");
    let tokens = |look: Look, tokens: &[u64]| Look { tokens: Some(tokens.to_vec()), ..look };
    let other = seen(vec![tokens(long(1), &[1, 2])], vec![tokens(long(1), &[1, 3])]);
    assert_eq!(objection(read(Check::Tokenizer, &other, &node(json!({}))), true).0, "TokenizerChanged");
    let silent = seen(vec![tokens(long(1), &[1, 2])], vec![long(1)]);
    assert_eq!(read(Check::Tokenizer, &silent, &node(json!({}))), CheckOutcome::Passed, "held against nobody");
}
