//! The source: the newest set, and a thread that keeps it new.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use tokio::sync::watch;

use crate::ledger::Ledger;
use crate::watch::Watch;
use crate::{FileSet, OpenError, Options};

/// What the thread is asked to do; it looks when it is woken.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    /// End.
    pub(crate) stop: AtomicBool,
    /// Read every file anew, settled or not.
    pub(crate) reload: AtomicBool,
}

/// The documents of some paths, kept up to date by a thread of its own, which ends when this is dropped.
#[derive(Debug)]
pub struct FileSource {
    sets: watch::Receiver<Arc<FileSet>>,
    orders: Arc<Orders>,
    wake: SyncSender<()>,
    thread: Option<JoinHandle<()>>,
}

impl FileSource {
    /// Reads the paths and begins to watch them. Needs no runtime.
    ///
    /// # Errors
    /// When one of the paths does not exist or may not be read.
    pub fn open(paths: &[PathBuf], options: Options) -> Result<Self, OpenError> {
        let ledger = Ledger::open(paths, options)?;
        let (publish, sets) = watch::channel(Arc::new(ledger.set(1)));
        let (wake, woken) = sync_channel(1);
        let orders = Arc::new(Orders::default());
        let watch = Watch::new(ledger, publish, orders.clone(), wake.clone(), woken);
        let thread = std::thread::Builder::new().name("manifests".into()).spawn(move || watch.run());
        let thread = match thread {
            Ok(thread) => Some(thread),
            Err(error) => {
                tracing::error!(%error, "cannot start the thread that watches the manifests: changes are not seen");
                None
            }
        };
        Ok(Self { sets, orders, wake, thread })
    }

    /// The newest set.
    pub fn current(&self) -> Arc<FileSet> {
        self.sets.borrow().clone()
    }

    /// The next set that was not yet given by this method. Can be cancelled without loss; waits for as long as nothing
    /// changes.
    pub async fn changed(&mut self) -> Arc<FileSet> {
        if self.sets.changed().await.is_err() {
            // Without the thread nothing changes any more.
            std::future::pending::<()>().await;
        }
        self.sets.borrow_and_update().clone()
    }

    /// Has every file read anew now; what changed comes by [`changed`](Self::changed).
    pub fn reload(&self) {
        self.orders.reload.store(true, Ordering::Release);
        // A full channel means that the thread is about to look anyway.
        let _ = self.wake.try_send(());
    }
}

impl Drop for FileSource {
    fn drop(&mut self) {
        self.orders.stop.store(true, Ordering::Release);
        let _ = self.wake.try_send(());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests;
