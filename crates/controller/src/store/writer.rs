//! The writer: a thread that carries out, in order, what the controller asks of the disk, and says when it is done.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use tidegate_rollout::journal::Journal;
use tokio::sync::mpsc;

use super::file::{add_line, replace};
use super::{FileJournal, Place};
use crate::run::RunId;

/// Pieces of work on their way at most. A disk that stands still fills it; what comes then has failed.
const QUEUE: usize = 4096;
/// Evidence is at most this old when it is on disk.
const SYNC_EVERY: Duration = Duration::from_secs(5);

/// One piece of work.
#[derive(Debug)]
pub(crate) enum Work {
    /// Begins a journal with its first line.
    Begin { run: RunId, place: Place, line: Vec<u8>, ticket: u64 },
    /// Goes on with one that was read.
    Resume { run: RunId, place: Place, end: u64, ticket: u64 },
    /// Adds lines; `ticket` 0 wants no answer but a failure's.
    Append { run: RunId, lines: Vec<u8>, sync: bool, ticket: u64 },
    /// Begins anew with a checkpoint.
    Replace { run: RunId, line: Vec<u8>, ticket: u64 },
    /// Writes a release's document.
    Document { run: RunId, place: Place, bytes: Vec<u8> },
    /// Adds a line to a history.
    History { path: PathBuf, line: String },
    /// The release is over: its files go, and the folder when it is empty but for the history.
    Remove { run: RunId, place: Place, whole: bool },
}

/// What became of a piece of work.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) run: RunId,
    pub(crate) ticket: u64,
    pub(crate) result: Result<(), String>,
}

/// The way to the writer. The thread ends when this is dropped, after all that was asked is done.
#[derive(Debug)]
pub(crate) struct Store {
    work: Option<SyncSender<Work>>,
    ended: Receiver<()>,
}

impl Store {
    /// Starts the thread; answers go to `done`.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(crate) fn start(done: mpsc::Sender<Done>) -> io::Result<Self> {
        let (work, works) = sync_channel(QUEUE);
        let (end, ended) = sync_channel(1);
        std::thread::Builder::new().name("rollout-store".into()).spawn(move || {
            Writer { journals: HashMap::new(), done }.run(&works);
            let _ = end.try_send(());
        })?;
        Ok(Self { work: Some(work), ended })
    }

    /// Asks for a piece of work; never waits.
    ///
    /// # Errors
    /// When the disk has stood still for so long that the queue is full.
    pub(crate) fn ask(&self, work: Work) -> Result<(), String> {
        let Some(sender) = &self.work else { return Err("the store is closed".into()) };
        sender.try_send(work).map_err(|error| match error {
            TrySendError::Full(_) => "the disk does not keep up".into(),
            TrySendError::Disconnected(_) => "the store's thread has ended".into(),
        })
    }

    /// Lets the thread finish what was asked, for at most so long. Blocks.
    pub(crate) fn close(mut self, patience: Duration) {
        self.work = None;
        if self.ended.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("the disk did not take the last lines of the roll-outs' journals in time");
        }
    }
}

struct Writer {
    journals: HashMap<RunId, Kept>,
    done: mpsc::Sender<Done>,
}

struct Kept {
    journal: FileJournal,
    /// A line is missing: nothing more is appended until a checkpoint stands in for it.
    broken: Option<String>,
}

impl Writer {
    fn run(mut self, works: &Receiver<Work>) {
        loop {
            let is_dirty = self.journals.values().any(|kept| kept.journal.is_dirty());
            let next = if is_dirty {
                works.recv_timeout(SYNC_EVERY)
            } else {
                works.recv().map_err(|_| RecvTimeoutError::Disconnected)
            };
            match next {
                Ok(work) => self.carry_out(work),
                Err(RecvTimeoutError::Timeout) => self.sync_all(),
                Err(RecvTimeoutError::Disconnected) => return self.sync_all(),
            }
        }
    }

    fn sync_all(&mut self) {
        let mut failed = Vec::new();
        for (run, kept) in &mut self.journals {
            if let Err(error) = kept.journal.sync() {
                kept.broken = Some(error.to_string());
                failed.push((*run, error));
            }
        }
        for (run, error) in failed {
            self.answer(run, 0, Err(error));
        }
    }

    fn carry_out(&mut self, work: Work) {
        match work {
            Work::Begin { run, place, line, ticket } => {
                let mut journal = FileJournal::at(place.journal());
                let result = journal.replace(&line);
                self.keep(run, journal, ticket, result);
            }
            Work::Resume { run, place, end, ticket } => {
                let mut journal = FileJournal::at(place.journal());
                let result = journal.resume(end);
                self.keep(run, journal, ticket, result);
            }
            Work::Append { run, lines, sync, ticket } => self.append(run, &lines, sync, ticket),
            Work::Replace { run, line, ticket } => {
                let Some(kept) = self.journals.get_mut(&run) else { return };
                let result = kept.journal.replace(&line);
                kept.broken = result.as_ref().err().map(ToString::to_string);
                self.answer(run, ticket, result);
            }
            Work::Document { run, place, bytes } => {
                if let Err(error) = replace(&place.document(), &bytes) {
                    self.answer(run, 0, Err(error));
                }
            }
            Work::History { path, line } => {
                if let Err(error) = add_line(&path, &line) {
                    tracing::warn!(path = %path.display(), %error, "a line of a roll-out's history is lost");
                }
            }
            Work::Remove { run, place, whole } => {
                self.journals.remove(&run);
                for path in [place.journal(), place.document()] {
                    let _ = std::fs::remove_file(path);
                }
                if whole {
                    let _ = std::fs::remove_file(place.history());
                    let _ = std::fs::remove_dir(place.folder());
                }
            }
        }
    }

    fn keep(&mut self, run: RunId, journal: FileJournal, ticket: u64, result: io::Result<()>) {
        let broken = result.as_ref().err().map(ToString::to_string);
        self.journals.insert(run, Kept { journal, broken });
        self.answer(run, ticket, result);
    }

    fn append(&mut self, run: RunId, lines: &[u8], sync: bool, ticket: u64) {
        let Some(kept) = self.journals.get_mut(&run) else { return };
        let result = match &kept.broken {
            Some(why) => Err(io::Error::other(why.clone())),
            None => kept.journal.append(lines).and_then(|()| if sync { kept.journal.sync() } else { Ok(()) }),
        };
        let is_news = kept.broken.is_none();
        if let Err(error) = &result {
            kept.broken.get_or_insert_with(|| error.to_string());
        }
        if ticket != 0 || (result.is_err() && is_news) {
            self.answer(run, ticket, result);
        }
    }

    fn answer(&self, run: RunId, ticket: u64, result: io::Result<()>) {
        let result = result.map_err(|error| error.to_string());
        // Nobody listens any more only while the gateway ends.
        let _ = self.done.blocking_send(Done { run, ticket, result });
    }
}
