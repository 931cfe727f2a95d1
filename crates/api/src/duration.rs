//! Gateway API durations (GEP-2257: `10s`, `1h30m`, `500ms`).

use std::time::Duration;

/// Reads a duration as the Gateway API writes it; `None` when the text is none.
pub fn parse(text: &str) -> Option<Duration> {
    text.parse::<gateway_api::Duration>()
        .ok()
        .map(|duration| Duration::new(duration.as_secs(), duration.subsec_nanos()))
}

#[cfg(test)]
mod tests {
    use super::*;

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
            let _ = parse(&text);
        }

        #[test]
        fn digits_and_units_never_panic(text in "([0-9]{1,6}(h|m|s|ms)){0,5}") {
            let _ = parse(&text);
        }
    }
}
