//! One release's run: its machine, the journal's order, and what is laid over the manifests for it.
//!
//! The order that keeps every promise: the machine takes an input; its line is appended; where an effect asks for it the
//! journal is synced; then the effects are carried out, in order. What only takes weight from the candidate waits for a
//! slow disk no longer than [`WAY_BACK`].

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tidegate_api::ObjectKey;
use tidegate_api::rollout::RolloutSettings;
use tidegate_rollout::Machine;
use tidegate_rollout::effect::{Effect, WeightChange};
use tidegate_rollout::event::{Admission, Event, Input, PairWeights, Refusal, ShadowProgress, Stamp};
use tidegate_rollout::journal::{checkpoint, told};
use tidegate_rollout::stage::Stage;
use tidegate_routing::Overlay;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::board::Card;
use crate::jobs::Jobs;
use crate::load::Load;
use crate::store::{Done, Place, Store, Work};

/// A disk that does not answer delays a roll-back by no more than this.
const WAY_BACK: Duration = Duration::from_millis(100);
/// Between two tries to write again after a failure.
const RETRY: Duration = Duration::from_secs(5);
/// A journal longer than this begins anew with a checkpoint.
const LONG: u64 = 4 << 20;

/// Numbers the runs of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct RunId(pub(crate) u64);

/// The pools of both arms, once the snapshot has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pools {
    pub(crate) stable: Option<ObjectKey>,
    pub(crate) candidate: Option<ObjectKey>,
}

/// Effects that wait for their line.
#[derive(Debug)]
struct Batch {
    ticket: u64,
    effects: Vec<Effect>,
    /// When what takes weight from the candidate is carried out at the latest.
    due: Option<Instant>,
}

/// The journal cannot be written.
#[derive(Debug)]
struct Broken {
    why: String,
    next_try: Instant,
    /// The checkpoint that would mend it, on its way. Lines may follow it; before it there is a gap.
    mending: Option<u64>,
}

/// One release.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) id: RunId,
    pub(crate) key: ObjectKey,
    pub(crate) place: Place,
    pub(crate) settings: Arc<RolloutSettings>,
    pub(crate) machine: Arc<Mutex<Machine>>,
    pub(crate) card: Arc<Card>,
    /// The weights that are laid over the manifests; none: none are.
    pub(crate) laid: Option<WeightChange>,
    pub(crate) pools: watch::Sender<Pools>,
    /// What came of all copies.
    shadow: ShadowProgress,
    pub(crate) jobs: Jobs,
    /// What the machine was last told, so that the journal does not say it again.
    pub(crate) told_admission: Option<Admission>,
    pub(crate) told_manifests: Option<PairWeights>,
    pub(crate) told_arms: Option<tidegate_rollout::capacity::Arms>,
    /// As compile found it.
    pub(crate) found_admission: Option<Admission>,
    pub(crate) is_deleted: bool,
    /// Ticks that a machine at rest was not told.
    pub(crate) skipped_ticks: u32,
    /// Requests ever sent to the pair's endpoints, and when that was read.
    pub(crate) picked: Option<(u64, Instant)>,
    pub(crate) dead: crate::liveness::Dead,
    /// What was learnt of what each arm carries.
    pub(crate) load: Load,
    pending: VecDeque<Batch>,
    next_ticket: u64,
    checkpoints: BTreeMap<u64, u64>,
    broken: Option<Broken>,
    is_given_up: bool,
    journal_length: u64,
}

impl Run {
    /// A run of a machine whose journal is not open yet.
    pub(crate) fn new(
        id: RunId,
        key: ObjectKey,
        place: Place,
        settings: Arc<RolloutSettings>,
        machine: Arc<Mutex<Machine>>,
        card: Arc<Card>,
    ) -> Self {
        Self {
            id,
            key,
            place,
            settings,
            machine,
            card,
            laid: None,
            pools: watch::Sender::new(Pools::default()),
            load: Load::default(),
            shadow: ShadowProgress::default(),
            jobs: Jobs::default(),
            told_admission: None,
            told_manifests: None,
            told_arms: None,
            found_admission: None,
            is_deleted: false,
            skipped_ticks: 0,
            picked: None,
            dead: crate::liveness::Dead::default(),
            pending: VecDeque::new(),
            next_ticket: 1,
            checkpoints: BTreeMap::new(),
            broken: None,
            is_given_up: false,
            journal_length: 0,
        }
    }

