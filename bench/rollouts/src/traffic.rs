//! Simulated traffic: requests arrive, go to an arm, answer or fail, and the production judge is told in the order in
//! which a gateway would tell it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use tidegate_evidence::{Alarm, Arm, Arrival, EventMetric, Events, Judge, Policy, Sample, Stratum, Verdict};

use crate::draw::Draw;

/// How latencies of one stratum are spread.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Spread {
    /// Log-normal with this deviation of the log.
    LogNormal(f64),
    /// Pareto with this exponent: below 2 it has no variance, at 1 no mean.
    Pareto(f64),
}

/// What makes the traffic hard.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Traffic {
    /// Requests a second.
    pub(crate) rps: f64,
    /// Share of stable's requests that fail.
    pub(crate) base: f64,
    /// Spread of latencies.
    pub(crate) spread: Spread,
    /// Mean turns of a session; 0: requests without sessions, drawn one by one.
    pub(crate) turns: f64,
    /// Whether failures of a session come together: a session is bad or good.
    pub(crate) bad_sessions: bool,
    /// Deviation of a session's own log latency.
    pub(crate) session_spread: f64,
    /// Amplitude of a slow wave in error rate and latency that both arms share, 0..1; one wave is 10 minutes.
    pub(crate) wave: f64,
    /// Outages that both arms share: 20 s in every 3 minutes, this share of requests fails and latency is fourfold.
    pub(crate) bursts: f64,
    /// Share of long prompts among sessions of a heavy user, who has a third of all sessions.
    pub(crate) skew: f64,
    /// The candidate's first so many requests find a cold cache: three times the latency, told as not warm.
    pub(crate) cold: u64,
    /// A mistake on purpose: the judge is not told that requests belong to sessions.
    pub(crate) hide_sessions: bool,
    /// Mean patience of clients before the first token, seconds; 0: they wait for ever.
    pub(crate) patience: f64,
}

impl Traffic {
    /// Plain traffic: 20 requests a second, 1 % errors, nothing hard.
    pub(crate) const PLAIN: Self = Self {
        rps: 20.0,
        base: 0.01,
        spread: Spread::LogNormal(0.5),
        turns: 0.0,
        bad_sessions: false,
        session_spread: 0.0,
        wave: 0.3,
        bursts: 0.0,
        skew: 0.0,
        cold: 0,
        hide_sessions: false,
        patience: 0.0,
    };
}

/// What is wrong with the candidate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Fault {
    /// Its error rate, in multiples of stable's.
    pub(crate) errors: f64,
    /// Its time to first token, in multiples.
    pub(crate) ttft: f64,
    /// Its time per token, in multiples.
    pub(crate) tpot: f64,
    /// Share of its requests that never answer.
    pub(crate) stalls: f64,
    /// Share of its answers that are empty.
    pub(crate) empty: f64,
    /// When it begins: share of the run's requests.
    pub(crate) onset: f64,
}

impl Fault {
    /// Nothing is wrong.
    pub(crate) const NONE: Self = Self { errors: 1.0, ttft: 1.0, tpot: 1.0, stalls: 0.0, empty: 0.0, onset: 0.0 };
}

/// A step of a run: the candidate's share, and for how many requests.
pub(crate) type Step = (f64, u64);

/// How a run ended.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Outcome {
    /// The proof against the candidate.
    pub(crate) alarm: Option<Alarm>,
    /// The weight was found not to be applied.
    pub(crate) mismatch: bool,
    /// Requests of both arms until the end, after the fault began.
    pub(crate) requests: u64,
    /// Of these, the candidate's.
    pub(crate) candidate: u64,
    /// Seconds from the onset.
    pub(crate) seconds: f64,
    /// The verdict was to promote at some time during the run.
    pub(crate) promoted: bool,
}

/// What stays the same through a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Session {
    hash: u64,
    turns_left: u32,
    heavy: bool,
    bad: bool,
    /// Its own factor on latency, log, in millionths.
    own: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Begin,
    Turn(Session),
    FirstToken { request: u64, ttft_us: u64 },
    End { slot: usize },
    Second,
}

/// What a rival judge is shown of each finished request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Seen {
    /// When it ended, seconds.
    pub(crate) at: f64,
    /// Its arm.
    pub(crate) arm: Arm,
    /// Whether it failed.
    pub(crate) failed: bool,
    /// Its time to first token.
    pub(crate) ttft: Option<f64>,
}

impl Seen {
    fn of(now_us: u64, sample: &Sample) -> Self {
        Self {
            at: now_us as f64 / 1e6,
            arm: sample.arrival.arm,
            failed: sample.outcome().contains(EventMetric::Error),
            ttft: sample.ttft,
        }
    }
}

