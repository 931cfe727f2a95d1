//! What a roll-out is judged by: guards that roll back, margins that promote, the breaker. Numbers only; decoding and
//! field paths belong to the resource.

use serde::{Deserialize, Serialize};

use crate::sample::{EventMetric, LatencyMetric};

/// Risk ratios that the arm-of-event test bets on. Those not above a guard's tolerance are left out.
pub const RATIO_GRID: [f64; 7] = [1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0];
/// How strongly the test of latencies bets on the candidate's requests being the slow ones of their block.
pub const TILT_GRID: [f64; 6] = [0.1, 0.2, 0.4, 0.8, 1.6, 3.2];

/// A guard on something that happens or not.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventGuard {
    /// What is guarded.
    pub metric: EventMetric,
    /// The ratio of risks (candidate to stable) that is still tolerated: 1 tolerates no increase. At least 1, below 20.
    pub tolerance: f64,
    /// The most that promotion may add to the share of ALL traffic that meets the event; 0.005 is half a percentage
    /// point. `None`: the guard rolls back but does not hold a promotion.
    pub harm_budget: Option<f64>,
}

/// A guard on a latency.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LatencyGuard {
    /// What is guarded.
    pub metric: LatencyMetric,
    /// The relative increase that does not roll back: 0.1 tolerates 10 %.
    pub tolerance: f64,
    /// The relative increase that a promotion must have ruled out; `None`: not asked for.
    pub margin: Option<f64>,
}

/// The breaker: acts on few requests, without waiting for the tests.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Breaker {
    /// Whether it acts at all.
    pub enabled: bool,
    /// How many of the candidate's last units it looks at.
    pub window: u32,
    /// How many of them must have failed.
    pub failures: u32,
    /// So many failed candidate requests in a row trip it; fewer than 20 count by session.
    pub consecutive: u32,
    /// Largest chance, by Fisher's exact test against stable's units of the same time, at which it acts. Keeps an
    /// outage that both arms share from turning a healthy candidate back.
    pub chance: f64,
}

/// What a roll-out is judged by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// Chance that a healthy candidate is ever rolled back by a guard, over all guards: 0.01.
    pub alpha: f64,
    /// Chance that a bound used for promotion is ever wrong: 0.05.
    pub alpha_promote: f64,
    /// Chance that the sample-ratio test ever doubts a weight that is applied: 0.0001.
    pub alpha_ratio: f64,
    /// Guards on events.
    pub events: Vec<EventGuard>,
    /// Guards on latencies.
    pub latencies: Vec<LatencyGuard>,
    /// Events that are reported with their ratio and never decide.
    pub observed: Vec<EventMetric>,
    /// The breaker.
    pub breaker: Breaker,
    /// Length, in events, of the e-detector's first span; each later one is twice as long and has half the error budget.
    pub detector_span: u64,
    /// Matched groups before a latency bound may promote.
    pub burn_in: u64,
    /// A request without a first token after so long counts as slower than that, milliseconds.
    pub unresolved_after_ms: u64,
    /// Requests that arrived further apart than this are not compared, milliseconds.
    pub contemporary_ms: u64,
    /// After a weight changed, sessions that may have begun before it are not compared for so long: those that moved have
    /// a cold cache. Milliseconds.
    pub settle_ms: u64,
    /// Sessions remembered per event metric, exactly; beyond it the sessions are sampled.
    pub remembered_failing: u32,
    /// Sessions remembered as seen and as compared, exactly; beyond it the sessions are sampled.
    pub remembered_sessions: u32,
}

impl Policy {
    fn with(events: Vec<EventGuard>, latencies: Vec<LatencyGuard>) -> Self {
        Self {
            alpha: 0.01,
            alpha_promote: 0.05,
            alpha_ratio: 1e-4,
            events,
            latencies,
            observed: vec![EventMetric::ClientCancel, EventMetric::RequestFault],
            breaker: Breaker { enabled: true, window: 10, failures: 5, consecutive: 20, chance: 1e-6 },
            detector_span: 2_000,
            burn_in: 50,
            unresolved_after_ms: 60_000,
            contemporary_ms: 60_000,
            settle_ms: 120_000,
            remembered_failing: 4_096,
            remembered_sessions: 16_384,
        }
    }

    /// New nodes or accelerators under the same model: nothing but speed may differ.
    pub fn node() -> Self {
        use EventMetric::{Empty, Error, UpstreamAbort};
        Self::with(
            [Error, UpstreamAbort, Empty].map(|metric| guard(metric, 1.1)).to_vec(),
            vec![latency(LatencyMetric::Ttft, 0.1, 0.15), latency(LatencyMetric::Tpot, 0.1, 0.15)],
        )
    }

    /// A new base model: answers are expected to differ, their shape is not.
    pub fn base_model() -> Self {
        use EventMetric::{Empty, Error, FinishLength, ThinkTagUnbalanced, ToolParseFail, UpstreamAbort};
        let mut events =
            [Error, UpstreamAbort, Empty, ThinkTagUnbalanced, ToolParseFail].map(|m| guard(m, 1.1)).to_vec();
        events.push(EventGuard { metric: FinishLength, tolerance: 1.5, harm_budget: None });
        let mut policy = Self::with(
            events,
            vec![latency(LatencyMetric::Ttft, 0.15, 0.25), latency(LatencyMetric::Tpot, 0.15, 0.25)],
        );
        policy.observed.push(EventMetric::Refusal);
        policy
    }

    /// A new adapter on the same base: speed must be equal, answers are judged by shape and length.
    pub fn lora() -> Self {
        use EventMetric::{Empty, Error, FinishLength, SchemaFail, UpstreamAbort};
        let mut events = [Error, UpstreamAbort, Empty, SchemaFail].map(|metric| guard(metric, 1.1)).to_vec();
        events.push(EventGuard { metric: FinishLength, tolerance: 1.1, harm_budget: Some(0.05) });
        Self::with(events, vec![latency(LatencyMetric::Tpot, 0.05, 0.1)])
    }

    /// How many guards share [`Policy::alpha`].
    pub fn guards(&self) -> usize {
        self.events.len() + self.latencies.len()
    }
}

fn guard(metric: EventMetric, tolerance: f64) -> EventGuard {
    EventGuard { metric, tolerance, harm_budget: Some(0.005) }
}

fn latency(metric: LatencyMetric, tolerance: f64, margin: f64) -> LatencyGuard {
    LatencyGuard { metric, tolerance, margin: Some(margin) }
}
