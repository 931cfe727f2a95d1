//! Whether an arm's last endpoint still lives. The data plane never ejects the last endpoint of a pool, so it is asked here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tidegate_rollout::stage::Stage;

use crate::client;
use crate::fleet::Endpoint;
use crate::jobs::Job;
use crate::run::Run;

/// An answer to `GET /health` takes no longer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Unanswered in a row.
const FAILURES: u32 = 2;

/// Endpoints that were asked, and how often in a row they did not answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dead(Arc<Mutex<BTreeMap<Arc<str>, u32>>>);

impl Dead {
    /// Whether an endpoint left its last calls unanswered.
    pub(crate) fn is_dead(&self, address: &str) -> bool {
        self.0.lock().get(address).is_some_and(|failures| *failures >= FAILURES)
    }

    fn note(&self, address: &Arc<str>, lives: bool) {
        let mut known = self.0.lock();
        if lives {
            known.remove(address);
        } else {
            let failures = known.entry(address.clone()).or_default();
            *failures = failures.saturating_add(1);
        }
    }
}

/// Asks the last endpoints that are in use, and those that were found dead, while the roll-out is under way.
pub(crate) fn watch(run: &mut Run, stable: &[Endpoint], candidate: &[Endpoint], stage: Stage) {
    if !(stage.is_exposed() || matches!(stage, Stage::Warming | Stage::Shadowing)) {
        run.jobs.liveness = None;
        return;
    }
    let mut asked: Vec<Arc<str>> = Vec::new();
    for endpoints in [stable, candidate] {
        let in_use: Vec<&Endpoint> = endpoints.iter().filter(|endpoint| !endpoint.ejected).collect();
        if let [last] = in_use.as_slice() {
            asked.push(last.address.clone());
        }
        let dead = endpoints.iter().filter(|endpoint| run.dead.is_dead(&endpoint.address));
        asked.extend(dead.map(|endpoint| endpoint.address.clone()));
    }
    asked.sort();
    asked.dedup();
    if asked.is_empty() {
        return;
    }
    let dead = run.dead.clone();
    let is_asking = run.jobs.liveness.as_ref().is_some_and(|job| !job.is_finished());
    if !is_asking {
        run.jobs.liveness = Some(Job::start(async move {
            let mut asking = tokio::task::JoinSet::new();
            for address in asked {
                let dead = dead.clone();
                asking.spawn(async move {
                    let answer = client::get(&address, "/health", PATIENCE).await;
                    dead.note(&address, answer.is_ok_and(|answer| answer.status == 200));
                });
            }
            while asking.join_next().await.is_some() {}
        }));
    }
}
