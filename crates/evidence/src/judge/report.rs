//! All numbers of a judge, for `status`, `explain` and people.

use super::Judge;
use super::decide::Missing;
use crate::latency::upper_ratio;
use crate::sample::{Arm, EventMetric, LatencyMetric};
use crate::verdict::{ArmCounts, Interval, Metric, MetricReport, QuantileReport, RatioReport, Report, Why};
use crate::wealth::Wealth;

/// Chance of error of intervals that are only shown.
const SHOWN_ALPHA: f64 = 0.05;
/// Quantiles that are shown.
const SHOWN: [f64; 3] = [0.5, 0.9, 0.99];

impl Judge {
    /// All numbers, with the promotion bounds for `next_share`.
    pub fn report(&self, now_ms: u64, next_share: f64) -> Report {
        let observed = self.policy.observed.iter().copied();
        let observed = observed.filter(|metric| self.policy.events.iter().all(|guard| guard.metric != *metric));
        let events = self.policy.events.iter().map(|guard| (guard.metric, true)).chain(observed.map(|m| (m, false)));
        let events = events.filter_map(|(metric, guard)| self.event_report(metric, guard, now_ms, next_share));
        let latencies = self.policy.latencies.iter().filter_map(|guard| {
            let missing = self.missing_latency(guard);
            self.latency_report(guard.metric, missing.as_ref(), now_ms)
        });
        Report {
            metrics: events.chain(latencies).collect(),
            ratio: self.ratio_report(),
            quantiles: self.quantile_reports(),
            share_requests: self.state.step.requests.candidate_share(),
            share_units: self.state.step.units.candidate_share(),
            unresolved: self.state.unresolved,
            excluded: self.state.excluded,
            alarm: self.state.alarm.clone(),
        }
    }

    fn event_report(&self, metric: EventMetric, guard: bool, now_ms: u64, next_share: f64) -> Option<MetricReport> {
        let test = self.state.events.get(&metric)?;
        let (stable, candidate) = test.counts();
        let (step, trials) = (self.state.step.events(metric), self.state.step.trials);
        let rule = self.policy.events.iter().find(|rule| rule.metric == metric);
        let missing = rule.and_then(|rule| self.missing_events(rule, next_share));
        let bound = self.state.step.increase_at_most(metric, self.state.unresolved, self.policy.alpha_promote);
        Some(MetricReport {
            metric: Metric::Event(metric),
            guard,
            stable: ArmCounts { counted: stable, step_trials: trials.stable, step_events: step.stable },
            candidate: ArmCounts { counted: candidate, step_trials: trials.candidate, step_events: step.candidate },
            ratio: test.ratio(SHOWN_ALPHA),
            ln_e: finite(test.wealth.ln_whole()),
            ln_e_limit: Wealth::whole_limit(self.alpha_of_one()),
            detector_ln_e: finite(test.wealth.ln_detector()),
            detector_limit: test.wealth.detector_limit(self.alpha_of_one()),
            promote_bound: Some(bound),
            eta_seconds: self.eta(missing.as_ref(), now_ms),
        })
    }

    fn latency_report(&self, metric: LatencyMetric, missing: Option<&Missing>, now_ms: u64) -> Option<MetricReport> {
        let test = self.state.latencies.get(&metric)?;
        let (stable, candidate) = test.compared;
        let estimate = (test.whole.n > 0).then(|| test.whole.mean.exp());
        let upper = upper_ratio(&test.whole, self.policy.burn_in, SHOWN_ALPHA / 2.0);
        let lower = upper.zip(estimate).map(|(upper, estimate)| estimate * estimate / upper);
        Some(MetricReport {
            metric: Metric::Latency(metric),
            guard: true,
            stable: ArmCounts { counted: stable, ..ArmCounts::default() },
            candidate: ArmCounts { counted: candidate, step_trials: test.step_candidate, step_events: 0 },
            ratio: Interval { lower, estimate, upper },
            ln_e: finite(test.wealth.ln_whole()),
            ln_e_limit: Wealth::whole_limit(self.alpha_of_one()),
            detector_ln_e: finite(test.wealth.ln_detector()),
            detector_limit: test.wealth.detector_limit(self.alpha_of_one()),
            promote_bound: match missing.map(|missing| &missing.why) {
                Some(Why::LatencyMargin { ratio_at_most, .. }) => *ratio_at_most,
                _ => test.ratio_at_most(self.policy.burn_in, self.policy.alpha_promote),
            },
            eta_seconds: self.eta(missing, now_ms),
        })
    }

    fn eta(&self, missing: Option<&Missing>, now_ms: u64) -> Option<u64> {
        match missing {
            None => Some(0),
            Some(missing) => self.seconds_for(now_ms, missing.needs?),
        }
    }

    fn ratio_report(&self) -> RatioReport {
        let (units, observed, expected) = self.state.ratio.counts();
        RatioReport {
            ln_e: self.state.ratio.ln_e(),
            limit: -self.policy.alpha_ratio.ln(),
            expected,
            observed,
            units,
            verified: self.state.ratio.verified(self.policy.alpha_ratio),
            mismatch: self.state.ratio.mismatch(),
        }
    }

    fn quantile_reports(&self) -> Vec<QuantileReport> {
        let metrics = [LatencyMetric::Ttft, LatencyMetric::Tpot];
        let shown = metrics.into_iter().flat_map(|metric| SHOWN.map(|quantile| (metric, quantile)));
        shown
            .map(|(metric, quantile)| {
                let of = |arm| {
                    let histogram = self.state.step.histogram(metric, arm);
                    histogram.map(|histogram| histogram.bounds(quantile, SHOWN_ALPHA / 2.0)).unwrap_or_default()
                };
                let (stable, candidate) = (of(Arm::Stable), of(Arm::Candidate));
                let ratio = Interval {
                    lower: quotient(candidate.lower, stable.upper),
                    estimate: quotient(candidate.estimate, stable.estimate),
                    upper: quotient(candidate.upper, stable.lower),
                };
                QuantileReport { metric, quantile, stable, candidate, ratio }
            })
            .collect()
    }
}

fn quotient(above: Option<f64>, below: Option<f64>) -> Option<f64> {
    above.zip(below).filter(|(_, below)| *below > 0.0).map(|(above, below)| above / below)
}

/// Reports are JSON, which has no infinity.
fn finite(value: f64) -> f64 {
    value.clamp(-1e9, 1e9)
}
