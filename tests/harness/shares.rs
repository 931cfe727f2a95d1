//! Whether an observed share can be chance.

/// Whether `hits` of `trials` is plausible for a share `expected` (0 to 1): the exact two-sided binomial probability of
/// something at least as unlikely is over `alpha`.
pub fn within_binomial(hits: u64, trials: u64, expected: f64, alpha: f64) -> bool {
    if expected <= 0.0 {
        return hits == 0;
    }
    if expected >= 1.0 {
        return hits == trials;
    }
    let observed = log_probability(hits, trials, expected);
    let tail: f64 = (0..=trials)
        .map(|count| log_probability(count, trials, expected))
        .filter(|log| *log <= observed + 1e-9)
        .map(f64::exp)
        .sum();
    tail > alpha
}

fn log_probability(hits: u64, trials: u64, share: f64) -> f64 {
    let misses = trials - hits;
    log_factorial(trials) - log_factorial(hits) - log_factorial(misses)
        + hits as f64 * share.ln()
        + misses as f64 * (1.0 - share).ln()
}

fn log_factorial(number: u64) -> f64 {
    (2..=number).map(|factor| (factor as f64).ln()).sum()
}

#[cfg(test)]
mod tests {
    use super::within_binomial;

    #[test]
    fn a_fair_share_is_plausible_and_a_wrong_one_is_not() {
        assert!(within_binomial(900, 1000, 0.9, 1e-6));
        assert!(within_binomial(930, 1000, 0.9, 1e-6));
        assert!(!within_binomial(990, 1000, 0.9, 1e-6));
        assert!(!within_binomial(1, 1000, 0.0, 1e-6));
        assert!(within_binomial(0, 1000, 0.0, 1e-6));
    }
}
