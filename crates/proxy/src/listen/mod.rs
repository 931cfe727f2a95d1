//! Listen: the sockets of the snapshot, kept open from one snapshot to the next.
//!
//! First room of the flow. [`Listeners`] opens and closes sockets, [`accept`] takes connections, [`serve`] gives each
//! to hyper and watches its clock, [`tls`] chooses certificates. Must not look at requests.

mod accept;
mod bind;
mod client_io;
mod serve;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tidegate_routing::Snapshot;
use tidegate_routing::snapshot::SocketProtocol;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::Shared;
use crate::connection::Stage;
use crate::table::Table;
use accept::OpenSocket;

/// What became of one socket of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindResult {
    /// The address as the snapshot names it.
    pub address: SocketAddr,
    /// The address that is listened on (differs for port 0), or why there is none and what to do.
    pub result: Result<SocketAddr, String>,
}

/// All sockets.
pub(crate) struct Listeners {
    runtime: Handle,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    open: Vec<Arc<OpenSocket>>,
    /// Sockets that take no connections any more, but have some.
    draining: Vec<Arc<OpenSocket>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Listeners {
    pub(crate) fn new(runtime: Handle) -> Self {
        Self { runtime, state: Mutex::default() }
    }

    /// Closes sockets that a snapshot does not name, and waits until their addresses are free.
    pub(crate) async fn close_missing(&self, snapshot: &Snapshot) {
        let is_named = |open: &Arc<OpenSocket>| {
            snapshot.sockets.iter().any(|socket| socket.address == open.address && socket.protocol == open.protocol)
        };
        let closing = {
            let mut state = self.state.lock();
            let (kept, closing): (Vec<_>, Vec<_>) = std::mem::take(&mut state.open).into_iter().partition(is_named);
            state.open = kept;
            state.draining.retain(|socket| socket.connections() > 0);
            state.draining.extend(closing.iter().cloned());
            state.tasks.retain(|task| !task.is_finished());
            closing
        };
        for socket in &closing {
            socket.advance(Stage::Drain);
        }
        for socket in &closing {
            socket.closed().await;
        }
    }

    /// Opens the sockets of a table that are not open, and gives new certificates to those that are.
    pub(crate) fn open(&self, shared: &Arc<Shared>, table: &Table) -> Vec<BindResult> {
        let mut state = self.state.lock();
        table
            .sockets
            .iter()
            .map(|socket| {
                let known = state.open.iter().find(|open| open.address == socket.address).cloned();
                let result = match known {
                    Some(open) => Ok(open),
                    None => self.open_one(shared, socket.address, socket.protocol, &mut state),
                };
                let result = result.map(|open| {
                    open.certificates.reload(&socket.listeners);
                    open.local
                });
                BindResult { address: socket.address, result }
            })
            .collect()
    }

    fn open_one(
        &self,
        shared: &Arc<Shared>,
        address: SocketAddr,
        protocol: SocketProtocol,
        state: &mut State,
    ) -> Result<Arc<OpenSocket>, String> {
        let _runtime = self.runtime.enter();
        let listener = bind::bind(address)?;
        let local = listener.local_addr().map_err(|error| format!("{address}: {error}"))?;
        let (socket, accepting) = OpenSocket::new(shared.clone(), address, local, protocol, listener);
        state.tasks.push(self.runtime.spawn(accepting));
        state.open.push(socket.clone());
        Ok(socket)
    }

    /// Client connections that are open.
    pub(crate) fn connections(&self) -> usize {
        let state = self.state.lock();
        state.open.iter().chain(&state.draining).map(|socket| socket.connections()).sum()
    }

    /// Drains everything for at most `grace`, then cuts what is left.
    pub(crate) async fn shutdown(&self, grace: Duration) {
        let (sockets, tasks) = {
            let mut state = self.state.lock();
            let mut sockets = std::mem::take(&mut state.open);
            sockets.append(&mut state.draining);
            (sockets, std::mem::take(&mut state.tasks))
        };
        for socket in &sockets {
            socket.advance(Stage::Drain);
        }
        let mut all = futures_util::future::join_all(tasks);
        if tokio::time::timeout(grace, &mut all).await.is_err() {
            for socket in &sockets {
                socket.advance(Stage::Cut);
            }
            all.await;
        }
    }
}

/// A data plane that is dropped without a shutdown leaves nothing running.
impl Drop for Listeners {
    fn drop(&mut self) {
        let state = self.state.get_mut();
        for socket in state.open.iter().chain(&state.draining) {
            socket.advance(Stage::Cut);
        }
    }
}

#[cfg(test)]
mod tests;
