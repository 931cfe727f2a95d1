//! The judge as a whole: what it proves, what it promotes, what it leaves out, and that it goes on where it stopped.

use super::*;
use crate::sample::{Events, Stratum};
use crate::verdict::{Verdict, Why};

/// A small generator of numbers, so that every run is the same.
pub(super) struct Draw(u64);

impl Draw {
    pub(super) fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(1);
        (crate::numeric::mix(self.0) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Traffic of one request every 50 ms, each of which ends 40 ms after it came.
struct Traffic {
    draw: Draw,
    judge: Judge,
    now_ms: u64,
    share: f64,
    request: u64,
}

impl Traffic {
    fn new(policy: Policy, seed: u64, share: f64) -> Self {
        let mut judge = Judge::new(policy);
        judge.begin_step(1_000, share);
        Self { draw: Draw(seed.wrapping_mul(1_000_003)), judge, now_ms: 1_000, share, request: 0 }
    }

    fn arrival(&mut self) -> Arrival {
        self.now_ms += 50;
        self.request += 1;
        let arm = if self.draw.next() < self.share { Arm::Candidate } else { Arm::Stable };
        Arrival {
            request: self.request,
            at_ms: self.now_ms,
            arm,
            share: self.share,
            unit: self.request,
            keyed: false,
            forced: false,
            warm: true,
            stratum: Stratum::default(),
        }
    }

    fn pass(&mut self, change: impl Fn(&mut Draw, &mut Sample)) -> Option<Alarm> {
        let arrival = self.arrival();
        let told = self.judge.arrived(&arrival);
        let ttft = 0.2 * (0.5 * (self.draw.next() + self.draw.next() + self.draw.next() - 1.5) * 2.0).exp();
        let mut sample = Sample {
            arrival,
            end_ms: arrival.at_ms + 40,
            events: Events::NONE,
            first_attempt_failed: false,
            rescued: false,
            ttft: Some(ttft),
            tpot: Some(ttft / 10.0),
        };
        change(&mut self.draw, &mut sample);
        let alarm = told.or_else(|| self.judge.observe(&sample));
        self.judge.advance_time(self.now_ms);
        alarm
    }

    fn until(&mut self, requests: u64, change: impl Fn(&mut Draw, &mut Sample)) -> Option<(u64, Alarm)> {
        (1..=requests).find_map(|count| self.pass(&change).map(|alarm| (count, alarm)))
    }
}

fn fails(rate_stable: f64, rate_candidate: f64) -> impl Fn(&mut Draw, &mut Sample) {
    move |draw, sample| {
        let rate = if sample.arrival.arm == Arm::Candidate { rate_candidate } else { rate_stable };
        if draw.next() < rate {
            sample.first_attempt_failed = true;
        }
    }
}

#[test]
fn an_outage_of_the_candidate_trips_the_breaker_within_a_few_requests() {
    let mut traffic = Traffic::new(Policy::node(), 1, 0.1);
    assert!(traffic.until(500, fails(0.01, 0.01)).is_none());
    let (_, alarm) = traffic.until(200, fails(0.01, 1.0)).expect("an alarm");
    assert!(matches!(alarm.formula, Formula::Breaker | Formula::ArmOfEvent), "{alarm:?}");
    assert!(matches!(traffic.judge.verdict(traffic.now_ms, 0.25), Verdict::RollBack(kept) if kept == alarm));
}

#[test]
fn an_outage_that_both_arms_share_does_not() {
    for share in [0.05, 0.5, 0.9] {
        for seed in 0..20 {
            let mut traffic = Traffic::new(Policy::node(), seed, share);
            assert!(traffic.until(500, fails(0.01, 0.01)).is_none());
            assert_eq!(traffic.until(200, fails(0.9, 0.9)), None, "share {share}, seed {seed}");
        }
    }
}

#[test]
fn a_slower_candidate_is_turned_back_by_latency() {
    let mut traffic = Traffic::new(Policy::node(), 3, 0.1);
    let (_, alarm) = traffic
        .until(20_000, |_, sample| {
            if sample.arrival.arm == Arm::Candidate {
                sample.ttft = sample.ttft.map(|ttft| ttft * 1.5);
            }
        })
        .expect("an alarm");
    assert_eq!((alarm.metric, alarm.formula), (Some(Metric::Latency(LatencyMetric::Ttft)), Formula::PairedBetting));
}

#[test]
fn a_candidate_that_stalls_is_slow_even_if_it_never_answers() {
    let mut traffic = Traffic::new(Policy::node(), 4, 0.1);
    let mut found = None;
    for _ in 0..6_000 {
        let arrival = traffic.arrival();
        traffic.judge.arrived(&arrival);
        if arrival.arm == Arm::Stable {
            let ttft = Some(0.2 + traffic.draw.next() * 0.01);
            let sample = Sample {
                arrival,
                end_ms: arrival.at_ms + 300,
                events: Events::NONE,
                first_attempt_failed: false,
                rescued: false,
                ttft,
                tpot: None,
            };
            traffic.judge.observe(&sample);
        }
        found = found.or(traffic.judge.advance_time(traffic.now_ms));
    }
    let alarm = found.expect("an alarm");
    assert_eq!(alarm.metric, Some(Metric::Latency(LatencyMetric::Ttft)));
    assert!(traffic.judge.report(traffic.now_ms, 0.5).unresolved > 100);
    traffic.judge.advance_time(traffic.now_ms + 3_600_000);
    assert_eq!(
        traffic.judge.report(traffic.now_ms + 3_600_000, 0.5).unresolved,
        0,
        "lost ones do not hold it for ever"
    );
}

#[test]
fn a_healthy_candidate_is_promoted_once_every_margin_is_certified() {
    let mut traffic = Traffic::new(Policy::node(), 5, 0.25);
    assert!(matches!(traffic.judge.verdict(1_000, 0.5), Verdict::Hold { why: Why::WeightUnverified, .. }));
    assert!(traffic.until(200, fails(0.002, 0.002)).is_none());
    let Verdict::Hold { needs_units: Some(needs), eta_seconds: Some(eta), .. } =
        traffic.judge.verdict(traffic.now_ms, 0.5)
    else {
        panic!("{:?}", traffic.judge.verdict(traffic.now_ms, 0.5))
    };
    assert!(needs > 100 && eta > 10, "{needs} units, {eta} s");
    for _ in 0..40 {
        assert!(traffic.until(1_000, fails(0.002, 0.002)).is_none());
        if traffic.judge.verdict(traffic.now_ms, 0.5) == Verdict::Promote {
            let report = traffic.judge.report(traffic.now_ms, 0.5);
            assert!(report.ratio.verified && !report.ratio.mismatch);
            return;
        }
    }
    panic!("{:#?}", traffic.judge.verdict(traffic.now_ms, 0.5));
}

#[test]
fn a_weight_that_is_not_applied_holds_and_does_not_roll_back() {
    let mut traffic = Traffic::new(Policy::node(), 6, 0.5);
    traffic.judge.begin_step(1_000, 0.1);
    let found = (0..400).find_map(|_| {
        let mut arrival = traffic.arrival();
        arrival.share = 0.1;
        traffic.judge.arrived(&arrival)
    });
    assert_eq!(found.expect("an alarm").formula, Formula::SampleRatio);
    assert!(matches!(traffic.judge.verdict(traffic.now_ms, 0.5), Verdict::Hold { why: Why::WeightNotApplied, .. }));
    assert!(traffic.judge.alarm().is_none());
}

#[test]
fn what_is_of_the_clients_doing_or_forced_is_no_evidence() {
    let mut traffic = Traffic::new(Policy::node(), 7, 0.2);
    let alarm = traffic.until(3_000, |_, sample| {
        if sample.arrival.arm == Arm::Candidate {
            sample.events = Events::NONE.with(EventMetric::RequestFault).with(EventMetric::Error);
        }
    });
    assert_eq!(alarm, None);
    let report = traffic.judge.report(traffic.now_ms, 0.5);
    let observed = report.metrics.iter().find(|line| line.metric == Metric::Event(EventMetric::RequestFault));
    let observed = observed.expect("4xx are observed");
    assert!(!observed.guard && observed.ratio.lower.is_some_and(|lower| lower > 10.0), "{observed:?}");
    let forced = |_: &mut Draw, sample: &mut Sample| {
        sample.arrival.forced = sample.arrival.arm == Arm::Candidate;
        sample.first_attempt_failed = sample.arrival.forced;
    };
    assert_eq!(traffic.until(3_000, forced), None);
}

#[test]
fn a_session_that_fails_again_and_again_is_one_event() {
    let mut traffic = Traffic::new(Policy::node(), 8, 0.1);
    for session in 0..3 {
        for _ in 0..50 {
            let mut arrival = traffic.arrival();
            (arrival.arm, arrival.unit, arrival.keyed) = (Arm::Candidate, session, true);
            let sample = Sample {
                arrival,
                end_ms: arrival.at_ms + 5,
                events: Events::NONE.with(EventMetric::Empty),
                first_attempt_failed: false,
                rescued: false,
                ttft: None,
                tpot: None,
            };
            assert_eq!(traffic.judge.observe(&sample), None);
        }
    }
    let report = traffic.judge.report(traffic.now_ms, 0.5);
    let empty = report.metrics.iter().find(|line| line.metric == Metric::Event(EventMetric::Empty));
    assert_eq!(empty.expect("a line").candidate.counted, 3);
}

#[test]
fn it_goes_on_where_it_stopped_to_the_last_bit() {
    let odd = |draw: &mut Draw, sample: &mut Sample| {
        sample.arrival.keyed = sample.arrival.request.is_multiple_of(3);
        sample.arrival.unit = sample.arrival.request / 7;
        if draw.next() < 0.02 {
            sample.events.insert(EventMetric::Error);
        }
        if draw.next() < 0.05 {
            sample.ttft = None;
            sample.events.insert(EventMetric::ClientCancel);
        }
    };
    let mut straight = Traffic::new(Policy::base_model(), 9, 0.17);
    let mut stopping = Traffic::new(Policy::base_model(), 9, 0.17);
    for round in 0..40 {
        for _ in 0..97 {
            assert_eq!(straight.pass(odd), stopping.pass(odd));
        }
        if round == 20 {
            straight.judge.begin_step(straight.now_ms, 1.0 / 3.0);
            stopping.judge.begin_step(stopping.now_ms, 1.0 / 3.0);
            straight.share = 1.0 / 3.0;
            stopping.share = 1.0 / 3.0;
        }
        let kept = serde_json::to_string(&stopping.judge.checkpoint()).expect("a checkpoint is JSON");
        let back = serde_json::from_str(&kept).expect("a checkpoint reads back");
        stopping.judge = Judge::restore(Policy::base_model(), back);
        assert_eq!(serde_json::to_string(&stopping.judge.checkpoint()).expect("JSON"), kept, "round {round}");
        let report =
            |traffic: &Traffic| serde_json::to_string(&traffic.judge.report(traffic.now_ms, 0.5)).expect("JSON");
        assert_eq!(report(&straight), report(&stopping));
    }
}

#[test]
fn a_changed_tolerance_drops_that_guards_evidence_only() {
    let mut traffic = Traffic::new(Policy::node(), 10, 0.1);
    traffic.until(2_000, fails(0.05, 0.05));
    let mut policy = Policy::node();
    policy.events[0].tolerance = 1.3;
    let judge = Judge::restore(policy, traffic.judge.checkpoint());
    let (before, after) = (traffic.judge.report(traffic.now_ms, 0.5), judge.report(traffic.now_ms, 0.5));
    assert!(before.metrics[0].stable.counted > 50);
    assert_eq!(after.metrics[0].stable.counted, 0);
    assert_eq!(after.metrics[3], before.metrics[3]);
}
