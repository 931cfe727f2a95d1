//! Monotone, exact, the same everywhere; and third arms keep what they have.

use http::{HeaderMap, HeaderValue};
use proptest::prelude::{any, prop_assert_eq, proptest};
use tidegate_api::ObjectKey;
use tidegate_api::rollout::{
    ArmName, ArmSettings, AssignmentSettings, ForceRule, RolloutTarget, RouteTarget, SessionKey, WHOLE_SHARE,
};

use super::{Cause, Closed, KeySource, Pair};
use crate::{Draw, Overlay, Split};

fn overlay(uid: &str, share: u32) -> Overlay {
    let pool = |name: &str| ArmSettings::Pool { group: None, name: name.into() };
    let force = |value: &str, arm| ForceRule { header: "x-arm".into(), value: value.into(), arm };
    Overlay {
        rollout: ObjectKey::new("tidegate.dev", "InferenceRollout", "serving", "one"),
        uid: uid.into(),
        target: RolloutTarget::Route(RouteTarget { name: "route".into(), rule: None }),
        stable: pool("old"),
        candidate: pool("new"),
        candidate_share_ppm: share,
        assignment: AssignmentSettings {
            keys: vec![SessionKey::Header("x-session-id".into()), SessionKey::PromptCacheKey],
            force: vec![force("new", ArmName::Candidate), force("old", ArmName::Stable)],
        },
        admits_forced: true,
        shield: true,
        excluded_models: ["lora-a".to_owned()].into(),
        shadow: None,
        keeps_prompts: false,
    }
}

fn pair(share: u32) -> Pair {
    Pair::new(&overlay("uid", share), 0, 1, vec![0, 1])
}

fn arm(pair: &Pair, key: &[u8]) -> ArmName {
    pair.draw(&HeaderMap::new(), None, Draw::Session(key)).arm
}

#[test]
fn shares_are_exact_at_random_and_by_session() {
    for share in [0, 1, 5_000, 10_000, 333_333, 500_000, 999_999, WHOLE_SHARE] {
        let pair = pair(share);
        // A million evenly spread points: one in each part per million.
        let step = u64::MAX / u64::from(WHOLE_SHARE);
        let hits = (0..WHOLE_SHARE)
            .filter(|number| {
                let draw = Draw::Random(u64::from(*number) * step + step / 2);
                pair.draw(&HeaderMap::new(), None, draw).arm == ArmName::Candidate
            })
            .count();
        assert_eq!(hits, usize::try_from(share).unwrap());
        let sessions = 50_000_u32;
        let seen = (0..sessions).filter(|number| arm(&pair, &number.to_le_bytes()) == ArmName::Candidate).count();
        let expected = f64::from(share) / f64::from(WHOLE_SHARE);
        let deviation = (f64::from(sessions) * expected * (1.0 - expected)).sqrt();
        assert!((seen as f64 - f64::from(sessions) * expected).abs() <= 5.0 * deviation + 1.0, "{share}: {seen}");
    }
}

#[test]
fn the_ends_of_the_line_are_where_they_must_be() {
    assert_eq!(pair(0).arm_at(0), ArmName::Stable);
    assert_eq!(pair(WHOLE_SHARE).arm_at(u64::MAX), ArmName::Candidate);
    assert_eq!(pair(500_000).arm_at((1 << 63) - 1), ArmName::Candidate);
    assert_eq!(pair(500_000).arm_at(1 << 63), ArmName::Stable);
    assert_eq!(pair(u32::MAX).candidate_share_ppm, WHOLE_SHARE);
}

#[test]
fn the_hash_never_changes() {
    // Pinned: another value would move every session of a roll-out that runs across an update.
    assert_eq!(pair(0).point(b"session-1"), 12_580_153_669_967_881_003);
}

#[test]
fn releases_draw_independently() {
    let (one, other) = (pair(500_000), Pair::new(&overlay("another", 500_000), 0, 1, vec![0, 1]));
    let same = (0..10_000_u32).filter(|key| arm(&one, &key.to_le_bytes()) == arm(&other, &key.to_le_bytes())).count();
    assert!((4_700..5_300).contains(&same), "{same}");
}

#[test]
fn excluded_models_come_before_force_and_force_before_the_draw() {
    let headers =
        |value: &str| HeaderMap::from_iter([("x-arm".parse().unwrap(), HeaderValue::from_str(value).unwrap())]);
    let all = pair(WHOLE_SHARE);
    let draw = |headers: &HeaderMap, model: Option<&str>| {
        let drawn = all.draw(headers, model, Draw::Session(b"a"));
        (drawn.arm, drawn.cause)
    };
    assert_eq!(draw(&headers("new"), Some("lora-a")), (ArmName::Stable, Cause::ExcludedModel));
    assert_eq!(draw(&headers("old"), Some("base")), (ArmName::Stable, Cause::Forced));
    assert_eq!(draw(&headers("other"), None), (ArmName::Candidate, Cause::Session));
    assert_eq!(pair(0).draw(&headers("new"), None, Draw::Random(0)).arm, ArmName::Candidate);
    // While the candidate takes nothing, nobody gets there; stable can always be forced.
    let closed = Pair::new(&Overlay { admits_forced: false, ..overlay("uid", 0) }, 0, 1, vec![0, 1]);
    let drawn = closed.draw(&headers("new"), None, Draw::Random(0));
    assert_eq!((drawn.arm, drawn.cause), (ArmName::Stable, Cause::Random));
    assert_eq!(closed.forced(&headers("old")), Some(ArmName::Stable));
    assert_eq!(all.keys, [KeySource::Header("x-session-id".parse().unwrap()), KeySource::PromptCacheKey]);
}

