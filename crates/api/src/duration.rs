//! Durations: Gateway API (GEP-2257: `10s`, `1h30m`, `500ms`), and what Go prints.

use std::time::Duration;

/// Reads a duration as the Gateway API writes it; `None` when the text is none.
pub fn parse(text: &str) -> Option<Duration> {
    text.parse::<gateway_api::Duration>()
        .ok()
        .map(|duration| Duration::new(duration.as_secs(), duration.subsec_nanos()))
}

/// Longest duration that [`parse_go`] reads: ten years.
const LONGEST: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

/// Reads a duration as Go prints it, which covers what the Gateway API writes: numbers with an optional fraction and
/// a unit out of `h`, `m`, `s`, `ms`, `us`, `ns`, one after the other; or `0`. `None` when the text is none, is
/// negative or longer than ten years.
pub fn parse_go(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let (digits, after) = rest.split_at(number);
        let unit = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        total = total.checked_add(one_part(digits, nanoseconds(unit)?)?)?;
        rest = after;
    }
    (!text.is_empty() && total <= LONGEST).then_some(total)
}

fn nanoseconds(unit: &str) -> Option<u128> {
    Some(match unit {
        "h" => 3_600_000_000_000,
        "m" => 60_000_000_000,
        "s" => 1_000_000_000,
        "ms" => 1_000_000,
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ns" => 1,
        _ => return None,
    })
}

/// A number times a unit; what is finer than a nanosecond is dropped.
fn one_part(digits: &str, unit: u128) -> Option<Duration> {
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    // Longer numbers are longer than ten years, or finer than nanoseconds of an hour.
    if whole.len() + fraction.len() == 0 || whole.len() > 18 || fraction.len() > 12 || fraction.contains('.') {
        return None;
    }
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let mantissa: u128 = format!("{whole}{fraction}").parse().ok()?;
    u64::try_from(mantissa.checked_mul(unit)? / scale).ok().map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_go_prints() {
        for (text, expected) in [
            ("0", Some(Duration::ZERO)),
            ("10m", Some(Duration::from_secs(600))),
            ("1h0m0s", Some(Duration::from_secs(3600))),
            ("1.5h", Some(Duration::from_secs(5400))),
            (".5s", Some(Duration::from_millis(500))),
            ("1m30.5s", Some(Duration::from_millis(90_500))),
            ("100us", Some(Duration::from_micros(100))),
            ("62h", Some(Duration::from_secs(62 * 3600))),
            ("10", None),
            ("1d", None),
            ("-1s", None),
            ("s", None),
            (".s", None),
            ("1.2.3s", None),
            ("1 h", None),
            ("", None),
            ("99999999h", None),
            ("999999999999999999999h", None),
        ] {
            assert_eq!(parse_go(text), expected, "{text}");
        }
    }

    #[test]
    fn reads_what_the_gateway_api_writes() {
        for (text, expected) in [
            ("0s", Some(Duration::ZERO)),
            ("1h30m", Some(Duration::from_secs(5400))),
            ("500ms", Some(Duration::from_millis(500))),
            ("24h", Some(Duration::from_secs(86_400))),
            ("10", None),
            ("-1s", None),
            ("1d", None),
            ("", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in "\\PC*") {
            let _ = (parse(&text), parse_go(&text));
        }

        #[test]
        fn both_forms_agree_where_both_read(text in "([0-9]{1,5}(h|m|s|ms)){1,4}") {
            if let Some(duration) = parse(&text) {
                proptest::prop_assert_eq!(parse_go(&text), Some(duration).filter(|duration| *duration <= LONGEST));
            }
        }

        #[test]
        fn digits_and_units_never_panic(text in "([0-9]{1,6}(h|m|s|ms)){0,5}") {
            let _ = parse(&text);
        }
    }
}
