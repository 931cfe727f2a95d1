//! What a roll-out will take, before it starts: for each step the requests and the time until it can be judged at today's
//! traffic, how long a fault would stay unseen and how many answers it would spoil, and whether stable could take
//! everything back.

use serde_json::{Value, json};
use tidegate_evidence::plan::{Cost, certify_events, certify_latency, detect_events, detect_latency};
use tidegate_rollout::Machine;
use tidegate_rollout::capacity::{Arms, Terms};
use tidegate_rollout::plan::{Plan, StepWeight};
use tidegate_rollout::share::Share;

/// Stable's share of failed requests, where none is known: half a percent.
const BASE_RATE: f64 = 0.005;
/// How many times as many errors the forecast of a fault assumes.
const FAULT: f64 = 3.0;
/// How much slower the forecast of a slow candidate is.
const SLOWER: f64 = 1.2;
/// How the logs of latencies of like requests usually deviate.
const DEVIATION: f64 = 0.5;

/// What is known of today's traffic.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Traffic {
    /// Requests a second to the pair; none: not seen yet.
    pub(crate) requests_per_second: Option<f64>,
    /// Endpoints and capacity, as last seen.
    pub(crate) arms: Option<Arms>,
}

/// The forecast of a machine's plan.
pub(crate) fn forecast(machine: &Machine, traffic: Traffic) -> Value {
    let plan = machine.plan();
    let rate = traffic.requests_per_second.filter(|rate| *rate > 0.0);
    let shares: Vec<Option<Share>> = plan.steps.iter().map(|step| share(plan, step.weight, traffic.arms)).collect();
    let mut total = Some(0.0);
    let steps: Vec<Value> = plan
        .steps
        .iter()
        .enumerate()
        .map(|(index, step)| {
            let here = shares.get(index).copied().flatten();
            let next = shares.get(index.saturating_add(1)).copied().flatten().unwrap_or(Share::ALL);
            let (mut value, seconds) = here.map_or((json!({}), None), |here| look(plan, here, next, rate));
            let least = step.bake as f64 / 1000.0;
            let is_judged = here.is_some_and(|here| here > Share::NONE && here < Share::ALL);
            let takes = if is_judged { seconds.map(|seconds: f64| seconds.max(least)) } else { Some(least) };
            total = total.zip(takes).map(|(total, takes)| total + takes);
            if let Some(fields) = value.as_object_mut() {
                fields.insert("step".into(), json!(index.saturating_add(1)));
                fields.insert("weight".into(), json!(here.map_or("parity".into(), |share| share.to_string())));
                fields.insert("bakeSeconds".into(), json!(least));
                fields.insert("seconds".into(), json!(takes));
                fields
                    .insert("gate".into(), json!({"manual": step.manual.is_some(), "webhook": step.webhook.is_some()}));
            }
            value
        })
        .collect();
    json!({
        "requestsPerSecond": rate,
        "assumes": {"errorRate": BASE_RATE, "faultTimes": FAULT, "slowerTimes": SLOWER, "logLatencyDeviation": DEVIATION},
        "steps": steps,
        "secondsToPromotion": total,
        "rollbackCapacity": capacity(plan, traffic.arms),
    })
}

fn share(plan: &Plan, weight: StepWeight, arms: Option<Arms>) -> Option<Share> {
    match weight {
        StepWeight::Share(share) => Some(share),
        StepWeight::Parity => terms(plan, arms).parity(&arms?),
    }
}

fn terms(plan: &Plan, arms: Option<Arms>) -> Terms {
    Terms {
        declared_ratio: plan.relative_capacity,
        stable_headroom: plan.rollback.stable_headroom,
        stable_ready_before: arms.map_or(0, |arms| arms.stable.ready),
    }
}

/// One step: what certifies it and what finds faults, and the seconds of the former.
fn look(plan: &Plan, here: Share, next: Share, rate: Option<f64>) -> (Value, Option<f64>) {
    let policy = &plan.analysis.policy;
    let (share, next) = (here.fraction(), next.fraction());
    let events =
        policy.events.iter().filter_map(|guard| certify_events(policy, BASE_RATE, guard.harm_budget?, share, next));
    let latencies =
        policy.latencies.iter().filter_map(|guard| certify_latency(policy, guard.margin?, DEVIATION, share));
    let certify = events.chain(latencies).max_by_key(|cost| cost.units);
    let tolerance = policy.events.first().map_or(1.0, |guard| guard.tolerance);
    let errors = detect_events(policy, BASE_RATE, FAULT, tolerance, share);
    let slow = policy.latencies.first();
    let slow = slow.and_then(|guard| detect_latency(policy, SLOWER, guard.tolerance, DEVIATION, share));
    let cost = |cost: Option<Cost>| {
        cost.map(|cost| {
            json!({"candidateRequests": cost.candidate_units, "requests": cost.units,
               "seconds": rate.and_then(|rate| cost.seconds(rate))})
        })
    };
    let spoiled = errors.map(|cost| cost.candidate_units as f64 * BASE_RATE * (FAULT - 1.0));
    let value = json!({
        "certify": cost(certify),
        "findsErrors": cost(errors),
        "spoiledUntilThen": spoiled,
        "findsSlowness": cost(slow),
        "slowUntilThen": slow.map(|cost| cost.candidate_units),
    });
    (value, certify.zip(rate).and_then(|(cost, rate)| cost.seconds(rate)))
}

fn capacity(plan: &Plan, arms: Option<Arms>) -> Value {
    let Some(arms) = arms else { return json!({"known": false}) };
    let (stable, candidate) = (arms.stable.ready, arms.candidate.ready);
    let parity = terms(plan, Some(arms)).parity(&arms).map(|share| share.to_string());
    match terms(plan, Some(arms)).take_back(&arms) {
        Ok(()) => {
            json!({"known": true, "enough": stable > 0, "stableReady": stable, "candidateReady": candidate, "parity": parity})
        }
        Err(shortage) => json!({"known": true, "enough": false, "stableReady": stable, "candidateReady": candidate,
                                "parity": parity, "message": shortage.to_string()}),
    }
}
