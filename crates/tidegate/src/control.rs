//! The loop around the data plane: documents in, snapshot and statuses out.
//!
//! Lives on the control runtime and owns the order in which things happen when manifests change: intake, compile,
//! apply, publish the statuses, tell the signals and the telemetry what is there now. Holds no rule about meaning.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tidegate_admin::ObjectStore;
use tidegate_api::{Condition, ObjectKey, ObjectStatus, Severity};
use tidegate_controller::{Link, RolloutHandle};
use tidegate_files::{FileSet, FileSource};
use tidegate_proxy::Proxy;
use tidegate_routing::{Admitted, Environment, Intake, compile, given_away, say_given_away};
use tidegate_signals::Poller;
use tidegate_telemetry::metrics::{ConfigState, ReloadOutcome};
use tidegate_telemetry::{KnownModels, Telemetry};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

use crate::{rollouts, view};

/// How often sockets that could not be bound are tried again, and learned model names are published.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// What `/readyz` goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// No snapshot is in force yet.
    Starting,
    /// Serving.
    Ready,
    /// No new connections; running requests finish.
    Draining,
}

/// Everything that a change of manifests touches.
pub(crate) struct Control {
    pub(crate) data: Handle,
    pub(crate) proxy: Arc<Proxy>,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) known_models: Arc<KnownModels>,
    pub(crate) objects: Arc<ObjectStore>,
    pub(crate) poller: Poller,
    pub(crate) intake: Intake,
    pub(crate) environment: Environment,
    pub(crate) said: Said,
    /// What the documents came to.
    pub(crate) admitted: Vec<Admitted>,
    pub(crate) link: Link,
    pub(crate) rollouts: RolloutHandle,
}

/// What statuses say, kept for when model servers change it and no document does.
#[derive(Default)]
pub(crate) struct Said {
    /// As compiled.
    statuses: BTreeMap<ObjectKey, ObjectStatus>,
    /// Added to that: routes with an arm that gives its share of a name away.
    given_away: BTreeMap<ObjectKey, Condition>,
}

impl Control {
    /// Follows the source until `stop` turns true. Ready with the first snapshot.
    pub(crate) async fn run(
        mut self,
        mut source: FileSource,
        readiness: Arc<watch::Sender<Readiness>>,
        mut reload: mpsc::Receiver<()>,
        mut stop: watch::Receiver<bool>,
    ) {
        let mut current = source.current();
        self.apply(&current).await;
        readiness.send_replace(Readiness::Ready);
        let mut housekeeping = tokio::time::interval(HOUSEKEEPING);
        loop {
            tokio::select! {
                // A roll-back is a change of overlays: nothing else goes before it.
                biased;
                () = self.link.changed() => self.put_together(&current).await,
                _ = stop.changed() => return,
                changed = source.changed() => {
                    current = changed;
                    self.apply(&current).await;
                }
                Some(()) = reload.recv() => source.reload(),
                _ = housekeeping.tick() => self.keep_house(&current).await,
            }
        }
    }

    /// Reads a set of documents and puts it in force.
    async fn apply(&mut self, set: &FileSet) {
        for problem in &set.problems {
            tracing::warn!("{problem}");
        }
        self.admitted = self.intake.admit(&set.documents);
        self.put_together(set).await;
    }

    /// Compiles what was admitted with the newest overlays, and puts it in force; once more if binding taught something
    /// that statuses must say.
    async fn put_together(&mut self, set: &FileSet) {
        let laid = self.link.laid();
        self.environment.rollouts = laid.rollouts.clone();
        self.environment.generation = self.environment.generation.saturating_add(1);
        let mut compiled = compile(&self.admitted, &self.environment);
        // The second round says what the first one learned about sockets; its snapshot differs in statuses alone.
        for _ in 0..2 {
            let Some(learned) = self.put_in_force(compiled.snapshot.clone()).await else {
                self.telemetry.reload(ReloadOutcome::Failed, None);
                return;
            };
            if !learned {
                break;
            }
            compiled = compile(&self.admitted, &self.environment);
        }
        let preparing = laid.rollouts.overlays.iter().filter(|overlay| overlay.keeps_prompts);
        self.proxy.keep_prompts_of(&preparing.map(|overlay| overlay.rollout.namespaced_name()).collect());
        let seen = rollouts::seen(laid.version, &self.admitted, compiled.rollouts, &compiled.snapshot);
        self.link.seen(seen).await;
        self.publish(set, compiled.statuses);
    }

