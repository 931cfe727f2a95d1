//! The thread that looks when something may have changed.
//!
//! The kernel's events only wake it; what changed is found by looking at the disk, so an event that is lost, merged or
//! misread does no harm. A slow poll stands behind the events, for file systems that give none.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::FileSet;
use crate::ledger::Ledger;
use crate::source::Orders;

/// How often to look without an event, for a set of files that is looked at fast.
const POLL: Duration = Duration::from_millis(500);
/// Looking takes at most this part of the thread's time: one in …
const POLL_SHARE: u32 = 20;
/// Least time between two looks, so that a storm of events costs little.
const PAUSE: Duration = Duration::from_millis(20);

/// The watching thread's state.
pub(crate) struct Watch {
    ledger: Ledger,
    publish: watch::Sender<Arc<FileSet>>,
    orders: Arc<Orders>,
    woken: Receiver<()>,
    watcher: Option<RecommendedWatcher>,
    /// Folders under watch, with the inode they had: a folder made anew under its old name must be watched anew.
    watched: BTreeMap<PathBuf, (u64, u64)>,
}

impl Watch {
    pub(crate) fn new(
        ledger: Ledger,
        publish: watch::Sender<Arc<FileSet>>,
        orders: Arc<Orders>,
        wake: SyncSender<()>,
        woken: Receiver<()>,
    ) -> Self {
        let handler = move |event: notify::Result<notify::Event>| {
            if event.map_or(true, |event| matters(&event.kind)) {
                let _ = wake.try_send(());
            }
        };
        let watcher = notify::recommended_watcher(handler)
            .inspect_err(|error| tracing::warn!(%error, "no file events: changes are found by polling"))
            .ok();
        Self { ledger, publish, orders, woken, watcher, watched: BTreeMap::new() }
    }

    /// Looks until it is told to stop.
    pub(crate) fn run(mut self) {
        let mut revision = 1_u64;
        // What changed between the first read and the first watch is found by the look after it.
        self.watch_folders();
        loop {
            let started = Instant::now();
            let reload = self.orders.reload.swap(false, Ordering::AcqRel);
            if reload {
                self.ledger.forget_stamps();
            }
            let looked = self.ledger.look(started, reload);
            if looked.changed {
                revision = revision.saturating_add(1);
                self.publish.send_replace(Arc::new(self.ledger.set(revision)));
            }
            let new_folders = self.watch_folders();
            let took = started.elapsed();
            let mut wait = POLL.max(took.saturating_mul(POLL_SHARE));
            if let Some(again) = looked.again {
                wait = wait.min(again.saturating_duration_since(Instant::now()));
            }
            if new_folders {
                // What was put there before the watch gave no event.
                wait = Duration::ZERO;
            }
            if !self.wait(wait) {
                return;
            }
        }
    }

    /// Waits for an event or the time; false when it is time to stop.
    fn wait(&self, time: Duration) -> bool {
        let outcome = self.woken.recv_timeout(time.max(PAUSE));
        if self.orders.stop.load(Ordering::Acquire) {
            return false;
        }
        match outcome {
            Ok(()) => {
                std::thread::sleep(PAUSE);
                let _ = self.woken.try_recv();
                !self.orders.stop.load(Ordering::Acquire)
            }
            Err(RecvTimeoutError::Timeout) => true,
            // The watcher could not be made, so nobody but the source could wake us, and it is gone.
            Err(RecvTimeoutError::Disconnected) => false,
        }
    }

    /// Watches each folder in which a change would matter; whether there are new ones.
    fn watch_folders(&mut self) -> bool {
        let Some(watcher) = &mut self.watcher else { return false };
        let mut wanted: BTreeMap<PathBuf, (u64, u64)> = BTreeMap::new();
        for folder in folders_of(&self.ledger) {
            if let Ok(metadata) = std::fs::metadata(&folder) {
                wanted.insert(folder, (metadata.dev(), metadata.ino()));
            }
        }
        self.watched.retain(|folder, inode| {
            let keep = wanted.get(folder) == Some(inode);
            if !keep {
                let _ = watcher.unwatch(folder);
            }
            keep
        });
        let mut any = false;
        for (folder, inode) in wanted {
            if self.watched.contains_key(&folder) {
                continue;
            }
            match watcher.watch(&folder, RecursiveMode::NonRecursive) {
                Ok(()) => any = true,
                Err(error) => {
                    tracing::warn!(folder = %folder.display(), %error, "cannot watch: changes are found by polling")
                }
            }
            // One that cannot be watched is polled, not tried again and again.
            self.watched.insert(folder, inode);
        }
        any
    }
}

/// Events of our own reading do not matter, or each look would cause the next.
fn matters(kind: &EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        _ => true,
    }
}

/// The folders read; the parents of the `-f` paths, as far up as something exists, to see them vanish and return; and
/// for what is reached through a symlink, the folder where it really is.
fn folders_of(ledger: &Ledger) -> BTreeSet<PathBuf> {
    let mut folders = ledger.folders().clone();
    for root in ledger.roots() {
        let absolute = std::path::absolute(root).unwrap_or_else(|_| root.to_owned());
        if let Some(parent) = absolute.ancestors().skip(1).find(|ancestor| ancestor.is_dir()) {
            folders.insert(parent.to_owned());
        }
        add_real_parent(root, &mut folders);
    }
    for file in ledger.known_files().filter(|file| file.is_symlink()) {
        add_real_parent(file, &mut folders);
    }
    folders
}

fn add_real_parent(path: &Path, folders: &mut BTreeSet<PathBuf>) {
    if path.is_symlink()
        && let Ok(real) = std::fs::canonicalize(path)
        && let Some(parent) = real.parent()
    {
        folders.insert(parent.to_owned());
    }
}
