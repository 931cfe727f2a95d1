//! The form of `freeze[].cron`. When such a time comes is the roll-out's matter, not the document's.

/// Whether `text` is five fields, each `*` or a list of numbers and ranges within its bounds, with optional steps:
/// minute 0-59, hour 0-23, day of month 1-31, month 1-12 or JAN-DEC, day of week 0-7 or SUN-SAT.
pub fn is_cron(text: &str) -> bool {
    const MONTHS: &[&str] = &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
    const DAYS: &[&str] = &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
    let fields: Vec<&str> = text.split_ascii_whitespace().collect();
    let [minute, hour, day, month, weekday] = fields.as_slice() else { return false };
    is_field(minute, 0, 59, &[])
        && is_field(hour, 0, 23, &[])
        && is_field(day, 1, 31, &[])
        && is_field(month, 1, 12, MONTHS)
        && is_field(weekday, 0, 7, DAYS)
}

/// `names` count from `least`.
fn is_field(field: &str, least: usize, most: usize, names: &[&str]) -> bool {
    let number = |text: &str| {
        let named = names.iter().position(|name| name.eq_ignore_ascii_case(text)).map(|position| position + least);
        let digits = !text.is_empty() && text.len() <= 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        named.or_else(|| text.parse().ok().filter(|_| digits)).filter(|value| (least..=most).contains(value))
    };
    field.split(',').all(|item| {
        let (range, step) = item.split_once('/').map_or((item, None), |(range, step)| (range, Some(step)));
        let digits = |text: &str| text.len() <= 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        let step = step.is_none_or(|step| digits(step) && step.parse::<usize>().is_ok_and(|step| step > 0));
        let range = match range.split_once('-') {
            _ if range == "*" => true,
            Some((first, last)) => matches!((number(first), number(last)), (Some(first), Some(last)) if first <= last),
            None => number(range).is_some(),
        };
        range && step
    })
}

#[cfg(test)]
mod tests {
    use super::is_cron;

    #[test]
    fn takes_five_fields_within_their_bounds() {
        for good in ["0 18 * * 5", "*/15 0-6 1,15 JAN-mar SUN", "59 23 31 12 7", "0 0 * * 1-5/2"] {
            assert!(is_cron(good), "{good}");
        }
        for bad in [
            "",
            "* * * *",
            "* * * * * *",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "* * * 13 *",
            "* * * * 8",
            "5-1 * * * *",
            "*/0 * * * *",
            "a * * * *",
            "1, * * * *",
            "@daily",
            "+1 * * * *",
            "1- * * * *",
        ] {
            assert!(!is_cron(bad), "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in "\\PC*") {
            let _ = is_cron(&text);
        }
    }
}