/// One simulated roll-out.
pub(crate) struct Run<'a> {
    traffic: &'a Traffic,
    fault: &'a Fault,
    draw: Draw,
    judge: Judge,
    queue: BinaryHeap<Reverse<(u64, u64, Kind)>>,
    order: u64,
    under_way: Vec<Option<Sample>>,
    free: Vec<usize>,
    share: f64,
    arrived: u64,
    faulty_from: u64,
    candidates: u64,
    onset_us: u64,
    exposed: (u64, u64),
}

impl<'a> Run<'a> {
    /// A run that has not begun.
    pub(crate) fn new(traffic: &'a Traffic, fault: &'a Fault, policy: Policy, draw: Draw) -> Self {
        Self {
            traffic,
            fault,
            draw,
            judge: Judge::new(policy),
            queue: BinaryHeap::new(),
            order: 0,
            under_way: Vec::new(),
            free: Vec::new(),
            share: 0.0,
            arrived: 0,
            faulty_from: 0,
            candidates: 0,
            onset_us: 0,
            exposed: (0, 0),
        }
    }

    fn push(&mut self, at_us: u64, kind: Kind) {
        self.order += 1;
        self.queue.push(Reverse((at_us, self.order, kind)));
    }

    /// Plays the steps until the judge raises an alarm or they are over; `show` sees every finished request and ends the
    /// run by returning true. `next_share`: the verdict is asked for every 10 s, and ends the run when it is to promote.
    pub(crate) fn play(
        mut self,
        steps: &[Step],
        next_share: Option<f64>,
        mut show: impl FnMut(Seen) -> bool,
    ) -> Outcome {
        self.faulty_from = (self.fault.onset * steps.iter().map(|step| step.1).sum::<u64>() as f64) as u64;
        let mut plan = steps.iter().copied();
        let mut step_ends = 0;
        let mut outcome = Outcome::default();
        self.push(1_000_000, Kind::Begin);
        self.push(1_000_000, Kind::Second);
        while let Some(Reverse((now_us, _, kind))) = self.queue.pop() {
            let now_ms = now_us / 1_000;
            if matches!(kind, Kind::Begin | Kind::Turn(_)) && self.arrived >= step_ends {
                let Some((share, requests)) = plan.next() else { break };
                self.share = share;
                step_ends += requests;
                self.judge.begin_step(now_ms, share);
            }
            let alarm = match kind {
                Kind::Begin => {
                    let gap = self.draw.exponential(self.traffic.turns.max(1.0) / self.traffic.rps);
                    self.push(now_us + micros(gap), Kind::Begin);
                    let session = self.session();
                    self.turn(now_us, session)
                }
                Kind::Turn(session) => self.turn(now_us, session),
                Kind::FirstToken { request, ttft_us } => self.judge.first_token(request, ttft_us as f64 / 1e6, now_ms),
                Kind::End { slot } => {
                    let Some(sample) = self.under_way.get_mut(slot).and_then(Option::take) else { continue };
                    self.free.push(slot);
                    if show(Seen::of(now_us, &sample)) {
                        break;
                    }
                    self.judge.observe(&sample)
                }
                Kind::Second => {
                    self.push(now_us + 1_000_000, Kind::Second);
                    let asked = next_share.filter(|_| now_ms % 10_000 < 1_000);
                    if asked.is_some_and(|next_share| self.judge.verdict(now_ms, next_share) == Verdict::Promote) {
                        outcome.promoted = true;
                        break;
                    }
                    self.judge.advance_time(now_ms)
                }
            };
            outcome.seconds = now_us.saturating_sub(self.onset_us) as f64 / 1e6;
            outcome.mismatch |= alarm.as_ref().is_some_and(|alarm| alarm.metric.is_none());
            outcome.alarm = alarm.filter(|alarm| alarm.metric.is_some());
            if outcome.alarm.is_some() {
                break;
            }
        }
        (outcome.requests, outcome.candidate) = self.exposed;
        outcome
    }

    fn session(&mut self) -> Session {
        let turns = self.traffic.turns;
        Session {
            hash: self.draw.bits(),
            turns_left: if turns > 0.0 { self.draw.geometric(turns) } else { 1 },
            heavy: self.draw.chance(1.0 / 3.0),
            bad: self.draw.chance(self.traffic.base),
            own: (self.draw.normal() * self.traffic.session_spread * 1e6) as i64,
        }
    }

