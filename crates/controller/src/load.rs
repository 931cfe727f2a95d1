//! What each arm can carry, learnt from its engines: requests a second, divided by how full the engines were meanwhile.
//!
//! An engine is full when its KV cache is, or when requests wait; below that, the cache in use grows with the load. What
//! was measured on engines that are nearly idle says little and is not learnt from. Never looks at how long requests
//! take: a slow candidate fills its cache with fewer of them, and so carries less.

use std::time::Duration;

use tidegate_rollout::capacity::{ArmCapacity, Arms};
use tokio::time::Instant;

use crate::fleet::Endpoint;

/// How much a new second counts in an average.
const NEW: f64 = 0.1;
/// Engines that are less full teach nothing.
const LEAST_FULL: f64 = 0.3;
/// A rate of less than so many requests a second on an endpoint teaches nothing.
const LEAST_RATE: f64 = 0.05;
/// Seconds of averages before anything is learnt from them.
const SETTLED: u32 = 20;
/// Longer ago than this is another story: averages begin anew.
const GAP: Duration = Duration::from_secs(10);

/// What is known of one arm.
#[derive(Clone, Copy, Debug, Default)]
struct ArmLoad {
    picked: Option<u64>,
    rate: Option<f64>,
    full: Option<f64>,
    seconds: u32,
    /// Requests a second that one ready endpoint carries.
    carries: Option<f64>,
}

/// What is known of a pair's load.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Load {
    stable: ArmLoad,
    candidate: ArmLoad,
    looked: Option<Instant>,
}

impl Load {
    /// Looks at the endpoints of both arms, about once a second. Arms on the same endpoints cannot be told apart.
    pub(crate) fn look(&mut self, stable: &[Endpoint], candidate: &[Endpoint], arms: &Arms, now: Instant) {
        let seconds = self.looked.replace(now).map(|before| now.saturating_duration_since(before));
        if seconds.is_some_and(|seconds| seconds > GAP) {
            let kept = |arm: ArmLoad| ArmLoad { carries: arm.carries, ..ArmLoad::default() };
            (self.stable, self.candidate) = (kept(self.stable), kept(self.candidate));
        }
        let seconds = seconds.map_or(0.0, |seconds| seconds.as_secs_f64());
        self.stable.look(stable, arms.stable.ready, seconds);
        self.candidate.look(candidate, arms.candidate.ready, seconds);
    }

    /// Adds what was learnt.
    pub(crate) fn teach(&self, arms: Arms) -> Arms {
        let each = |arm: ArmCapacity, load: &ArmLoad| ArmCapacity { per_endpoint: load.carries.map(coarse), ..arm };
        let rates = self.stable.rate.zip(self.candidate.rate).map(|(stable, candidate)| stable + candidate);
        let carries = self.stable.carries.zip(self.candidate.carries);
        Arms {
            stable: each(arms.stable, &self.stable),
            candidate: each(arms.candidate, &self.candidate),
            offered: rates.filter(|_| self.stable.seconds >= SETTLED).map(coarse),
            learned_ratio: carries.map(|(stable, candidate)| coarse(candidate / stable)),
        }
    }
}

impl ArmLoad {
    fn look(&mut self, endpoints: &[Endpoint], ready: u32, seconds: f64) {
        let picked = endpoints.iter().map(|endpoint| endpoint.picked).sum::<u64>();
        let before = self.picked.replace(picked);
        let full: Vec<f64> = endpoints.iter().filter(|one| !one.ejected).filter_map(|one| one.full).collect();
        if full.is_empty() || full.len() < ready as usize {
            // An engine that does not say how full it is could be the one that is.
            self.full = None;
        } else {
            let mean = full.iter().sum::<f64>() / full.len() as f64;
            self.full = Some(averaged(self.full, mean));
        }
        let Some(before) = before.filter(|before| *before <= picked && seconds > 0.0) else { return };
        self.rate = Some(averaged(self.rate, (picked - before) as f64 / seconds));
        self.seconds = self.seconds.saturating_add(1);
        let (Some(rate), Some(full)) = (self.rate, self.full) else { return };
        let rate = rate / f64::from(ready.max(1));
        if ready > 0 && self.seconds >= SETTLED && full >= LEAST_FULL && rate >= LEAST_RATE {
            self.carries = Some(averaged(self.carries, rate / full.min(1.0)));
        }
    }
}

