//! The judge: takes what is observed, keeps the tests, gives the verdict.

mod decide;
mod report;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::arm_of_event::EventTest;
use crate::blocks::{Blocks, Reading, Scored};
use crate::breaker::Recent;
use crate::latency::LatencyTest;
use crate::policy::Policy;
use crate::sample::{Arm, Arrival, EventMetric, LatencyMetric, Sample};
use crate::sample_ratio::SampleRatio;
use crate::step::{Step, represents};
use crate::units::{Known, Units};
use crate::verdict::{Alarm, Formula, Metric};
use crate::wealth::Reached;

/// Candidate requests whose first token is waited for at one time.
const AWAITED: usize = 16_384;

/// A request that was not heard of for so long was lost on the way here, and is no longer waited for: milliseconds.
const FORGOTTEN_MS: u64 = 900_000;

/// The judge of one candidate. A new revision of the candidate needs a new judge.
///
/// Mirrored (shadow) requests belong to a judge of their own: a request that was mirrored is told as two, one on each arm,
/// with a share of 0.5 and units of their own, and those that were not mirrored are not told.
#[derive(Clone, Debug)]
pub struct Judge {
    policy: Policy,
    state: State,
}

/// Everything a judge has learned, to be kept across restarts. Its size is bounded by the policy's memories.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Checkpoint {
    state: State,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct State {
    step: Step,
    events: BTreeMap<EventMetric, EventTest>,
    latencies: BTreeMap<LatencyMetric, LatencyTest>,
    ratio: SampleRatio,
    recent: Recent,
    blocks: Blocks,
    sessions: Units,
    first_ms: Option<u64>,
    compared: Units,
    awaited: BTreeMap<u64, u64>,
    unresolved: u64,
    excluded: u64,
    alarm: Option<Alarm>,
}

impl Judge {
    /// A judge that has seen nothing.
    pub fn new(policy: Policy) -> Self {
        let state = State {
            step: Step::new(0, 0.0, policy.remembered_sessions),
            events: BTreeMap::new(),
            latencies: BTreeMap::new(),
            ratio: SampleRatio::new(),
            recent: Recent::default(),
            blocks: Blocks::default(),
            sessions: Units::new(policy.remembered_sessions),
            first_ms: None,
            compared: Units::new(policy.remembered_sessions),
            awaited: BTreeMap::new(),
            unresolved: 0,
            excluded: 0,
            alarm: None,
        };
        Self::restore(policy, Checkpoint { state })
    }

    /// A judge as it was at the checkpoint. Evidence of guards that the policy no longer has, or has with another
    /// tolerance, is dropped; the others keep theirs.
    pub fn restore(policy: Policy, checkpoint: Checkpoint) -> Self {
        let mut state = checkpoint.state;
        let guards = policy.events.iter().map(|guard| (guard.metric, guard.tolerance));
        let mut events = BTreeMap::new();
        for (metric, tolerance) in guards.chain(policy.observed.iter().map(|metric| (*metric, 1.0))) {
            let fresh = EventTest::new(tolerance, policy.detector_span, policy.remembered_failing);
            let kept = state.events.remove(&metric).filter(|kept| is_same(kept.tolerance, fresh.tolerance));
            events.entry(metric).or_insert_with(|| kept.unwrap_or(fresh));
        }
        state.events = events;
        let mut latencies = BTreeMap::new();
        for guard in &policy.latencies {
            let fresh = LatencyTest::new(guard.tolerance, policy.detector_span);
            let kept = state.latencies.remove(&guard.metric);
            let kept = kept.filter(|kept| is_same(kept.tolerance, fresh.tolerance));
            latencies.entry(guard.metric).or_insert_with(|| kept.unwrap_or(fresh));
        }
        state.latencies = latencies;
        Self { policy, state }
    }

