//! How long the judge will need: what `rollout plan` prints before anything starts. Expected costs under stated
//! conditions, not promises: half of all runs take longer.

use serde::{Deserialize, Serialize};

use crate::blocks::block_size;
use crate::bounds::mean_margin;
use crate::latency::BEST_AT;
use crate::policy::{Policy, RATIO_GRID, TILT_GRID};
use crate::step::increase_at_most;
use crate::wealth::Wealth;

/// What a decision costs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Units on the candidate until then, expected.
    pub candidate_units: u64,
    /// Units on both arms.
    pub units: u64,
}

impl Cost {
    fn new(candidate_units: f64, share: f64) -> Option<Self> {
        let units = candidate_units / share;
        (units.is_finite() && units < 1e15)
            .then(|| Self { candidate_units: candidate_units.ceil() as u64, units: units.ceil() as u64 })
    }

    /// Seconds until then at so many units a second over both arms; `None` without traffic.
    pub fn seconds(&self, units_per_second: f64) -> Option<f64> {
        (units_per_second > 0.0).then(|| self.units as f64 / units_per_second)
    }
}

/// Units until an event `ratio` times as likely on the candidate rolls it back, at the candidate's `share` and stable's
/// `base_rate` of events per unit. `None`: it is within the tolerance and will not be found, or an argument is out of
/// range.
pub fn detect_events(policy: &Policy, base_rate: f64, ratio: f64, tolerance: f64, share: f64) -> Option<Cost> {
    if !(base_rate > 0.0 && base_rate <= 1.0 && ratio > tolerance && share > 0.0 && share < 1.0) {
        return None;
    }
    let chance = |ratio: f64| share * ratio / (share * ratio + 1.0 - share);
    let (true_chance, tolerated) = (chance(ratio), chance(tolerance));
    let bets = RATIO_GRID.into_iter().filter(|bet| *bet > tolerance);
    let growth = |bet: f64| {
        let p = chance(bet);
        true_chance * (p / tolerated).ln() + (1.0 - true_chance) * ((1.0 - p) / (1.0 - tolerated)).ln()
    };
    let best = bets.clone().map(growth).fold(0.0, f64::max);
    if best <= 0.0 {
        return None;
    }
    let events = (whole_limit(policy) + (bets.count() as f64).ln()) / best;
    let per_unit = base_rate * (1.0 - share) + (base_rate * ratio).min(1.0) * share;
    Cost::new((events / per_unit).max(1.0) * share, share)
}

/// Units until a latency `ratio` times stable's rolls the candidate back, when the logs of latencies of one stratum
/// deviate by `deviation` (0.5 is usual). `None`: within the tolerance.
pub fn detect_latency(policy: &Policy, ratio: f64, tolerance: f64, deviation: f64, share: f64) -> Option<Cost> {
    if !(ratio > 1.0 + tolerance && deviation > 0.0 && share > 0.0 && share < 1.0) {
        return None;
    }
    let size = block_size(share) as f64;
    let mixed = 1.0 - share.powf(size) - (1.0 - share).powf(size);
    let candidates = share * size / mixed;
    let stables = (size - candidates).max(1.0);
    let shift = (ratio / (1.0 + tolerance)).ln() / deviation;
    // Of a sum of the candidate's standardised scores over all choices.
    let spread = candidates * stables / size;
    let growth = |tilt: f64| tilt * shift * spread - 0.5 * tilt * tilt * spread;
    let best = TILT_GRID.into_iter().map(growth).fold(0.0, f64::max);
    if best <= 0.0 {
        return None;
    }
    let blocks = (whole_limit(policy) + (TILT_GRID.len() as f64).ln()) / best;
    Cost::new((blocks * candidates).max(1.0), share)
}

/// Units until the harm budget is certified for `next_share`, if both arms meet the event with `base_rate`.
pub fn certify_events(policy: &Policy, base_rate: f64, harm_budget: f64, share: f64, next_share: f64) -> Option<Cost> {
    let limit = harm_budget / next_share.clamp(1e-6, 1.0);
    let units = units_to_certify_events(base_rate, limit, share, policy.alpha_promote)?;
    Cost::new(units as f64, share)
}

/// Units until a latency margin is certified, if both arms are equally fast and log ratios of blocks deviate by
/// `deviation`.
pub fn certify_latency(policy: &Policy, margin: f64, deviation: f64, share: f64) -> Option<Cost> {
    if !(share > 0.0 && share < 1.0) {
        return None;
    }
    let blocks = blocks_to_certify(margin.ln_1p(), deviation, BEST_AT, policy.alpha_promote)?;
    let size = block_size(share) as f64;
    let mixed = 1.0 - share.powf(size) - (1.0 - share).powf(size);
    Cost::new(blocks.max(policy.burn_in) as f64 * share * size / mixed, share)
}

/// Candidate units after which an increase of `limit` is ruled out, both arms meeting events at `rate`.
pub(crate) fn units_to_certify_events(rate: f64, limit: f64, share: f64, alpha: f64) -> Option<u64> {
    if !(limit > 0.0 && share > 0.0 && share < 1.0) || rate.is_nan() {
        return None;
    }
    let rate = rate.clamp(0.0, 1.0);
    let excess = |units: f64| {
        let stable = units * (1.0 - share) / share;
        increase_at_most((rate * units, units), (rate * stable, stable), alpha) - limit
    };
    smallest(excess)
}

/// Blocks after which the mean of logs lies within `room`, when they deviate by `deviation`.
pub(crate) fn blocks_to_certify(room: f64, deviation: f64, best: f64, alpha: f64) -> Option<u64> {
    if !(room > 0.0 && deviation >= 0.0) {
        return None;
    }
    smallest(|blocks| deviation * mean_margin(blocks, best, alpha) - room)
}

/// The smallest whole number at which a falling function is no longer above 0, up to 10^12.
fn smallest(excess: impl Fn(f64) -> f64) -> Option<u64> {
    let mut high = 1_u64;
    while excess(high as f64) > 0.0 {
        high = high.checked_mul(2).filter(|high| *high <= 1 << 40)?;
    }
    let mut low = high / 2;
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if excess(middle as f64) > 0.0 {
            low = middle;
        } else {
            high = middle;
        }
    }
    Some(high)
}

fn whole_limit(policy: &Policy) -> f64 {
    Wealth::whole_limit(policy.alpha / policy.guards().max(1) as f64)
}
