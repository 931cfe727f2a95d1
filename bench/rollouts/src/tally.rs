//! What many runs come to: shares with exact bounds, medians.

/// The upper end of the one-sided 95 % Clopper-Pearson interval for a share of which `hits` of `runs` were seen: the
/// share at which so few hits have a chance of 5 %.
pub(crate) fn clopper_pearson_upper(hits: u64, runs: u64) -> f64 {
    if hits >= runs {
        return 1.0;
    }
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..60 {
        let share = 0.5 * (low + high);
        if at_most(hits, runs, share) > 0.05 {
            low = share;
        } else {
            high = share;
        }
    }
    high
}

/// Chance of at most `hits` in `runs` of chance `share`.
fn at_most(hits: u64, runs: u64, share: f64) -> f64 {
    let odds = share / (1.0 - share);
    let mut log_term = runs as f64 * (-share).ln_1p();
    let mut sum = log_term.exp();
    for k in 1..=hits {
        log_term += ((runs - k + 1) as f64 / k as f64 * odds).ln();
        sum += log_term.exp();
    }
    sum.min(1.0)
}

/// The value that the share `p` of values does not exceed; `None` without values.
pub(crate) fn quantile(values: &mut [f64], p: f64) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let rank = (p * values.len() as f64).ceil() as usize;
    values.get(rank.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upper_bounds_are_those_of_the_tables() {
        // scipy.stats.beta.ppf(0.95, hits + 1, runs - hits)
        for (hits, runs, expected) in [(0, 10_000, 0.000_299_528), (100, 10_000, 0.011_797_2), (3, 50, 0.147_837_2)] {
            let found = clopper_pearson_upper(hits, runs);
            assert!((found - expected).abs() < 2e-6, "{hits}/{runs}: {found}");
        }
    }
}