    /// A number for the next piece of work whose end is awaited.
    pub(crate) fn ticket(&mut self) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket = self.next_ticket.saturating_add(1);
        ticket
    }

    /// Tells the machine, and asks for its line. What follows from it comes out of [`Run::done`] or [`Run::overdue`];
    /// given back is what must not wait for a disk that is known to fail.
    pub(crate) fn tell(&mut self, event: Event, at: Stamp, store: &Store) -> Vec<Effect> {
        let input = Input { at, event };
        let effects = self.machine.lock().handle(&input);
        // Commands are answered when they cannot be forgotten any more.
        let is_awaited = |effect: &Effect| effect.needs_sync() || matches!(effect, Effect::CommandTaken { .. });
        let sync = effects.iter().any(is_awaited);
        let ticket = if effects.is_empty() { 0 } else { self.ticket() };
        if ticket != 0 {
            let due = effects.iter().any(takes_away).then(|| Instant::now() + WAY_BACK);
            self.pending.push_back(Batch { ticket, effects: effects.clone(), due });
        }
        if self.broken.as_ref().is_none_or(|broken| broken.mending.is_some()) {
            let asked = told(&input, &effects).map_err(|error| error.to_string()).and_then(|lines| {
                self.journal_length = self.journal_length.saturating_add(lines.len() as u64);
                store.ask(Work::Append { run: self.id, lines, sync, ticket })
            });
            if let Err(why) = asked {
                self.fail(why);
            }
        }
        self.without_disk()
    }

    /// Begins the journal anew with a checkpoint; `id` is the machine's own, where it asked for one.
    pub(crate) fn checkpoint(&mut self, id: Option<u64>, store: &Store) {
        let line = checkpoint(&self.machine.lock()).map_err(|error| error.to_string());
        let ticket = self.ticket();
        if let Some(id) = id {
            self.checkpoints.insert(ticket, id);
        }
        if let Some(broken) = self.broken.as_mut() {
            broken.mending = Some(ticket);
        }
        self.journal_length = 0;
        let asked = line.and_then(|line| store.ask(Work::Replace { run: self.id, line, ticket }));
        if let Err(why) = asked {
            self.fail(why);
        }
    }

    /// What may be carried out now that the store has answered, and the machine's checkpoints that are durable.
    pub(crate) fn done(&mut self, done: Done) -> (Vec<Effect>, Vec<u64>) {
        match done.result {
            Ok(()) => {
                if self.broken.as_ref().is_some_and(|broken| broken.mending == Some(done.ticket)) {
                    tracing::info!(rollout = %self.key, "its journal can be written again");
                    self.broken = None;
                }
                if self.broken.is_some() {
                    return (self.without_disk(), Vec::new());
                }
                let later = self.checkpoints.split_off(&done.ticket.saturating_add(1));
                let durable = std::mem::replace(&mut self.checkpoints, later).into_values().collect();
                let mut effects = Vec::new();
                while self.pending.front().is_some_and(|batch| batch.ticket <= done.ticket) {
                    effects.extend(self.pending.pop_front().into_iter().flat_map(|batch| batch.effects));
                }
                (effects, durable)
            }
            Err(why) => {
                self.fail(why);
                (self.without_disk(), Vec::new())
            }
        }
    }

    fn fail(&mut self, why: String) {
        if self.broken.is_none() {
            tracing::error!(rollout = %self.key, error = why, "its journal cannot be written: it stands still until it can");
        }
        self.broken = Some(Broken { why, next_try: Instant::now() + RETRY, mending: None });
    }

    /// The journal will not be written in this process.
    pub(crate) fn give_up(&mut self, why: String) {
        self.fail(why);
        self.is_given_up = true;
    }

    /// Whether the journal cannot be written, and why.
    pub(crate) fn trouble(&self) -> Option<Refusal> {
        self.broken.as_ref().map(|broken| Refusal {
            reason: "StateNotWritable".into(),
            message: format!(
                "{} cannot be written ({}); nothing moves forward until it can: free space, or name another folder with --state-dir",
                self.place.journal().display(),
                broken.why
            ),
        })
    }

    /// What does not need the disk, of all that waits for it.
    pub(crate) fn without_disk(&mut self) -> Vec<Effect> {
        if self.broken.is_none() {
            return Vec::new();
        }
        let mut free = Vec::new();
        for batch in &mut self.pending {
            let needs = |effect: &Effect| effect.needs_sync() || matches!(effect, Effect::Checkpoint { .. });
            let (kept, ready) = std::mem::take(&mut batch.effects).into_iter().partition(needs);
            batch.effects = kept;
            batch.due = None;
            free.extend::<Vec<Effect>>(ready);
        }
        self.pending.retain(|batch| !batch.effects.is_empty());
        free
    }

    /// Whether a command's effect is still to come.
    pub(crate) fn awaits_command(&self, command: &str) -> bool {
        let is_it = |effect: &Effect| match effect {
            Effect::CommandTaken { id, .. } | Effect::CommandRefused { id, .. } => id == command,
            _ => false,
        };
        self.pending.iter().any(|batch| batch.effects.iter().any(is_it))
    }

    /// When something is overdue next.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.pending.iter().filter_map(|batch| batch.due).min()
    }

    /// What must not wait for the disk any longer.
    pub(crate) fn overdue(&mut self, now: Instant) -> Vec<Effect> {
        let mut urgent = Vec::new();
        for batch in self.pending.iter_mut().filter(|batch| batch.due.is_some_and(|due| due <= now)) {
            let (ready, kept) = std::mem::take(&mut batch.effects).into_iter().partition(takes_away);
            batch.effects = kept;
            batch.due = None;
            urgent.extend::<Vec<Effect>>(ready);
        }
        urgent
    }

    /// Writes again after a failure, and shortens a long journal. About once a second.
    pub(crate) fn keep_journal(&mut self, store: &Store) {
        if self.is_given_up {
            return;
        }
        let may_retry = self.broken.as_ref().is_some_and(|broken| broken.next_try <= Instant::now());
        if may_retry || (self.broken.is_none() && self.journal_length > LONG) {
            if let Some(broken) = self.broken.as_mut() {
                broken.next_try = Instant::now() + RETRY;
            }
            self.checkpoint(None, store);
        }
    }

    /// Adds what came of more copies; gives all.
    pub(crate) fn shadowed(&mut self, more: ShadowProgress) -> ShadowProgress {
        let all = &mut self.shadow;
        all.mirrored = all.mirrored.saturating_add(more.mirrored);
        all.failed = all.failed.saturating_add(more.failed);
        all.misshapen = all.misshapen.saturating_add(more.misshapen);
        *all
    }

    /// Takes new weights, unless newer ones are laid already.
    pub(crate) fn lay(&mut self, change: WeightChange) {
        if self.laid.as_ref().is_none_or(|laid| laid.epoch <= change.epoch) {
            self.laid = Some(change);
        }
    }

    /// What is laid over the manifests for it.
    pub(crate) fn overlay(&self) -> Option<Overlay> {
        let laid = self.laid.as_ref()?;
        let machine = self.machine.lock();
        let mut overlay = Overlay::new(&self.key, &machine.plan().uid, &self.settings);
        overlay.candidate_share_ppm = laid.candidate.ppm();
        overlay.admits_forced = machine.admits_forced();
        overlay.excluded_models = machine.excluded_models().clone();
        overlay.keeps_prompts =
            self.settings.warm_up.is_some() && matches!(machine.stage(), Stage::Preflight | Stage::Warming);
        overlay.shadow = self.settings.shadow.clone().filter(|_| machine.mirrors());
        Some(overlay)
    }
}

/// Whether it only takes weight or streams from the candidate.
fn takes_away(effect: &Effect) -> bool {
    match effect {
        Effect::SetWeights(change) => !change.raises,
        Effect::CutStreams { .. } => true,
        _ => false,
    }
}
