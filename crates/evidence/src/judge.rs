//! The judge: takes what is observed, keeps the tests, gives the verdict.

use serde::{Deserialize, Serialize};

use crate::policy::Policy;
use crate::sample::{Arrival, Sample};
use crate::verdict::{Alarm, RatioReport, Report, Verdict, Why};

/// The judge of one candidate. A new revision of the candidate needs a new judge.
#[derive(Clone, Debug)]
pub struct Judge {
    policy: Policy,
    state: State,
}

/// Everything a judge has learned, to be kept across restarts. Its size is bounded by the policy.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Checkpoint {
    state: State,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct State {
    share: f64,
    step_began_ms: u64,
    alarm: Option<Alarm>,
}

impl Judge {
    /// A judge that has seen nothing.
    pub fn new(policy: Policy) -> Self {
        Self { policy, state: State::default() }
    }

    /// A judge as it was at the checkpoint. Evidence of guards that the policy no longer has, or has with another
    /// tolerance, is dropped; the others keep theirs.
    pub fn restore(policy: Policy, checkpoint: Checkpoint) -> Self {
        Self { policy, state: checkpoint.state }
    }

    /// What to keep.
    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint { state: self.state.clone() }
    }

    /// The process that held the requests under way is gone: none of them will be heard of again, and none counts.
    pub fn forget_in_flight(&mut self) {}

    /// What it judges by.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The weight changed: bounds for promotion start afresh, evidence against the candidate is kept.
    pub fn begin_step(&mut self, now_ms: u64, share: f64) {
        self.state.share = share;
        self.state.step_began_ms = now_ms;
    }

    /// A request has been given its arm. Must be told in the order of arrival, before the request's [`Sample`]; a request
    /// that is not told here counts for events only.
    pub fn arrived(&mut self, _arrival: &Arrival) -> Option<Alarm> {
        None
    }

    /// A request's first token came, `ttft` seconds after its arrival. Optional: its sample says it too, but later.
    pub fn first_token(&mut self, _request: u64, _ttft: f64, _now_ms: u64) -> Option<Alarm> {
        None
    }

    /// A request has ended. The alarm, the first time there is one.
    pub fn observe(&mut self, _sample: &Sample) -> Option<Alarm> {
        None
    }

    /// Time passed: requests without a first token for too long are counted as slow. Call it about once a second.
    pub fn advance_time(&mut self, _now_ms: u64) -> Option<Alarm> {
        None
    }

    /// The proof against the candidate, once there is one. It stays.
    pub fn alarm(&self) -> Option<&Alarm> {
        self.state.alarm.as_ref()
    }

    /// What the evidence says about going on to `next_share` (1 from the last step but one).
    pub fn verdict(&self, _now_ms: u64, _next_share: f64) -> Verdict {
        match &self.state.alarm {
            Some(alarm) => Verdict::RollBack(alarm.clone()),
            None => Verdict::Hold { why: Why::WeightUnverified, needs_units: None, eta_seconds: None },
        }
    }

    /// All numbers, with the promotion bounds for `next_share`.
    pub fn report(&self, _now_ms: u64, _next_share: f64) -> Report {
        Report {
            metrics: Vec::new(),
            ratio: RatioReport {
                ln_e: 0.0,
                limit: -self.policy.alpha_ratio.ln(),
                expected: 0.0,
                observed: 0,
                units: 0,
                verified: false,
                mismatch: false,
            },
            quantiles: Vec::new(),
            share_requests: None,
            share_units: None,
            unresolved: 0,
            excluded: 0,
            alarm: self.state.alarm.clone(),
        }
    }
}
