//! How others would judge the same traffic: Argo Rollouts as it comes, Kayenta's Mann-Whitney, and a window fixed in
//! advance. Written from their documentation's descriptions; each sees the same finished requests.

use tidegate_evidence::Arm;

use crate::traffic::Seen;

/// A judge that looks at intervals.
pub(crate) trait Rival {
    /// One more finished request. True: roll back.
    fn observe(&mut self, seen: Seen) -> bool;
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Window {
    requests: f64,
    failed: f64,
    ttft: f64,
    answered: f64,
}

impl Window {
    fn add(&mut self, seen: Seen) {
        self.requests += 1.0;
        self.failed += f64::from(u8::from(seen.failed));
        if let Some(ttft) = seen.ttft {
            self.ttft += ttft;
            self.answered += 1.0;
        }
    }
}

/// Argo Rollouts: the candidate's share of successes over each minute must be at least 99 %, and `failureLimit` is 0.
#[derive(Debug, Default)]
pub(crate) struct Argo {
    window: Window,
    ends: f64,
}

impl Rival for Argo {
    fn observe(&mut self, seen: Seen) -> bool {
        let mut failed = false;
        if seen.at >= self.ends {
            failed = self.window.requests > 0.0 && self.window.failed / self.window.requests > 0.01;
            self.window = Window::default();
            self.ends = (seen.at / 60.0).floor() * 60.0 + 60.0;
        }
        if seen.arm == Arm::Candidate {
            self.window.add(seen);
        }
        failed
    }
}

/// What a time series is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Series {
    /// Share of failed requests in a minute.
    Errors,
    /// Mean time to first token in a minute.
    Ttft,
}

/// Kayenta: points of a minute on each arm, compared by Mann-Whitney's test once there are 50, and again after each
/// further minute; worse if significant beyond z.
#[derive(Debug)]
pub(crate) struct Kayenta {
    series: Series,
    z: f64,
    least: usize,
    stable: Window,
    candidate: Window,
    points: (Vec<f64>, Vec<f64>),
    ends: f64,
}

impl Kayenta {
    /// With its usual critical value (confidence 0.98, two-sided) or one that a false-alarm rate was calibrated to.
    pub(crate) fn new(series: Series, z: f64) -> Self {
        let (stable, candidate) = (Window::default(), Window::default());
        Self { series, z, least: 50, stable, candidate, points: (Vec::new(), Vec::new()), ends: 0.0 }
    }

    fn point(&self, window: Window) -> Option<f64> {
        match self.series {
            Series::Errors => (window.requests > 0.0).then(|| window.failed / window.requests),
            Series::Ttft => (window.answered > 0.0).then(|| window.ttft / window.answered),
        }
    }
}

impl Rival for Kayenta {
    fn observe(&mut self, seen: Seen) -> bool {
        let mut worse = false;
        if seen.at >= self.ends {
            if self.ends > 0.0 {
                let (stable, candidate) = (self.point(self.stable), self.point(self.candidate));
                self.points.0.extend(stable);
                self.points.1.extend(candidate);
                worse = self.points.0.len() >= self.least
                    && self.points.1.len() >= self.least
                    && mann_whitney(&self.points.1, &self.points.0) > self.z;
            }
            (self.stable, self.candidate) = (Window::default(), Window::default());
            self.ends = (seen.at / 60.0).floor() * 60.0 + 60.0;
        }
        match seen.arm {
            Arm::Stable => self.stable.add(seen),
            Arm::Candidate => self.candidate.add(seen),
        }
        worse
    }
}

/// A fixed window: after so many candidate requests one look, with a two-sample test at a critical value; then the next
/// window.
#[derive(Debug)]
pub(crate) struct Fixed {
    series: Series,
    size: usize,
    z: f64,
    stable: Vec<f64>,
    candidate: Vec<f64>,
}

impl Fixed {
    /// Windows of `size` candidate requests, worse beyond `z`.
    pub(crate) fn new(series: Series, size: usize, z: f64) -> Self {
        Self { series, size, z, stable: Vec::new(), candidate: Vec::new() }
    }
}

impl Rival for Fixed {
    fn observe(&mut self, seen: Seen) -> bool {
        let value = match self.series {
            Series::Errors => Some(f64::from(u8::from(seen.failed))),
            Series::Ttft => seen.ttft,
        };
        match seen.arm {
            Arm::Stable => self.stable.extend(value),
            Arm::Candidate => self.candidate.extend(value),
        }
        if self.candidate.len() < self.size {
            return false;
        }
        let worse = match self.series {
            Series::Errors => two_shares(&self.candidate, &self.stable),
            Series::Ttft => mann_whitney(&self.candidate, &self.stable),
        } > self.z;
        self.stable.clear();
        self.candidate.clear();
        worse
    }
}

/// Standard score of the difference of two shares, pooled.
fn two_shares(candidate: &[f64], stable: &[f64]) -> f64 {
    let (n, m) = (candidate.len() as f64, stable.len() as f64);
    let (a, b) = (candidate.iter().sum::<f64>(), stable.iter().sum::<f64>());
    let pooled = (a + b) / (n + m);
    let deviation = (pooled * (1.0 - pooled) * (1.0 / n + 1.0 / m)).sqrt();
    if deviation > 0.0 { (a / n - b / m) / deviation } else { 0.0 }
}

/// Standard score of Mann and Whitney's U with the correction for ties: positive if `first` is larger.
fn mann_whitney(first: &[f64], second: &[f64]) -> f64 {
    let (n, m) = (first.len() as f64, second.len() as f64);
    let mut all: Vec<(f64, bool)> =
        first.iter().map(|value| (*value, true)).chain(second.iter().map(|value| (*value, false))).collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut ranks, mut ties, mut below) = (0.0, 0.0, 0.0);
    for equal in all.chunk_by(|a, b| a.0 == b.0) {
        let size = equal.len() as f64;
        let rank = below + (size + 1.0) / 2.0;
        ranks += rank * equal.iter().filter(|value| value.1).count() as f64;
        ties += size * size * size - size;
        below += size;
    }
    let u = ranks - n * (n + 1.0) / 2.0;
    let all = n + m;
    let variance = n * m / 12.0 * (all + 1.0 - ties / (all * (all - 1.0)));
    if variance > 0.0 { (u - n * m / 2.0) / variance.sqrt() } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rank_test_is_the_known_one() {
        // scipy.stats.mannwhitneyu(x, y, use_continuity=False, method='asymptotic'): z from its p-value.
        let (x, y) = ([1.1, 2.0, 3.5, 4.0, 4.0, 7.2], [0.5, 1.0, 2.0, 2.0, 4.0]);
        assert!((mann_whitney(&x, &y) - 1.487_897).abs() < 1e-5, "{}", mann_whitney(&x, &y));
    }
}
