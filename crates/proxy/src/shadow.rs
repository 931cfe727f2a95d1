//! Shadow: copies of stable's requests for a candidate that no client meets yet.
//!
//! Beside the mirror stage, while a roll-out mirrors. A copy costs tokens on the candidate, so there is a budget for each
//! second, and kinds of requests that are rare get their part of it. Answers are read to their end and dropped; that they
//! failed, or have another shape than was asked for, is told. Must not hold up the request it copies.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::Value;
use tidegate_api::rollout::{ArmName, ShadowSample, ShadowSettings};
use tidegate_body::answer::{AnswerKind, AnswerTap};
use tidegate_routing::Pair;
use tidegate_telemetry::{PairEvent, ShadowOutcome};
use tokio::time::Instant;

use crate::active::Active;
use crate::assign::{self, Asking, Assigned};
use crate::connection::Connection;
use crate::forward::{ForwardBody, Forwarding, forward};
use crate::mirror::{Original, life_of};
use crate::rewrite;

/// Bytes of a prompt that are counted as one token.
const BYTES_A_TOKEN: u64 = 4;
/// Tokens of a copy that asks for as many as it likes, beside the prompt's.
const UNKNOWN_ANSWER: u64 = 1024;
/// Roll-outs whose budgets are remembered.
const BUDGETS: usize = 64;

/// The budgets of all roll-outs that mirror.
#[derive(Debug, Default)]
pub(crate) struct Shadows {
    budgets: Mutex<HashMap<Arc<str>, Budget>>,
}

/// What one roll-out may still spend.
#[derive(Debug)]
struct Budget {
    tokens: f64,
    filled: Instant,
    /// What each kind of request got so far.
    spent: HashMap<(u64, u32, bool), f64>,
}

impl Shadows {
    /// Copies a request for the candidates of the pairs that mirror.
    pub(crate) fn send(
        &self,
        active: &Active,
        connection: &Connection,
        original: &Original<'_>,
        assigned: &Assigned<'_>,
    ) {
        for paired in assigned.pairs().filter(|paired| paired.arm == ArmName::Stable && !paired.forced) {
            let Some(settings) = &paired.pair.shadow else { continue };
            if self.is_affordable(paired.pair, settings, original) {
                copy(active, connection, original, assigned, paired.pair, settings.max_tokens);
            }
        }
    }

    fn is_affordable(&self, pair: &Pair, settings: &ShadowSettings, original: &Original<'_>) -> bool {
        let read = original.read;
        let answer = read.fields.max_tokens.unwrap_or(UNKNOWN_ANSWER).min(u64::from(settings.max_tokens));
        let prompt = read.bytes.len() as u64 / BYTES_A_TOKEN;
        let model = read.model.as_deref().map_or(0, |model| xxhash_rust::xxh3::xxh3_64(model.as_bytes()));
        let kind = (model, prompt.checked_ilog2().unwrap_or(0) / 2, read.stream);
        let mut budgets = self.budgets.lock();
        if budgets.len() >= BUDGETS && !budgets.contains_key(&pair.uid) {
            budgets.clear();
        }
        let budget = budgets.entry(pair.uid.clone()).or_insert_with(Budget::new);
        budget.take(f64::from(settings.tokens_per_second), (prompt + answer) as f64, kind, settings.sample)
    }
}

impl Budget {
    fn new() -> Self {
        Self { tokens: 0.0, filled: Instant::now(), spent: HashMap::new() }
    }

    /// Takes what a copy costs, where that is there. A second's worth can be saved up, and a copy may overdraw it: the
    /// next ones wait.
    fn take(&mut self, rate: f64, cost: f64, kind: (u64, u32, bool), sample: ShadowSample) -> bool {
        let now = Instant::now();
        let since = now.saturating_duration_since(self.filled).as_secs_f64();
        self.filled = now;
        self.tokens = (self.tokens + since * rate).min(rate);
        if self.tokens <= 0.0 {
            return false;
        }
        let kinds = self.spent.len().max(1) as f64;
        let mean = self.spent.values().sum::<f64>() / kinds;
        let spent = self.spent.entry(kind).or_default();
        // Half of it waits for kinds that had less than the others.
        if sample == ShadowSample::Stratified && *spent >= mean && self.tokens < rate / 2.0 {
            return false;
        }
        *spent += cost;
        self.tokens -= cost;
        true
    }
}