#[test]
fn closed_arms_give_to_stable_and_never_raise_the_candidate() {
    use ArmName::{Candidate, Stable};
    let none = Closed::default();
    let empty = |empty| Closed { empty, ..none };
    let absent = |absent| Closed { absent, ..none };
    for (share, drawn, closed, expected) in [
        (10, Candidate, none, Some(Candidate)),
        (10, Candidate, empty(0b10), Some(Stable)),
        (10, Candidate, absent(0b10), Some(Stable)),
        (10, Candidate, empty(0b11), None),
        (10, Stable, none, Some(Stable)),
        (10, Stable, empty(0b01), None),
        (10, Stable, absent(0b01), Some(Candidate)),
        (0, Stable, absent(0b01), None),
        (10, Stable, Closed { empty: 0b01, absent: 0b01 }, None),
        (10, Stable, absent(0b11), None),
        // A third arm that is closed is not the pair's concern.
        (10, Stable, empty(0b100), Some(Stable)),
    ] {
        assert_eq!(pair(share).open(drawn, closed), expected, "{share} {drawn:?} {closed:?}");
    }
    // Positions behind the 32nd are never masked.
    let far = Pair::new(&overlay("uid", 10), 40, 41, vec![40, 41]);
    assert_eq!(far.open(Candidate, empty(u32::MAX)), Some(Candidate));
}

/// The position for a session, as the data plane finds it.
fn chosen(split: &Split, pair: &Pair, key: &[u8]) -> usize {
    let chosen = split.choose(Draw::Session(key), 0).unwrap();
    pair.place(chosen, pair.draw(&HeaderMap::new(), None, Draw::Session(key)).arm)
}

proptest! {
    /// A growing share only moves sessions to the candidate; 0 returns all, the whole takes all.
    #[test]
    fn raising_the_share_only_moves_towards_the_candidate(
        key in any::<Vec<u8>>(), one in 0..=WHOLE_SHARE, other in 0..=WHOLE_SHARE,
    ) {
        let (low, high) = (one.min(other), one.max(other));
        if arm(&pair(low), &key) == ArmName::Candidate {
            prop_assert_eq!(arm(&pair(high), &key), ArmName::Candidate);
        }
        prop_assert_eq!(arm(&pair(0), &key), ArmName::Stable);
        prop_assert_eq!(arm(&pair(WHOLE_SHARE), &key), ArmName::Candidate);
    }

    /// Third arms keep exactly the sessions they have, whatever the share, whether or not the candidate was listed;
    /// and at 0 the sessions of stable stay where they were before the overlay began.
    #[test]
    fn third_arms_keep_their_sessions(
        key in any::<Vec<u8>>(), share in 0..=WHOLE_SHARE, stable in 1..1000_u32, listed in 0..1000_u32, third in 0..1000_u32,
    ) {
        let before = Split::new("route/0", &[("old", stable), ("third", third), ("new", listed)]);
        let pair = Pair::new(&overlay("uid", share), 0, 2, vec![0, 2]);
        let (was, is) = (before.choose(Draw::Session(&key), 0).unwrap(), chosen(&before, &pair, &key));
        prop_assert_eq!(was == 1, is == 1);
        let begins = Pair::new(&overlay("uid", 0), 0, 2, vec![0, 2]);
        if was != 2 {
            prop_assert_eq!(chosen(&before, &begins, &key), was);
        }
        // Not listed before: an arm of weight 0 is added, which moves nobody.
        let alone = Split::new("route/0", &[("old", stable), ("third", third)]);
        let with = Split::new("route/0", &[("old", stable), ("third", third), ("new", 0)]);
        prop_assert_eq!(chosen(&with, &begins, &key), alone.choose(Draw::Session(&key), 0).unwrap());
    }

    /// The order in which arms stand decides nothing.
    #[test]
    fn order_decides_nothing(key in any::<Vec<u8>>(), share in 0..=WHOLE_SHARE, weights in any::<[u16; 3]>()) {
        let [old, new, third] = weights.map(|weight| u32::from(weight) + 1);
        let one = Split::new("route/0", &[("old", old), ("new", new), ("third", third)]);
        let other = Split::new("route/0", &[("third", third), ("new", new), ("old", old)]);
        let in_one = chosen(&one, &Pair::new(&overlay("uid", share), 0, 1, vec![0, 1]), &key);
        let in_other = chosen(&other, &Pair::new(&overlay("uid", share), 2, 1, vec![1, 2]), &key);
        // The second list is the first one backwards.
        prop_assert_eq!(in_one, 2 - in_other);
    }
}
