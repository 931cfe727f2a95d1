//! Whether an observed share can be chance: the exact binomial test.

/// The two-sided exact binomial probability: of all outcomes that are no more likely than `hits` of `trials` when each
/// trial hits with probability `share` (0 to 1). 1.0 for the certain outcomes of a share of 0 or 1, else 0.0.
pub(crate) fn binomial_probability(hits: u32, trials: u32, share: f64) -> f64 {
    if share <= 0.0 || share >= 1.0 {
        let certain = if share <= 0.0 { 0 } else { trials };
        return if hits == certain { 1.0 } else { 0.0 };
    }
    // ln n! for n = 0..=trials, so that each term is a few additions.
    let mut log_factorials = vec![0.0_f64];
    for number in 1..=trials {
        let before = log_factorials.last().copied().unwrap_or(0.0);
        log_factorials.push(before + f64::from(number).ln());
    }
    let log_factorial = |number: u32| log_factorials.get(number as usize).copied().unwrap_or(f64::NEG_INFINITY);
    let log_probability = |count: u32| {
        log_factorial(trials) - log_factorial(count) - log_factorial(trials.saturating_sub(count))
            + f64::from(count) * share.ln()
            + f64::from(trials.saturating_sub(count)) * (-share).ln_1p()
    };
    // A little slack, so that the mirror image of an outcome counts although its logarithm was rounded differently.
    let observed = log_probability(hits) + 1e-9;
    (0..=trials).map(log_probability).filter(|log| *log <= observed).map(f64::exp).sum::<f64>().min(1.0)
}

/// The value below which `percent` of the sorted values lie; 0 when there are none.
pub(crate) fn percentile(sorted: &[f64], percent: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index between 0 and last")]
    let index = (percent / 100.0 * last as f64).round() as usize;
    sorted.get(index).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::{binomial_probability, percentile};

    #[test]
    fn agrees_with_published_values() {
        // R: binom.test(x, n, p)$p.value
        for (hits, trials, share, expected) in [
            (7, 10, 0.5, 0.343_75),
            (682, 925, 0.75, 0.382_491_559_575),
            (0, 10, 0.1, 0.612_579_511),
            (5, 20, 0.1, 0.043_174_495_3),
        ] {
            let probability = binomial_probability(hits, trials, share);
            assert!((probability - expected).abs() < 1e-6, "{hits}/{trials} at {share}: {probability}");
        }
        assert!((binomial_probability(7, 10, 0.5) - 0.343_75).abs() < 1e-12);
    }

    #[test]
    fn certain_shares_allow_nothing_else() {
        assert!(binomial_probability(0, 400, 0.0) > 0.5 && binomial_probability(1, 400, 0.0) < 1e-9);
        assert!(binomial_probability(400, 400, 1.0) > 0.5 && binomial_probability(399, 400, 1.0) < 1e-9);
    }

    #[test]
    fn a_wrong_share_is_found_and_a_right_one_is_not_accused() {
        assert!(binomial_probability(40, 400, 0.1) > 0.5);
        assert!(binomial_probability(200, 400, 0.1) < 1e-6);
    }

    #[test]
    fn percentiles_of_few_values() {
        assert_eq!(percentile(&[], 50.0), 0.0);
        assert_eq!(percentile(&[1.0, 2.0, 3.0], 50.0), 2.0);
        assert_eq!(percentile(&[1.0, 2.0, 3.0], 99.0), 3.0);
    }
}