    /// What to keep.
    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint { state: self.state.clone() }
    }

    /// The process that held the requests under way is gone: none of them will be heard of again, and none counts.
    pub fn forget_in_flight(&mut self) {
        self.state.blocks.forget();
        self.state.awaited.clear();
        self.state.unresolved = 0;
    }

    /// What it judges by.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The weight changed: bounds for promotion start afresh, evidence against the candidate is kept. A proven mismatch
    /// of the weight is forgiven, and tested for anew.
    pub fn begin_step(&mut self, now_ms: u64, share: f64) {
        self.state.step = Step::new(now_ms, share, self.policy.remembered_sessions);
        for test in self.state.latencies.values_mut() {
            test.begin_step();
        }
        let scored = self.state.blocks.close_all();
        self.score(scored, now_ms);
        if self.state.ratio.mismatch() {
            self.state.ratio = SampleRatio::new();
        }
    }

    /// A request has been given its arm. Must be told in the order of arrival, before the request's [`Sample`]; a request
    /// that is not told here counts for events, the breaker and the harm budget only. Some: the weight is proved not to be
    /// applied, which holds the roll-out and does not turn it back.
    pub fn arrived(&mut self, arrival: &Arrival) -> Option<Alarm> {
        let state = &mut self.state;
        state.first_ms = state.first_ms.or(Some(arrival.at_ms));
        let within = state.step.holds(arrival);
        if within {
            state.step.requests.add(arrival.arm);
        }
        if arrival.forced {
            return None;
        }
        if arrival.arm == Arm::Candidate && state.awaited.len() < AWAITED {
            state.awaited.insert(arrival.request, arrival.at_ms);
        }
        let known = if arrival.keyed { state.sessions.take(arrival.unit) } else { Known::New };
        let mut mismatch = false;
        if known == Known::New {
            if within {
                state.step.units.add(arrival.arm);
            }
            mismatch = state.ratio.unit(arrival.arm, arrival.share, self.policy.alpha_ratio);
        }
        let scored = if self.comparable(arrival, known) {
            self.state.blocks.admit(arrival, self.policy.contemporary_ms)
        } else {
            Vec::new()
        };
        let alarm = self.score(scored, arrival.at_ms);
        alarm.or_else(|| mismatch.then(|| self.mismatch(arrival.at_ms)))
    }

    /// Whether its latency may be compared with the other arm's. Sessions that began before the weight changed may have
    /// moved to a cold cache: they wait until that has settled. A session is known to have begun later only by a judge
    /// that had been watching for a while.
    fn comparable(&mut self, arrival: &Arrival, known: Known) -> bool {
        let step = &self.state.step;
        let settle = self.policy.settle_ms;
        let settled = !arrival.keyed || arrival.at_ms.saturating_sub(step.began_ms) >= settle;
        let watched = self.state.first_ms.is_some_and(|first| step.began_ms.saturating_sub(first) >= settle);
        arrival.warm
            && arrival.share > 0.0
            && arrival.share < 1.0
            && (settled || (watched && known == Known::New))
            && represents(arrival)
            && (!arrival.keyed || self.state.compared.take(arrival.unit) == Known::New)
    }

    /// A request's first token came, `ttft` seconds after its arrival. Optional: its sample says it too, but later.
    pub fn first_token(&mut self, request: u64, ttft: f64, now_ms: u64) -> Option<Alarm> {
        self.state.awaited.remove(&request);
        let scored = self.state.blocks.read(request, Reading::of(Some(ttft)), Reading::Awaited);
        self.score(scored.unwrap_or_default(), now_ms)
    }

    /// A request has ended. The alarm, the first time there is one.
    pub fn observe(&mut self, sample: &Sample) -> Option<Alarm> {
        let arrival = sample.arrival;
        self.state.awaited.remove(&arrival.request);
        if arrival.forced {
            self.state.excluded += 1;
            return None;
        }
        let (ttft, tpot) = readings(sample);
        let scored = self.state.blocks.read(arrival.request, ttft, tpot);
        let slower = self.score(scored.unwrap_or_default(), sample.end_ms);
        let clients = sample.is_clients_doing();
        let worse = self.count_events(sample, clients);
        if clients {
            self.state.excluded += 1;
            return slower.or(worse);
        }
        self.state.step.observe(sample);
        let tripped = self.state.recent.observe(sample, &self.policy.breaker);
        let broken = tripped.and_then(|tripped| {
            self.raise(Alarm {
                metric: Some(Metric::Event(EventMetric::Error)),
                formula: Formula::Breaker,
                log_evidence: -tripped.log_chance,
                threshold: -self.policy.breaker.chance.ln(),
                at_ms: sample.end_ms,
                detail: tripped.detail,
            })
        });
        slower.or(worse).or(broken)
    }

    fn count_events(&mut self, sample: &Sample, clients: bool) -> Option<Alarm> {
        let (arrival, outcome) = (sample.arrival, sample.outcome());
        if !(arrival.share > 0.0 && arrival.share < 1.0) {
            return None;
        }
        let session = arrival.keyed.then_some(arrival.unit);
        let alpha = self.alpha_of_one();
        let mut found = None;
        for (metric, test) in &mut self.state.events {
            let own = matches!(metric, EventMetric::ClientCancel | EventMetric::RequestFault);
            if !outcome.contains(*metric) || (clients && !own) {
                continue;
            }
            let guarded = self.policy.events.iter().any(|guard| guard.metric == *metric);
            if test.event(session, arrival.arm, arrival.share) && guarded && found.is_none() {
                found = test.wealth.reached(alpha).map(|reached| (*metric, reached, test.counts()));
            }
        }
        let (metric, reached, (stable, candidate)) = found?;
        let formula = if reached.detector { Formula::ArmOfEventDetector } else { Formula::ArmOfEvent };
        let share = arrival.share;
        let detail =
            format!("{} on {candidate} candidate and {stable} stable units, the share now {share:.4}", metric.word());
        self.prove(Metric::Event(metric), formula, reached, sample.end_ms, detail)
    }

    /// Time passed: requests without a first token for too long are counted as slow. Call it about once a second.
    pub fn advance_time(&mut self, now_ms: u64) -> Option<Alarm> {
        let (contemporary, limit) = (self.policy.contemporary_ms, self.policy.unresolved_after_ms);
        self.state.awaited.retain(|_, at_ms| now_ms.saturating_sub(*at_ms) < FORGOTTEN_MS);
        let waited = |at_ms: &&u64| now_ms.saturating_sub(**at_ms) >= limit;
        self.state.unresolved = self.state.awaited.values().filter(waited).count() as u64;
        let scored = self.state.blocks.advance(now_ms, contemporary, limit);
        self.score(scored, now_ms)
    }

    /// The proof against the candidate, once there is one. It stays.
    pub fn alarm(&self) -> Option<&Alarm> {
        self.state.alarm.as_ref()
    }

    /// The chance of error that one guard may spend.
    fn alpha_of_one(&self) -> f64 {
        self.policy.alpha / self.policy.guards().max(1) as f64
    }

    fn score(&mut self, blocks: Vec<Scored>, now_ms: u64) -> Option<Alarm> {
        let (alpha, longest) = (self.alpha_of_one(), self.policy.unresolved_after_ms as f64 / 1e3);
        let mut found = None;
        for block in blocks {
            let metric = block.metric;
            let Some(test) = self.state.latencies.get_mut(&metric) else { continue };
            if test.block(&block, longest) && found.is_none() {
                found = test.wealth.reached(alpha).map(|reached| (metric, reached, test.whole, test.compared.1));
            }
        }
        let (metric, reached, logs, candidates) = found?;
        let formula = if reached.detector { Formula::PairedBettingDetector } else { Formula::PairedBetting };
        let detail = format!(
            "{} of {candidates} candidate requests against their stable neighbours: geometric mean ratio {:.2}",
            metric.word(),
            logs.mean.exp()
        );
        self.prove(Metric::Latency(metric), formula, reached, now_ms, detail)
    }

    fn prove(
        &mut self,
        metric: Metric,
        formula: Formula,
        reached: Reached,
        at_ms: u64,
        detail: String,
    ) -> Option<Alarm> {
        self.raise(Alarm {
            metric: Some(metric),
            formula,
            log_evidence: reached.log_evidence,
            threshold: reached.limit,
            at_ms,
            detail,
        })
    }

    /// Keeps the first alarm, and gives it out once.
    fn raise(&mut self, mut alarm: Alarm) -> Option<Alarm> {
        if self.state.alarm.is_some() {
            return None;
        }
        // Short enough that text keeps them exactly.
        alarm.log_evidence = (alarm.log_evidence.min(1e6) * 1e4).round() / 1e4;
        alarm.threshold = (alarm.threshold.min(1e6) * 1e4).round() / 1e4;
        self.state.alarm = Some(alarm.clone());
        Some(alarm)
    }

    fn mismatch(&self, at_ms: u64) -> Alarm {
        let (units, observed, expected) = self.state.ratio.counts();
        Alarm {
            metric: None,
            formula: Formula::SampleRatio,
            log_evidence: self.state.ratio.ln_e(),
            threshold: -self.policy.alpha_ratio.ln(),
            at_ms,
            detail: format!("{observed} of {units} units went to the candidate, {expected:.1} were expected"),
        }
    }
}

/// Whether two tolerances are one: a policy that went through text may have lost its last bit.
fn is_same(one: f64, other: f64) -> bool {
    (one - other).abs() < 1e-9
}

/// What a sample says of its latencies. A client that leaves before the first token says how long it waited.
fn readings(sample: &Sample) -> (Reading, Reading) {
    if sample.first_attempt_failed || sample.events.contains(EventMetric::RequestFault) {
        return (Reading::Missing, Reading::Missing);
    }
    let ttft = match Reading::of(sample.ttft) {
        Reading::Missing if sample.events.contains(EventMetric::ClientCancel) => {
            Reading::AtLeast(sample.end_ms.saturating_sub(sample.arrival.at_ms) as f64 / 1e3)
        }
        reading => reading,
    };
    (ttft, Reading::of(sample.tpot))
}

#[cfg(test)]
mod tests;
