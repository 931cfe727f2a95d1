//! The judge, as part of a state that can be written down and read again.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tidegate_evidence::{Alarm, Checkpoint, Judge, Policy, Report, Verdict};

use crate::event::Observation;
use crate::share::Share;

/// The judge of one attempt.
#[derive(Clone, Debug)]
pub(crate) struct Jury(Judge);

#[derive(Serialize, Deserialize)]
struct Written {
    policy: Policy,
    evidence: Checkpoint,
}

impl Jury {
    pub(crate) fn new(policy: Policy) -> Self {
        Self(Judge::new(policy))
    }

    /// The same evidence under another policy: what the new one still asks for is kept.
    pub(crate) fn adopt(&mut self, policy: Policy) {
        self.0 = Judge::restore(policy, self.0.checkpoint());
    }

    pub(crate) fn policy(&self) -> &Policy {
        self.0.policy()
    }

    pub(crate) fn begin_step(&mut self, now: u64, share: Share) {
        self.0.begin_step(now, share.fraction());
    }

    pub(crate) fn forget_in_flight(&mut self) {
        self.0.forget_in_flight();
    }

    /// Takes one observation; its times go through `translate`.
    pub(crate) fn observe(
        &mut self,
        observation: &Observation,
        now: u64,
        translate: impl Fn(u64) -> u64,
    ) -> Option<Alarm> {
        match observation {
            Observation::Arrived(arrival) => {
                let mut arrival = *arrival;
                arrival.at_ms = translate(arrival.at_ms);
                self.0.arrived(&arrival)
            }
            Observation::FirstToken { request, ttft } => self.0.first_token(*request, *ttft, now),
            Observation::Ended(sample) => {
                let mut sample = *sample;
                sample.arrival.at_ms = translate(sample.arrival.at_ms);
                sample.end_ms = translate(sample.end_ms);
                self.0.observe(&sample)
            }
        }
    }

    pub(crate) fn advance_time(&mut self, now: u64) -> Option<Alarm> {
        self.0.advance_time(now)
    }

    pub(crate) fn verdict(&self, now: u64, next: Share) -> Verdict {
        self.0.verdict(now, next.fraction())
    }

    pub(crate) fn report(&self, now: u64, next: Share) -> Report {
        self.0.report(now, next.fraction())
    }
}

impl Serialize for Jury {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Written { policy: self.0.policy().clone(), evidence: self.0.checkpoint() }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Jury {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = Written::deserialize(deserializer)?;
        Ok(Self(Judge::restore(written.policy, written.evidence)))
    }
}
