//! What the judge says, and the numbers it says it by.

use serde::{Deserialize, Serialize};

use crate::sample::{EventMetric, LatencyMetric};

/// What a verdict is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", untagged)]
pub enum Metric {
    /// Something that happens or not.
    Event(EventMetric),
    /// A latency.
    Latency(LatencyMetric),
}

impl Metric {
    /// The word, as in policies, reports and metric labels.
    pub fn word(self) -> &'static str {
        match self {
            Self::Event(metric) => metric.word(),
            Self::Latency(metric) => metric.word(),
        }
    }
}

/// By which reasoning something was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Formula {
    /// Arm-of-event e-process over the whole roll-out.
    ArmOfEvent,
    /// The same factors in a Shiryaev–Roberts e-detector: something began late.
    ArmOfEventDetector,
    /// Betting, within blocks of one stratum and time, on which requests were the candidate's.
    PairedBetting,
    /// The same bets in a Shiryaev–Roberts e-detector.
    PairedBettingDetector,
    /// The breaker: many failures among the candidate's last requests, few on stable.
    Breaker,
    /// Sample-ratio test: the weight is not what is applied.
    SampleRatio,
}

impl Formula {
    /// Its name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::ArmOfEvent => "arm-of-event e-process",
            Self::ArmOfEventDetector => "arm-of-event e-detector (late onset)",
            Self::PairedBetting => "stratified paired betting",
            Self::PairedBettingDetector => "paired betting e-detector (late onset)",
            Self::Breaker => "breaker",
            Self::SampleRatio => "sample-ratio test",
        }
    }
}

/// Proof against the candidate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alarm {
    /// What was found worse; `None` for the sample-ratio test.
    pub metric: Option<Metric>,
    /// How it was found.
    pub formula: Formula,
    /// The log of the evidence; for the breaker, minus the log of the chance.
    pub log_evidence: f64,
    /// What it had to reach.
    pub threshold: f64,
    /// When, milliseconds of the gateway's monotonic clock.
    pub at_ms: u64,
    /// The numbers in one sentence.
    pub detail: String,
}

/// Why the judge says neither.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "why")]
pub enum Why {
    /// The weight that requests meet is not the one that was set: nothing is judged until it is.
    WeightNotApplied,
    /// No unit has reached the candidate in this step.
    WeightUnverified,
    /// The harm budget is not yet certified.
    HarmBudget {
        /// The event.
        metric: EventMetric,
        /// The largest increase of the share that is still possible.
        increase_at_most: f64,
        /// What it must be below.
        limit: f64,
    },
    /// A latency margin is not yet ruled out.
    LatencyMargin {
        /// The latency.
        metric: LatencyMetric,
        /// The largest ratio that is still possible; `None` before the burn-in.
        ratio_at_most: Option<f64>,
        /// What it must be below.
        limit: f64,
    },
}

/// What the evidence says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "verdict")]
pub enum Verdict {
    /// The candidate is worse.
    RollBack(Alarm),
    /// Every promotion margin of the next share is certified.
    Promote,
    /// Neither. A legitimate answer: it says what is missing.
    Hold {
        /// The margin furthest from being certified.
        why: Why,
        /// About so many more candidate units would certify it if the arms are as they look; `None`: they look too
        /// different for any number to do.
        needs_units: Option<u64>,
        /// Seconds until then at the present rate.
        eta_seconds: Option<u64>,
    },
}

/// Lower bound, estimate and upper bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower bound.
    pub lower: Option<f64>,
    /// Best guess.
    pub estimate: Option<f64>,
    /// Upper bound; `None`: none yet.
    pub upper: Option<f64>,
}

/// Counts of one arm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArmCounts {
    /// Units that met the event, or values compared, over the whole roll-out.
    pub counted: u64,
    /// Trials within the step.
    pub step_trials: u64,
    /// Of these, with the event.
    pub step_events: u64,
}

/// One line of `status.evidence`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MetricReport {
    /// The metric's word.
    pub metric: Metric,
    /// Whether it can roll back; otherwise it is only observed.
    pub guard: bool,
    /// Stable.
    pub stable: ArmCounts,
    /// Candidate.
    pub candidate: ArmCounts,
    /// Ratio candidate to stable, by a 95 % confidence sequence.
    pub ratio: Interval,
    /// Natural log of the evidence against the candidate.
    pub ln_e: f64,
    /// What it must reach to roll back.
    pub ln_e_limit: f64,
    /// The same of the e-detector.
    pub detector_ln_e: f64,
    /// What that must reach.
    pub detector_limit: f64,
    /// The promotion bound within the step: increase of the share, or ratio.
    pub promote_bound: Option<f64>,
    /// Seconds until that bound would be certified for the next share.
    pub eta_seconds: Option<u64>,
}

/// The sample-ratio test.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RatioReport {
    /// Natural log of the evidence that the weight is not applied.
    pub ln_e: f64,
    /// What it must reach.
    pub limit: f64,
    /// Units expected on the candidate so far.
    pub expected: f64,
    /// Units seen there.
    pub observed: u64,
    /// Units in all.
    pub units: u64,
    /// Whether a candidate that gets nothing would have been noticed by now.
    pub verified: bool,
    /// Whether the weight is found not to be applied.
    pub mismatch: bool,
}

/// Quantiles of one latency on both arms within the step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QuantileReport {
    /// The latency.
    pub metric: LatencyMetric,
    /// The quantile, 0..1.
    pub quantile: f64,
    /// Stable, seconds.
    pub stable: Interval,
    /// Candidate, seconds.
    pub candidate: Interval,
    /// Ratio candidate to stable.
    pub ratio: Interval,
}

/// Everything the judge knows, for people and for `status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Guards, then what is only observed.
    pub metrics: Vec<MetricReport>,
    /// Whether the weight is applied.
    pub ratio: RatioReport,
    /// p50, p90 and p99; never gated.
    pub quantiles: Vec<QuantileReport>,
    /// Share of requests that went to the candidate within the step.
    pub share_requests: Option<f64>,
    /// Share of units first seen within the step that went to the candidate.
    pub share_units: Option<f64>,
    /// Candidate requests without a first token for longer than the policy's limit; they count as failed in bounds.
    pub unresolved: u64,
    /// Requests that were left out: forced, or of a client's own doing.
    pub excluded: u64,
    /// The alarm, once there is one.
    pub alarm: Option<Alarm>,
}
