//! What an unquoted scalar is, by YAML 1.2's core schema (so `yes`, `on` and `1_000` are strings).

use serde_json::{Number, Value};

/// The value of an unquoted scalar. An error is a number that JSON cannot hold.
pub(crate) fn plain(text: &str) -> Result<Value, String> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Value::Null),
        "true" | "True" | "TRUE" => return Ok(Value::Bool(true)),
        "false" | "False" | "FALSE" => return Ok(Value::Bool(false)),
        _ => {}
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !unsigned.starts_with(|first: char| first.is_ascii_digit() || first == '.') {
        return Ok(Value::String(text.into()));
    }
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return Err(format!(
            "{text} is a number that Kubernetes objects cannot hold; put it in quotes if it is a text"
        ));
    }
    Ok(number(text).map_or_else(|| Value::String(text.into()), Value::Number))
}

/// The number that the text writes, if it writes one.
fn number(text: &str) -> Option<Number> {
    if let Some(digits) = text.strip_prefix("0x") {
        return radix(digits, 16);
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return radix(digits, 8);
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let positive = text.strip_prefix('+').unwrap_or(text);
    if unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
        if let Ok(integer) = positive.parse::<u64>() {
            return Some(integer.into());
        }
        if let Ok(integer) = positive.parse::<i64>() {
            // -0 is the integer 0 in JSON's and YAML's schema alike.
            return Some(integer.into());
        }
        return Number::from_f64(positive.parse().ok()?);
    }
    is_float(unsigned).then(|| Number::from_f64(positive.parse().ok()?)).flatten()
}

fn radix(digits: &str, radix: u32) -> Option<Number> {
    if !digits.chars().all(|digit| digit.is_digit(radix)) {
        return None;
    }
    u64::from_str_radix(digits, radix).ok().map(Number::from)
}

/// `(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn is_float(text: &str) -> bool {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let whole = digits(text);
    let mut rest = text.get(whole..).unwrap_or_default();
    if let Some(after) = rest.strip_prefix('.') {
        let fraction = digits(after);
        if whole == 0 && fraction == 0 {
            return false;
        }
        rest = after.get(fraction..).unwrap_or_default();
    } else if whole == 0 {
        return false;
    }
    if let Some(exponent) = rest.strip_prefix(['e', 'E']) {
        let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        return !exponent.is_empty() && digits(exponent) == exponent.len();
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn core_schema() {
        for (text, value) in [
            ("", Value::Null),
            ("~", Value::Null),
            ("null", Value::Null),
            ("nULL", json!("nULL")),
            ("true", json!(true)),
            ("FALSE", json!(false)),
            ("yes", json!("yes")),
            ("on", json!("on")),
            ("n", json!("n")),
            ("0", json!(0)),
            ("-0", json!(0)),
            ("007", json!(7)),
            ("+12", json!(12)),
            ("-12", json!(-12)),
            ("0x1F", json!(31)),
            ("0o17", json!(15)),
            ("0b11", json!("0b11")),
            ("1_000", json!("1_000")),
            ("18446744073709551615", json!(u64::MAX)),
            ("-9223372036854775808", json!(i64::MIN)),
            ("18446744073709551616", json!(18_446_744_073_709_551_616.0)),
            ("1.5", json!(1.5)),
            ("1.", json!(1.0)),
            (".5", json!(0.5)),
            ("1e3", json!(1000.0)),
            ("1e", json!("1e")),
            ("-", json!("-")),
            (".", json!(".")),
            ("10.0.0.7", json!("10.0.0.7")),
            ("10:30", json!("10:30")),
            ("2024-01-01", json!("2024-01-01")),
            ("20Mi", json!("20Mi")),
            ("5m", json!("5m")),
            ("v1", json!("v1")),
        ] {
            assert_eq!(plain(text), Ok(value), "{text}");
        }
        assert!(plain(".inf").is_err());
        assert!(plain("-.INF").is_err());
        assert!(plain(".nan").is_err());
    }
}
