//! Whether an endpoint is in use: what its requests tell, and what its probes tell.
//!
//! Requests that fail three times in a row eject an endpoint, never the last of its pool. A probe that succeeds opens
//! it half: the next request is its trial, and the picker passes it over until that one has succeeded. An endpoint that
//! held requests without a byte and left a probe unanswered is dead: its waiting requests are told at once, and only an
//! answered probe brings it back. Does no I/O; [`super::watch`] does.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tidegate_telemetry::observation::EjectionReason;
use tidegate_telemetry::{Event, ObservationSink};
use tokio::sync::watch;
use tokio::time::Instant;

use super::Upstream;
use super::watch::HealthSettings;
use crate::active::ActivePool;

/// Failures in a row that eject an endpoint.
const FAILURES: u32 = 3;

/// Where events go.
#[derive(Clone)]
pub(crate) struct Events(pub(crate) Arc<dyn ObservationSink>);

impl fmt::Debug for Events {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Events")
    }
}

/// What is known of an endpoint's health.
#[derive(Debug)]
pub(crate) struct Health {
    born: Instant,
    /// Milliseconds after `born`.
    last_byte: AtomicU64,
    failures: AtomicU32,
    /// A probe has succeeded, and no request has been its trial yet.
    half_open: AtomicBool,
    ejection: Mutex<Option<Ejection>>,
    dead: watch::Sender<bool>,
    /// A probe is under way.
    probing: AtomicBool,
    events: Events,
}

#[derive(Debug)]
struct Ejection {
    reason: EjectionReason,
    /// Probes that failed, and trials.
    probes: u32,
    last: Instant,
}

/// What a probe is to find out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// Whether an ejected endpoint may be tried again.
    Return,
    /// Whether an engine that sends nothing still works.
    Alive,
    /// Whether an engine that was found dead works again.
    Revived,
}

/// A probe that is under way until this is dropped.
pub(crate) struct Probing(Arc<Upstream>);

impl Drop for Probing {
    fn drop(&mut self) {
        self.0.health.probing.store(false, Ordering::Release);
    }
}

impl Health {
    pub(super) fn new(events: Events) -> Self {
        Self {
            born: Instant::now(),
            last_byte: AtomicU64::new(0),
            failures: AtomicU32::new(0),
            half_open: AtomicBool::new(false),
            ejection: Mutex::new(None),
            dead: watch::Sender::new(false),
            probing: AtomicBool::new(false),
            events,
        }
    }

    pub(super) fn events(&self) -> Events {
        self.events.clone()
    }

    fn since_birth(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.born).as_millis()).unwrap_or(u64::MAX)
    }
}

impl Upstream {
    /// A byte came from the endpoint. Cheap: called for every chunk.
    pub fn note_byte(&self, now: Instant) {
        self.health.last_byte.store(self.health.since_birth(now), Ordering::Relaxed);
    }

    /// An attempt begins, its place already reserved; whether its success would bring an ejected endpoint back.
    pub(crate) fn begin_attempt(&self) -> bool {
        if self.state.in_flight() <= 1 {
            // Nobody waited before: the silence is counted from here.
            self.note_byte(Instant::now());
        }
        if self.health.half_open.load(Ordering::Acquire) && self.health.half_open.swap(false, Ordering::AcqRel) {
            // The picker passes it over until this request's outcome is known.
            self.state.set_ejected(true);
        }
        self.state.ejected()
    }

    /// Returns when the endpoint is found dead from now on.
    pub(crate) fn found_dead(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut dead = self.health.dead.subscribe();
        async move {
            while dead.changed().await.is_ok() {
                if *dead.borrow_and_update() {
                    return;
                }
            }
            std::future::pending().await
        }
    }

    /// An attempt had a good answer.
    pub(crate) fn succeeded(&self, pool: &str, was_ejected: bool) {
        if self.health.failures.load(Ordering::Relaxed) != 0 {
            self.health.failures.store(0, Ordering::Relaxed);
        }
        if was_ejected {
            self.bring_back(pool, false);
        }
    }

    /// An attempt failed for a reason that lies with the endpoint.
    pub(crate) fn failed(&self, pool: &ActivePool, index: usize, reason: EjectionReason) {
        let failures = self.health.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let mut ejection = self.health.ejection.lock();
        if let Some(known) = &mut *ejection {
            // The trial failed, or a request that had begun before the ejection did.
            known.last = Instant::now();
            self.health.half_open.store(false, Ordering::Release);
            if !self.state.ejected() {
                pool.state.eject(index);
            }
        } else if failures >= FAILURES && pool.state.eject(index) {
            *ejection = Some(Ejection { reason, probes: 0, last: Instant::now() });
            drop(ejection);
            self.tell_ejected(pool, reason);
        }
    }

