use std::collections::HashMap;

use proptest::prelude::*;

use super::{Busy, Engine, Finish, Id, Submission};
use crate::config::{Costs, EngineConfig};
use crate::tokens::{generated, of_text};

fn submission(text: &str, adapter: Option<&str>, max_tokens: usize) -> Submission {
    Submission { prompt: of_text(text), adapter: adapter.map(str::to_owned), seed: 7, max_tokens, natural_length: None }
}

fn small() -> EngineConfig {
    EngineConfig {
        max_num_seqs: 4,
        max_num_batched_tokens: 32,
        block_size: 4,
        blocks: 33,
        max_loras: 2,
        ..Default::default()
    }
}

/// Runs until idle; tokens by request.
fn run(engine: &mut Engine) -> HashMap<Id, Vec<u32>> {
    let mut seen: HashMap<Id, Vec<u32>> = HashMap::new();
    for _ in 0..100_000 {
        if engine.is_idle() {
            return seen;
        }
        for token in engine.step().produced {
            seen.entry(token.id).or_default().push(token.token);
        }
    }
    panic!("never idle: {:?}", engine.gauges());
}

#[test]
fn a_request_gets_its_tokens_and_a_second_of_the_same_prompt_hits() {
    let mut engine = Engine::new(small(), 128);
    let first = engine.submit(submission(&"abcd".repeat(13), None, 5)).unwrap();
    let seen = run(&mut engine);
    assert_eq!(seen[&first], (0..5).map(|index| generated(7, index)).collect::<Vec<_>>());
    engine.submit(submission(&"abcd".repeat(13), None, 1)).unwrap();
    let step = engine.step();
    assert_eq!((step.produced[0].cached, step.produced[0].finish), (12, Some(Finish::Length)));
    assert_eq!((engine.stats.prefix_queries, engine.stats.prefix_hits), (26, 12));
    // An adapter's KV is its own.
    engine.submit(submission(&"abcd".repeat(13), Some("a"), 1)).unwrap();
    assert_eq!(engine.step().produced[0].cached, 0);
}

#[test]
fn decodes_come_before_the_rest_of_a_long_prompt() {
    let mut engine = Engine::new(small(), 128);
    let talker = engine.submit(submission("abcd", None, 20)).unwrap();
    engine.step();
    let reader = engine.submit(submission(&"wxyz".repeat(70), None, 1)).unwrap();
    let ids: Vec<Vec<Id>> = (0..3).map(|_| engine.step().produced.iter().map(|token| token.id).collect()).collect();
    assert_eq!(ids, [vec![talker], vec![talker], vec![talker, reader]]);
}

#[test]
fn a_step_takes_longer_with_its_batch_its_context_and_its_prompts() {
    let costs = Costs::default();
    let config = EngineConfig { blocks: 2000, ..Default::default() };
    let mut engine = Engine::new(config, 8192);
    engine.submit(submission(&"abcd".repeat(1000), None, 3)).unwrap();
    let prefill = costs.step + 1000.0 * costs.per_prompt_token + 1e6 * costs.prompt_quadratic;
    assert!((engine.step().seconds - prefill).abs() < 1e-9);
    let decode = costs.step + costs.per_request + 1000.0 * costs.per_context_token;
    assert!((engine.step().seconds - decode).abs() < 1e-9);
}

#[test]
fn a_third_adapter_on_two_slots_is_deferred_and_then_served() {
    let mut engine = Engine::new(small(), 128);
    for adapter in ["a", "b", "c"] {
        engine.submit(submission("abcd", Some(adapter), 4)).unwrap();
    }
    let first = engine.step();
    assert!(first.seconds > 2.0 * Costs::default().adapter_from_disk);
    let gauges = engine.gauges();
    assert_eq!((gauges.running, gauges.waiting, gauges.deferred), (2, 1, 1));
    assert_eq!(gauges.adapters, ["a", "b"]);
    assert_eq!(run(&mut engine).len(), 3);
}

#[test]
fn a_full_queue_refuses() {
    let mut engine = Engine::new(EngineConfig { max_num_queued_reqs: Some(2), ..small() }, 128);
    let taken: Vec<bool> = (0..12).map(|_| engine.submit(submission("abcd", None, 4)) != Err(Busy)).collect();
    assert_eq!(taken.iter().filter(|taken| **taken).count(), 2);
    assert_eq!(engine.stats.rejected, 10);
}

/// The KV cache bounds the batch; sharing a long prefix makes room for more than twice as many requests.
#[test]
fn sharing_a_prefix_more_than_doubles_the_batch_that_fits() {
    let running_with = |groups: usize| {
        let config = EngineConfig { max_num_batched_tokens: 1 << 20, ..Default::default() };
        let mut engine = Engine::new(config, 32_768);
        for group in 0..groups {
            engine
                .submit(Submission { max_tokens: 1, ..submission(&format!("{group:04}").repeat(6000), None, 1) })
                .unwrap();
            run(&mut engine);
        }
        for number in 0..150_usize {
            let shared = format!("{:04}", number % groups.max(1)).repeat(6000);
            let own = format!("{number:03}x").repeat(1200);
            let text = if groups == 0 { format!("{number:03}y").repeat(7200) } else { shared + &own };
            engine.submit(submission(&text, None, 1000)).unwrap();
        }
        // Until the first answers end, when every request in the batch is at its longest.
        let mut most = 0;
        while engine.stats.finished_length < groups as u64 + 1 {
            most = engine.gauges().running;
            engine.step();
        }
        most
    };
    let (alone, together) = (running_with(0), running_with(19));
    assert!((33..=42).contains(&alone), "{alone}");
    assert!(together as f64 / alone as f64 > 2.0, "{together} / {alone}");
}

proptest! {
    #[test]
    fn nothing_is_lost_and_every_block_comes_back(
        requests in prop::collection::vec((1..20_usize, 0..3_usize, 1..40_usize, 0..4_usize, prop::bool::weighted(0.2)), 1..30),
    ) {
        // 32 usable blocks of 4: a single request of 20 + 40 tokens fits, four of them do not.
        let mut engine = Engine::new(small(), 64);
        let mut wanted = HashMap::new();
        let mut seen: HashMap<Id, usize> = HashMap::new();
        for (length, kind, max_tokens, steps, leaves) in requests {
            let adapter = [None, Some("a"), Some("b")][kind];
            let id = engine.submit(submission(&"abcd".repeat(length), adapter, max_tokens)).unwrap();
            wanted.insert(id, max_tokens);
            for _ in 0..steps {
                for token in engine.step().produced {
                    *seen.entry(token.id).or_default() += 1;
                }
                prop_assert!(engine.gauges().running <= 4);
                prop_assert!((0.0..=1.0).contains(&engine.gauges().kv_usage));
            }
            if leaves {
                engine.abort(id);
                wanted.remove(&id);
                seen.remove(&id);
            }
        }
        for (id, tokens) in run(&mut engine) {
            *seen.entry(id).or_default() += tokens.len();
        }
        seen.retain(|id, _| wanted.contains_key(id));
        prop_assert_eq!(seen, wanted);
        prop_assert_eq!(engine.gauges(), super::Gauges::default());
    }
}
