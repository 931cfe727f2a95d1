//! The controller: one task that owns every run, feeds the machines and carries out what they decide.

mod effects;
mod fleet;
mod releases;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tidegate_api::ObjectKey;
use tidegate_rollout::event::Event;
use tidegate_routing::Rollouts;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::board::Board;
use crate::clock::Clock;
use crate::evidence::{Evidence, Round};
use crate::fleet::Fleet;
use crate::handle::{Asked, CommandError, RolloutHandle};
use crate::notices::{Notices, NotifyTo};
use crate::run::{Run, RunId};
use crate::seen::{Laid, Link, Seen};
use crate::store::{Done, Owned, Store, load, own};

/// How often machines are told that time passed.
const TICK: Duration = Duration::from_secs(1);
/// Observations that are no failures wait so long for company: one line of the journal holds them all.
const GATHER: Duration = Duration::from_millis(20);
/// Messages on their way at most, of each sort.
const QUEUE: usize = 1024;
/// Observations on their way at most.
const EVIDENCE_QUEUE: usize = 16_384;
/// How long the disk may take for the last lines.
const LAST_LINES: Duration = Duration::from_secs(2);

/// What a controller is made of.
pub struct Options {
    /// Where roll-outs outlive the process.
    pub state_dir: PathBuf,
    /// The data plane.
    pub fleet: Arc<dyn Fleet>,
    /// The clock that observations are stamped by.
    pub clock: Clock,
    /// Where notifications go.
    pub notify: Option<NotifyTo>,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Options").field("state_dir", &self.state_dir).finish_non_exhaustive()
    }
}

/// Owns every run.
pub struct Controller {
    options: Options,
    board: Arc<Board>,
    store: Store,
    /// Why the state folder is not this gateway's.
    not_owned: Option<String>,
    _owned: Option<Owned>,
    runs: BTreeMap<RunId, Run>,
    /// The run of the release that a roll-out's document describes.
    current: BTreeMap<ObjectKey, RunId>,
    next_run: u64,
    laid: watch::Sender<Arc<Laid>>,
    /// Epochs that went into each version of the overlays.
    versions: BTreeMap<u64, Vec<(RunId, u64)>>,
    seen_once: bool,
    /// Commands that wait for their effect, by id.
    asked: HashMap<(RunId, String), oneshot::Sender<Result<Value, CommandError>>>,
    notices: Notices,
    jobs: mpsc::Sender<(RunId, Event)>,
    inbox: Inbox,
    round: Round,
    gather_until: Option<Instant>,
    /// The overlays may have changed.
    is_stale: bool,
    /// How often machines are told that time passed.
    tick: Duration,
}

struct Inbox {
    seen: mpsc::Receiver<Seen>,
    asked: mpsc::Receiver<Asked>,
    done: mpsc::Receiver<Done>,
    jobs: mpsc::Receiver<(RunId, Event)>,
    evidence: mpsc::Receiver<Evidence>,
}

/// The ways to a controller.
#[derive(Debug)]
pub struct Ways {
    /// For readers and commands.
    pub handle: RolloutHandle,
    /// For the control loop.
    pub link: Link,
    /// For whoever observes requests.
    pub evidence: mpsc::Sender<Evidence>,
}

