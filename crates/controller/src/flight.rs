//! What still runs on each arm of a roll-out, from arrivals and ends.

use std::collections::HashMap;

use tidegate_evidence::Arm;
use tidegate_rollout::event::{InFlight, Observation, Running};

/// Requests under way at most that are remembered; more are counted without their age.
const REMEMBERED: usize = 100_000;

/// Requests of the pair: those under way, and how many have ended in this process.
#[derive(Debug, Default)]
pub(crate) struct Flight {
    under_way: HashMap<u64, (Arm, u64)>,
    /// On stable, on the candidate.
    ended: [u64; 2],
    /// What failed on the candidate and was answered by stable.
    pub(crate) shielded: u64,
}

impl Flight {
    /// Takes what was observed.
    pub(crate) fn observe(&mut self, observation: &Observation) {
        match observation {
            Observation::Arrived(arrival) => {
                if self.under_way.len() < REMEMBERED {
                    self.under_way.insert(arrival.request, (arrival.arm, arrival.at_ms));
                }
            }
            Observation::FirstToken { .. } => {}
            Observation::Ended(sample) => {
                self.under_way.remove(&sample.arrival.request);
                let [stable, candidate] = &mut self.ended;
                match sample.arrival.arm {
                    Arm::Stable => *stable = stable.saturating_add(1),
                    Arm::Candidate => {
                        *candidate = candidate.saturating_add(1);
                        self.shielded = self.shielded.saturating_add(u64::from(sample.rescued));
                    }
                }
            }
        }
    }

    /// How many have ended on stable and on the candidate.
    pub(crate) fn ended(&self) -> [u64; 2] {
        self.ended
    }

    /// Observations were lost, and no endpoint of an arm has anything under way: what is remembered there is over.
    pub(crate) fn forget(&mut self, arm: Arm) {
        self.under_way.retain(|_, (of, _)| *of != arm);
    }

    /// Count and age of the oldest, by the monotonic clock.
    pub(crate) fn now(&self, now: u64) -> InFlight {
        let of = |arm: Arm| {
            let began = self.under_way.values().filter(|(of, _)| *of == arm).map(|(_, began)| *began);
            let oldest = began.clone().min().map_or(0, |began| now.saturating_sub(began));
            Running { count: began.count() as u64, oldest }
        };
        InFlight { stable: of(Arm::Stable), candidate: of(Arm::Candidate) }
    }
}
