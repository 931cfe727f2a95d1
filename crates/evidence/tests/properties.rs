//! Whatever the judge is told, it answers with numbers, and goes on after a restart as if nothing had been.
#![expect(clippy::indexing_slicing, clippy::expect_used, reason = "helpers of tests")]

use proptest::prelude::*;
use tidegate_evidence::{Arm, Arrival, Checkpoint, EventMetric, Judge, Policy, Sample, Stratum, plan};

fn odd_number() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => 0.0..2.0_f64,
        1 => prop_oneof![
            Just(f64::NAN),
            Just(f64::INFINITY),
            Just(f64::NEG_INFINITY),
            Just(-1.0),
            Just(0.0),
            Just(1.0),
            Just(f64::MAX),
            Just(f64::MIN_POSITIVE)
        ],
    ]
}

#[derive(Clone, Debug)]
enum Told {
    Arrived(Arrival),
    FirstToken(u64, f64, u64),
    Ended(Sample),
    Time(u64),
    Step(u64, f64),
}

prop_compose! {
    fn arrival()(
        request in 0..200_u64,
        at_ms in prop_oneof![8 => 0..400_000_u64, 1 => Just(u64::MAX)],
        candidate: bool,
        share in odd_number(),
        unit in 0..40_u64,
        keyed: bool,
        flags in 0..8_u8,
        prompt in 0..3_u8,
    ) -> Arrival {
        let stratum = Stratum { prompt, ..Stratum::default() };
        let arm = if candidate { Arm::Candidate } else { Arm::Stable };
        Arrival { request, at_ms, arm, share, unit, keyed, forced: flags == 7, warm: flags != 6, stratum }
    }
}

prop_compose! {
    fn sample()(
        arrival in arrival(),
        took in 0..100_000_u64,
        events in proptest::collection::vec(0..EventMetric::ALL.len(), 0..3),
        first_attempt_failed: bool,
        rescued: bool,
        ttft in proptest::option::of(odd_number()),
        tpot in proptest::option::of(odd_number()),
    ) -> Sample {
        let events = events.into_iter().map(|which| EventMetric::ALL[which]).collect();
        let end_ms = arrival.at_ms.saturating_add(took);
        Sample { arrival, end_ms, events, first_attempt_failed, rescued, ttft, tpot }
    }
}

fn told() -> impl Strategy<Value = Told> {
    prop_oneof![
        6 => arrival().prop_map(Told::Arrived),
        2 => (0..200_u64, odd_number(), any::<u64>()).prop_map(|(request, ttft, now)| Told::FirstToken(request, ttft, now)),
        6 => sample().prop_map(Told::Ended),
        2 => any::<u64>().prop_map(Told::Time),
        1 => (0..400_000_u64, odd_number()).prop_map(|(now, share)| Told::Step(now, share)),
    ]
}

fn tell(judge: &mut Judge, told: &Told) {
    match told {
        Told::Arrived(arrival) => drop(judge.arrived(arrival)),
        Told::FirstToken(request, ttft, now) => drop(judge.first_token(*request, *ttft, *now)),
        Told::Ended(sample) => drop(judge.observe(sample)),
        Told::Time(now) => drop(judge.advance_time(*now)),
        Told::Step(now, share) => judge.begin_step(*now, *share),
    }
}

fn policies() -> impl Strategy<Value = Policy> {
    (0..3_usize, 0.0..2.5_f64, odd_number()).prop_map(|(kind, tolerance, odd)| {
        let mut policy = [Policy::node, Policy::base_model, Policy::lora][kind]();
        for guard in &mut policy.events {
            guard.tolerance = tolerance;
        }
        for guard in &mut policy.latencies {
            guard.tolerance = odd;
        }
        policy
    })
}

fn shown(judge: &Judge) -> String {
    serde_json::to_string(&judge.report(500_000, 0.5)).expect("a report is JSON")
}

