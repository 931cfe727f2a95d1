//! Preflight: looks at every endpoint of both arms, not through a virtual address, until the machine has heard enough.
//!
//! A round asks each endpoint what the checks need ([`look`]) and reads every check from it ([`checks`]); the machine is
//! told what changed. Rounds follow each other until the machine stops them.

mod checks;
mod look;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidegate_api::rollout::RolloutSettings;
use tidegate_rollout::event::{CheckOutcome, CheckResult, Event};
use tidegate_rollout::plan::Check;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::adapters::{self, NotLoaded};
use crate::fleet::{Endpoint, Fleet};
use crate::jobs::Reporter;
use crate::run::Pools;
use checks::{Seen, read};
use look::Looker;

/// Between two rounds.
const PAUSE: Duration = Duration::from_secs(2);
/// A snapshot with the pair's pools comes sooner than this, or the round goes on without.
const POOLS: Duration = Duration::from_secs(2);

/// What is to be looked at.
pub(crate) struct Asked {
    pub(crate) attempt: u32,
    pub(crate) checks: Vec<Check>,
    /// The candidate's adapter is loaded where it is missing.
    pub(crate) load: bool,
    pub(crate) settings: Arc<RolloutSettings>,
    pub(crate) pools: watch::Receiver<Pools>,
}

/// Looks until it is dropped.
pub(crate) async fn run(mut asked: Asked, fleet: Arc<dyn Fleet>, reporter: Reporter) {
    let mut told: BTreeMap<Check, CheckOutcome> = BTreeMap::new();
    let mut looker = Looker::new(&asked.settings, &asked.checks);
    let mut loads: BTreeMap<Arc<str>, NotLoaded> = BTreeMap::new();
    loop {
        // Copied at once: the borrow is a lock.
        let known = timeout(POOLS, async {
            asked.pools.wait_for(|pools| pools.candidate.is_some()).await.map(|pools| pools.clone())
        });
        let pools = match known.await {
            Ok(Ok(pools)) => pools,
            Ok(Err(_)) => return,
            Err(_) => Pools::default(),
        };
        let endpoints = |pool: &Option<_>| pool.as_ref().map(|pool| fleet.endpoints(pool)).unwrap_or_default();
        let (stable, candidate) = (endpoints(&pools.stable), endpoints(&pools.candidate));
        if asked.load {
            load(&asked.settings, &candidate, &mut loads).await;
        }
        let seen = Seen {
            stable: looker.look(part(&asked.settings, stable), false).await,
            candidate: looker.look(part(&asked.settings, candidate), true).await,
            loads: loads.clone(),
        };
        for check in &asked.checks {
            let outcome = read(*check, &seen, &asked.settings);
            if told.get(check) == Some(&outcome) {
                continue;
            }
            told.insert(*check, outcome.clone());
            let result = CheckResult { attempt: asked.attempt, check: *check, outcome };
            if !reporter.tell(Event::Preflight(result)).await {
                return;
            }
        }
        sleep(PAUSE).await;
    }
}

/// The endpoints that are asked: all, unless the document is content with one.
fn part(settings: &RolloutSettings, endpoints: Vec<Endpoint>) -> Vec<Endpoint> {
    let most = if settings.preflight.every_endpoint { usize::MAX } else { 1 };
    endpoints.into_iter().take(most).collect()
}

/// Loads the candidate's adapter wherever it is missing; what is refused for good is not asked for again.
async fn load(settings: &RolloutSettings, endpoints: &[Endpoint], loads: &mut BTreeMap<Arc<str>, NotLoaded>) {
    let Some(source) = &settings.source else { return };
    let name = settings.candidate.name();
    let mut calls = tokio::task::JoinSet::new();
    for endpoint in endpoints {
        if loads.get(&endpoint.address).is_some_and(|failed| failed.is_final) {
            continue;
        }
        let (address, name, source) = (endpoint.address.clone(), name.to_owned(), source.clone());
        calls.spawn(async move {
            let is_there = look::models(&address).await.is_ok_and(|cards| cards.iter().any(|card| card.id == name));
            let result = if is_there { Ok(()) } else { adapters::load(&address, &name, &source).await };
            (address, result)
        });
    }
    while let Some(done) = calls.join_next().await {
        match done {
            Ok((address, Ok(()))) => drop(loads.remove(&address)),
            Ok((address, Err(failed))) => drop(loads.insert(address, failed)),
            Err(_) => {}
        }
    }
}