    /// A probe for an endpoint, where one is due.
    pub(super) fn due(
        self: &Arc<Self>,
        now: Instant,
        inference: bool,
        settings: &HealthSettings,
    ) -> Option<(Check, Probing)> {
        let health = &self.health;
        let returning = health.ejection.lock().as_ref().and_then(|ejection| {
            let wait =
                settings.probe_first.saturating_mul(1_u32 << ejection.probes.min(16)).min(settings.probe_longest);
            let check = match ejection.reason {
                EjectionReason::Silent => Check::Revived,
                _ => Check::Return,
            };
            (ejection.last + wait <= now && !health.half_open.load(Ordering::Acquire)).then_some(check)
        });
        let dead = *health.dead.borrow();
        let check =
            if inference && !dead && self.is_silent(now, settings.silence) { Some(Check::Alive) } else { returning }?;
        let free = !health.probing.swap(true, Ordering::AcqRel);
        free.then(|| (check, Probing(self.clone())))
    }

    fn is_silent(&self, now: Instant, limit: Duration) -> bool {
        let last = Duration::from_millis(self.health.last_byte.load(Ordering::Relaxed));
        self.state.in_flight() > 0 && now.saturating_duration_since(self.health.born).saturating_sub(last) >= limit
    }

    /// What a probe found.
    pub(super) fn probed(&self, pool: &ActivePool, index: usize, check: Check, answered: bool) {
        match (check, answered) {
            (Check::Return, true) => {
                let ejection = self.health.ejection.lock();
                if ejection.is_some() {
                    self.health.half_open.store(true, Ordering::Release);
                    self.state.set_ejected(false);
                }
            }
            (Check::Revived, true) => self.bring_back(&pool.pool.label, true),
            (Check::Return, false) => {}
            // Requests that were picked for it while it was found dead are told again.
            (Check::Revived, false) => drop(self.health.dead.send_replace(true)),
            (Check::Alive, true) => self.note_byte(Instant::now()),
            (Check::Alive, false) => self.died(pool, index),
        }
        // The wait grows with trials too: an endpoint whose probes succeed and whose requests fail is left alone longer.
        if check != Check::Alive
            && let Some(ejection) = &mut *self.health.ejection.lock()
        {
            ejection.probes = ejection.probes.saturating_add(1);
            ejection.last = Instant::now();
        }
    }

    fn died(&self, pool: &ActivePool, index: usize) {
        // Asked again after another silence: the last endpoint is never given up.
        self.note_byte(Instant::now());
        let mut ejection = self.health.ejection.lock();
        if !pool.state.eject(index) {
            return;
        }
        self.health.half_open.store(false, Ordering::Release);
        *ejection = Some(Ejection { reason: EjectionReason::Silent, probes: 0, last: Instant::now() });
        drop(ejection);
        self.connections.sweep();
        self.health.dead.send_replace(true);
        self.tell_ejected(pool, EjectionReason::Silent);
    }

    /// Takes an ejected endpoint back; one that was found dead only on a probe's word.
    fn bring_back(&self, pool: &str, probed: bool) {
        let mut ejection = self.health.ejection.lock();
        if ejection.as_ref().is_none_or(|known| known.reason == EjectionReason::Silent && !probed) {
            return;
        }
        *ejection = None;
        self.health.half_open.store(false, Ordering::Release);
        self.health.failures.store(0, Ordering::Relaxed);
        self.state.set_ejected(false);
        self.note_byte(Instant::now());
        self.health.dead.send_replace(false);
        drop(ejection);
        tracing::info!(pool, endpoint = %self.key.address, "endpoint is in use again");
        self.health.events.0.event(Event::Returned { pool: pool.into(), endpoint: self.key.address.clone() });
    }

    fn tell_ejected(&self, pool: &ActivePool, reason: EjectionReason) {
        let (pool, endpoint) = (pool.pool.label.clone(), self.key.address.clone());
        tracing::warn!(%pool, %endpoint, reason = reason.word(), "endpoint is ejected");
        self.health.events.0.event(Event::Ejected { pool, endpoint, reason });
    }
}
