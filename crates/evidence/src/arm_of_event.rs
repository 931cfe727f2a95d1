//! On which arm do events fall? The primary test for errors and everything else that happens or not.
//!
//! Given that an event happened to one of two arms whose shares are `w` and `1 - w`, it fell on the candidate with
//! probability `w r / (w r + 1 - w)`, where `r` is the ratio of the arms' risks: whatever the base rate is, and however
//! it moves with time. Lindon & Malek, "Anytime-Valid Inference for Multinomial Count Data" (NeurIPS 2022); shares that
//! vary and the one-sided grid are an extension, valid because the expected factor grows with the chance of the
//! candidate and is 1 at the tolerance.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::numeric::{bisect, log_sum};
use crate::policy::RATIO_GRID;
use crate::sample::Arm;
use crate::units::{Known, Units};
use crate::verdict::Interval;
use crate::wealth::Wealth;

/// Shares nearer to 0 or 1 than this are taken as this.
const SHARE_MARGIN: f64 = 1e-4;
/// Shares are kept to this many parts of 1 in the table that ratios are estimated from.
const SHARE_PARTS: f64 = 10_000.0;

/// The chance that an event falls on the candidate.
fn chance(share: f64, ratio: f64) -> f64 {
    share * ratio / (share * ratio + 1.0 - share)
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Fell {
    candidate: u64,
    all: u64,
}

/// The test of one event metric.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct EventTest {
    #[serde(with = "crate::numeric::bits")]
    pub(crate) tolerance: f64,
    pub(crate) wealth: Wealth,
    units: Units,
    table: BTreeMap<u16, Fell>,
}

impl EventTest {
    pub(crate) fn new(tolerance: f64, first_span: u64, remembered: u32) -> Self {
        let tolerance = if tolerance.is_finite() { tolerance.clamp(0.01, 19.0) } else { 1.0 };
        let bets = RATIO_GRID.iter().filter(|ratio| **ratio > tolerance).count();
        Self { tolerance, wealth: Wealth::new(bets, first_span), units: Units::new(remembered), table: BTreeMap::new() }
    }

    /// An event on `arm`; `session`: the session it belongs to, which counts only once. False: it did not count.
    pub(crate) fn event(&mut self, session: Option<u64>, arm: Arm, share: f64) -> bool {
        if let Some(session) = session
            && self.units.take(session) != Known::New
        {
            return false;
        }
        let share = share.clamp(SHARE_MARGIN, 1.0 - SHARE_MARGIN);
        let candidate = arm == Arm::Candidate;
        let tolerated = chance(share, self.tolerance);
        let tolerance = self.tolerance;
        self.wealth.add(RATIO_GRID.iter().filter(|ratio| **ratio > tolerance).map(|ratio| {
            let bet = chance(share, *ratio);
            if candidate { (bet / tolerated).ln() } else { ((1.0 - bet) / (1.0 - tolerated)).ln() }
        }));
        let fell = self.table.entry((share * SHARE_PARTS).round() as u16).or_default();
        fell.all += 1;
        fell.candidate += u64::from(candidate);
        true
    }

    /// Units that met the event: on stable, on the candidate.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let (candidate, all) = self.table.values().fold((0, 0), |(c, n), fell| (c + fell.candidate, n + fell.all));
        (all - candidate, candidate)
    }

    /// Confidence sequence for the ratio of risks: every ratio that a two-sided mixture has not refuted at `alpha`.
    pub(crate) fn ratio(&self, alpha: f64) -> Interval {
        let (stable, candidate) = self.counts();
        if stable + candidate == 0 {
            return Interval::default();
        }
        let grid = RATIO_GRID.iter().flat_map(|ratio| [*ratio, 1.0 / ratio]).chain([1.0]);
        let likelihoods: Vec<f64> = grid.map(|ratio| self.log_likelihood(ratio.ln())).collect();
        let mixture = log_sum(&likelihoods) - (likelihoods.len() as f64).ln();
        let excess = |log_ratio: f64| mixture - self.log_likelihood(log_ratio) - (1.0 / alpha).ln();
        const FAR: f64 = 14.0;
        let estimate = match (stable, candidate) {
            (_, 0) => -FAR,
            (0, _) => FAR,
            _ => bisect(-FAR, FAR, |log_ratio| self.expected_on_candidate(log_ratio) - candidate as f64),
        };
        Interval {
            lower: Some(if candidate == 0 { 0.0 } else { bisect(estimate, -FAR, excess).exp() }),
            estimate: match (stable, candidate) {
                (_, 0) => Some(0.0),
                (0, _) => None,
                _ => Some(estimate.exp()),
            },
            upper: (stable > 0).then(|| bisect(estimate, FAR, excess).exp()),
        }
    }

    fn log_likelihood(&self, log_ratio: f64) -> f64 {
        self.table
            .iter()
            .map(|(parts, fell)| {
                let p = chance(f64::from(*parts) / SHARE_PARTS, log_ratio.exp());
                crate::numeric::x_ln_y(fell.candidate as f64, p)
                    + crate::numeric::x_ln_y((fell.all - fell.candidate) as f64, 1.0 - p)
            })
            .sum()
    }

    fn expected_on_candidate(&self, log_ratio: f64) -> f64 {
        self.table
            .iter()
            .map(|(parts, fell)| fell.all as f64 * chance(f64::from(*parts) / SHARE_PARTS, log_ratio.exp()))
            .sum()
    }
}
