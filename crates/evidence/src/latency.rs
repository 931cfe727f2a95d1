//! Is the candidate slower? Betting on which of a block's requests went to the candidate, and the bound that promotion
//! asks for.
//!
//! Given a block's latencies and how many of its requests went to the candidate, each choice of that many is equally
//! likely while the arms are equal. A bettor who thinks the candidate slower gives a choice the weight
//! `exp(tilt * sum of its scores)`, where a request's score is the log of its latency, standardised by what the stratum
//! showed before; the wealth is multiplied by the weight of what came to be over the mean weight of all choices. That mean is over choices
//! that are known to be equally likely, so the factor has mean 1 in finite samples, with no assumption on the latencies'
//! shape or course. A tolerance divides the candidate's latencies first; the factor grows with each of them, so a
//! candidate that is faster than tolerated only loses wealth for the bettor.
//!
//! It serves the end of a sequential sign test by betting (Shekhar & Ramdas, arXiv 2112.09162), which bets linearly on the
//! mean sign within pairs; betting on scores by their permutation distribution finds a slower candidate sooner.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::blocks::{Reading, Scored};
use crate::bounds::{Moments, mean_margin};
use crate::numeric::{bits, pairs};
use crate::policy::TILT_GRID;
use crate::sample::{Arm, Stratum};
use crate::wealth::Wealth;

/// Matched blocks at which the promotion bound is tightest.
pub(crate) const BEST_AT: f64 = 200.0;
/// Latencies below this are taken as this in the mean of logs, seconds.
const SHORTEST: f64 = 1e-5;

/// Scores beyond this are taken as this.
const FARTHEST: f64 = 2.5;
/// Values of a stratum before its scores are standardised by them; until then the order within the block has to do.
const ENOUGH: u64 = 30;
/// How many values a stratum's level remembers, about.
const REMEMBERED: u64 = 200;
/// Deviations below this are taken as this.
const STEADIEST: f64 = 0.02;
/// Strata whose level is kept.
const STRATA: usize = 1_024;

/// Mean and variance of the logs of a stratum's latencies, the old ones forgotten bit by bit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Level {
    n: u64,
    #[serde(with = "bits")]
    mean: f64,
    #[serde(with = "bits")]
    variance: f64,
}

impl Level {
    fn add(&mut self, log: f64) {
        self.n = (self.n + 1).min(REMEMBERED);
        let weight = 1.0 / self.n as f64;
        let off = log - self.mean;
        self.mean += weight * off;
        self.variance = (1.0 - weight) * (self.variance + weight * off * off);
    }
}

/// The test of one latency.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct LatencyTest {
    #[serde(with = "bits")]
    pub(crate) tolerance: f64,
    pub(crate) wealth: Wealth,
    #[serde(with = "pairs")]
    levels: BTreeMap<Stratum, Level>,
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
            wealth: Wealth::new(TILT_GRID.len(), first_span),
            levels: BTreeMap::new(),
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
    pub(crate) fn block(&mut self, block: &Scored, longest: f64) -> bool {
        let of = |arm: Arm| block.members.iter().filter(move |member| member.0 == arm).map(|member| member.1);
        let logs: Vec<(bool, f64)> = block
            .members
            .iter()
            .filter_map(|(arm, reading)| {
                let candidate = *arm == Arm::Candidate;
                let log = reading.log(SHORTEST)? - if candidate { self.tolerance.ln_1p() } else { 0.0 };
                Some((candidate, log))
            })
            .collect();
        let chosen = logs.iter().filter(|reading| reading.0).count();
        if chosen == 0 || chosen == logs.len() {
            return false;
        }
        let scores = self.scores(block.stratum, &logs);
        self.wealth.add(TILT_GRID.iter().map(|tilt| log_factor(&scores, chosen, *tilt)));
        let (candidate, candidates) = mean_log(of(Arm::Candidate), |at_least| at_least.max(longest));
        let (stable, stables) = mean_log(of(Arm::Stable), |at_least| at_least);
        self.compared.0 += stables;
        self.compared.1 += candidates;
        self.step_candidate += candidates;
        self.step.add(candidate - stable);
        self.whole.add(candidate - stable);
        true
    }

    /// What each reading adds to the belief that it is a slower candidate's. Known before the block's arms are: it uses
    /// earlier blocks, and all readings of this one alike.
    fn scores(&mut self, stratum: Stratum, logs: &[(bool, f64)]) -> Vec<(bool, f64)> {
        let level = self.levels.get(&stratum).copied().unwrap_or_default();
        let standard = level.variance.sqrt().max(STEADIEST);
        let score = |log: f64| {
            if level.n >= ENOUGH {
                return ((log - level.mean) / standard).clamp(-FARTHEST, FARTHEST);
            }
            let above = logs.iter().filter(|other| other.1 < log).count() as f64;
            let below = logs.iter().filter(|other| other.1 > log).count() as f64;
            // As spread as standardised values are: a rank's variance is a third.
            (above - below) / (logs.len() as f64) * 3_f64.sqrt()
        };
        let scores = logs.iter().map(|(candidate, log)| (*candidate, score(*log))).collect();
        if self.levels.len() < STRATA || self.levels.contains_key(&stratum) {
            let level = self.levels.entry(stratum).or_default();
            for (_, log) in logs {
                level.add(*log);
            }
        }
        scores
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

/// Log of the weight of the choice that came to be over the mean weight of all choices of as many.
pub(crate) fn log_factor(scores: &[(bool, f64)], chosen: usize, tilt: f64) -> f64 {
    let own: f64 = scores.iter().filter(|score| score.0).map(|score| score.1).sum();
    // means[c]: mean weight of all choices of c among the scores so far.
    let mut means = vec![0.0; chosen + 1];
    if let Some(none) = means.first_mut() {
        *none = 1.0;
    }
    for (before, (_, score)) in scores.iter().enumerate() {
        let weight = (tilt * score).exp();
        let so_far = before as f64 + 1.0;
        for count in (1..=chosen.min(before + 1)).rev() {
            let taken = count as f64 / so_far;
            let fewer = means.get(count - 1).copied().unwrap_or_default();
            if let Some(mean) = means.get_mut(count) {
                *mean = *mean * (1.0 - taken) + fewer * weight * taken;
            }
        }
    }
    tilt * own - means.last().copied().unwrap_or(1.0).ln()
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
