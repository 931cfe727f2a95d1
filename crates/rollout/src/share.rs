//! A share of the pair's traffic, exact to one part in a million.
//!
//! Shares are whole numbers, so that every replica and every replay agrees on them. This module does no rounding but
//! downwards: a candidate never gets more than was asked for.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How many parts a whole has.
pub const WHOLE: u32 = 1_000_000;

/// A part of the traffic that stable and candidate share: 0 to 1,000,000 parts per million.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Share(u32);

/// A number of parts that is more than the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} parts per million are more than the whole; write 0 to 1000000")]
pub struct MoreThanWhole(pub u32);

impl Share {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Everything.
    pub const ALL: Self = Self(WHOLE);

    /// A share from parts per million; more than the whole is the whole.
    pub const fn from_ppm(parts: u32) -> Self {
        if parts > WHOLE { Self::ALL } else { Self(parts) }
    }

    /// A share from whole percent; more than 100 is the whole.
    pub const fn from_percent(percent: u32) -> Self {
        Self::from_ppm(percent.saturating_mul(WHOLE / 100))
    }

    /// A share from a fraction, rounded down. What is no number, or below 0, is nothing; what is above 1 is the whole.
    pub fn from_fraction(fraction: f64) -> Self {
        // `as` saturates, and turns NaN into 0.
        Self::from_ppm((fraction * f64::from(WHOLE)).floor() as u32)
    }

    /// Parts per million.
    pub const fn ppm(self) -> u32 {
        self.0
    }

    /// 0.0 to 1.0.
    pub fn fraction(self) -> f64 {
        f64::from(self.0) / f64::from(WHOLE)
    }

    /// What this share leaves to the other arm.
    pub const fn rest(self) -> Self {
        Self(WHOLE.saturating_sub(self.0))
    }

    /// Percent as people write them: a whole number where it is one.
    pub fn percent(self) -> serde_json::Number {
        let parts_per_percent = WHOLE / 100;
        if self.0.is_multiple_of(parts_per_percent) {
            return (self.0 / parts_per_percent).into();
        }
        serde_json::Number::from_f64(f64::from(self.0) / f64::from(parts_per_percent)).unwrap_or_else(|| 0.into())
    }
}

impl TryFrom<u32> for Share {
    type Error = MoreThanWhole;

    fn try_from(parts: u32) -> Result<Self, MoreThanWhole> {
        if parts > WHOLE { Err(MoreThanWhole(parts)) } else { Ok(Self(parts)) }
    }
}

impl From<Share> for u32 {
    fn from(share: Share) -> u32 {
        share.0
    }
}

/// `5%`, `0.5%`.
impl fmt::Display for Share {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}%", self.percent())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speaks_percent_as_people_write_it() {
        assert_eq!(Share::from_percent(5).to_string(), "5%");
        assert_eq!(Share::from_ppm(5_000).to_string(), "0.5%");
        assert_eq!(Share::from_percent(400), Share::ALL);
        assert_eq!(Share::from_percent(30).rest(), Share::from_percent(70));
    }

    #[test]
    fn rounds_a_fraction_down_and_keeps_it_in_range() {
        assert_eq!(Share::from_fraction(0.333_333_39).ppm(), 333_333);
        assert_eq!(Share::from_fraction(f64::NAN), Share::NONE);
        assert_eq!(Share::from_fraction(-1.0), Share::NONE);
        assert_eq!(Share::from_fraction(f64::INFINITY), Share::ALL);
    }

    #[test]
    fn refuses_more_than_the_whole_when_read() {
        assert!(serde_json::from_str::<Share>("1000001").is_err());
        assert_eq!(serde_json::from_str::<Share>("1000000").ok(), Some(Share::ALL));
    }
}
