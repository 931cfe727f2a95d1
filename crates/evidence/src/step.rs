//! What is counted within the present step, for the bounds that promote: the weight is one, so nothing is compared across
//! steps between which the base rate may have moved.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::bounds::{RARE, share_bounds};
use crate::numeric::{bits, mix, pairs};
use crate::quantiles::Histogram;
use crate::sample::{Arm, Arrival, EventMetric, LatencyMetric, Sample};
use crate::units::{Known, Units};

/// Shares nearer to each other than this are one.
const SAME_SHARE: f64 = 1e-6;

/// One number for each arm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Both {
    pub(crate) stable: u64,
    pub(crate) candidate: u64,
}

impl Both {
    pub(crate) fn add(&mut self, arm: Arm) {
        match arm {
            Arm::Stable => self.stable += 1,
            Arm::Candidate => self.candidate += 1,
        }
    }

    pub(crate) fn candidate_share(self) -> Option<f64> {
        let all = self.stable + self.candidate;
        (all > 0).then(|| self.candidate as f64 / all as f64)
    }
}

/// Counts of a step. A session is tried once in a step, by one of its requests: which one, a coin says that knows only
/// their numbers, so that later turns count too.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Step {
    pub(crate) began_ms: u64,
    #[serde(with = "bits")]
    pub(crate) share: f64,
    pub(crate) requests: Both,
    pub(crate) units: Both,
    pub(crate) trials: Both,
    tried: Units,
    events: BTreeMap<EventMetric, Both>,
    #[serde(with = "pairs")]
    histograms: BTreeMap<(LatencyMetric, Arm), Histogram>,
}

/// Whether this request may stand for its session.
pub(crate) fn represents(arrival: &Arrival) -> bool {
    !arrival.keyed || mix(arrival.unit ^ mix(arrival.request)) & 1 == 0
}

impl Step {
    pub(crate) fn new(began_ms: u64, share: f64, remembered: u32) -> Self {
        Self {
            began_ms,
            share,
            requests: Both::default(),
            units: Both::default(),
            trials: Both::default(),
            tried: Units::new(remembered),
            events: BTreeMap::new(),
            histograms: BTreeMap::new(),
        }
    }

    /// Whether a request was assigned within this step.
    pub(crate) fn holds(&self, arrival: &Arrival) -> bool {
        arrival.at_ms >= self.began_ms && (arrival.share - self.share).abs() < SAME_SHARE
    }

    /// A finished request that says something about its arm.
    pub(crate) fn observe(&mut self, sample: &Sample) {
        let arrival = &sample.arrival;
        if !self.holds(arrival) || !represents(arrival) {
            return;
        }
        if arrival.keyed && self.tried.take(arrival.unit) != Known::New {
            return;
        }
        self.trials.add(arrival.arm);
        let outcome = sample.outcome();
        for metric in EventMetric::ALL.into_iter().filter(|metric| outcome.contains(*metric)) {
            self.events.entry(metric).or_default().add(arrival.arm);
        }
        if !arrival.warm || sample.first_attempt_failed {
            return;
        }
        for (metric, seconds) in [(LatencyMetric::Ttft, sample.ttft), (LatencyMetric::Tpot, sample.tpot)] {
            if let Some(seconds) = seconds.filter(|seconds| seconds.is_finite() && *seconds >= 0.0) {
                self.histograms.entry((metric, arrival.arm)).or_default().add(seconds);
            }
        }
    }

    pub(crate) fn events(&self, metric: EventMetric) -> Both {
        self.events.get(&metric).copied().unwrap_or_default()
    }

    pub(crate) fn histogram(&self, metric: LatencyMetric, arm: Arm) -> Option<&Histogram> {
        self.histograms.get(&(metric, arm))
    }

    /// The largest increase of the event's share that is still possible; `unresolved` candidate requests count as events.
    pub(crate) fn increase_at_most(&self, metric: EventMetric, unresolved: u64, alpha: f64) -> f64 {
        let events = self.events(metric);
        let unresolved = if metric.is_failure() { unresolved } else { 0 };
        increase_at_most(
            ((events.candidate + unresolved) as f64, (self.trials.candidate + unresolved) as f64),
            (events.stable as f64, self.trials.stable as f64),
            alpha,
        )
    }
}

/// Upper bound of the candidate's share of events less the lower bound of stable's; each `(events, trials)`.
pub(crate) fn increase_at_most(candidate: (f64, f64), stable: (f64, f64), alpha: f64) -> f64 {
    let (_, upper) = share_bounds(candidate.0, candidate.1, RARE, alpha / 2.0);
    let (lower, _) = share_bounds(stable.0, stable.1, RARE, alpha / 2.0);
    upper - lower
}
