//! Bounds that hold at every look: for a share, for a mean, and for the mean of bounded values.

use serde::{Deserialize, Serialize};

use crate::numeric::{bisect, bits, bits_list, ln_beta, ln_normal_cdf, x_ln_y};

/// Prior of the bounds on shares of rare events.
pub(crate) const RARE: (f64, f64) = (1.0, 50.0);

/// Time-uniform bounds on a share after `events` of `trials`, each side wrong with a chance of at most `alpha` together:
/// Robbins' beta mixture. Counts need not be whole, for planning.
pub(crate) fn share_bounds(events: f64, trials: f64, prior: (f64, f64), alpha: f64) -> (f64, f64) {
    if trials <= 0.0 {
        return (0.0, 1.0);
    }
    let (a, b) = prior;
    let missed = (trials - events).max(0.0);
    let mixture = ln_beta(a + events, b + missed) - ln_beta(a, b) - (1.0 / alpha).ln();
    let excess = |share: f64| mixture - x_ln_y(events, share) - x_ln_y(missed, 1.0 - share);
    let estimate = (events / trials).clamp(0.0, 1.0);
    let lower = if events > 0.0 { bisect(estimate, 0.0, excess) } else { 0.0 };
    let upper = if missed > 0.0 { bisect(estimate, 1.0, excess) } else { 1.0 };
    (lower, upper)
}

/// Log of the one-sided normal mixture's evidence after a sum `sum` with intrinsic time `variance`; `rho` is the
/// mixture's parameter. Howard et al. (2021), "Time-uniform, nonparametric, nonasymptotic confidence sequences".
pub(crate) fn one_sided_evidence(sum: f64, variance: f64, rho: f64) -> f64 {
    let spread = variance + rho;
    0.5 * (4.0 * rho / spread).ln() + sum * sum / (2.0 * spread) + ln_normal_cdf(sum / spread.sqrt())
}

/// The mixture's parameter that makes the bound tightest at intrinsic time `best`.
pub(crate) fn best_rho(best: f64, alpha: f64) -> f64 {
    let level = 2.0 * (1.0 / (2.0 * alpha)).ln();
    best / (level + level.ln_1p())
}

/// How far above the mean of `n` values of unit deviation the true mean may still lie (asymptotic confidence sequence of
/// Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas, 2024, by inversion of [`one_sided_evidence`]), in deviations.
pub(crate) fn mean_margin(n: f64, best: f64, alpha: f64) -> f64 {
    if n <= 0.0 {
        return f64::INFINITY;
    }
    let rho = best_rho(best, alpha);
    let level = (1.0 / alpha).ln();
    let farthest = 1e3;
    bisect(0.0, farthest, |margin| one_sided_evidence(margin * n, n, rho) - level)
}

/// Mean and deviation of values as they come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Moments {
    pub(crate) n: u64,
    #[serde(with = "bits")]
    pub(crate) mean: f64,
    #[serde(with = "bits")]
    squares: f64,
}

impl Moments {
    pub(crate) fn add(&mut self, value: f64) {
        self.n += 1;
        let off = value - self.mean;
        self.mean += off / self.n as f64;
        self.squares += off * (value - self.mean);
    }

    pub(crate) fn deviation(&self) -> f64 {
        if self.n == 0 { 0.0 } else { (self.squares / self.n as f64).max(0.0).sqrt() }
    }
}

/// Points of the grid on which [`MeanBounds`] keeps its bets.
const POINTS: usize = 400;

/// Bounds that hold at every look on the mean of values in 0..=1: scores of a judge, similarities, utilisation. Hedged
/// betting of Waudby-Smith & Ramdas, "Estimating means of bounded random variables by betting" (JRSS-B 2024), on a grid
/// of 400 candidate means, widened by one point to each side.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MeanBounds {
    #[serde(with = "bits")]
    alpha: f64,
    n: u64,
    #[serde(with = "bits")]
    sum: f64,
    #[serde(with = "bits")]
    squares: f64,
    /// Log-wealth of betting that the mean is above the point.
    #[serde(with = "bits_list")]
    above: Vec<f64>,
    /// Log-wealth of betting that the mean is below the point.
    #[serde(with = "bits_list")]
    below: Vec<f64>,
    refuted: Vec<bool>,
}

impl MeanBounds {
    /// Bounds that are ever wrong with a chance of at most `alpha`.
    pub fn new(alpha: f64) -> Self {
        let points = POINTS + 1;
        Self {
            alpha: if alpha > 0.0 && alpha < 1.0 { alpha } else { 0.05 },
            n: 0,
            sum: 0.0,
            squares: 0.0,
            above: vec![0.0; points],
            below: vec![0.0; points],
            refuted: vec![false; points],
        }
    }

    /// One more value; those outside 0..=1 are taken as the nearer end, those that are no number are left out.
    pub fn add(&mut self, value: f64) {
        if value.is_nan() {
            return;
        }
        let value = value.clamp(0.0, 1.0);
        let turn = (self.n + 1) as f64;
        let variance = (0.25 + self.squares) / turn;
        let stake = (2.0 * (2.0 / self.alpha).ln() / (variance * turn * turn.ln_1p())).sqrt();
        let limit = (1.0 / self.alpha).ln() + std::f64::consts::LN_2;
        let columns = self.above.iter_mut().zip(&mut self.below).zip(&mut self.refuted);
        for (point, ((above, below), refuted)) in columns.enumerate() {
            let mean = point as f64 / POINTS as f64;
            *above += (stake.min(0.5 / mean.max(f64::MIN_POSITIVE)) * (value - mean)).ln_1p();
            *below += (-stake.min(0.5 / (1.0 - mean).max(f64::MIN_POSITIVE)) * (value - mean)).ln_1p();
            *refuted |= above.max(*below) >= limit;
        }
        self.n += 1;
        self.sum += value;
        let mean = (0.5 + self.sum) / (self.n as f64 + 1.0);
        self.squares += (value - mean) * (value - mean);
    }

    /// How many values were given.
    pub fn count(&self) -> u64 {
        self.n
    }

    /// Lower and upper bound: everything that was never refuted.
    pub fn bounds(&self) -> (f64, f64) {
        let width = 1.0 / POINTS as f64;
        let first = self.refuted.iter().position(|refuted| !refuted);
        let last = self.refuted.iter().rposition(|refuted| !refuted);
        match (first, last) {
            (Some(first), Some(last)) => {
                (((first as f64 - 1.0) * width).max(0.0), ((last as f64 + 1.0) * width).min(1.0))
            }
            _ => {
                let mean = if self.n == 0 { 0.5 } else { self.sum / self.n as f64 };
                ((mean - width).max(0.0), (mean + width).min(1.0))
            }
        }
    }
}
