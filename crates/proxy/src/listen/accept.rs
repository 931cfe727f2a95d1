//! One open socket: takes connections until it is told to stop, and owns those it took until they end.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tidegate_routing::snapshot::SocketProtocol;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{debug, warn};

use crate::Shared;
use crate::connection::{Connection, Stage};
use crate::listen::serve::{self, Server};
use crate::listen::tls::Certificates;

/// How long to wait when the machine is out of file descriptors or memory.
const BACKOFF: Duration = Duration::from_millis(100);

/// A socket that is listened on.
pub(crate) struct OpenSocket {
    /// As the snapshot names it.
    pub(crate) address: SocketAddr,
    /// As the kernel names it.
    pub(crate) local: SocketAddr,
    pub(crate) protocol: SocketProtocol,
    pub(crate) certificates: Arc<Certificates>,
    pub(crate) shared: Arc<Shared>,
    stage: watch::Sender<Stage>,
    closed: watch::Sender<bool>,
    open: AtomicUsize,
    /// To be told of a stop; by a number of their own.
    connections: Mutex<HashMap<u64, Arc<Connection>>>,
}

impl OpenSocket {
    /// A socket, and the task that serves it.
    pub(crate) fn new(
        shared: Arc<Shared>,
        address: SocketAddr,
        local: SocketAddr,
        protocol: SocketProtocol,
        listener: TcpListener,
    ) -> (Arc<Self>, impl Future<Output = ()> + Send + 'static) {
        let socket = Arc::new(Self {
            address,
            local,
            protocol,
            certificates: Arc::default(),
            shared,
            stage: watch::Sender::new(Stage::Serve),
            closed: watch::Sender::new(false),
            open: AtomicUsize::new(0),
            connections: Mutex::default(),
        });
        let accepting = accept_all(socket.clone(), listener);
        (socket, accepting)
    }

    /// Connections that are open.
    pub(crate) fn connections(&self) -> usize {
        self.open.load(Ordering::Acquire)
    }

    /// Moves the socket and its connections on to `stage`.
    pub(crate) fn advance(&self, stage: Stage) {
        self.stage.send_replace(stage);
        for connection in self.connections.lock().values() {
            connection.stop.advance(stage);
        }
    }

    /// Waits until the address is free.
    pub(crate) async fn closed(&self) {
        // An error means that the sender is gone, and the sender is in `self`.
        let mut closed = self.closed.subscribe();
        let _gone = closed.wait_for(|closed| *closed).await;
    }

    /// Has a connection told of stops, also of one that came meanwhile.
    pub(crate) fn register(&self, number: u64, connection: &Arc<Connection>) {
        self.connections.lock().insert(number, connection.clone());
        connection.stop.advance(*self.stage.borrow());
    }

    /// Waits for a stage at least as late as `stage`.
    pub(crate) async fn reaches(&self, stage: Stage) {
        let mut stages = self.stage.subscribe();
        let _gone = stages.wait_for(|now| *now as u8 >= stage as u8).await;
    }
}

/// Counts a connection while it lives.
struct Counted {
    socket: Arc<OpenSocket>,
    number: u64,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.socket.connections.lock().remove(&self.number);
        self.socket.open.fetch_sub(1, Ordering::AcqRel);
    }
}

async fn accept_all(socket: Arc<OpenSocket>, listener: TcpListener) {
    let server = Arc::new(Server::new());
    let mut connections = JoinSet::new();
    let mut stop = socket.stage.subscribe();
    let mut number = 0_u64;
    loop {
        tokio::select! {
            biased;
            () = leaves_service(&mut stop) => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    number += 1;
                    connections.spawn(one(socket.clone(), server.clone(), stream, peer, number));
                }
                Err(error) => wait_after(&socket, &error).await,
            },
        }
    }
    drop(listener);
    socket.closed.send_replace(true);
    while connections.join_next().await.is_some() {}
}

async fn one(socket: Arc<OpenSocket>, server: Arc<Server>, stream: TcpStream, peer: SocketAddr, number: u64) {
    socket.open.fetch_add(1, Ordering::AcqRel);
    let counted = Counted { socket: socket.clone(), number };
    if let Err(error) = serve::connection(&socket, &server, stream, peer, number).await {
        debug!(%peer, listener = %socket.local, %error, "a client's connection ended with an error");
    }
    drop(counted);
}

/// Errors of one connection are passed over; when the machine is out of something, accepting waits.
async fn wait_after(socket: &OpenSocket, error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    if matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
        return;
    }
    warn!(listener = %socket.local, %error, "connections cannot be accepted for now");
    tokio::time::sleep(BACKOFF).await;
}

/// Waits until the socket is to be closed.
async fn leaves_service(stage: &mut watch::Receiver<Stage>) {
    let _gone = stage.wait_for(|stage| *stage != Stage::Serve).await;
}