fn kept(judge: &Judge) -> String {
    serde_json::to_string(&judge.checkpoint()).expect("a checkpoint is JSON")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_input_makes_it_panic_or_lose_its_numbers(
        policy in policies(),
        story in proptest::collection::vec(told(), 0..400),
        next_share in odd_number(),
    ) {
        let mut judge = Judge::new(policy);
        for told in &story {
            tell(&mut judge, told);
        }
        let report = judge.report(500_000, next_share);
        for line in &report.metrics {
            for number in [line.ln_e, line.ln_e_limit, line.detector_ln_e, line.detector_limit] {
                prop_assert!(number.is_finite(), "{line:?}");
            }
            let shown = [line.ratio.lower, line.ratio.estimate, line.ratio.upper, line.promote_bound];
            prop_assert!(shown.into_iter().flatten().all(|number| !number.is_nan()), "{line:?}");
        }
        prop_assert!(report.ratio.ln_e.is_finite());
        judge.verdict(500_000, next_share);
        judge.forget_in_flight();
        judge.verdict(u64::MAX, next_share);
    }

    #[test]
    fn a_restart_anywhere_changes_nothing(
        policy in policies(),
        story in proptest::collection::vec(told(), 1..300),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut straight = Judge::new(policy.clone());
        let mut stopped = Judge::new(policy.clone());
        let cut = cut.index(story.len());
        for (place, told) in story.iter().enumerate() {
            if place == cut {
                let checkpoint: Checkpoint = serde_json::from_str(&kept(&stopped)).expect("it reads back");
                stopped = Judge::restore(policy.clone(), checkpoint);
            }
            tell(&mut straight, told);
            tell(&mut stopped, told);
        }
        prop_assert_eq!(kept(&straight), kept(&stopped));
        prop_assert_eq!(shown(&straight), shown(&stopped));
        prop_assert_eq!(straight.verdict(500_000, 0.5), stopped.verdict(500_000, 0.5));
    }

    #[test]
    fn plans_answer_any_question(base in odd_number(), ratio in odd_number(), tolerance in odd_number(), share in odd_number()) {
        let policy = Policy::node();
        let costs = [
            plan::detect_events(&policy, base, ratio, tolerance, share),
            plan::detect_latency(&policy, ratio, tolerance, base, share),
            plan::certify_events(&policy, base, ratio, share, tolerance),
            plan::certify_latency(&policy, ratio, base, share),
        ];
        for cost in costs.into_iter().flatten() {
            prop_assert!(cost.candidate_units >= 1 && cost.units >= cost.candidate_units);
        }
    }
}

/// Many sessions for a long time: what is kept stays within what the policy allows.
#[test]
fn a_checkpoint_has_a_bounded_size() {
    let mut policy = Policy::node();
    (policy.remembered_failing, policy.remembered_sessions) = (256, 512);
    let mut judge = Judge::new(policy);
    judge.begin_step(1, 0.5);
    let mut sizes = Vec::new();
    for request in 0..120_000_u64 {
        let arm = if request % 2 == 0 { Arm::Candidate } else { Arm::Stable };
        let stratum = Stratum { model: request / 3, ..Stratum::default() };
        let at_ms = request * 10;
        let arrival =
            Arrival { request, at_ms, arm, share: 0.5, unit: request, keyed: true, forced: false, warm: true, stratum };
        judge.arrived(&arrival);
        if request % 4 != 0 {
            let events = [EventMetric::Error, EventMetric::Empty].into_iter().collect();
            let (ttft, tpot) = (Some(request as f64 / 1e3), Some(1e-3));
            let sample =
                Sample { arrival, end_ms: at_ms + 9, events, first_attempt_failed: false, rescued: false, ttft, tpot };
            judge.observe(&sample);
        }
        if request % 100 == 0 {
            judge.advance_time(at_ms);
        }
        if request % 20_000 == 19_999 {
            sizes.push(kept(&judge).len());
        }
    }
    let (first, last) = (sizes[1], sizes[5]);
    assert!(last < 2 * first && last < 4_000_000, "{sizes:?}");
}

#[test]
fn plans_agree_with_the_reference_numbers() {
    let mut policy = Policy::node();
    // Section 4.10 of the study, medians by simulation: 559 and 2,916 units for 2 and 1 points at a base of 1 %.
    for (budget, expected) in [(0.02, 559.0), (0.01, 2_916.0)] {
        let cost = plan::certify_events(&policy, 0.01, budget, 0.1, 1.0).expect("it can be certified");
        let ratio = cost.candidate_units as f64 / expected;
        assert!((0.6..1.5).contains(&ratio), "{budget}: {} units", cost.candidate_units);
    }
    // Section 4.11, one guard: 435 candidate requests for errors tripled, 113 for +20 % time to first token.
    policy.events.truncate(1);
    policy.latencies.clear();
    let errors = plan::detect_events(&policy, 0.01, 3.0, 1.0, 0.1).expect("it is found").candidate_units;
    assert!((300..700).contains(&errors), "{errors}");
    let ttft = plan::detect_latency(&policy, 1.2, 0.0, 0.5, 0.1).expect("it is found").candidate_units;
    assert!((80..170).contains(&ttft), "{ttft}");
    assert_eq!(plan::detect_events(&policy, 0.01, 1.05, 1.1, 0.1), None);
}