impl Controller {
    /// Reads what an earlier process left behind, so that the first overlays are those that were in force. Blocks; call
    /// it within a runtime, before anything serves.
    ///
    /// # Errors
    /// When no thread can be started. A state folder that cannot be used is no error: roll-outs stand still and say why.
    pub fn open(options: Options) -> std::io::Result<(Self, Ways)> {
        let (done_sender, done) = mpsc::channel(QUEUE);
        let (seen_sender, seen) = mpsc::channel(16);
        let (asked_sender, asked) = mpsc::channel(64);
        let (jobs_sender, jobs) = mpsc::channel(QUEUE);
        let (evidence_sender, evidence) = mpsc::channel(EVIDENCE_QUEUE);
        let (laid, laid_receiver) = watch::channel(Arc::new(Laid::default()));
        let board = Arc::new(Board::default());
        let (owned, not_owned) = match own(&options.state_dir) {
            Ok(owned) => (Some(owned), None),
            Err(error) => {
                tracing::error!(%error, "the state of roll-outs cannot be kept: no roll-out moves");
                (None, Some(error.to_string()))
            }
        };
        let notices = Notices::new(options.notify.clone());
        let mut controller = Self {
            store: Store::start(done_sender)?,
            board: board.clone(),
            not_owned,
            _owned: owned,
            runs: BTreeMap::new(),
            current: BTreeMap::new(),
            next_run: 1,
            laid,
            versions: BTreeMap::new(),
            seen_once: false,
            asked: HashMap::new(),
            notices,
            jobs: jobs_sender,
            inbox: Inbox { seen, asked, done, jobs, evidence },
            round: Round::default(),
            gather_until: None,
            is_stale: false,
            tick: TICK,
            options,
        };
        if controller.not_owned.is_none() {
            for loaded in load(&controller.options.state_dir) {
                controller.resume(loaded);
            }
            controller.publish();
        }
        let handle = RolloutHandle { board, clock: controller.options.clock, commands: asked_sender };
        let link = Link { seen: seen_sender, laid: laid_receiver };
        Ok((controller, Ways { handle, link, evidence: evidence_sender }))
    }