    /// One request of a session: it arrives, and what will become of it is drawn.
    fn turn(&mut self, now_us: u64, session: Session) -> Option<Alarm> {
        if session.turns_left > 1 {
            let gap = micros(self.draw.exponential(15.0));
            self.push(now_us + gap, Kind::Turn(Session { turns_left: session.turns_left - 1, ..session }));
        }
        if self.arrived == self.faulty_from {
            self.onset_us = now_us;
        }
        let faulty = self.arrived >= self.faulty_from;
        self.arrived += 1;
        let keyed = self.traffic.turns > 0.0;
        let place = if keyed { session.hash as f64 / 2_f64.powi(64) } else { self.draw.uniform() };
        let arm = if place < self.share { Arm::Candidate } else { Arm::Stable };
        let candidate = arm == Arm::Candidate;
        self.candidates += u64::from(candidate);
        if faulty {
            self.exposed.0 += 1;
            self.exposed.1 += u64::from(candidate);
        }
        let prompt = self.prompt(session.heavy);
        let keyed = keyed && !self.traffic.hide_sessions;
        let arrival = Arrival {
            request: self.arrived,
            at_ms: now_us / 1_000,
            arm,
            share: self.share,
            unit: if keyed { session.hash } else { self.arrived },
            keyed,
            forced: false,
            warm: !candidate || self.candidates > self.traffic.cold,
            stratum: Stratum { prompt, stream: true, ..Stratum::default() },
        };
        let alarm = self.judge.arrived(&arrival);
        let fault = if candidate && faulty { *self.fault } else { Fault::NONE };
        self.serve(now_us, arrival, session, &fault);
        alarm
    }

    fn prompt(&mut self, heavy: bool) -> u8 {
        if heavy && self.draw.chance(self.traffic.skew) {
            return 3;
        }
        match self.draw.uniform() {
            u if u < 0.4 => 0,
            u if u < 0.7 => 1,
            u if u < 0.9 => 2,
            _ => 3,
        }
    }

    /// What becomes of a request, put into the queue.
    fn serve(&mut self, now_us: u64, arrival: Arrival, session: Session, fault: &Fault) {
        let traffic = *self.traffic;
        let seconds = now_us as f64 / 1e6;
        let wave = 1.0 + traffic.wave * (std::f64::consts::TAU * seconds / 600.0).sin();
        let burst = traffic.bursts > 0.0 && seconds % 180.0 >= 160.0;
        let mut sample = Sample {
            arrival,
            end_ms: arrival.at_ms,
            events: Events::NONE,
            first_attempt_failed: false,
            rescued: false,
            ttft: None,
            tpot: None,
        };
        let rate = if traffic.bad_sessions { if session.bad { 0.9 } else { 0.0 } } else { traffic.base * wave };
        let rate = if burst { rate.max(traffic.bursts) } else { rate };
        let long = [1.0, 1.6, 3.0, 8.0].get(usize::from(arrival.stratum.prompt)).copied().unwrap_or(1.0);
        let slow = if burst { 4.0 } else { 1.0 } * if arrival.warm { 1.0 } else { 3.0 };
        let own = (session.own as f64 / 1e6).exp();
        let ttft = 0.2 * long * slow * own * wave * fault.ttft * self.spread();
        if self.draw.chance((rate * fault.errors).min(1.0)) {
            let failed_after = 0.005 + 0.05 * self.draw.uniform();
            match arrival.arm {
                Arm::Candidate => (sample.first_attempt_failed, sample.rescued) = (true, !burst),
                Arm::Stable => sample.events.insert(EventMetric::Error),
            }
            return self.end(now_us + micros(failed_after), sample);
        }
        if self.draw.chance(fault.stalls) {
            sample.events.insert(EventMetric::UpstreamAbort);
            return self.end(now_us + 120_000_000, sample);
        }
        if traffic.patience > 0.0 {
            let patience = self.draw.exponential(traffic.patience);
            if patience < ttft {
                sample.events.insert(EventMetric::ClientCancel);
                return self.end(now_us + micros(patience), sample);
            }
        }
        let tpot = 0.02 * (0.3 * self.draw.normal()).exp() * fault.tpot * wave;
        let tokens = 60.0 * (0.8 * self.draw.normal()).exp();
        (sample.ttft, sample.tpot) = (Some(ttft), Some(tpot));
        if self.draw.chance(fault.empty) {
            sample.events.insert(EventMetric::Empty);
        }
        self.push(now_us + micros(ttft), Kind::FirstToken { request: arrival.request, ttft_us: micros(ttft) });
        self.end(now_us + micros(ttft + tokens * tpot), sample);
    }

    fn spread(&mut self) -> f64 {
        match self.traffic.spread {
            Spread::LogNormal(deviation) => (deviation * self.draw.normal()).exp(),
            Spread::Pareto(exponent) => (1.0 - self.draw.uniform()).powf(-1.0 / exponent).min(1e4),
        }
    }

    fn end(&mut self, at_us: u64, mut sample: Sample) {
        sample.end_ms = at_us / 1_000;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.under_way.push(None);
            self.under_way.len() - 1
        });
        if let Some(place) = self.under_way.get_mut(slot) {
            *place = Some(sample);
        }
        self.push(at_us, Kind::End { slot });
    }
}

fn micros(seconds: f64) -> u64 {
    (seconds * 1e6) as u64
}
