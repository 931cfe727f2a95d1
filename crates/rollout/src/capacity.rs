//! What each arm can carry, and whether a share would push it past that.
//!
//! Judged is the load that is *offered*, never queues or requests in flight: a slow candidate builds its own queue, and
//! asking for short queues would hide exactly that.

use serde::{Deserialize, Serialize};

use crate::share::Share;

/// Ready endpoints and capacity of both arms, as the controller sees them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Arms {
    /// Of stable.
    pub stable: ArmCapacity,
    /// Of the candidate.
    pub candidate: ArmCapacity,
    /// The pair's offered load, requests a second; none: not known.
    pub offered: Option<f64>,
    /// One ready candidate endpoint counts as so many of stable's (κ), as traffic taught; none: not known yet.
    pub learned_ratio: Option<f64>,
}

/// One arm's endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ArmCapacity {
    /// Endpoints that are ready.
    pub ready: u32,
    /// Requests a second that one ready endpoint carries before its queue grows, as traffic taught; none: not known.
    pub per_endpoint: Option<f64>,
}

impl Arms {
    /// Without numbers that are none: those are not known.
    pub(crate) fn sound(&self) -> Self {
        let known = |number: Option<f64>| number.filter(|value| value.is_finite());
        let arm = |arm: ArmCapacity| ArmCapacity { per_endpoint: known(arm.per_endpoint), ..arm };
        Self {
            stable: arm(self.stable),
            candidate: arm(self.candidate),
            offered: known(self.offered),
            learned_ratio: known(self.learned_ratio),
        }
    }
}

/// What the plan says about capacity.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Terms {
    /// κ as declared.
    pub declared_ratio: Option<f64>,
    /// What stable must have free beyond the pair's load, as a fraction.
    pub stable_headroom: f64,
    /// Most endpoints of stable that were ready since the roll-out began.
    pub stable_ready_before: u32,
}

/// Why a share does not go.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Shortage {
    /// The candidate would be past its saturation.
    #[error(
        "{share} of {offered:.1} requests/s is {load:.1}, and the candidate's {ready} ready endpoints carry {carries:.1}; add endpoints, or lower the step"
    )]
    Candidate {
        /// The share that was asked for.
        share: Share,
        /// The pair's load.
        offered: f64,
        /// The candidate's part of it.
        load: f64,
        /// Its ready endpoints.
        ready: u32,
        /// What they carry.
        carries: f64,
    },
    /// Stable would be.
    #[error("what is left to stable is {load:.1} requests/s, and its {ready} ready endpoints carry {carries:.1}")]
    Stable {
        /// Stable's part of the load.
        load: f64,
        /// Its ready endpoints.
        ready: u32,
        /// What they carry.
        carries: f64,
    },
    /// Stable could not take everything back.
    #[error(
        "a roll-back would bring {needed:.1} requests/s (headroom included) to stable's {ready} ready endpoints, which carry {carries:.1}; keep stable's endpoints until the roll-out is settled"
    )]
    TakeBack {
        /// Load and headroom.
        needed: f64,
        /// Stable's ready endpoints.
        ready: u32,
        /// What they carry.
        carries: f64,
    },
    /// Stable has fewer endpoints than it had, and nothing says that those are enough.
    #[error(
        "stable has {ready} ready endpoints of the {before} that carried all traffic; keep them until the roll-out is settled"
    )]
    FewerThanBefore {
        /// Ready now.
        ready: u32,
        /// Ready before.
        before: u32,
    },
}

/// A positive, finite number.
fn sound(number: Option<f64>) -> Option<f64> {
    number.filter(|value| value.is_finite() && *value > 0.0)
}

impl Terms {
    /// κ: declared, else learnt, else 1.
    pub fn ratio(&self, arms: &Arms) -> f64 {
        sound(self.declared_ratio).or(sound(arms.learned_ratio)).unwrap_or(1.0)
    }

    /// The share at which both arms are loaded alike: κ·Rc / (κ·Rc + Rs). None while an arm has no ready endpoint.
    pub fn parity(&self, arms: &Arms) -> Option<Share> {
        if arms.candidate.ready == 0 || arms.stable.ready == 0 {
            return None;
        }
        let candidate = self.ratio(arms) * f64::from(arms.candidate.ready);
        Some(Share::from_fraction(candidate / (candidate + f64::from(arms.stable.ready))))
    }

    /// What each arm carries, requests a second: (stable, candidate). One arm's capacity and κ give the other's.
    pub fn carries(&self, arms: &Arms) -> (Option<f64>, Option<f64>) {
        let ratio = self.ratio(arms);
        let stable = sound(arms.stable.per_endpoint);
        let candidate = sound(arms.candidate.per_endpoint);
        let ratio_is_known = sound(self.declared_ratio).or(sound(arms.learned_ratio)).is_some();
        let derived = |other: Option<f64>, factor: f64| other.filter(|_| ratio_is_known).map(|one| one * factor);
        let stable_each = stable.or_else(|| derived(candidate, 1.0 / ratio));
        let candidate_each = candidate.or_else(|| derived(stable, ratio));
        (
            stable_each.map(|each| each * f64::from(arms.stable.ready)),
            candidate_each.map(|each| each * f64::from(arms.candidate.ready)),
        )
    }

