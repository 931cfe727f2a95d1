//! Releases come and go: with documents, and with the process.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;
use tidegate_api::ObjectKey;
use tidegate_api::rollout::RolloutSettings;
use tidegate_rollout::effect::Effect;
use tidegate_rollout::event::{Admission, Event, Refusal};
use tidegate_rollout::journal::opening;
use tidegate_rollout::plan::Plan;
use tidegate_rollout::stage::Stage;
use tidegate_rollout::{Machine, Origin};

use super::Controller;
use crate::board::Card;
use crate::run::{Pools, Run, RunId};
use crate::seen::{Described, Found, Seen, admission, pair_weights};
use crate::store::{KeptDocument, Loaded, Place, Work};

impl Controller {
    /// Takes up a release that an earlier process had.
    pub(super) fn resume(&mut self, loaded: Loaded) {
        let Loaded { place, key, kept, replayed, history } = loaded;
        if replayed.machine.is_forgotten() {
            let _ = self.store.ask(Work::Remove { run: RunId(0), place, whole: false });
            return;
        }
        let restarted = replayed.restarted();
        let left_over: Vec<Effect> =
            replayed.last.into_iter().filter(|effect| matches!(effect, Effect::UnloadAdapter { .. })).collect();
        let is_superseded = replayed.machine.stage() == Stage::Superseded;
        let machine = Arc::new(Mutex::new(replayed.machine));
        let card = Arc::new(Card::new(kept.document, machine.clone()));
        history.into_iter().for_each(|line| card.remember(line));
        let settings = Arc::new(kept.spec.settings());
        let id = self.number_run();
        let mut run = Run::new(id, key.clone(), place.clone(), settings, machine, card.clone());
        let ticket = run.ticket();
        let end = u64::try_from(replayed.end).unwrap_or(u64::MAX);
        if let Err(error) = self.store.ask(Work::Resume { run: id, place, end, ticket }) {
            tracing::error!(rollout = %key, error, "its journal cannot be opened");
        }
        self.runs.insert(id, run);
        if !is_superseded {
            self.current.insert(key.clone(), id);
            self.board.put(&key, card);
        }
        tracing::info!(rollout = %key, records = replayed.records, torn = replayed.torn, "goes on where it stood");
        self.carry_out(id, left_over);
        self.tell(id, restarted);
        if let Some(run) = self.runs.get_mut(&id) {
            // The weights that were in force are in force from the first snapshot on, whatever the disk does.
            let effects = run.overdue(tokio::time::Instant::now() + std::time::Duration::from_secs(3600));
            self.carry_out(id, effects);
        }
    }

    fn number_run(&mut self) -> RunId {
        let id = RunId(self.next_run);
        self.next_run = self.next_run.saturating_add(1);
        id
    }

    /// A snapshot is in force: documents appeared, changed or went, and weights are applied.
    pub(super) fn seen(&mut self, seen: Seen) {
        self.is_stale = true;
        self.seen_once = true;
        for described in seen.described.values() {
            self.follow(described);
        }
        let gone: BTreeSet<RunId> =
            self.runs.values().filter(|run| !seen.described.contains_key(&run.key)).map(|run| run.id).collect();
        for id in gone {
            let is_news = self.runs.get_mut(&id).is_some_and(|run| !std::mem::replace(&mut run.is_deleted, true));
            if is_news {
                self.tell(id, Event::Deleted);
            }
        }
        for (key, found) in &seen.found {
            self.found(key, found, seen.version);
        }
        let applied = self.versions.get(&seen.version).cloned().unwrap_or_default();
        self.versions = self.versions.split_off(&seen.version);
        for (id, epoch) in applied {
            let is_news = self.runs.get(&id).is_some_and(|run| run.machine.lock().epochs().1 < epoch);
            if is_news {
                self.tell(id, Event::WeightsApplied { epoch });
            }
        }
    }

    /// A document that is in force.
    fn follow(&mut self, described: &Described) {
        let settings = described.spec.settings();
        let key = &described.key;
        let origin = Origin {
            namespace: &key.namespace,
            name: &key.name,
            uid: described.uid.as_deref(),
            generation: described.generation,
        };
        let plan = match Plan::from_settings(origin, &settings) {
            Ok(plan) => plan,
            Err(error) => {
                tracing::error!(rollout = %key, %error, "its document cannot be followed");
                return;
            }
        };
        let Some(id) = self.current.get(key).copied() else {
            self.begin(described, settings, plan);
            return;
        };
        let Some(run) = self.runs.get_mut(&id) else { return };
        let was_deleted = std::mem::replace(&mut run.is_deleted, false);
        let (is_same, is_other) = {
            let machine = run.machine.lock();
            (*machine.plan() == plan, machine.plan().is_other_release(&plan))
        };
        if is_other {
            self.supersede(id, described, settings, plan);
            return;
        }
        let document_changed = *run.card.document.read() != described.document;
        if document_changed {
            *run.card.document.write() = described.document.clone();
        }
        let settings_changed = *run.settings != settings;
        run.settings = Arc::new(settings);
        if document_changed || settings_changed {
            let place = run.place.clone();
            self.keep_document(id, &place, described);
        }
        if !is_same || was_deleted {
            self.tell(id, Event::Document(Box::new(plan)));
        }
    }

