//! Takes connections for the admin and the probe port.
//!
//! A connection is bounded in every way: how many there are, how long a head may take, how large it may be, how long
//! the connection lives. What cannot be accepted for want of descriptors is tried again.

use std::future::Future;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::{AdminState, router};

/// Connections at once; further ones wait in the kernel's queue.
const CONNECTIONS: usize = 64;
/// For a client to send a head, also the first of an idle connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 5 });
/// Largest head, and the buffer an answer is written through.
const BUFFER_BYTES: usize = 64 * 1024;
/// A connection's age at which it is asked to end after its running request.
const OLDEST: Duration = Duration::from_secs(120);
/// How long a connection that was asked to end may take.
const GRACE: Duration = Duration::from_secs(5);
/// Pause after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Which of the two ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// Everything; `--admin`.
    Admin,
    /// /healthz, /readyz and /metrics alone; `--probe-bind`.
    Probe,
}

impl Port {
    fn flag(self) -> &'static str {
        match self {
            Self::Admin => "--admin",
            Self::Probe => "--probe-bind",
        }
    }
}

/// Why a port could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("{flag} {address}: cannot listen there: {source}; {hint}")]
pub struct BindError {
    flag: &'static str,
    address: SocketAddr,
    source: std::io::Error,
    hint: &'static str,
}

impl BindError {
    fn new(port: Port, address: SocketAddr, source: std::io::Error) -> Self {
        let hint = match source.kind() {
            ErrorKind::AddrInUse => "something else listens there, perhaps another gateway: give another port",
            ErrorKind::AddrNotAvailable => "this machine has no such address: give one that it has",
            ErrorKind::PermissionDenied => "ports under 1024 need a privilege: give a higher port",
            _ => "give another address",
        };
        Self { flag: port.flag(), address, source, hint }
    }
}

/// A bound port that does not serve yet.
#[derive(Debug)]
pub struct AdminListener {
    port: Port,
    listener: TcpListener,
    address: SocketAddr,
}

impl AdminListener {
    /// Binds it.
    ///
    /// # Errors
    /// When it cannot be bound; the message names the flag, the address, and what to do.
    pub async fn bind(port: Port, address: SocketAddr) -> Result<Self, BindError> {
        let failed = |source| BindError::new(port, address, source);
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { port, listener, address })
    }

    /// The address it got (differs from the one asked for in the port when that was 0).
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` is done, then lets running requests finish for some seconds.
    pub async fn serve(self, state: AdminState, stop: impl Future<Output = ()> + Send) {
        let router = match self.port {
            Port::Admin => router::admin(state, self.address),
            Port::Probe => router::probe(state),
        };
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let (ending, ended) = watch::channel(false);
        let mut connections = JoinSet::new();
        let mut stop = pin!(stop);
        loop {
            let next = async {
                let place = places.clone().acquire_owned().await.ok();
                (place, self.listener.accept().await)
            };
            tokio::select! {
                () = &mut stop => break,
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
                (place, accepted) = next => match accepted {
                    Ok((stream, _)) => {
                        let (router, ended) = (router.clone(), ended.clone());
                        connections.spawn(async move {
                            serve_connection(stream, router, ended).await;
                            drop(place);
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, flag = self.port.flag(), "a connection could not be accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        drop(self.listener);
        let _ = ending.send(true);
        let all = async { while connections.join_next().await.is_some() {} };
        // Each connection has a deadline of its own; this one bounds their sum.
        let _ = tokio::time::timeout(GRACE * 2, all).await;
        connections.shutdown().await;
    }
}

async fn serve_connection(stream: TcpStream, router: Router, mut ended: watch::Receiver<bool>) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    let ask_to_end = async {
        // An error means that the server is gone: the same.
        let _ = tokio::time::timeout(OLDEST, ended.wait_for(|ended| *ended)).await;
    };
    tokio::select! {
        result = connection.as_mut() => {
            if let Err(error) = result {
                tracing::debug!(%error, "an admin connection broke off");
            }
        }
        () = ask_to_end => {
            connection.as_mut().graceful_shutdown();
            let _ = tokio::time::timeout(GRACE, connection).await;
        }
    }
}
