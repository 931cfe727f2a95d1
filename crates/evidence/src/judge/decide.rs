//! The verdict: roll back on proof, promote on certified margins, else hold and say what is missing.

use super::Judge;
use crate::latency::{BEST_AT, LatencyTest};
use crate::plan;
use crate::policy::{EventGuard, LatencyGuard};
use crate::verdict::{Verdict, Why};

/// No estimate looks further ahead than so many units.
const FARTHEST: u64 = 100_000_000;
/// Units after which an arm's own rate is trusted to tell that no number will do.
const ENOUGH: u64 = 200;
/// Deviation of log ratios that is assumed before there are enough to know.
const USUAL_DEVIATION: f64 = 0.6;

/// One margin that is not certified.
pub(super) struct Missing {
    pub(super) why: Why,
    pub(super) needs: Option<u64>,
}

impl Judge {
    /// What the evidence says about going on to `next_share` (1 from the last step but one).
    ///
    /// At a share of 0 there is nothing to certify, at 1 nothing to compare with: what is left is that no alarm was raised
    /// (and at 1, that anything arrived).
    pub fn verdict(&self, now_ms: u64, next_share: f64) -> Verdict {
        if let Some(alarm) = &self.state.alarm {
            return Verdict::RollBack(alarm.clone());
        }
        let step = &self.state.step;
        let hold = |why| Verdict::Hold { why, needs_units: None, eta_seconds: None };
        if self.state.ratio.mismatch() {
            return hold(Why::WeightNotApplied);
        }
        if step.share <= 0.0 {
            return Verdict::Promote;
        }
        if step.requests.candidate == 0 && step.trials.candidate == 0 {
            return hold(Why::WeightUnverified);
        }
        if step.share >= 1.0 {
            return Verdict::Promote;
        }
        let events = self.policy.events.iter().filter_map(|guard| self.missing_events(guard, next_share));
        let latencies = self.policy.latencies.iter().filter_map(|guard| self.missing_latency(guard));
        let furthest = events.chain(latencies).max_by_key(|missing| missing.needs.unwrap_or(u64::MAX));
        match furthest {
            None => Verdict::Promote,
            Some(Missing { why, needs }) => {
                Verdict::Hold { why, needs_units: needs, eta_seconds: needs.and_then(|n| self.seconds_for(now_ms, n)) }
            }
        }
    }

    /// Seconds for so many candidate units at the present rate.
    pub(super) fn seconds_for(&self, now_ms: u64, units: u64) -> Option<u64> {
        let step = &self.state.step;
        let elapsed = now_ms.saturating_sub(step.began_ms) as f64 / 1e3;
        let seen = step.trials.candidate as f64;
        (seen > 0.0 && elapsed >= 1.0).then(|| (units as f64 * elapsed / seen).ceil() as u64)
    }

    pub(super) fn missing_events(&self, guard: &EventGuard, next_share: f64) -> Option<Missing> {
        let limit = guard.harm_budget? / next_share.clamp(1e-6, 1.0);
        let step = &self.state.step;
        let alpha = self.policy.alpha_promote;
        let increase_at_most = step.increase_at_most(guard.metric, self.state.unresolved, alpha);
        // NaN must hold, never promote.
        if increase_at_most <= limit {
            return None;
        }
        let (events, trials) = (step.events(guard.metric), step.trials);
        let rate = |events: u64, trials: u64| (events as f64 + 0.5) / (trials as f64 + 1.0);
        let apart = rate(events.candidate, trials.candidate) - rate(events.stable, trials.stable);
        let hopeless = trials.candidate >= ENOUGH && apart >= limit;
        let pooled = (events.candidate + events.stable) as f64 / ((trials.candidate + trials.stable) as f64).max(1.0);
        let needs = (!hopeless)
            .then(|| plan::units_to_certify_events(pooled, limit, step.share, alpha))
            .flatten()
            .filter(|units| *units < FARTHEST)
            .map(|units| units.saturating_sub(trials.candidate).max(1));
        Some(Missing { why: Why::HarmBudget { metric: guard.metric, increase_at_most, limit }, needs })
    }

    pub(super) fn missing_latency(&self, guard: &LatencyGuard) -> Option<Missing> {
        let limit = 1.0 + guard.margin?;
        let test = self.state.latencies.get(&guard.metric)?;
        let ratio_at_most = test.ratio_at_most(self.policy.burn_in, self.policy.alpha_promote);
        if ratio_at_most.is_some_and(|ratio| ratio <= limit) {
            return None;
        }
        let why = Why::LatencyMargin { metric: guard.metric, ratio_at_most, limit };
        Some(Missing { why, needs: self.units_for_margin(test, limit) })
    }

    fn units_for_margin(&self, test: &LatencyTest, limit: f64) -> Option<u64> {
        let logs = &test.step;
        let known = logs.n >= self.policy.burn_in;
        let deviation = if logs.n >= 10 { logs.deviation() } else { USUAL_DEVIATION };
        let room = limit.ln() - if known { logs.mean } else { 0.0 };
        if known && room <= 0.0 {
            return None;
        }
        let blocks = plan::blocks_to_certify(room, deviation, BEST_AT, self.policy.alpha_promote)?;
        let needed = blocks.max(self.policy.burn_in).saturating_sub(logs.n).max(1);
        let each = if logs.n == 0 { 1.0 } else { test.step_candidate as f64 / logs.n as f64 };
        Some((needed as f64 * each).ceil() as u64)
    }
}
