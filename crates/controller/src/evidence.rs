//! Observations of requests on their way from the data plane to the machines.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidegate_evidence::EventMetric;
use tidegate_rollout::event::{Observation, ShadowProgress};

/// What the data plane tells of a pair.
#[derive(Clone, Debug)]
pub enum Evidence {
    /// Something happened to a request.
    Observed {
        /// Identity of the release, which salts its split.
        uid: Arc<str>,
        /// What.
        observation: Observation,
    },
    /// A copy for a candidate that no client meets yet was answered, or not.
    Shadowed {
        /// Identity of the release.
        uid: Arc<str>,
        /// It failed.
        failed: bool,
        /// It has another shape than was asked for.
        misshapen: bool,
    },
    /// So many observations were dropped before they could be told.
    Lost(u64),
}

/// Observations in order, by the uid of their release.
pub(crate) type ByRelease = Vec<(Arc<str>, Vec<Observation>)>;

/// Observations of one round, by release, in order.
#[derive(Debug, Default)]
pub(crate) struct Round {
    by_release: ByRelease,
    shadows: BTreeMap<Arc<str>, ShadowProgress>,
    lost: u64,
    urgent: bool,
}

impl Round {
    /// Takes one.
    pub(crate) fn take(&mut self, evidence: Evidence) {
        match evidence {
            Evidence::Lost(count) => self.lost = self.lost.saturating_add(count),
            Evidence::Shadowed { uid, failed, misshapen } => {
                let progress = self.shadows.entry(uid).or_default();
                progress.mirrored = progress.mirrored.saturating_add(1);
                progress.failed = progress.failed.saturating_add(u64::from(failed));
                progress.misshapen = progress.misshapen.saturating_add(u64::from(misshapen));
            }
            Evidence::Observed { uid, observation } => {
                self.urgent |= is_failure(&observation);
                match self.by_release.iter_mut().find(|(known, _)| *known == uid) {
                    Some((_, observations)) => observations.push(observation),
                    None => self.by_release.push((uid, vec![observation])),
                }
            }
        }
    }

    /// Whether there is anything in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.by_release.is_empty() && self.shadows.is_empty() && self.lost == 0
    }

    /// Whether it must not wait: a failure can be the one that breaks.
    pub(crate) fn is_urgent(&self) -> bool {
        self.urgent
    }

    /// What came of copies, by release.
    pub(crate) fn shadows(&mut self) -> BTreeMap<Arc<str>, ShadowProgress> {
        std::mem::take(&mut self.shadows)
    }

    /// What is in it: events by release, and how many observations were lost.
    pub(crate) fn empty(&mut self) -> (ByRelease, u64) {
        self.urgent = false;
        (std::mem::take(&mut self.by_release), std::mem::take(&mut self.lost))
    }
}

fn is_failure(observation: &Observation) -> bool {
    match observation {
        Observation::Ended(sample) => {
            sample.first_attempt_failed
                || EventMetric::ALL.into_iter().any(|metric| metric.is_failure() && sample.events.contains(metric))
        }
        Observation::Arrived(_) | Observation::FirstToken { .. } => false,
    }
}
