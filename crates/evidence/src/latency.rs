//! Is the candidate slower? Betting on the order of latencies within blocks, and the bound that promotion asks for.
//!
//! A sequential sign test by betting (Shekhar & Ramdas, arXiv 2112.09162), on the mean sign over all pairs of one
//! candidate and one stable request of a block: exact in finite samples, with no assumption on the latencies' shape.

use serde::{Deserialize, Serialize};

use crate::blocks::Reading;
use crate::bounds::{Moments, mean_margin};
use crate::numeric::bits;
use crate::policy::STAKE_GRID;
use crate::sample::Arm;
use crate::wealth::Wealth;

/// Matched blocks at which the promotion bound is tightest.
pub(crate) const BEST_AT: f64 = 200.0;
/// Latencies below this are taken as this in the mean of logs, seconds.
const SHORTEST: f64 = 1e-5;

/// The test of one latency.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct LatencyTest {
    #[serde(with = "bits")]
    pub(crate) tolerance: f64,
    pub(crate) wealth: Wealth,
    /// Values compared over the whole roll-out: stable, candidate.
    pub(crate) compared: (u64, u64),
    /// Log ratios within the step.
    pub(crate) step: Moments,
    /// Candidate values within the step.
    pub(crate) step_candidate: u64,
    /// Log ratios over the whole roll-out.
    pub(crate) whole: Moments,
}

impl LatencyTest {
    pub(crate) fn new(tolerance: f64, first_span: u64) -> Self {
        let tolerance = if tolerance.is_finite() { tolerance.clamp(0.0, 100.0) } else { 0.0 };
        Self {
            tolerance,
            wealth: Wealth::new(STAKE_GRID.len(), first_span),
            compared: (0, 0),
            step: Moments::default(),
            step_candidate: 0,
            whole: Moments::default(),
        }
    }

    pub(crate) fn begin_step(&mut self) {
        self.step = Moments::default();
        self.step_candidate = 0;
    }

    /// A block whose members all have a reading. False: nothing in it can be compared.
    pub(crate) fn block(&mut self, members: &[(Arm, Reading)], longest: f64) -> bool {
        let of = |arm: Arm| members.iter().filter(move |member| member.0 == arm).map(|member| member.1);
        let (mut sum, mut pairs) = (0.0, 0.0);
        for candidate in of(Arm::Candidate).filter(|reading| *reading != Reading::Missing) {
            for stable in of(Arm::Stable).filter(|reading| *reading != Reading::Missing) {
                sum += slower(candidate, stable, 1.0 + self.tolerance);
                pairs += 1.0;
            }
        }
        if pairs == 0.0 {
            return false;
        }
        let gain = sum / pairs;
        self.wealth.add(STAKE_GRID.iter().map(|stake| (stake * gain).ln_1p()));
        let (candidate, candidates) = mean_log(of(Arm::Candidate), |at_least| at_least.max(longest));
        let (stable, stables) = mean_log(of(Arm::Stable), |at_least| at_least);
        self.compared.0 += stables;
        self.compared.1 += candidates;
        self.step_candidate += candidates;
        self.step.add(candidate - stable);
        self.whole.add(candidate - stable);
        true
    }

    /// The largest ratio of geometric means that the step's blocks leave possible; `None` before the burn-in.
    pub(crate) fn ratio_at_most(&self, burn_in: u64, alpha: f64) -> Option<f64> {
        upper_ratio(&self.step, burn_in, alpha)
    }
}

/// The largest ratio that the log ratios leave possible.
pub(crate) fn upper_ratio(logs: &Moments, burn_in: u64, alpha: f64) -> Option<f64> {
    (logs.n >= burn_in.max(2))
        .then(|| (logs.mean + logs.deviation() * mean_margin(logs.n as f64, BEST_AT, alpha)).exp())
}

/// 1 if the candidate was surely slower than stable times `factor`, -1 if surely faster, 0 if equal or not known.
fn slower(candidate: Reading, stable: Reading, factor: f64) -> f64 {
    match (candidate, stable) {
        (Reading::Value(x), Reading::Value(y)) if x > factor * y => 1.0,
        (Reading::Value(x), Reading::Value(y)) if x < factor * y => -1.0,
        (Reading::AtLeast(x), Reading::Value(y)) if x >= factor * y => 1.0,
        (Reading::Value(x), Reading::AtLeast(y)) if x <= factor * y => -1.0,
        _ => 0.0,
    }
}

/// Mean of logs, and of how many. `unresolved`: what to take for a latency of which only a lower bound is known.
fn mean_log(readings: impl Iterator<Item = Reading>, unresolved: impl Fn(f64) -> f64) -> (f64, u64) {
    let (sum, count) = readings.fold((0.0, 0), |(sum, count), reading| match reading {
        Reading::Value(seconds) => (sum + seconds.max(SHORTEST).ln(), count + 1),
        Reading::AtLeast(seconds) => (sum + unresolved(seconds).max(SHORTEST).ln(), count + 1),
        Reading::Awaited | Reading::Missing => (sum, count),
    });
    (if count == 0 { 0.0 } else { sum / count as f64 }, count)
}