    /// Whether both arms carry their part at this share. What is not known is not held against it.
    pub fn carry(&self, share: Share, arms: &Arms) -> Result<(), Shortage> {
        let Some(offered) = sound(arms.offered) else { return Ok(()) };
        let (stable, candidate) = self.carries(arms);
        let load = offered * share.fraction();
        if let Some(carries) = candidate.filter(|carries| load > *carries) {
            return Err(Shortage::Candidate { share, offered, load, ready: arms.candidate.ready, carries });
        }
        let load = offered * share.rest().fraction();
        match stable.filter(|carries| load > *carries) {
            Some(carries) => Err(Shortage::Stable { load, ready: arms.stable.ready, carries }),
            None => Ok(()),
        }
    }

    /// Whether stable can take everything back, with headroom. Where load or capacity is not known, stable's endpoints
    /// that carried everything before the roll-out are the measure: the headroom is what may be missing of them.
    pub fn take_back(&self, arms: &Arms) -> Result<(), Shortage> {
        let headroom = sound(Some(self.stable_headroom)).unwrap_or(0.0);
        let ready = arms.stable.ready;
        if let (Some(offered), (Some(carries), _)) = (sound(arms.offered), self.carries(arms)) {
            let needed = offered * (1.0 + headroom);
            return if needed > carries { Err(Shortage::TakeBack { needed, ready, carries }) } else { Ok(()) };
        }
        let before = self.stable_ready_before;
        if f64::from(ready) * (1.0 + headroom) < f64::from(before) {
            return Err(Shortage::FewerThanBefore { ready, before });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arms(stable: u32, candidate: u32) -> Arms {
        Arms {
            stable: ArmCapacity { ready: stable, per_endpoint: None },
            candidate: ArmCapacity { ready: candidate, per_endpoint: None },
            ..Arms::default()
        }
    }

    fn terms() -> Terms {
        Terms { declared_ratio: Some(1.7), stable_headroom: 0.15, stable_ready_before: 0 }
    }

    #[test]
    fn parity_follows_capacity() {
        // One H200 against 19 H100 of 1/1.7 each.
        let share = terms().parity(&arms(19, 1)).expect("both arms are ready");
        assert_eq!(share.ppm(), 82_125);
        assert_eq!(terms().parity(&arms(19, 0)), None);
        assert_eq!(Terms::default().parity(&arms(3, 1)), Some(Share::from_percent(25)));
        let learned = Arms { learned_ratio: Some(3.0), ..arms(3, 1) };
        assert_eq!(Terms::default().parity(&learned), Some(Share::from_percent(50)));
    }

    #[test]
    fn a_small_candidate_is_not_pushed_past_saturation() {
        let mut arms = Arms { offered: Some(1000.0), ..arms(19, 1) };
        arms.stable.per_endpoint = Some(60.0);
        assert_eq!(terms().carry(Share::from_percent(5), &arms), Ok(()));
        let refused = terms().carry(Share::from_percent(50), &arms).expect_err("1 × 102 requests/s carries no 500");
        assert!(
            refused.to_string().starts_with("50% of 1000.0 requests/s is 500.0, and the candidate's 1 ready"),
            "{refused}"
        );
        assert_eq!(Terms::default().carry(Share::from_percent(50), &arms), Ok(()), "κ unknown: not held against it");
    }

    #[test]
    fn stable_keeps_what_a_roll_back_needs() {
        let mut arms = Arms { offered: Some(1000.0), ..arms(19, 10) };
        arms.stable.per_endpoint = Some(60.0);
        assert!(matches!(terms().take_back(&arms), Err(Shortage::TakeBack { .. })), "1140 < 1150");
        arms.stable.ready = 20;
        assert_eq!(terms().take_back(&arms), Ok(()));
        let blind = Terms { stable_ready_before: 12, ..terms() };
        assert_eq!(blind.take_back(&self::arms(11, 1)), Ok(()), "one of twelve restarts");
        assert_eq!(blind.take_back(&self::arms(10, 1)), Err(Shortage::FewerThanBefore { ready: 10, before: 12 }));
    }

    #[test]
    fn nonsense_numbers_count_as_unknown() {
        let mut arms = Arms { offered: Some(f64::NAN), learned_ratio: Some(-1.0), ..arms(1, 1) };
        arms.stable.per_endpoint = Some(f64::INFINITY);
        assert_eq!(Terms::default().ratio(&arms), 1.0);
        assert_eq!(Terms::default().carry(Share::ALL, &arms), Ok(()));
        assert_eq!(Terms::default().take_back(&arms), Ok(()));
    }
}
