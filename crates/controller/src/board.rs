//! What readers see of the roll-outs, while the controller goes on: the machines themselves, each behind a lock of its
//! own that is held for one input or one answer, never across I/O.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use serde_json::{Map, Value, json};
use tidegate_api::ObjectKey;
use tidegate_rollout::Machine;
use tokio::sync::watch;

use crate::flight::Flight;
use crate::forecast::Traffic;

/// How many lines of history are kept in memory; the file holds more.
pub(crate) const HISTORY: usize = 1000;

/// All roll-outs by name.
#[derive(Debug)]
pub(crate) struct Board {
    cards: RwLock<BTreeMap<(String, String), Arc<Card>>>,
    changes: watch::Sender<u64>,
}

/// One roll-out as readers see it.
#[derive(Debug)]
pub(crate) struct Card {
    /// The document as it was last read.
    pub(crate) document: RwLock<Value>,
    /// The machine of the release that the document describes.
    pub(crate) machine: Arc<Mutex<Machine>>,
    /// Transitions, notifications and commands, oldest first.
    pub(crate) history: Mutex<VecDeque<Value>>,
    /// How often it turned back, by reason.
    pub(crate) rollbacks: Mutex<BTreeMap<String, u64>>,
    /// Today's traffic.
    pub(crate) traffic: Mutex<Traffic>,
    /// The pair's requests.
    pub(crate) flight: Mutex<Flight>,
}

impl Default for Board {
    fn default() -> Self {
        Self { cards: RwLock::default(), changes: watch::Sender::new(0) }
    }
}

impl Board {
    /// Puts a roll-out on the board, or another machine in its place.
    pub(crate) fn put(&self, key: &ObjectKey, card: Arc<Card>) {
        self.cards.write().insert((key.namespace.clone(), key.name.clone()), card);
        self.changed();
    }

    /// Takes a roll-out off.
    pub(crate) fn remove(&self, key: &ObjectKey) {
        self.cards.write().remove(&(key.namespace.clone(), key.name.clone()));
        self.changed();
    }

    /// Tells those who watch that something may look different now.
    pub(crate) fn changed(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Counts up with every change.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// One of them.
    pub(crate) fn get(&self, namespace: &str, name: &str) -> Option<Arc<Card>> {
        self.cards.read().get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// All of them, by namespace and name.
    pub(crate) fn all(&self) -> Vec<Arc<Card>> {
        self.cards.read().values().cloned().collect()
    }

    /// All of them with namespace and name, in this order.
    pub(crate) fn named(&self) -> Vec<((String, String), Arc<Card>)> {
        self.cards.read().iter().map(|(name, card)| (name.clone(), card.clone())).collect()
    }
}

impl Card {
    /// A card without history.
    pub(crate) fn new(document: Value, machine: Arc<Mutex<Machine>>) -> Self {
        Self {
            document: RwLock::new(document),
            machine,
            history: Mutex::default(),
            rollbacks: Mutex::default(),
            traffic: Mutex::default(),
            flight: Mutex::default(),
        }
    }

    /// The resource with its status, as kubectl prints it.
    pub(crate) fn resource(&self) -> Value {
        let status = self.status();
        let mut object = match &*self.document.read() {
            Value::Object(fields) => fields.clone(),
            _ => Map::new(),
        };
        object.shift_remove("status");
        object.insert("status".into(), status);
        Value::Object(object)
    }

    /// The status alone.
    pub(crate) fn status(&self) -> Value {
        written(&self.machine.lock().status())
    }

    /// Keeps a line of the history.
    pub(crate) fn remember(&self, line: Value) {
        let mut history = self.history.lock();
        if history.len() >= HISTORY {
            history.pop_front();
        }
        history.push_back(line);
    }
}

/// A value as JSON; what cannot be written says why.
pub(crate) fn written(value: &impl serde::Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_else(|error| json!({"error": error.to_string()}))
}
