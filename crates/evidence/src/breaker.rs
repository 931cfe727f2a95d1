//! The breaker: acts on the candidate's last few units, before the tests have seen enough.
//!
//! Five failures among ten units would be proof enough at a base rate of 1 %, but not during an outage that both arms
//! share, nor at 5 %. So what it sees must also be unlikely, by Fisher's exact test, given how stable's units of the same
//! time did: while the arm has no effect, the failures fall on the arms like cards.

use std::collections::{BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use crate::numeric::ln_choose;
use crate::policy::Breaker;
use crate::sample::{Arm, Sample};

/// Windows, in multiples of the policy's.
const WINDOWS: [usize; 4] = [1, 2, 4, 8];
/// Units of stable that are kept.
const STABLE_KEPT: usize = 400;
/// So many failed requests in a row are proof although they may be one session's. Fewer count by session: one session that
/// cannot be answered (a prompt that is too long, a broken tool) fails on either arm, and where traffic is thin its turns
/// follow each other.
const STUBBORN: u32 = 20;
/// Sessions of a run that are told apart.
const RUN_SESSIONS: usize = 64;
/// Failure rate that is taken for usual before stable has shown its own.
const USUAL: f64 = 0.01;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Unit {
    order: u64,
    session: Option<u64>,
    failed: bool,
}

/// Why it acts.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tripped {
    pub(crate) log_chance: f64,
    pub(crate) detail: String,
}

/// Both arms' last units.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Recent {
    order: u64,
    candidate: VecDeque<Unit>,
    stable: VecDeque<Unit>,
    stable_units: u64,
    stable_failed: u64,
    run: u32,
    #[serde(default)]
    run_units: u64,
    #[serde(default)]
    run_sessions: BTreeSet<u64>,
    run_stable_well: u64,
    run_stable_failed: u64,
}

impl Recent {
    /// One more request that says something about its arm. Some: the breaker trips.
    pub(crate) fn observe(&mut self, sample: &Sample, policy: &Breaker) -> Option<Tripped> {
        let arrival = &sample.arrival;
        let outcome = sample.outcome();
        let failed = crate::sample::EventMetric::ALL.iter().any(|m| m.is_failure() && outcome.contains(*m));
        let session = arrival.keyed.then_some(arrival.unit);
        self.order += 1;
        match arrival.arm {
            Arm::Stable => {
                let unit = Unit { order: self.order, session, failed };
                self.stable_units += u64::from(push(&mut self.stable, unit, STABLE_KEPT));
                self.stable_failed += u64::from(failed);
                self.run_stable_well += u64::from(!failed);
                self.run_stable_failed += u64::from(failed);
                return None;
            }
            Arm::Candidate => {
                let longest = policy.window.max(1) as usize * WINDOWS.iter().max().copied().unwrap_or(1);
                push(&mut self.candidate, Unit { order: self.order, session, failed }, longest);
            }
        }
        if !failed {
            self.run = 0;
            self.run_units = 0;
            self.run_sessions.clear();
            self.run_stable_well = 0;
            self.run_stable_failed = 0;
            return None;
        }
        self.run = self.run.saturating_add(1);
        let room = self.run_sessions.len() < RUN_SESSIONS;
        self.run_units += u64::from(session.is_none_or(|session| room && self.run_sessions.insert(session)));
        self.run_stable_well += u64::from(sample.rescued);
        if !policy.enabled {
            return None;
        }
        let whole = arrival.share >= 1.0;
        self.in_a_row(policy, whole)
            .or_else(|| if whole || self.stable.is_empty() { self.alone(policy) } else { self.compared(policy) })
    }

    /// So many failed requests of the candidate in a row while stable answers.
    fn in_a_row(&self, policy: &Breaker, whole: bool) -> Option<Tripped> {
        if policy.consecutive == 0 || self.run < policy.consecutive {
            return None;
        }
        let run = if self.run < STUBBORN { self.run_units } else { u64::from(self.run) };
        let stable = self.run_stable_well + self.run_stable_failed;
        let log_chance =
            if whole { run as f64 * self.usual().ln() } else { fisher(run, run, stable, self.run_stable_failed) };
        (log_chance <= policy.chance.ln()).then(|| Tripped {
            log_chance,
            detail: format!(
                "the candidate's last {} requests all failed, {} of stable's {stable} in the same time",
                self.run, self.run_stable_failed
            ),
        })
    }

    /// The rate at which stable's units fail.
    fn usual(&self) -> f64 {
        ((self.stable_failed as f64 + 1.0) / (self.stable_units as f64 + 1.0 / USUAL)).clamp(USUAL, 0.99)
    }

