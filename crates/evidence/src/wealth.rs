//! Wealth of a bettor against the candidate's innocence: a mixture over a grid of bets, and the same bets in a
//! Shiryaev–Roberts e-detector, which forgets how long all was well.
//!
//! Howard, Ramdas, McAuliffe, Sekhon (2021) for mixtures; Shin, Ramdas, Rinaldo (arXiv 2203.03532) for e-detectors.

use serde::{Deserialize, Serialize};

use crate::numeric::{bits_list, log_add, log_sum};

/// The part of the error budget that the detector may spend. Little: it finds what begins late, after long waits anyway.
const DETECTOR_PART: f64 = 0.1;

/// Which half of the wealth reached its limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Reached {
    pub(crate) detector: bool,
    pub(crate) log_evidence: f64,
    pub(crate) limit: f64,
}

/// Log-wealth of each bet. The mixture over bets starts at 1 and, while the candidate is no worse than tolerated, is a
/// non-negative supermartingale: it ever reaches `x` with a chance of at most `1/x`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Wealth {
    #[serde(with = "bits_list")]
    whole: Vec<f64>,
    #[serde(with = "bits_list")]
    detector: Vec<f64>,
    first_span: u64,
    span: u32,
    in_span: u64,
}

impl Wealth {
    pub(crate) fn new(bets: usize, first_span: u64) -> Self {
        let prior = -(bets.max(1) as f64).ln();
        Self {
            whole: vec![prior; bets],
            detector: vec![f64::NEG_INFINITY; bets],
            first_span: first_span.max(1),
            span: 0,
            in_span: 0,
        }
    }

    /// One more outcome: `factors` are the logs of what each bet's wealth is multiplied by.
    pub(crate) fn add(&mut self, factors: impl Iterator<Item = f64>) {
        if self.in_span >= self.span_length() {
            self.span = self.span.saturating_add(1).min(40);
            self.in_span = 0;
            self.detector.fill(f64::NEG_INFINITY);
        }
        self.in_span += 1;
        let prior = -(self.whole.len().max(1) as f64).ln();
        for ((whole, detector), factor) in self.whole.iter_mut().zip(&mut self.detector).zip(factors) {
            *whole += factor;
            *detector = log_add(*detector, prior) + factor;
        }
    }

    /// Log of the mixture over the whole roll-out.
    pub(crate) fn ln_whole(&self) -> f64 {
        log_sum(&self.whole)
    }

    /// Log of the e-detector; minus infinity before the first outcome of a span.
    pub(crate) fn ln_detector(&self) -> f64 {
        log_sum(&self.detector)
    }

    fn span_length(&self) -> u64 {
        self.first_span.saturating_mul(1 << self.span)
    }

    /// What the whole must reach for a chance of error `alpha` shared with the detector.
    pub(crate) fn whole_limit(alpha: f64) -> f64 {
        -((1.0 - DETECTOR_PART) * alpha).ln()
    }

    /// What the detector must reach: `P(reach A within n) <= n / A`, with n the span and half of what is left of the
    /// error budget for each span.
    pub(crate) fn detector_limit(&self, alpha: f64) -> f64 {
        (self.span_length() as f64).ln() + f64::from(self.span + 1) * std::f64::consts::LN_2
            - (DETECTOR_PART * alpha).ln()
    }

    /// Whether either half has reached its limit.
    pub(crate) fn reached(&self, alpha: f64) -> Option<Reached> {
        let (whole, limit) = (self.ln_whole(), Self::whole_limit(alpha));
        if whole >= limit {
            return Some(Reached { detector: false, log_evidence: whole, limit });
        }
        let (detector, limit) = (self.ln_detector(), self.detector_limit(alpha));
        (detector >= limit).then_some(Reached { detector: true, log_evidence: detector, limit })
    }
}
