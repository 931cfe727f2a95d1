//! Calendar windows in which nothing moves forward: a cron line that says when one begins, how long it lasts, and whose
//! clock it reads.
//!
//! Zones come from the database compiled into the binary, so that a replay on another machine reads the same calendar.

use jiff::civil::{Date, Time};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{Timestamp, ToSpan, Zoned};
use serde::{Deserialize, Serialize};

/// The longest a window may last: four weeks, in milliseconds.
pub const LONGEST: u64 = 28 * 24 * 3_600_000;

/// One recurring window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FreezeWindow {
    /// When it begins.
    pub cron: Cron,
    /// How long it lasts, in milliseconds; more than [`LONGEST`] counts as that.
    pub duration: u64,
    /// Whose clock.
    pub zone: Zone,
    /// Whether a roll-back that nobody commanded may happen inside it.
    pub allow_rollback: bool,
}

/// Five cron fields: minute, hour, day of month, month, day of week.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cron {
    text: String,
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Day of month and day of week are both given: either is enough, as cron has it.
    either_day: bool,
}

/// A zone of the IANA database.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Zone(TimeZone, String);

impl Eq for Zone {}

/// A calendar field that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FreezeError {
    /// Not five fields.
    #[error(
        "`{0}` has not the five fields minute, hour, day, month and weekday; write `0 18 * * 5` for Fridays at 18:00"
    )]
    Fields(String),
    /// One field is none.
    #[error(
        "`{field}` is no {name}: write `*`, numbers from {low} to {high}, `a-b`, `*/n`, or a list of these with commas"
    )]
    Field {
        /// As written.
        field: String,
        /// What it should be.
        name: &'static str,
        /// Smallest value.
        low: u32,
        /// Largest value.
        high: u32,
    },
    /// No such zone.
    #[error("`{0}` is no zone of the IANA database; write `Europe/Berlin` or `UTC`")]
    Zone(String),
}

impl FreezeWindow {
    /// When the window that holds at `wall` (milliseconds since 1970 UTC) ends; none: none holds.
    pub fn ends_at(&self, wall: i64) -> Option<i64> {
        let now = Timestamp::from_millisecond(wall).ok()?.to_zoned(self.zone.0.clone());
        let duration = self.duration.min(LONGEST);
        let mut date = now.date();
        // A window that holds now began at most its length ago; one more day for a shifted clock.
        for _ in 0..=(duration / 86_400_000).saturating_add(2) {
            if let Some(begin) = self.last_begin_on(date, &now) {
                let end = begin.saturating_add_unsigned(duration);
                return (wall < end).then_some(end);
            }
            date = date.checked_sub(1.day()).ok()?;
        }
        None
    }

    /// The last moment of a date at which a window began, not after now.
    fn last_begin_on(&self, date: Date, now: &Zoned) -> Option<i64> {
        if !self.cron.has_date(date) {
            return None;
        }
        for hour in (0..24_i8).rev().filter(|hour| bit(self.cron.hours, *hour)) {
            for minute in (0..60_i8).rev().filter(|minute| bit(self.cron.minutes, *minute)) {
                let begin = Time::new(hour, minute, 0, 0).ok()?.on(date.year(), date.month(), date.day());
                // An hour that a shifted clock leaves out begins when the clock goes on.
                let begin = begin.to_zoned(self.zone.0.clone()).ok()?;
                if begin.timestamp() <= now.timestamp() {
                    return Some(begin.timestamp().as_millisecond());
                }
            }
        }
        None
    }
}

fn bit(set: u64, index: i8) -> bool {
    set >> index & 1 == 1
}

impl Cron {
    fn has_date(&self, date: Date) -> bool {
        let day = bit(self.days, date.day());
        let weekday = bit(self.weekdays, date.weekday().to_sunday_zero_offset());
        bit(self.months, date.month()) && if self.either_day { day || weekday } else { day && weekday }
    }
}

const WEEKDAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const MONTHS: &[&str] = &["", "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];

struct FieldRule {
    name: &'static str,
    low: u32,
    high: u32,
    words: &'static [&'static str],
}