fn averaged(known: Option<f64>, new: f64) -> f64 {
    known.map_or(new, |known| known + NEW * (new - known))
}

/// Two digits: the journal need not hear of every breath.
fn coarse(value: f64) -> f64 {
    if !(value.is_finite() && value > 0.0) {
        return 0.0;
    }
    let unit = 10_f64.powf(value.log10().floor() - 1.0);
    (value / unit).round() * unit
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Endpoints that got so many requests until now, each so full.
    fn endpoints(count: u32, picked: u64, full: f64) -> Vec<Endpoint> {
        let one = |number: u32| Endpoint {
            address: format!("e{number}").into(),
            picked: picked / u64::from(count),
            full: Some(full),
            ..Endpoint::default()
        };
        (0..count).map(one).collect()
    }

    fn arms(stable: u32, candidate: u32) -> Arms {
        let arm = |ready| ArmCapacity { ready, per_endpoint: None };
        Arms { stable: arm(stable), candidate: arm(candidate), ..Arms::default() }
    }

    /// A minute of traffic: requests a second, and how full it makes each arm.
    fn minute(stable: (u64, f64), candidate: (u64, f64)) -> Arms {
        let mut load = Load::default();
        let begin = Instant::now();
        for second in 0..60 {
            let of = |(rate, full): (u64, f64), count: u32| endpoints(count, rate * second, full);
            load.look(&of(stable, 4), &of(candidate, 1), &arms(4, 1), begin + Duration::from_secs(second));
        }
        load.teach(arms(4, 1))
    }

    #[test]
    fn learns_what_an_endpoint_carries_and_how_the_arms_compare() {
        // Half full at 40 requests a second on four; the candidate's one at 20 is full by two fifths.
        let taught = minute((40, 0.5), (20, 0.4));
        assert_eq!(taught.offered, Some(60.0));
        assert_eq!((taught.stable.per_endpoint, taught.candidate.per_endpoint), (Some(20.0), Some(50.0)));
        assert_eq!(taught.learned_ratio, Some(2.5));
    }

    #[test]
    fn idle_engines_and_silent_ones_teach_nothing() {
        let taught = minute((40, 0.1), (0, 0.0));
        assert_eq!(
            (taught.stable.per_endpoint, taught.candidate.per_endpoint, taught.learned_ratio),
            (None, None, None)
        );
        let mut load = Load::default();
        let begin = Instant::now();
        for second in 0..60 {
            let silent: Vec<Endpoint> = endpoints(4, 40 * second, 0.9)
                .into_iter()
                .enumerate()
                .map(|(number, endpoint)| Endpoint { full: endpoint.full.filter(|_| number > 0), ..endpoint })
                .collect();
            load.look(&silent, &[], &arms(4, 0), begin + Duration::from_secs(second));
        }
        assert_eq!(load.teach(arms(4, 0)).stable.per_endpoint, None);
    }

    #[test]
    fn what_was_learnt_outlives_a_quiet_time() {
        let mut load = Load::default();
        let begin = Instant::now();
        for second in 0..120_u64 {
            let full = if second < 60 { 0.8 } else { 0.0 };
            let picked = 40 * second.min(60);
            load.look(&endpoints(4, picked, full), &[], &arms(4, 0), begin + Duration::from_secs(second));
        }
        let learnt = load.teach(arms(4, 0)).stable.per_endpoint.expect("learnt while it was full");
        assert!((10.0..16.0).contains(&learnt), "{learnt}");
    }
}
