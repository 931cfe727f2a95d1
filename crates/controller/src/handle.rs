//! The handle: what the admin API and other parts of the process ask of roll-outs.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tidegate_rollout::event::Command;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use crate::board::{Board, Card, written};
use crate::clock::Clock;

/// A command is answered once it is on disk; longer than this means that the disk stands still.
const PATIENCE: Duration = Duration::from_secs(10);

/// A command on its way to the controller.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) command: Command,
    pub(crate) answer: oneshot::Sender<Result<Value, CommandError>>,
}

/// Why a command did nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// No such roll-out.
    #[error("there is no InferenceRollout {namespace}/{name}")]
    NotFound {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// It does not fit the moment; the message says what to do instead.
    #[error("{0}")]
    Refused(String),
    /// The controller does not answer: it is shutting down, or its disk stands still. The command may still be taken.
    #[error("the controller did not answer within {PATIENCE:?}; ask for the roll-out before sending the command again")]
    Unavailable,
}

/// Reads roll-outs and gives commands. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RolloutHandle {
    pub(crate) board: Arc<Board>,
    pub(crate) clock: Clock,
    pub(crate) commands: mpsc::Sender<Asked>,
}

impl RolloutHandle {
    /// Every InferenceRollout with its status, as kubectl prints it, by namespace and name.
    pub fn list(&self) -> Vec<Value> {
        self.board.all().iter().map(|card| card.resource()).collect()
    }

    /// One InferenceRollout with its status.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Value> {
        Some(self.card(namespace, name)?.resource())
    }

    /// The status of one InferenceRollout alone.
    pub fn status(&self, namespace: &str, name: &str) -> Option<Value> {
        Some(self.card(namespace, name)?.status())
    }

    /// Why it is where it is: state, numbers, the formulas' names, what would change the verdict
    /// ([`tidegate_rollout::machine::Explanation`]).
    pub fn explain(&self, namespace: &str, name: &str) -> Option<Value> {
        Some(written(&self.card(namespace, name)?.machine.lock().explain()))
    }

    /// What happened, oldest first: transitions, notifications and commands, each with its time (`at`, RFC 3339) and
    /// `type`.
    pub fn history(&self, namespace: &str, name: &str) -> Option<Vec<Value>> {
        Some(self.card(namespace, name)?.history.lock().iter().cloned().collect())
    }

    /// The judge's word for others that move weights themselves: `verdict` is `pass`, `hold` or `fail`.
    pub fn verdict(&self, namespace: &str, name: &str) -> Option<Value> {
        let card = self.card(namespace, name)?;
        let machine = card.machine.lock();
        Some(crate::verdict::verdict(&machine))
    }

    /// How long each step takes to decide at today's traffic, how many users would see a fault, and whether stable can
    /// take everything back.
    pub fn plan(&self, namespace: &str, name: &str) -> Option<Value> {
        let card = self.card(namespace, name)?;
        let traffic = *card.traffic.lock();
        let machine = card.machine.lock();
        Some(crate::forecast::forecast(&machine, traffic))
    }

    /// Gives a command; its answer is the machine's sentence. A command of an id that was taken before changes nothing.
    ///
    /// # Errors
    /// When there is no such roll-out, the command does not fit the moment, or the controller does not answer.
    pub async fn command(&self, namespace: &str, name: &str, command: Command) -> Result<Value, CommandError> {
        let (answer, answered) = oneshot::channel();
        let asked = Asked { namespace: namespace.into(), name: name.into(), command, answer };
        let round = async {
            self.commands.send(asked).await.map_err(|_| CommandError::Unavailable)?;
            answered.await.map_err(|_| CommandError::Unavailable)?
        };
        timeout(PATIENCE, round).await.unwrap_or(Err(CommandError::Unavailable))
    }

    /// All roll-outs as OpenMetrics text, families `tidegate_rollout_*`, without the end mark of a page.
    pub fn metrics(&self) -> String {
        crate::metrics::render(&self.board.named(), self.clock.now().monotonic)
    }

    /// Counts up whenever a roll-out may look different: for watching.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.board.changes()
    }

    fn card(&self, namespace: &str, name: &str) -> Option<Arc<Card>> {
        self.board.get(namespace, name)
    }
}
