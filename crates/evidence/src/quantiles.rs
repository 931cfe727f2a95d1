//! Quantiles of a latency with bounds that hold at every look (Howard & Ramdas, Bernoulli 2022, eq. 9), from a histogram
//! of bounded size. Reported, never gated: a bound on p99 does not even exist below some 3,400 values.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::verdict::Interval;

/// Each bin is so much wider than the one before.
const GROWTH: f64 = 1.02;
const SMALLEST: f64 = 1e-4;
const BINS: u16 = 1_000;

/// Values counted in bins of 2 % width, 0.1 ms to some 11 hours.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Histogram {
    bins: BTreeMap<u16, u64>,
    count: u64,
}

impl Histogram {
    pub(crate) fn add(&mut self, value: f64) {
        if value.is_nan() {
            return;
        }
        let bin = ((value.max(SMALLEST) / SMALLEST).ln() / GROWTH.ln()).floor().min(f64::from(BINS)) as u16;
        *self.bins.entry(bin).or_default() += 1;
        self.count += 1;
    }

    /// Bounds on the quantile `p`, wrong with a chance of at most `alpha` over all looks and both sides. They are edges of
    /// bins on the far side of the value, so the binning only widens them.
    pub(crate) fn bounds(&self, p: f64, alpha: f64) -> Interval {
        if self.count == 0 {
            return Interval::default();
        }
        let reach = reach(p, self.count as f64, alpha);
        let estimate = self.edge(p).map(|bin| value(bin) * GROWTH.sqrt());
        let lower = (p - reach > 0.0).then(|| self.edge(p - reach).map_or(0.0, value));
        let upper = (p + reach < 1.0).then(|| self.edge(p + reach)).flatten();
        Interval {
            lower: Some(lower.unwrap_or(0.0)),
            estimate,
            upper: upper.filter(|bin| *bin < BINS).map(|bin| value(bin + 1)),
        }
    }

    /// The bin in which the share of values first reaches `p`.
    fn edge(&self, p: f64) -> Option<u16> {
        let rank = p * self.count as f64;
        let mut below = 0;
        for (bin, count) in &self.bins {
            below += count;
            if below as f64 >= rank {
                return Some(*bin);
            }
        }
        None
    }
}

fn value(bin: u16) -> f64 {
    if bin == 0 { 0.0 } else { SMALLEST * GROWTH.powi(i32::from(bin)) }
}

/// How far from `p` the true share below a sample quantile may lie after `n` values.
pub(crate) fn reach(p: f64, n: f64, alpha: f64) -> f64 {
    let iterated = (2.1 * n).ln().max(1.0).ln();
    let level = (1.4 * iterated + (10.0 / alpha).ln()) / n;
    1.5 * (p * (1.0 - p) * level).sqrt() + 0.8 * level
}
