//! The formulas against values computed elsewhere, and their guarantees by going through every outcome.

use serde_json::Value;

use crate::arm_of_event::EventTest;
use crate::blocks::{Reading, Scored};
use crate::bounds::{MeanBounds, best_rho, mean_margin, one_sided_evidence, share_bounds};
use crate::breaker::{binomial_tail, fisher};
use crate::latency::{LatencyTest, log_factor};
use crate::numeric::ln_normal_cdf;
use crate::policy::TILT_GRID;
use crate::quantiles::reach;
use crate::sample::{Arm, LatencyMetric, Stratum};
use crate::sample_ratio::SampleRatio;

/// Made by `tests/make_vectors.py` with mpmath, scipy and numpy.
fn vectors() -> Value {
    serde_json::from_str(include_str!("../tests/vectors.json")).expect("vectors are JSON")
}

fn list(value: &Value) -> &Vec<Value> {
    value.as_array().expect("a list")
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

fn whole(value: &Value) -> u64 {
    value.as_u64().expect("a whole number")
}

#[track_caller]
fn near(found: f64, expected: f64, within: f64) {
    assert!((found - expected).abs() <= within * expected.abs().max(1.0), "{found} instead of {expected}");
}

fn arm(candidate: bool) -> Arm {
    if candidate { Arm::Candidate } else { Arm::Stable }
}

#[test]
fn arm_of_event_is_its_definition() {
    for case in list(&vectors()["arm_of_event"]) {
        let mut test = EventTest::new(number(&case["tolerance"]), 2_000, 64);
        for event in list(&case["events"]) {
            test.event(None, arm(event[1].as_bool().expect("a bool")), number(&event[0]));
        }
        near(test.wealth.ln_whole(), number(&case["ln_whole"]), 1e-10);
        near(test.wealth.ln_detector(), number(&case["ln_detector"]), 1e-10);
        let ratio = test.ratio(0.05);
        near(ratio.lower.expect("a bound"), number(&case["lower"]), 1e-8);
        near(ratio.estimate.expect("an estimate"), number(&case["estimate"]), 1e-8);
        near(ratio.upper.expect("a bound"), number(&case["upper"]), 1e-8);
    }
}

#[test]
fn sample_ratio_is_the_conjugate_form_in_whatever_order() {
    for case in list(&vectors()["sample_ratio"]) {
        let (share, units, hits) = (number(&case["w"]), whole(&case["n"]), whole(&case["s"]));
        for candidates_first in [true, false] {
            let mut test = SampleRatio::new();
            for unit in 0..units {
                let hit = if candidates_first { unit < hits } else { unit >= units - hits };
                test.unit(arm(hit), share, 1e-4);
            }
            // The clamp on predictions may bite where everything is on one side; elsewhere it must not.
            near(test.ln_e(), number(&case["ln_e"]), 1e-9);
        }
    }
}

#[test]
fn an_absent_candidate_is_noticed_when_the_study_says() {
    let mut test = SampleRatio::new();
    let noticed = (1..1_000).find(|_| test.unit(Arm::Stable, 0.1, 1e-4));
    assert_eq!(noticed, Some(194));
}

#[test]
fn bounds_on_shares_are_their_definition() {
    for case in list(&vectors()["share_bounds"]) {
        let prior = (number(&case["a"]), number(&case["b"]));
        let (lower, upper) =
            share_bounds(number(&case["events"]), number(&case["trials"]), prior, number(&case["alpha"]));
        near(lower, number(&case["lower"]), 1e-8);
        near(upper, number(&case["upper"]), 1e-8);
    }
}

#[test]
fn one_sided_evidence_is_the_integral_it_stands_for() {
    for case in list(&vectors()["one_sided"]) {
        let found = one_sided_evidence(number(&case["sum"]), number(&case["variance"]), number(&case["rho"]));
        near(found, number(&case["ln_e"]), 1e-9);
    }
    for pair in list(&vectors()["normal_tail"]) {
        near(ln_normal_cdf(number(&pair[0])), number(&pair[1]), 1e-8);
    }
}

/// The numbers that confseq 0.0.11 (Howard and others, the authors of the papers) holds its own mixtures to: best at an
/// intrinsic time of 100, 5 %, at a sum of 10 after a time of 100.
#[test]
fn mixtures_are_those_that_their_authors_published() {
    near(best_rho(100.0, 0.025), 12.600_56, 1e-6);
    near(one_sided_evidence(10.0, 100.0, best_rho(100.0, 0.05)), -0.065_023_91, 1e-8);
    near(100.0 * mean_margin(100.0, 100.0, 0.05), 27.660_71, 1e-6);
    // Their two-sided beta mixture of a share of 0.2: a time of 100 is 625 trials, a sum of 10 is 10 events too many.
    let (share, trials) = (0.2, 100.0 / (0.2 * 0.8));
    let units = best_rho(100.0, 0.025) / (0.2 * 0.8) - 1.0;
    let prior = (units * share, units * (1.0 - share));
    for (surplus, log_evidence) in [(10.0, -0.694_101_2_f64), (31.430_8, 20_f64.ln())] {
        let (lower, _) = share_bounds(share * trials + surplus, trials, prior, (-log_evidence).exp());
        near(lower, share, 1e-6);
    }
}

#[test]
fn betting_bounds_are_those_of_the_paper() {
    let vectors = vectors();
    let case = &vectors["betting"];
    let mut bounds = MeanBounds::new(number(&case["alpha"]));
    for value in list(&case["values"]) {
        bounds.add(number(value));
    }
    let (lower, upper) = bounds.bounds();
    near(lower, number(&case["lower"]), 1e-9);
    near(upper, number(&case["upper"]), 1e-9);
}

#[test]
fn factors_of_blocks_are_means_over_all_choices() {
    for case in list(&vectors()["blocks"]) {
        let picked: Vec<u64> = list(&case["picked"]).iter().map(whole).collect();
        let scores = list(&case["scores"]).iter().enumerate();
        let scores: Vec<(bool, f64)> = scores.map(|(i, s)| (picked.contains(&(i as u64)), number(s))).collect();
        for (tilt, expected) in TILT_GRID.iter().zip(list(&case["ln_factors"])) {
            near(log_factor(&scores, picked.len(), *tilt), number(expected), 1e-10);
        }
    }
}

#[test]
fn tails_are_those_of_scipy() {
    let vectors = vectors();
    for case in list(&vectors["tails"]["fisher"]) {
        let counts: Vec<u64> = list(case).iter().take(4).map(whole).collect();
        near(fisher(counts[0], counts[1], counts[2], counts[3]), number(&case[4]), 1e-8);
    }
    for case in list(&vectors["tails"]["binomial"]) {
        near(binomial_tail(whole(&case[0]), whole(&case[1]), number(&case[2])), number(&case[3]), 1e-8);
    }
}

#[test]
fn quantiles_need_so_many_values_before_an_upper_bound_exists() {
    // Eq. 9 evaluated elsewhere in doubles.
    for (p, expected) in [(0.5, 40), (0.9, 296), (0.95, 623), (0.99, 3_303)] {
        let first = (1..10_000_u64).find(|n| p + reach(p, *n as f64, 0.025) < 1.0);
        assert_eq!(first, Some(expected), "p{p}");
    }
}

/// All sequences of `n` arms.
fn sequences(n: u32) -> impl Iterator<Item = Vec<bool>> {
    (0..1_u32 << n).map(move |bits| (0..n).map(|i| bits >> i & 1 == 1).collect())
}

const SHARES: [f64; 10] = [0.01, 0.01, 0.05, 0.05, 0.25, 0.25, 0.5, 0.5, 0.8, 0.9];

#[test]
fn on_average_nothing_is_won_from_an_innocent_candidate_by_events() {
    for (tolerance, ratio) in [(1.0, 1.0), (1.1, 1.1), (1.1, 1.0), (1.1, 0.3), (1.5, 1.5)] {
        let (mut whole, mut detector) = (0.0, 0.0);
        for arms in sequences(10) {
            let mut test = EventTest::new(tolerance, 2_000, 64);
            let mut weight = 1.0;
            for (share, candidate) in SHARES.iter().zip(&arms) {
                let p = share * ratio / (share * ratio + 1.0 - share);
                weight *= if *candidate { p } else { 1.0 - p };
                test.event(None, arm(*candidate), *share);
            }
            whole += weight * test.wealth.ln_whole().exp();
            detector += weight * test.wealth.ln_detector().exp();
        }
        if (tolerance - ratio).abs() < 1e-12 {
            near(whole, 1.0, 1e-12);
            near(detector, 10.0, 1e-12);
        } else {
            assert!(whole < 1.0 && detector < 10.0, "tolerance {tolerance}, ratio {ratio}: {whole}, {detector}");
        }
    }
}

#[test]
fn on_average_nothing_is_won_from_applied_weights() {
    let mut mean = 0.0;
    for arms in sequences(10) {
        let mut test = SampleRatio::new();
        let mut weight = 1.0;
        for (share, hit) in SHARES.iter().zip(&arms) {
            weight *= if *hit { *share } else { 1.0 - *share };
            test.unit(arm(*hit), *share, 1e-4);
        }
        mean += weight * test.ln_e().exp();
    }
    near(mean, 1.0, 1e-12);
}

/// A block as it comes out of the pairing.
fn block(members: impl IntoIterator<Item = (bool, f64)>) -> Scored {
    let members = members.into_iter().map(|(candidate, value)| (arm(candidate), Reading::Value(value))).collect();
    Scored { metric: LatencyMetric::Ttft, stratum: Stratum::default(), members }
}

/// Mean wealth after two blocks of six over all ways in which three and two of their requests may be the candidate's, of
/// a test that has seen `before` values, when the candidate is `slower` times as slow as stable.
fn mean_over_choices(tolerance: f64, slower: f64, before: usize) -> f64 {
    let values = [[0.2, 0.21, 0.5, 0.9, 3.0, 0.05], [1.0, 1.1, 0.4, 0.4, 0.7, 9.0]];
    let (mut mean, mut ways) = (0.0, 0.0);
    for first in sequences(6).filter(|arms| arms.iter().filter(|c| **c).count() == 3) {
        for second in sequences(6).filter(|arms| arms.iter().filter(|c| **c).count() == 2) {
            let mut test = LatencyTest::new(tolerance, 2_000);
            for i in 0..before {
                test.block(&block([(i % 2 == 0, 0.3 + 0.01 * i as f64), (i % 2 == 1, 0.4)]), 60.0);
            }
            let at_first = test.wealth.ln_whole();
            for (values, arms) in values.iter().zip([&first, &second]) {
                let members = values.iter().zip(arms);
                test.block(&block(members.map(|(v, c)| (*c, if *c { v * slower } else { *v }))), 60.0);
            }
            mean += (test.wealth.ln_whole() - at_first).exp();
            ways += 1.0;
        }
    }
    mean / ways
}

#[test]
fn on_average_nothing_is_won_from_equal_latencies() {
    for before in [0, 40] {
        near(mean_over_choices(0.0, 1.0, before), 1.0, 1e-12);
        near(mean_over_choices(0.1, 1.1, before), 1.0, 1e-12);
        for slower in [1.05, 1.0, 0.5] {
            let mean = mean_over_choices(0.1, slower, before);
            assert!(mean <= 1.0 + 1e-12, "{before} before, {slower} as slow: {mean}");
        }
        assert!(mean_over_choices(0.0, 1.5, before) > 1.0);
    }
}

#[test]
fn baselines_used_again_and_again_break_the_test_of_latencies() {
    let alarms = |used_again: bool| {
        (0..200_u64)
            .filter(|run| {
                let mut seed = run * 1_000_003;
                let mut value = || {
                    seed += 1;
                    0.2 * (2.0 * ((crate::numeric::mix(seed) >> 11) as f64 / (1_u64 << 53) as f64)).exp()
                };
                let mut test = LatencyTest::new(0.0, 2_000);
                let mut stable: Vec<f64> = (0..8).map(|_| value()).collect();
                (0..400).any(|_| {
                    if !used_again {
                        stable = (0..8).map(|_| value()).collect();
                    }
                    let members = std::iter::once((true, value())).chain(stable.iter().map(|v| (false, *v)));
                    test.block(&block(members.collect::<Vec<_>>()), 60.0);
                    test.wealth.reached(0.01).is_some()
                })
            })
            .count()
    };
    assert!(alarms(false) <= 7, "{} of 200", alarms(false));
    assert!(alarms(true) >= 40, "this null cannot tell: {} of 200", alarms(true));
}

#[test]
fn the_order_of_events_and_of_members_does_not_matter() {
    let mut events: Vec<(bool, f64)> = (0..40).map(|i| (i % 3 == 0, SHARES[i % 4])).collect();
    let wealth = |events: &[(bool, f64)]| {
        let mut test = EventTest::new(1.1, 2_000, 64);
        for (candidate, share) in events {
            test.event(None, arm(*candidate), *share);
        }
        test.wealth.ln_whole()
    };
    let forwards = wealth(&events);
    events.reverse();
    near(wealth(&events), forwards, 1e-12);
    let mut members = vec![(true, 0.3), (false, 0.2), (false, 0.25), (true, 0.1), (false, 0.3)];
    let gain = |members: &[(bool, f64)]| {
        let mut test = LatencyTest::new(0.1, 2_000);
        test.block(&block(members.to_vec()), 60.0);
        test.wealth.ln_whole()
    };
    let forwards = gain(&members);
    members.reverse();
    near(gain(&members), forwards, 1e-12);
}
