//! Is the weight that was set the weight that requests meet? A sample-ratio test of every newly seen unit.
//!
//! With one weight it is the Beta form of Lindon & Malek (2022): a bettor who predicts the candidate's share by
//! `Beta(k w, k (1 - w))` and what was seen since, k = 100. When the weight changes, what was learned is carried over as a
//! shift of the log-odds, worth at most k units. Every prediction is made before the unit is seen, so the wealth is an
//! exact martingale while the weights are applied, whatever their course.

use serde::{Deserialize, Serialize};

use crate::numeric::{bits, ln_beta};
use crate::sample::Arm;

/// Units that the prior belief in the weight is worth.
const PRIOR_UNITS: f64 = 100.0;
/// A change of the weight below this part of it does not begin a new epoch.
const SAME_WEIGHT: f64 = 0.02;

/// The test, over the whole roll-out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SampleRatio {
    #[serde(with = "bits")]
    ln_e: f64,
    /// Units on the candidate beyond those expected, as the prediction uses them.
    #[serde(with = "bits")]
    surplus: f64,
    /// Units that the surplus was seen in.
    #[serde(with = "bits")]
    seen: f64,
    #[serde(with = "bits")]
    share: f64,
    epoch_units: u64,
    units: u64,
    observed: u64,
    #[serde(with = "bits")]
    expected: f64,
    mismatch: bool,
}

impl SampleRatio {
    pub(crate) fn new() -> Self {
        Self {
            ln_e: 0.0,
            surplus: 0.0,
            seen: 0.0,
            share: 0.0,
            epoch_units: 0,
            units: 0,
            observed: 0,
            expected: 0.0,
            mismatch: false,
        }
    }

    /// A unit met for the first time. True: the mismatch is proved by it.
    pub(crate) fn unit(&mut self, arm: Arm, share: f64, alpha: f64) -> bool {
        if !(share > 0.0 && share < 1.0) {
            return false;
        }
        let changed = (share - self.share).abs() > SAME_WEIGHT * self.share.min(1.0 - self.share);
        if self.share == 0.0 || changed {
            self.begin_epoch(share);
        }
        let hit = arm == Arm::Candidate;
        let predicted = share + self.surplus / (PRIOR_UNITS + self.seen);
        let predicted = predicted.clamp(share / 50.0, 1.0 - (1.0 - share) / 50.0);
        self.ln_e += if hit { (predicted / share).ln() } else { ((1.0 - predicted) / (1.0 - share)).ln() };
        self.surplus += f64::from(u8::from(hit)) - share;
        self.seen += 1.0;
        self.epoch_units += 1;
        self.units += 1;
        self.observed += u64::from(hit);
        self.expected += share;
        let proved = self.ln_e >= -alpha.ln();
        let first = proved && !self.mismatch;
        self.mismatch |= proved;
        first
    }

    fn begin_epoch(&mut self, share: f64) {
        if self.share > 0.0 {
            let kept = self.seen.min(PRIOR_UNITS);
            let odds = share * (1.0 - share) / (self.share * (1.0 - self.share));
            self.surplus *= if self.seen > 0.0 { kept / self.seen * odds } else { 0.0 };
            self.seen = kept;
        }
        self.share = share;
        self.epoch_units = 0;
    }

    /// Whether the weight is found not to be applied.
    pub(crate) fn mismatch(&self) -> bool {
        self.mismatch
    }

    pub(crate) fn ln_e(&self) -> f64 {
        self.ln_e
    }

    /// Units in all, on the candidate, and expected there.
    pub(crate) fn counts(&self) -> (u64, u64, f64) {
        (self.units, self.observed, self.expected)
    }

    /// Whether a candidate that got nothing at the present weight would have been noticed by now.
    pub(crate) fn verified(&self, alpha: f64) -> bool {
        if self.share == 0.0 {
            return false;
        }
        let (a, b) = (PRIOR_UNITS * self.share, PRIOR_UNITS * (1.0 - self.share));
        let units = self.epoch_units as f64;
        let absent = ln_beta(a, b + units) - ln_beta(a, b) - units * (-self.share).ln_1p();
        !self.mismatch && absent >= -alpha.ln()
    }
}
