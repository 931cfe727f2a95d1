//! What runs beside a roll-out for as long as its machine wants it.

use tidegate_rollout::event::Event;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::run::RunId;

/// A task that ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Job(JoinHandle<()>);

impl Job {
    /// Starts a task.
    pub(crate) fn start(task: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(task))
    }

    /// Whether it has come to its end.
    pub(crate) fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The tasks of one run.
#[derive(Debug, Default)]
pub(crate) struct Jobs {
    pub(crate) preflight: Option<Job>,
    pub(crate) warm_up: Option<Job>,
    pub(crate) gate: Option<Job>,
    pub(crate) liveness: Option<Job>,
    /// The candidate's adapter is to be loaded where it is missing.
    pub(crate) load_candidate: bool,
}

/// Where a job tells what it found.
#[derive(Clone, Debug)]
pub(crate) struct Reporter {
    pub(crate) run: RunId,
    pub(crate) events: mpsc::Sender<(RunId, Event)>,
}

impl Reporter {
    /// Tells the machine; false when nobody listens any more.
    pub(crate) async fn tell(&self, event: Event) -> bool {
        self.events.send((self.run, event)).await.is_ok()
    }
}
