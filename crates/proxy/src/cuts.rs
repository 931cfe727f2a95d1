//! Cuts: ends the answers of one arm of a roll-out that are under way, where its document says so.
//!
//! Answers of pairs hold a [`Cutter`] while they pass; whoever drains an arm pulls. Must not be used for anything but
//! `onStreams: Cut` and its command: every answer that is cut is broken for its client.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

/// A roll-out's name, and whether its candidate is meant.
type Side = (Arc<str>, bool);

/// All arms that have answers under way.
#[derive(Debug, Default)]
pub(crate) struct Cuts {
    arms: Mutex<HashMap<Side, watch::Sender<u64>>>,
}

/// Resolves when its answer is to be cut.
pub(crate) struct Cutter(Pin<Box<dyn Future<Output = ()> + Send>>);

impl Cuts {
    /// For an answer of a roll-out's candidate or stable that begins.
    pub(crate) fn hold(&self, rollout: &Arc<str>, candidate: bool) -> Cutter {
        let mut arms = self.arms.lock();
        let sender = arms.entry((rollout.clone(), candidate)).or_insert_with(|| watch::Sender::new(0));
        let mut receiver = sender.subscribe();
        Cutter(Box::pin(async move {
            if receiver.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }))
    }

    /// Cuts all of an arm; how many.
    pub(crate) fn pull(&self, rollout: &str, candidate: bool) -> usize {
        let mut arms = self.arms.lock();
        let under_way =
            arms.iter().find(|((name, arm), _)| &**name == rollout && *arm == candidate).map_or(0, |(_, sender)| {
                sender.send_modify(|cuts| *cuts += 1);
                sender.receiver_count()
            });
        arms.retain(|_, sender| sender.receiver_count() > 0);
        under_way
    }
}

impl Cutter {
    /// Whether it is to be cut; else the task is woken when it is.
    pub(crate) fn poll(&mut self, context: &mut std::task::Context<'_>) -> bool {
        self.0.as_mut().poll(context).is_ready()
    }
}
