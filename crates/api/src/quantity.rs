//! Kubernetes quantities (`20Mi`, `1.5G`, `1e6`) as whole numbers of bytes.

/// Reads a quantity of bytes: a decimal number with an optional suffix out of `Ki Mi Gi Ti Pi Ei` (powers of 1024),
/// `k M G T P E` (powers of 1000), `m` (thousandths) or a decimal exponent. A fraction of a byte is rounded up, as
/// Kubernetes does.
///
/// # Errors
/// A sentence's end that says what is wrong, when the text is no quantity, is negative or exceeds 2⁶³ − 1.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let refuse = || format!("{text:?} is not a size; write a whole number of bytes or a size such as 20Mi");
    let (digits, suffix) = text.split_at(text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len()));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let digits_seen = whole.len() + fraction.len();
    // Longer numbers than this cannot fit and would overflow the arithmetic below.
    if digits_seen == 0 || digits_seen > 25 || fraction.contains('.') {
        return Err(refuse());
    }
    let mantissa: u128 = format!("{whole}{fraction}").parse().map_err(|_| refuse())?;
    let scale = 10_u128.pow(u32::try_from(fraction.len()).map_err(|_| refuse())?);
    let (multiplier, divisor) = factor(suffix).ok_or_else(refuse)?;
    let too_large = || format!("{text:?} is larger than any request; write at most 8Ei");
    let numerator = mantissa.checked_mul(multiplier).ok_or_else(too_large)?;
    let bytes = numerator.div_ceil(scale.checked_mul(divisor).ok_or_else(refuse)?);
    u64::try_from(bytes).ok().filter(|bytes| *bytes <= i64::MAX as u64).ok_or_else(too_large)
}

/// Multiplier and divisor of a suffix.
fn factor(suffix: &str) -> Option<(u128, u128)> {
    let binary = |power: u32| Some((1024_u128.pow(power), 1));
    let decimal = |power: u32| Some((1000_u128.pow(power), 1));
    match suffix {
        "" => Some((1, 1)),
        "m" => Some((1, 1000)),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        "k" => decimal(1),
        "M" => decimal(2),
        "G" => decimal(3),
        "T" => decimal(4),
        "P" => decimal(5),
        "E" => decimal(6),
        _ => exponent(suffix),
    }
}

fn exponent(suffix: &str) -> Option<(u128, u128)> {
    let digits = suffix.strip_prefix(['e', 'E'])?;
    let (negative, digits) = match digits.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, digits.strip_prefix('+').unwrap_or(digits)),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let power = 10_u128.checked_pow(digits.parse::<u32>().ok().filter(|power| *power <= 18)?)?;
    Some(if negative { (1, power) } else { (power, 1) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_what_kubernetes_reads() {
        for (text, bytes) in [
            ("0", 0),
            ("20Mi", 20 * 1024 * 1024),
            ("1.5Ki", 1536),
            ("20M", 20_000_000),
            ("1e3", 1000),
            ("1E3", 1000),
            ("1E", 1_000_000_000_000_000_000),
            ("1500m", 2),
            (".5Ki", 512),
            ("5.", 5),
            ("12e-1", 2),
            ("9223372036854775807", i64::MAX as u64),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_size() {
        for text in ["", ".", "Mi", "-1", "20MB", "20 Mi", "1.2.3", "1e", "0x10", "8Ei", "９", "99999999999999999999E"]
        {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC*") {
            let _ = parse_bytes(&text);
        }

        #[test]
        fn mebibytes_scale(number in 0_u64..8_000_000_000_000) {
            prop_assert_eq!(parse_bytes(&format!("{number}Mi")), Ok(number * 1024 * 1024));
        }
    }
}