    /// Too many failures among the last units to be chance, by what stable showed in the same time.
    fn compared(&self, policy: &Breaker) -> Option<Tripped> {
        for window in WINDOWS.map(|times| times * policy.window.max(1) as usize) {
            let needed = (window as f64 * f64::from(policy.failures) / f64::from(policy.window.max(1))).ceil() as u64;
            let needed = if window == policy.window as usize { u64::from(policy.failures) } else { needed };
            let Some((began, units, failed)) = last(&self.candidate, window, needed) else { continue };
            let stable = self.stable.iter().filter(|unit| unit.order >= began);
            let (stable_units, stable_failed) =
                stable.fold((0, 0), |(units, failed), unit| (units + 1, failed + u64::from(unit.failed)));
            let log_chance = fisher(units, failed, stable_units, stable_failed);
            if log_chance <= (policy.chance / WINDOWS.len() as f64).ln() {
                return Some(Tripped {
                    log_chance,
                    detail: format!(
                        "{failed} of the candidate's last {units} units failed, {stable_failed} of stable's \
                         {stable_units} in the same time"
                    ),
                });
            }
        }
        None
    }

    /// The same without anything to compare with: against the rate that stable had.
    fn alone(&self, policy: &Breaker) -> Option<Tripped> {
        let (_, units, failed) = last(&self.candidate, policy.window.max(1) as usize, u64::from(policy.failures))?;
        let log_chance = binomial_tail(units, failed, self.usual());
        (log_chance <= policy.chance.ln()).then(|| Tripped {
            log_chance,
            detail: format!("{failed} of the candidate's last {units} units failed, with no stable to compare with"),
        })
    }
}

/// Keeps a session's place if it is still there, so that one session cannot fill the window. True: it was new.
fn push(units: &mut VecDeque<Unit>, unit: Unit, most: usize) -> bool {
    if unit.session.is_some()
        && let Some(known) = units.iter_mut().find(|known| known.session == unit.session)
    {
        known.failed |= unit.failed;
        return false;
    }
    units.push_back(unit);
    while units.len() > most {
        units.pop_front();
    }
    true
}

/// When the last `window` units began, how many they are, and how many failed, if at least `needed` did.
fn last(units: &VecDeque<Unit>, window: usize, needed: u64) -> Option<(u64, u64, u64)> {
    let recent = units.iter().rev().take(window);
    let (began, count, failed) = recent.fold((u64::MAX, 0, 0), |(began, count, failed), unit| {
        (began.min(unit.order), count + 1, failed + u64::from(unit.failed))
    });
    (failed >= needed.max(1)).then_some((began, count, failed))
}

/// Log of the chance that at least `failed` of all failures fall on the candidate's `units`, if they fall anywhere.
pub(crate) fn fisher(units: u64, failed: u64, stable_units: u64, stable_failed: u64) -> f64 {
    let (all, all_failed) = (units + stable_units, failed + stable_failed);
    let whole = ln_choose(all, all_failed);
    let terms: Vec<f64> = (failed..=units.min(all_failed))
        .filter(|on_candidate| all_failed - on_candidate <= stable_units)
        .map(|on_candidate| ln_choose(units, on_candidate) + ln_choose(stable_units, all_failed - on_candidate) - whole)
        .collect();
    crate::numeric::log_sum(&terms).min(0.0)
}

/// Log of the chance of at least `failed` failures in `units`, each with the chance `rate`.
pub(crate) fn binomial_tail(units: u64, failed: u64, rate: f64) -> f64 {
    let terms: Vec<f64> = (failed..=units)
        .map(|k| ln_choose(units, k) + k as f64 * rate.ln() + (units - k) as f64 * (-rate).ln_1p())
        .collect();
    crate::numeric::log_sum(&terms).min(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Policy;
    use crate::sample::{Arrival, Events, Stratum};

    /// Request at which the breaker trips when every candidate request fails, `sessions` of them taking turns, and each
    /// time ten requests of stable are answered.
    fn trips_at(sessions: u64) -> Option<u64> {
        // As documents have it where they do not say otherwise.
        let policy = Breaker { consecutive: 5, ..Policy::node().breaker };
        let mut recent = Recent::default();
        let mut request = 0;
        let mut answer = |arm, unit, failed| {
            request += 1;
            let arrival = Arrival {
                request,
                at_ms: request,
                arm,
                share: 0.1,
                unit,
                keyed: true,
                forced: false,
                warm: true,
                stratum: Stratum::default(),
            };
            let events = if failed { Events::NONE.with(crate::sample::EventMetric::Error) } else { Events::NONE };
            let answer = Sample {
                arrival,
                end_ms: request,
                events,
                first_attempt_failed: false,
                rescued: false,
                ttft: None,
                tpot: None,
            };
            recent.observe(&answer, &policy)
        };
        (1..=100).find(|turn| {
            for _ in 0..10 {
                assert_eq!(answer(Arm::Stable, 1_000 + turn % 50, false), None);
            }
            answer(Arm::Candidate, turn % sessions, true).is_some()
        })
    }

    #[test]
    fn one_session_that_cannot_be_answered_is_not_an_outage_before_its_twentieth_turn() {
        assert_eq!(trips_at(1), Some(20));
        assert_eq!(trips_at(2), Some(20));
        assert_eq!(trips_at(50), Some(5));
    }
}