fn copy(
    active: &Active,
    connection: &Connection,
    original: &Original<'_>,
    assigned: &Assigned<'_>,
    pair: &Arc<Pair>,
    max_tokens: u32,
) {
    let asking = Asking { headers: &original.head.headers, read: original.read };
    let Some(there) = assign::assign_to(active, original.rule, assigned, asking, ArmName::Candidate) else { return };
    let mut head = original.head.clone();
    let filters = [&original.rule.filters, &there.arm.filters];
    let came_from = rewrite::head(&mut head, filters, original.prefix_length, original.authority.clone(), connection);
    let (pool, rule, budget) = (there.pool.clone(), original.rule.clone(), original.budget.clone());
    let model =
        there.target.map(|target| target.to_string()).or_else(|| Some(original.read.model.as_deref()?.to_owned()));
    let (bytes, stream) = (original.read.bytes.clone(), original.read.stream);
    let (uid, sink) = (pair.uid.clone(), connection.shared.sink.clone());
    connection.shared.mirrors.spawn(async move {
        let Some(body) = shortened(&bytes, model.as_deref(), max_tokens) else { return };
        let deadline = Instant::now() + life_of(&rule);
        let forwarding = Forwarding {
            pool: &pool,
            rule: &rule,
            budget: &budget,
            head,
            came_from,
            body: ForwardBody::Buffered(vec![body]),
            model: model.as_deref(),
            stream,
            deadline: Some(deadline),
            once: true,
        };
        let outcome = tokio::time::timeout_at(deadline, answer(forwarding, stream)).await;
        sink.pair(PairEvent::Shadowed { uid, outcome: outcome.unwrap_or(ShadowOutcome::Failed) });
    });
}

/// The body with its model replaced and its answer bounded. Nothing for what is no JSON object.
fn shortened(body: &[u8], model: Option<&str>, max_tokens: u32) -> Option<Bytes> {
    let mut value: Value = serde_json::from_slice(body).ok()?;
    let fields = value.as_object_mut()?;
    if let Some(model) = model {
        fields.insert("model".into(), model.into());
    }
    let most = u64::from(max_tokens);
    let mut is_bounded = false;
    for name in ["max_completion_tokens", "max_output_tokens", "max_tokens"] {
        if let Some(asked) = fields.get(name).and_then(Value::as_u64) {
            fields.insert(name.into(), asked.min(most).into());
            is_bounded = true;
        }
    }
    if !is_bounded {
        let name = if fields.contains_key("input") { "max_output_tokens" } else { "max_tokens" };
        fields.insert(name.into(), most.into());
    }
    serde_json::to_vec(&value).ok().map(Bytes::from)
}

/// Reads an answer to its end.
async fn answer(forwarding: Forwarding<'_>, asked_for_stream: bool) -> ShadowOutcome {
    let Ok(mut forwarded) = forward(forwarding).await else { return ShadowOutcome::Failed };
    let mut tap = AnswerTap::new(forwarded.kind);
    tap.push(&forwarded.first);
    while let Some(body) = &mut forwarded.body {
        match body.frame().await {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    tap.push(data);
                }
            }
            Some(Err(_)) => return ShadowOutcome::Failed,
            None => break,
        }
    }
    let summary = tap.summary();
    let status = forwarded.head.status;
    if status.is_server_error() || summary.error.is_some() && status.is_success() {
        return ShadowOutcome::Failed;
    }
    // A request that is itself at fault says nothing.
    let expected = if asked_for_stream { AnswerKind::EventStream } else { AnswerKind::Json };
    let is_shaped = forwarded.kind == expected && (asked_for_stream || summary.whole);
    if status.is_success() && !is_shaped { ShadowOutcome::Misshapen } else { ShadowOutcome::Answered }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_budget_is_kept_and_rare_kinds_get_their_part() {
        let mut budget = Budget::new();
        let (common, rare) = ((1, 0, false), (2, 5, true));
        let (mut commons, mut rares, mut cost) = (0, 0, 0.0);
        for tick in 0..10_000 {
            tokio::time::advance(Duration::from_millis(1)).await;
            for (kind, price, count) in [(common, 10.0, &mut commons), (rare, 100.0, &mut rares)] {
                if (kind == common || tick % 100 == 0) && budget.take(1000.0, price, kind, ShadowSample::Stratified) {
                    *count += 1;
                    cost += price;
                }
            }
        }
        assert!((9_000.0..=10_200.0).contains(&cost), "{cost} in ten seconds at 1000 a second");
        assert!(rares > 25 && commons > 100, "{rares} of 100, {commons} of 10000");
        let mut budget = Budget::new();
        assert!(!budget.take(0.0, 1.0, common, ShadowSample::Random));
    }

    #[test]
    fn copies_are_bounded_and_ask_for_the_candidates_model() {
        let text = |body: &str| String::from_utf8(shortened(body.as_bytes(), Some("v2"), 16)?.to_vec()).ok();
        assert_eq!(text(r#"{"model":"m","max_tokens":4}"#).as_deref(), Some(r#"{"model":"v2","max_tokens":4}"#));
        let bounded = r#"{"model":"v2","max_completion_tokens":16}"#;
        assert_eq!(text(r#"{"model":"m","max_completion_tokens":400}"#).as_deref(), Some(bounded));
        assert_eq!(text(r#"{"model":"m"}"#).as_deref(), Some(r#"{"model":"v2","max_tokens":16}"#));
        assert_eq!(text("[]"), None);
    }
}
