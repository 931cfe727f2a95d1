//! The data plane as its owner sees it: apply a snapshot, read what is active, shut down.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tidegate_picker::Picker;
use tidegate_routing::Snapshot;
use tidegate_telemetry::ObservationSink;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::active::{Active, Upstreams};
use crate::cuts::Cuts;
use crate::evidence::Numbers;
use crate::listen::{BindResult, Listeners};
use crate::mirror::Mirrors;
use crate::recent::{Recent, RecentPrompt};
use crate::shadow::Shadows;
use crate::table::{Budgets, Table};

/// What a data plane is made of.
pub struct ProxyOptions {
    /// Takes finished requests.
    pub sink: Arc<dyn ObservationSink>,
    /// Picks endpoints.
    pub picker: Arc<dyn Picker>,
    /// Where connections are served.
    pub runtime: Handle,
}

/// What every connection reads.
pub(crate) struct Shared {
    pub(crate) table: ArcSwap<Table>,
    pub(crate) sink: Arc<dyn ObservationSink>,
    pub(crate) mirrors: Mirrors,
    pub(crate) numbers: Numbers,
    pub(crate) shadows: Shadows,
    pub(crate) recent: Recent,
    pub(crate) cuts: Cuts,
}

/// A data plane.
pub struct Proxy {
    shared: Arc<Shared>,
    picker: Arc<dyn Picker>,
    upstreams: Upstreams,
    budgets: Mutex<Budgets>,
    listeners: Listeners,
    /// One apply at a time.
    applying: Semaphore,
}

impl Proxy {
    /// A data plane that listens nowhere yet.
    pub fn new(options: ProxyOptions) -> Arc<Self> {
        let ProxyOptions { sink, picker, runtime } = options;
        let nothing = Arc::new(Active { snapshot: Arc::default(), pools: Vec::new() });
        let table = ArcSwap::from_pointee(Table::new(nothing, &mut Budgets::new()));
        let upstreams = Upstreams::new(sink.clone());
        Arc::new(Self {
            shared: Arc::new(Shared {
                table,
                sink,
                mirrors: Mirrors::new(),
                numbers: Numbers::new(),
                shadows: Shadows::default(),
                recent: Recent::default(),
                cuts: Cuts::default(),
            }),
            picker,
            upstreams,
            budgets: Mutex::default(),
            listeners: Listeners::new(runtime),
            applying: Semaphore::new(1),
        })
    }

    /// Puts a snapshot in force: requests that begin from now on read it, those under way finish on theirs. Sockets
    /// that it names and that are not open are opened, those it no longer names are closed in good order. Gives one
    /// result per socket of the snapshot; a socket that could not be bound is tried again by the next apply.
    pub async fn apply(&self, snapshot: Arc<Snapshot>) -> Vec<BindResult> {
        // Closed only when the data plane is dropped, which cannot happen while it is borrowed here.
        let _turn = self.applying.acquire().await;
        self.listeners.close_missing(&snapshot).await;
        let active = Arc::new(self.upstreams.activate(snapshot, &self.picker));
        let table = Arc::new(Table::new(active, &mut self.budgets.lock()));
        self.shared.table.store(table.clone());
        self.listeners.open(&self.shared, &table)
    }

    /// What is in force.
    pub fn active(&self) -> Arc<Active> {
        self.shared.table.load().active.clone()
    }

    /// Prompts that came lately and fell on the pair of a roll-out (`namespace/name`) that prepares, the newest first.
    pub fn recent_prompts(&self, rollout: &str) -> Vec<RecentPrompt> {
        self.shared.recent.of(rollout)
    }

    /// Forgets the prompts of all roll-outs but these.
    pub fn keep_prompts_of(&self, rollouts: &BTreeSet<String>) {
        self.shared.recent.retain(rollouts);
    }

    /// Cuts the answers under way of a roll-out's (`namespace/name`) candidate or stable; how many.
    pub fn cut(&self, rollout: &str, candidate: bool) -> usize {
        self.shared.cuts.pull(rollout, candidate)
    }

    /// Client connections that are open.
    pub fn connections(&self) -> usize {
        self.listeners.connections()
    }

    /// Stops accepting, lets requests under way finish for at most `grace`, then cuts what is left.
    pub async fn shutdown(&self, grace: Duration) {
        let _turn = self.applying.acquire().await;
        self.listeners.shutdown(grace).await;
        self.shared.mirrors.shutdown().await;
    }
}