impl FieldRule {
    fn read(&self, field: &str) -> Result<u64, FreezeError> {
        let refuse = || FreezeError::Field { field: field.into(), name: self.name, low: self.low, high: self.high };
        let mut set = 0_u64;
        for part in field.split(',') {
            let (range, step) = match part.split_once('/') {
                Some((range, step)) => (range, step.parse::<u32>().ok().filter(|step| *step > 0).ok_or_else(refuse)?),
                None => (part, 1),
            };
            let (from, to) = match range.split_once('-') {
                _ if range == "*" => (self.low, self.high),
                Some((from, to)) => (self.value(from).ok_or_else(refuse)?, self.value(to).ok_or_else(refuse)?),
                None => {
                    let from = self.value(range).ok_or_else(refuse)?;
                    (from, if part.contains('/') { self.high } else { from })
                }
            };
            if from > to {
                return Err(refuse());
            }
            for value in (from..=to).step_by(step as usize) {
                set |= 1 << value;
            }
        }
        Ok(set)
    }

    fn value(&self, text: &str) -> Option<u32> {
        let word = self.words.iter().position(|word| !word.is_empty() && word.eq_ignore_ascii_case(text));
        let value = match word {
            Some(index) => u32::try_from(index).ok()?,
            None if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok()?,
            None => return None,
        };
        (self.low..=self.high).contains(&value).then_some(value)
    }
}

impl std::str::FromStr for Cron {
    type Err = FreezeError;

    fn from_str(text: &str) -> Result<Self, FreezeError> {
        let fields: Vec<&str> = text.split_ascii_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields.as_slice() else {
            return Err(FreezeError::Fields(text.into()));
        };
        let rule = |name, low, high, words| FieldRule { name, low, high, words };
        let weekdays = rule("weekday", 0, 7, WEEKDAYS).read(weekday)?;
        Ok(Self {
            text: text.into(),
            minutes: rule("minute", 0, 59, &[]).read(minute)?,
            hours: rule("hour", 0, 23, &[]).read(hour)?,
            days: rule("day of the month", 1, 31, &[]).read(day)?,
            months: rule("month", 1, 12, MONTHS).read(month)?,
            // 7 is Sunday too.
            weekdays: weekdays & 0x7f | weekdays >> 7,
            either_day: !day.starts_with('*') && !weekday.starts_with('*'),
        })
    }
}

impl std::str::FromStr for Zone {
    type Err = FreezeError;

    fn from_str(text: &str) -> Result<Self, FreezeError> {
        let zone = if text == "UTC" { Ok(TimeZone::UTC) } else { TimeZoneDatabase::bundled().get(text) };
        zone.map(|zone| Self(zone, text.into())).map_err(|_| FreezeError::Zone(text.into()))
    }
}

impl TryFrom<String> for Cron {
    type Error = FreezeError;

    fn try_from(text: String) -> Result<Self, FreezeError> {
        text.parse()
    }
}

impl TryFrom<String> for Zone {
    type Error = FreezeError;

    fn try_from(text: String) -> Result<Self, FreezeError> {
        text.parse()
    }
}

impl From<Cron> for String {
    fn from(cron: Cron) -> String {
        cron.text
    }
}