    /// Gives a snapshot to the data plane; whether that taught something about sockets. `None` when the data plane
    /// failed.
    async fn put_in_force(&mut self, snapshot: Arc<tidegate_routing::Snapshot>) -> Option<bool> {
        let proxy = self.proxy.clone();
        let results = match self.data.spawn(async move { proxy.apply(snapshot).await }).await {
            Ok(results) => results,
            Err(error) => {
                tracing::error!(%error, "the data plane did not take the new snapshot; the last one serves on");
                return None;
            }
        };
        let (mut bound, mut failures) = (BTreeMap::new(), BTreeMap::new());
        for outcome in results {
            match outcome.result {
                Ok(address) => {
                    if !self.environment.bound.contains_key(&outcome.address) {
                        tracing::info!(%address, "listening");
                    }
                    bound.insert(outcome.address, address);
                }
                Err(error) => {
                    if !self.environment.bind_failures.contains_key(&outcome.address) {
                        tracing::warn!(address = %outcome.address, error, "cannot listen; the other listeners serve");
                    }
                    failures.insert(outcome.address, error);
                }
            }
        }
        let learned = bound != self.environment.bound || failures != self.environment.bind_failures;
        self.environment.bound = bound;
        self.environment.bind_failures = failures;
        Some(learned)
    }

    /// Tells everyone who is not on the request path what is in force now.
    fn publish(&mut self, set: &FileSet, statuses: BTreeMap<ObjectKey, ObjectStatus>) {
        let active = self.proxy.active();
        self.poller.set_targets(view::poll_targets(&active));
        let mut state = ConfigState {
            generation: self.environment.generation,
            applied_seconds: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            ..ConfigState::default()
        };
        for finding in statuses.values().flat_map(|status| &status.findings) {
            match finding.severity {
                Severity::Note => state.notes = state.notes.saturating_add(1),
                Severity::Warning => state.warnings = state.warnings.saturating_add(1),
                Severity::Error => state.errors = state.errors.saturating_add(1),
            }
        }
        self.said.statuses = statuses;
        self.said.given_away = given_away(&active.snapshot, &view::listed(&active));
        self.show(set);
        self.telemetry.reload(ReloadOutcome::Applied, Some(state));
        self.publish_models();
    }

    /// Shows the objects with what is said of them.
    fn show(&self, set: &FileSet) {
        let mut statuses = self.said.statuses.clone();
        say_given_away(&mut statuses, &self.said.given_away);
        rollouts::say_running(&mut statuses, &self.rollouts);
        self.objects.update(set.documents.iter().cloned(), statuses, &now());
    }

    /// Routes whose arms give a share away change with what model servers list.
    fn follow_models(&mut self, set: &FileSet) {
        let active = self.proxy.active();
        let found = given_away(&active.snapshot, &view::listed(&active));
        if found != self.said.given_away {
            self.said.given_away = found;
            self.show(set);
        }
    }

    fn publish_models(&self) {
        let names = view::model_names(&self.proxy.active());
        self.known_models.set(names.iter().map(String::as_str));
    }

    /// Once a second: sockets that could not be bound are tried again, names that servers now list become labels, and
    /// routes say which arms give a share away.
    async fn keep_house(&mut self, current: &FileSet) {
        if !self.environment.bind_failures.is_empty() {
            let before = self.environment.bind_failures.clone();
            let snapshot = self.proxy.active().snapshot.clone();
            if self.put_in_force(snapshot).await == Some(true) && before != self.environment.bind_failures {
                self.apply(current).await;
                return;
            }
        }
        self.publish_models();
        self.follow_models(current);
        if !self.rollouts.list().is_empty() {
            self.show(current);
        }
    }
}

/// The time as Kubernetes prints it, in whole seconds.
fn now() -> String {
    format!("{:.0}", jiff::Timestamp::now())
}
