//! Shares and percentages as people write them, read exactly: no floating point between the document and the split.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Parts that a whole share has: shares are parts per million.
pub const WHOLE_SHARE: u32 = 1_000_000;

/// Parts per million of one percent.
const PERCENT: u32 = WHOLE_SHARE / 100;

/// Reads `0.5%` as parts per million (5000): digits, at most four behind the point, at most ten million percent.
pub fn parse_percent_ppm(text: &str) -> Option<u32> {
    decimal_ppm(text.strip_suffix('%')?)
}

/// Reads percentage points, `0.5pp`, as parts per million (5000).
pub fn parse_points_ppm(text: &str) -> Option<u32> {
    decimal_ppm(text.strip_suffix("pp")?)
}

fn decimal_ppm(text: &str) -> Option<u32> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str, most: usize| {
        (!text.is_empty() && text.len() <= most && text.bytes().all(|byte| byte.is_ascii_digit())).then_some(())
    };
    digits(whole, 5)?;
    digits(fraction, 4)?;
    let parts: u32 = format!("{fraction:0<4}").parse().ok()?;
    whole.parse::<u32>().ok()?.checked_mul(PERCENT)?.checked_add(parts)
}

/// The candidate's share in one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepWeight {
    /// Parts per million, 0 to 1,000,000. Written as whole percent, or as text: `"0.5%"`.
    Share(u32),
    /// The candidate's part of the pair's capacity when the step begins. Written `parity`.
    Parity,
}

impl StepWeight {
    /// Reads text: `parity`, or a share in percent with up to four digits behind the point.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "parity" {
            return Some(Self::Parity);
        }
        parse_percent_ppm(text).filter(|parts| *parts <= WHOLE_SHARE).map(Self::Share)
    }

    /// Whole percent.
    pub fn from_percent(percent: i64) -> Option<Self> {
        u32::try_from(percent).ok().filter(|percent| *percent <= 100).map(|percent| Self::Share(percent * PERCENT))
    }
}

/// `5%`, `0.5%`, `parity`.
impl fmt::Display for StepWeight {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Share(parts) = self else { return formatter.write_str("parity") };
        let fraction = format!("{:04}", parts % PERCENT);
        match fraction.trim_end_matches('0') {
            "" => write!(formatter, "{}%", parts / PERCENT),
            fraction => write!(formatter, "{}.{fraction}%", parts / PERCENT),
        }
    }
}

impl Serialize for StepWeight {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Share(parts) if parts % PERCENT == 0 => serializer.serialize_u32(parts / PERCENT),
            other => serializer.collect_str(other),
        }
    }
}

impl<'de> Deserialize<'de> for StepWeight {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = StepWeight;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(STEP_WEIGHT)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<StepWeight, E> {
                StepWeight::parse(text).ok_or_else(|| E::custom(format!("{text:?} is not {STEP_WEIGHT}")))
            }

            fn visit_i64<E: Error>(self, percent: i64) -> Result<StepWeight, E> {
                StepWeight::from_percent(percent).ok_or_else(|| E::custom(format!("{percent} is not {STEP_WEIGHT}")))
            }

            fn visit_u64<E: Error>(self, percent: u64) -> Result<StepWeight, E> {
                self.visit_i64(i64::try_from(percent).unwrap_or(i64::MAX))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

/// What a step's weight must be, to follow "must be".
pub(crate) const STEP_WEIGHT: &str =
    "a whole number of percent from 0 to 100, a finer share in quotes such as \"0.5%\", or parity";

impl JsonSchema for StepWeight {
    fn schema_name() -> Cow<'static, str> {
        "StepWeight".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"x-kubernetes-int-or-string": true})
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn percentages_are_read_exactly() {
        for (text, parts) in [
            ("0.5%", Some(5_000)),
            ("5%", Some(50_000)),
            ("100%", Some(WHOLE_SHARE)),
            ("150%", Some(1_500_000)),
            ("0.0001%", Some(1)),
            ("0.00001%", None),
            ("%", None),
            (".5%", None),
            ("5.%", None),
            ("-1%", None),
            ("5", None),
            ("5 %", None),
            ("99999999999%", None),
        ] {
            assert_eq!(parse_percent_ppm(text), parts, "{text}");
        }
        assert_eq!(parse_points_ppm("0.5pp"), Some(5_000));
        assert_eq!(parse_points_ppm("0.5%"), None);
        assert_eq!(StepWeight::parse("101%"), None);
        assert_eq!(StepWeight::parse("Parity"), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(parts in 0..=WHOLE_SHARE) {
            let weight = StepWeight::Share(parts);
            prop_assert_eq!(StepWeight::parse(&weight.to_string()), Some(weight));
            let value = serde_json::to_value(weight).unwrap();
            prop_assert_eq!(serde_json::from_value::<StepWeight>(value).unwrap(), weight);
        }

        #[test]
        fn never_panics(text in "\\PC*") {
            let _ = (StepWeight::parse(&text), parse_points_ppm(&text));
        }
    }
}