    /// Runs until `stop` turns true; then everything that was told is on disk.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut tick = interval(self.tick);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let due = self.next_due();
            tokio::select! {
                biased;
                _ = stop.wait_for(|stopped| *stopped) => break,
                Some(done) = self.inbox.done.recv() => self.stored(done),
                () = async { sleep_until(due.unwrap_or_else(Instant::now)).await }, if due.is_some() => self.on_time(),
                Some(asked) = self.inbox.asked.recv() => self.command(asked),
                Some(seen) = self.inbox.seen.recv() => self.seen(seen),
                Some((run, event)) = self.inbox.jobs.recv() => self.tell(run, event),
                _ = tick.tick() => self.tick(),
                // Last: there is always more of it, and one look takes all there is.
                Some(evidence) = self.inbox.evidence.recv() => self.observe(evidence),
            }
            if std::mem::take(&mut self.is_stale) {
                self.publish();
            }
        }
        let Self { store, runs, inbox, .. } = self;
        // Nobody reads the store's answers any more: it must not wait for room to give them.
        drop((runs, inbox));
        let _ = tokio::task::spawn_blocking(move || store.close(LAST_LINES)).await;
    }

    fn next_due(&self) -> Option<Instant> {
        let overdue = self.runs.values().filter_map(Run::next_due).min();
        [overdue, self.gather_until].into_iter().flatten().min()
    }

    fn on_time(&mut self) {
        let now = Instant::now();
        if self.gather_until.is_some_and(|until| until <= now) {
            self.judge();
        }
        for id in self.ids() {
            let effects = self.runs.get_mut(&id).map(|run| run.overdue(now)).unwrap_or_default();
            self.carry_out(id, effects);
        }
    }

    pub(crate) fn ids(&self) -> Vec<RunId> {
        self.runs.keys().copied().collect()
    }

    /// Tells one machine.
    fn tell(&mut self, id: RunId, event: Event) {
        let at = self.options.clock.now();
        let Some(run) = self.runs.get_mut(&id) else { return };
        let is_quiet = matches!(event, Event::Observed(_) | Event::Tick);
        let effects = run.tell(event, at, &self.store);
        self.carry_out(id, effects);
        if !is_quiet {
            self.is_stale = true;
            self.board.changed();
        }
    }

    /// The store has answered.
    fn stored(&mut self, done: Done) {
        let id = done.run;
        let Some(run) = self.runs.get_mut(&id) else { return };
        let (effects, durable) = run.done(done);
        self.carry_out(id, effects);
        for checkpoint in durable {
            self.tell(id, Event::CheckpointDurable { id: checkpoint });
        }
        self.tell_admission(id);
    }

    fn observe(&mut self, evidence: Evidence) {
        self.round.take(evidence);
        while !self.round.is_urgent() {
            let Ok(evidence) = self.inbox.evidence.try_recv() else { break };
            self.round.take(evidence);
        }
        if self.round.is_urgent() {
            self.judge();
        } else if self.gather_until.is_none() {
            self.gather_until = Some(Instant::now() + GATHER);
        }
    }

    /// Tells the machines what was observed.
    fn judge(&mut self) {
        self.gather_until = None;
        if self.round.is_empty() {
            return;
        }
        for (uid, more) in self.round.shadows() {
            let found = self.runs.values_mut().find(|run| *run.machine.lock().plan().uid == *uid);
            let Some(run) = found else { continue };
            let (id, progress) = (run.id, run.shadowed(more));
            self.tell(id, Event::Shadow(progress));
        }
        let (by_release, lost) = self.round.empty();
        for (uid, observations) in by_release {
            let found = self.runs.values_mut().find(|run| *run.machine.lock().plan().uid == *uid);
            let Some(run) = found else { continue };
            {
                let mut flight = run.card.flight.lock();
                observations.iter().for_each(|observation| flight.observe(observation));
            }
            let id = run.id;
            self.tell(id, Event::Observed(observations));
        }
        if lost > 0 {
            let exposed: Vec<RunId> =
                self.runs.values().filter(|run| run.machine.lock().stage().is_exposed()).map(|run| run.id).collect();
            for id in exposed {
                self.tell(id, Event::EvidenceLost { count: lost });
            }
        }
    }

    fn command(&mut self, asked: Asked) {
        let key = self.current.iter().find(|(key, _)| key.namespace == asked.namespace && key.name == asked.name);
        let Some(id) = key.map(|(_, id)| *id) else {
            let (namespace, name) = (asked.namespace, asked.name);
            let _ = asked.answer.send(Err(CommandError::NotFound { namespace, name }));
            return;
        };
        self.asked.insert((id, asked.command.id.clone()), asked.answer);
        let command = asked.command.id.clone();
        self.tell(id, Event::Command(asked.command));
        let is_repeated = self.runs.get(&id).is_some_and(|run| !run.awaits_command(&command));
        if is_repeated && let Some(answer) = self.asked.remove(&(id, command)) {
            let _ = answer.send(Ok(serde_json::json!({"message": "this command was taken before"})));
        }
    }

    fn tick(&mut self) {
        for id in self.ids() {
            self.look_at_fleet(id);
            if let Some(run) = self.runs.get_mut(&id) {
                run.keep_journal(&self.store);
            }
            self.tell_admission(id);
            if self.is_tick_due(id) {
                self.tell(id, Event::Tick);
            }
        }
        self.asked.retain(|_, answer| !answer.is_closed());
        self.board.changed();
    }

    /// Gives the newest overlays to the control loop, where they changed.
    fn publish(&mut self) {
        let mut rollouts = Rollouts::default();
        let mut epochs = Vec::new();
        let mut taken = std::collections::BTreeSet::new();
        // The release that the document describes goes before the one it replaced.
        let is_current = |run: &&Run| self.current.get(&run.key) == Some(&run.id);
        let (mut runs, others): (Vec<&Run>, Vec<&Run>) = self.runs.values().partition(is_current);
        runs.extend(others);
        for run in runs {
            match run.overlay() {
                Some(overlay) if taken.insert(run.key.clone()) => {
                    rollouts.overlays.push(overlay);
                    epochs.extend(run.laid.as_ref().map(|laid| (run.id, laid.epoch)));
                }
                Some(_) => epochs.extend(run.laid.as_ref().map(|laid| (run.id, laid.epoch))),
                None => {
                    if is_current(&run) && run.machine.lock().has_ended() {
                        rollouts.ended.insert(run.key.clone());
                    }
                }
            }
        }
        let current = self.laid.borrow().clone();
        let known = self.versions.get(&current.version).is_some_and(|known| *known == epochs);
        if current.rollouts == rollouts && (known || epochs.is_empty()) {
            return;
        }
        let version = current.version.saturating_add(1);
        self.versions.insert(version, epochs);
        self.laid.send_replace(Arc::new(Laid { version, rollouts }));
    }
}

#[cfg(test)]
mod tests;
