//! Shares, stability and movement of splits.

use proptest::collection::vec;
use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

use super::{Draw, Split};

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

fn split(weights: &[u32]) -> Split {
    let arms: Vec<(&str, u32)> = NAMES.into_iter().zip(weights.iter().copied()).collect();
    Split::new("route/0", &arms)
}

fn shares(split: &Split, arms: usize, count: u32, draw: impl Fn(u32) -> Option<usize>) -> Vec<f64> {
    let mut hits = vec![0_u32; arms];
    for number in 0..count {
        hits[draw(number).expect("some arm")] += 1;
    }
    assert!(split.arms.len() == arms);
    hits.into_iter().map(|hits| f64::from(hits) / f64::from(count)).collect()
}

#[test]
fn random_shares_are_exact() {
    // Evenly spread bits give each arm its share to within one in the count.
    let split = split(&[70, 20, 10]);
    let count = 10_000_u32;
    let step = u64::MAX / u64::from(count);
    let shares = shares(&split, 3, count, |number| split.choose(Draw::Random(u64::from(number) * step), 0));
    for (share, expected) in shares.iter().zip([0.7, 0.2, 0.1]) {
        assert!((share - expected).abs() < 2e-4, "{shares:?}");
    }
}

#[test]
fn session_shares_follow_the_weights() {
    for weights in [&[90, 10][..], &[70, 20, 10], &[1, 1, 1, 1]] {
        let split = split(weights);
        let total: u32 = weights.iter().sum();
        let seen = shares(&split, weights.len(), 20_000, |number| {
            split.choose(Draw::Session(format!("session-{number}").as_bytes()), 0)
        });
        for (share, weight) in seen.iter().zip(weights) {
            let expected = f64::from(*weight) / f64::from(total);
            // Five standard deviations of a share of 20,000.
            assert!((share - expected).abs() < 5.0 * (expected * (1.0 - expected) / 20_000.0).sqrt(), "{seen:?}");
        }
    }
}

#[test]
fn different_splits_and_arms_draw_independently() {
    let (one, other) = (Split::new("x", &[("a", 1), ("b", 1)]), Split::new("y", &[("a", 1), ("b", 1)]));
    let same = (0..2_000_u32)
        .filter(|number| {
            let key = number.to_le_bytes();
            one.choose(Draw::Session(&key), 0) == other.choose(Draw::Session(&key), 0)
        })
        .count();
    assert!((850..1150).contains(&same), "{same} of 2,000");
}

#[test]
fn a_name_that_comes_twice_has_the_sum_of_its_weights() {
    let split = Split::new("s", &[("v1", 10), ("v1", 20), ("v2", 70)]);
    let seen = shares(&split, 3, 20_000, |number| split.choose(Draw::Session(&number.to_le_bytes()), 0));
    // Five standard deviations of 30 % of 20,000.
    assert!((seen[0] + seen[1] - 0.3).abs() < 5.0 * (0.3_f64 * 0.7 / 20_000.0).sqrt(), "{seen:?}");
}

#[test]
fn nothing_can_be_chosen_of_nothing() {
    assert_eq!(Split::default().choose(Draw::Random(7), 0), None);
    assert_eq!(split(&[0, 0]).choose(Draw::Session(b"k"), 0), None);
    assert_eq!(split(&[1, 1]).choose(Draw::Random(7), 0b11), None);
}

proptest! {
    #[test]
    fn raising_a_weight_only_moves_sessions_to_it(
        weights in vec(0_u32..100, 2..5), arm in 0_usize..5, more in 1_u32..100, key in any::<u64>(),
    ) {
        let arm = arm % weights.len();
        let mut raised = weights.clone();
        raised[arm] += more;
        let draw = key.to_le_bytes();
        let before = split(&weights).choose(Draw::Session(&draw), 0);
        let after = split(&raised).choose(Draw::Session(&draw), 0);
        prop_assert!(after == before || after == Some(arm), "{before:?} to {after:?}");
    }

    #[test]
    fn order_in_the_manifest_does_not_move_sessions(weights in vec(0_u32..100, 2..5), key in any::<u64>()) {
        let arms: Vec<(&str, u32)> = NAMES.into_iter().zip(weights.iter().copied()).collect();
        let reversed: Vec<(&str, u32)> = arms.iter().rev().copied().collect();
        let draw = key.to_le_bytes();
        let one = Split::new("s", &arms).choose(Draw::Session(&draw), 0).map(|index| arms[index].0);
        let other = Split::new("s", &reversed).choose(Draw::Session(&draw), 0).map(|index| reversed[index].0);
        prop_assert_eq!(one, other);
    }

    #[test]
    fn neither_zero_nor_masked_arms_are_chosen(
        weights in vec(0_u32..3, 1..5), bits in any::<u64>(), masked in any::<u32>(), session in any::<bool>(),
    ) {
        let key = bits.to_le_bytes();
        let draw = if session { Draw::Session(&key) } else { Draw::Random(bits) };
        match split(&weights).choose(draw, masked) {
            Some(arm) => prop_assert!(weights[arm] > 0 && masked & (1 << arm) == 0),
            None => prop_assert!(weights.iter().enumerate().all(|(arm, weight)| *weight == 0 || masked & (1 << arm) != 0)),
        }
    }

    #[test]
    fn masking_an_arm_leaves_the_sessions_of_the_others(weights in vec(1_u32..100, 3..5), key in any::<u64>()) {
        let draw = key.to_le_bytes();
        let split = split(&weights);
        let before = split.choose(Draw::Session(&draw), 0);
        let after = split.choose(Draw::Session(&draw), 1);
        prop_assert!(before == Some(0) || before == after);
    }

    #[test]
    fn an_arm_of_weight_zero_moves_no_session(
        weights in vec(1_u32..100, 1..4), place in 0_usize..4, key in any::<u64>(),
    ) {
        let draw = key.to_le_bytes();
        let arms: Vec<(&str, u32)> = NAMES.into_iter().zip(weights.iter().copied()).collect();
        let mut more = arms.clone();
        more.insert(place.min(arms.len()), ("new", 0));
        let before = Split::new("s", &arms).choose(Draw::Session(&draw), 0).map(|index| arms[index].0);
        let after = Split::new("s", &more).choose(Draw::Session(&draw), 0).map(|index| more[index].0);
        prop_assert_eq!(before, after);
    }
}