impl From<Zone> for String {
    fn from(zone: Zone) -> String {
        zone.1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(cron: &str, hours: u64, zone: &str) -> FreezeWindow {
        FreezeWindow {
            cron: cron.parse().expect("a cron line"),
            duration: hours * 3_600_000,
            zone: zone.parse().expect("a zone"),
            allow_rollback: true,
        }
    }

    fn at(text: &str) -> i64 {
        text.parse::<Timestamp>().expect("a time").as_millisecond()
    }

    #[test]
    fn a_weekend_is_frozen_from_friday_evening_to_monday_morning() {
        let weekend = window("0 18 * * 5", 62, "Europe/Berlin");
        assert_eq!(weekend.ends_at(at("2026-11-20T16:59:59Z")), None, "17:59 in Berlin");
        let end = Some(at("2026-11-23T07:00:00Z"));
        assert_eq!(weekend.ends_at(at("2026-11-20T17:00:00Z")), end);
        assert_eq!(weekend.ends_at(at("2026-11-23T06:59:59Z")), end);
        assert_eq!(weekend.ends_at(at("2026-11-23T07:00:00Z")), None);
        // In summer 18:00 in Berlin is 16:00 UTC.
        assert!(weekend.ends_at(at("2026-07-03T16:00:00Z")).is_some());
    }

    #[test]
    fn a_time_that_the_clock_leaves_out_begins_when_it_goes_on() {
        let night = window("30 2 * * *", 1, "Europe/Berlin");
        // 2026-03-29: 02:00 is followed by 03:00 (01:00 UTC).
        assert_eq!(night.ends_at(at("2026-03-29T01:45:00Z")), Some(at("2026-03-29T02:30:00Z")));
    }

    #[test]
    fn reads_cron_as_cron_does() {
        let evening = window("*/20 9-17/4 * jan,12 MON-fri", 0, "UTC").cron;
        assert_eq!(evening.minutes, 1 | 1 << 20 | 1 << 40);
        assert_eq!(evening.hours, 1 << 9 | 1 << 13 | 1 << 17);
        assert_eq!(evening.months, 1 << 1 | 1 << 12);
        assert_eq!(evening.weekdays, 0b11_1110);
        assert_eq!("0 0 * * 7".parse::<Cron>().expect("Sunday").weekdays, 1);
        // Both day fields: either is enough.
        let either = window("0 0 13 * 5", 24, "UTC");
        assert!(either.ends_at(at("2026-11-13T12:00:00Z")).is_some());
        assert!(either.ends_at(at("2026-11-20T12:00:00Z")).is_some());
        assert!(either.ends_at(at("2026-12-13T12:00:00Z")).is_some());
        assert!(either.ends_at(at("2026-12-14T12:00:00Z")).is_none());
    }

    #[test]
    fn names_what_it_cannot_read() {
        for text in [
            "",
            "* * * *",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "* * * 13 *",
            "* * * * 8",
            "5-1 * * * *",
            "*/0 * * * *",
            "+5 * * * *",
            ", * * * *",
            "* * * foo *",
        ] {
            assert!(text.parse::<Cron>().is_err(), "{text}");
        }
        let refused = "0 25 * * *".parse::<Cron>().expect_err("no such hour").to_string();
        assert!(refused.starts_with("`25` is no hour: write `*`, numbers from 0 to 23"), "{refused}");
        assert!("Europe/Atlantis".parse::<Zone>().is_err());
        let text = serde_json::to_string(&window("0 18 * * 5", 62, "Europe/Berlin")).expect("plain data");
        assert_eq!(serde_json::from_str::<FreezeWindow>(&text).ok(), Some(window("0 18 * * 5", 62, "Europe/Berlin")));
    }

    proptest::proptest! {
        #[test]
        fn never_panics(cron in "([0-9*/,-]{1,6} ?){0,6}", wall: i64, duration: u64) {
            if let Ok(cron) = cron.parse::<Cron>() {
                let window = FreezeWindow { cron, duration, zone: Zone(TimeZone::UTC, "UTC".into()), allow_rollback: true };
                let _ = window.ends_at(wall);
            }
        }

        /// The calendar search gives what minute-by-minute looking gives.
        #[test]
        fn agrees_with_looking_at_every_minute(
            minute in 0_u32..60, hour in 0_u32..24, weekday in 0_u32..7, length in 1_u64..50, offset in 0_i64..40_000,
        ) {
            // An hour that the clock repeats begins once; looking at every minute finds it twice.
            proptest::prop_assume!(hour != 1);
            let window = window(&format!("{minute} {hour} * * {weekday}"), length, "America/New_York");
            let wall = at("2026-10-20T00:00:00Z") + offset * 60_000;
            let begun = |moment: i64| {
                let zoned = Timestamp::from_millisecond(moment).expect("in range").to_zoned(window.zone.0.clone());
                zoned.minute() as u32 == minute && zoned.hour() as u32 == hour
                    && zoned.weekday().to_sunday_zero_offset() as u32 == weekday
            };
            let brute = (0..(length as i64) * 60).any(|back| begun(wall - back * 60_000));
            proptest::prop_assert_eq!(window.ends_at(wall).is_some(), brute);
        }
    }
}
