//! What the data plane shows once a second: endpoints that are ready, requests that still run, today's traffic.

use tidegate_api::ObjectKey;
use tidegate_api::rollout::ArmSettings;
use tidegate_evidence::Arm;
use tidegate_rollout::capacity::{ArmCapacity, Arms};
use tidegate_rollout::event::Event;
use tidegate_rollout::stage::Stage;
use tokio::time::Instant;

use super::Controller;
use crate::fleet::Endpoint;
use crate::liveness;
use crate::run::{Pools, Run, RunId};

/// How much a new second counts in the average of the traffic.
const NEW: f64 = 0.1;

impl Controller {
    /// Tells one machine what the data plane shows of its arms.
    pub(super) fn look_at_fleet(&mut self, id: RunId) {
        let now = self.options.clock.now().monotonic;
        let fleet = self.options.fleet.clone();
        let Some(run) = self.runs.get_mut(&id) else { return };
        let pools = run.pools.borrow().clone();
        if pools == Pools::default() {
            return;
        }
        // A pool that is gone has no endpoint any more.
        let endpoints = |pool: &Option<ObjectKey>| pool.as_ref().map(|pool| fleet.endpoints(pool)).unwrap_or_default();
        let (stable, candidate) = (endpoints(&pools.stable), endpoints(&pools.candidate));
        let mut arms = arms(run, &stable, &candidate);
        if pools.stable != pools.candidate {
            run.load.look(&stable, &candidate, &arms, Instant::now());
            arms = run.load.teach(arms);
        }
        measure(run, &stable, &candidate, pools.stable == pools.candidate, arms);
        let mut events = Vec::new();
        if run.told_arms != Some(arms) {
            run.told_arms = Some(arms);
            events.push(Event::Arms(arms));
        }
        let stage = run.machine.lock().stage();
        if matches!(stage, Stage::Draining | Stage::RollingBack | Stage::Superseded) {
            // Lost ends leave ghosts; an arm whose endpoints have nothing of ours has nothing under way.
            for (arm, endpoints) in [(Arm::Stable, &stable), (Arm::Candidate, &candidate)] {
                if endpoints.iter().all(|endpoint| endpoint.in_flight == 0) {
                    run.card.flight.lock().forget(arm);
                }
            }
            events.push(Event::InFlight(run.card.flight.lock().now(now)));
        }
        liveness::watch(run, &stable, &candidate, stage);
        for event in events {
            self.tell(id, event);
        }
    }
}

/// Ready endpoints of both arms.
fn arms(run: &Run, stable: &[Endpoint], candidate: &[Endpoint]) -> Arms {
    let ready = |endpoints: &[Endpoint], arm: &ArmSettings, unknown: bool| {
        let serves = |endpoint: &&Endpoint| match arm {
            ArmSettings::Pool { .. } => true,
            ArmSettings::Model(name) => {
                endpoint.models.as_ref().map_or(unknown, |models| models.iter().any(|model| model == name))
            }
        };
        let is_ready = |endpoint: &&Endpoint| !endpoint.ejected && !run.dead.is_dead(&endpoint.address);
        let count = endpoints.iter().filter(is_ready).filter(serves).count();
        ArmCapacity { ready: u32::try_from(count).unwrap_or(u32::MAX), per_endpoint: None }
    };
    Arms {
        stable: ready(stable, &run.settings.stable, true),
        candidate: ready(candidate, &run.settings.candidate, false),
        offered: None,
        learned_ratio: None,
    }
}

/// Requests a second to the pair, by what was sent to the endpoints.
fn measure(run: &mut Run, stable: &[Endpoint], candidate: &[Endpoint], is_one_pool: bool, arms: Arms) {
    let sum = |endpoints: &[Endpoint]| endpoints.iter().map(|endpoint| endpoint.picked).sum::<u64>();
    let picked = if is_one_pool { sum(stable) } else { sum(stable).saturating_add(sum(candidate)) };
    let now = Instant::now();
    let mut traffic = run.card.traffic.lock();
    if let Some((before, at)) = run.picked.replace((picked, now)) {
        let seconds = now.saturating_duration_since(at).as_secs_f64();
        if seconds > 0.0 {
            let rate = picked.saturating_sub(before) as f64 / seconds;
            let average = traffic.requests_per_second.map_or(rate, |known| known + NEW * (rate - known));
            traffic.requests_per_second = Some(average);
        }
    }
    traffic.arms = Some(arms);
}