    fn keep_document(&self, run: RunId, place: &Place, described: &Described) {
        if self.not_owned.is_some() {
            return;
        }
        let kept = KeptDocument {
            namespace: described.key.namespace.clone(),
            name: described.key.name.clone(),
            spec: described.spec.clone(),
            document: described.document.clone(),
        };
        let asked = serde_json::to_vec(&kept)
            .map_err(|error| error.to_string())
            .and_then(|bytes| self.store.ask(Work::Document { run, place: place.clone(), bytes }));
        if let Err(error) = asked {
            tracing::error!(rollout = %described.key, error, "its document cannot be kept");
        }
    }

    /// A release begins.
    fn begin(&mut self, described: &Described, settings: RolloutSettings, plan: Plan) {
        let key = described.key.clone();
        let place = Place::new(&self.options.state_dir, &key, &plan.uid);
        // An older run of the very same release has nothing left to say.
        let same: Vec<RunId> = self.runs.values().filter(|run| run.place == place).map(|run| run.id).collect();
        same.into_iter().for_each(|id| drop(self.runs.remove(&id)));
        let at = self.options.clock.now();
        let line = match opening(&plan, at) {
            Ok(line) => line,
            Err(error) => {
                tracing::error!(rollout = %key, %error, "its plan cannot be kept");
                return;
            }
        };
        let machine = Arc::new(Mutex::new(Machine::new(plan, at)));
        let card = Arc::new(Card::new(described.document.clone(), machine.clone()));
        if let Some(before) = self.board.get(&key.namespace, &key.name) {
            before.history.lock().iter().for_each(|line| card.remember(line.clone()));
        }
        let id = self.number_run();
        let mut run = Run::new(id, key.clone(), place.clone(), Arc::new(settings), machine, card.clone());
        if let Some(why) = &self.not_owned {
            run.give_up(why.clone());
            self.runs.insert(id, run);
        } else {
            let ticket = run.ticket();
            self.runs.insert(id, run);
            self.keep_document(id, &place, described);
            if let Err(error) = self.store.ask(Work::Begin { run: id, place, line, ticket }) {
                tracing::error!(rollout = %key, error, "its journal cannot be begun");
            }
        }
        self.current.insert(key.clone(), id);
        self.board.put(&key, card);
    }

    /// The document describes another release now: the old one steps aside, the new one begins.
    fn supersede(&mut self, old: RunId, described: &Described, settings: RolloutSettings, plan: Plan) {
        self.tell(old, Event::Document(Box::new(plan.clone())));
        self.begin(described, settings, plan);
    }

    /// The machine says that another release begins: it has, with the document that said so.
    pub(super) fn succeed(&mut self, id: RunId, plan: Plan) {
        let Some(run) = self.runs.get(&id) else { return };
        if self.current.get(&run.key) == Some(&id) {
            tracing::debug!(rollout = %run.key, candidate = plan.candidate, "waits for its document");
        }
    }

    /// Nothing is left of a release.
    pub(super) fn forget(&mut self, id: RunId) {
        let Some(run) = self.runs.remove(&id) else { return };
        let is_current = self.current.get(&run.key) == Some(&id);
        if is_current {
            self.current.remove(&run.key);
            self.board.remove(&run.key);
        }
        let work = Work::Remove { run: id, place: run.place.clone(), whole: is_current };
        if let Err(error) = self.store.ask(work) {
            tracing::warn!(rollout = %run.key, error, "its files are left behind");
        }
    }

    /// What compile found of a roll-out: told to the run that it is about.
    fn found(&mut self, key: &ObjectKey, found: &Found, version: u64) {
        let laid = self.versions.get(&version).cloned().unwrap_or_default();
        let is_laid = |id: &RunId| laid.iter().any(|(laid, _)| laid == id);
        let current = self.current.get(key).copied();
        // While only the release before is laid over the manifests, they were read for that one.
        let before = self.runs.values().find(|run| run.key == *key && is_laid(&run.id)).map(|run| run.id);
        let Some(id) = current.filter(is_laid).or(before).or(current) else { return };
        let Some(run) = self.runs.get_mut(&id) else { return };
        let pools = Pools { stable: found.stable_pool.clone(), candidate: found.candidate_pool.clone() };
        if pools.stable.is_some() || pools.candidate.is_some() {
            run.pools.send_if_modified(|known| std::mem::replace(known, pools.clone()) != pools);
        }
        run.found_admission = Some(admission(&found.facts));
        let weights = pair_weights(&found.facts);
        let is_news = run.told_manifests != Some(weights);
        run.told_manifests = Some(weights);
        self.tell_admission(id);
        if is_news {
            self.tell(id, Event::Manifests(weights));
        }
    }

    /// Tells whether the document may act: as compile found, and while the journal can be written.
    pub(super) fn tell_admission(&mut self, id: RunId) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        let Some(found) = run.found_admission.clone() else { return };
        let trouble: Option<Refusal> = run.trouble();
        let told = Admission { unresolved: trouble.or(found.unresolved), ..found };
        if run.told_admission.as_ref() == Some(&told) {
            return;
        }
        run.told_admission = Some(told.clone());
        self.tell(id, Event::Admission(told));
        self.board.changed();
    }

    /// Whether the machine needs to know that time passed. One at rest has all the time.
    pub(super) fn is_tick_due(&mut self, id: RunId) -> bool {
        const AT_REST: u32 = 60;
        let Some(run) = self.runs.get_mut(&id) else { return false };
        let is_at_rest = run.machine.lock().stage().is_at_rest();
        run.skipped_ticks = if is_at_rest { run.skipped_ticks.saturating_add(1) } else { AT_REST };
        if run.skipped_ticks < AT_REST {
            return false;
        }
        run.skipped_ticks = 0;
        true
    }
}
