//! A running server: its port, its connections, its engine's loop, and its end.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep};

use crate::config::{Config, ConfigError};
use crate::faults::{FaultError, Faults};
use crate::service;
use crate::shared::{Phase, Shared, drive};
use crate::socket::Socket;

/// How long health says 503 before a server whose engine died ends.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Between tries to get a closed port back, and between looks at what is in flight.
const TRY_AGAIN: Duration = Duration::from_millis(20);

/// How a server is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// As vLLM does on SIGTERM: with a shutdown timeout, requests finish while new ones get 500; without one, the port
    /// closes, open streams fall silent, and the server waits until their clients have left.
    Graceful,
    /// At once, with every connection.
    Instant,
}

/// A server that cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No server can be this.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The listener does not work.
    #[error("the listener: {0}")]
    Listener(#[from] io::Error),
}

/// A running server; ends at once when dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    connections: JoinHandle<()>,
    engine: JoinHandle<()>,
}

impl Server {
    /// Starts one on `listener`, after the configuration's startup delay.
    ///
    /// # Errors
    /// When the configuration makes no sense or the listener has no address.
    pub async fn start(config: Config, listener: TcpListener) -> Result<Self, StartError> {
        config.validate()?;
        sleep(config.startup_delay).await;
        let address = listener.local_addr()?;
        let name = config.name.clone().unwrap_or_else(|| address.to_string());
        let shared = Arc::new(Shared::new(config, name));
        let connections = tokio::spawn(accept(shared.clone(), listener, address));
        let engine = tokio::spawn(drive(shared.clone()));
        Ok(Self { address, shared, connections, engine })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The faults in force.
    pub fn faults(&self) -> Faults {
        self.shared.faults.borrow().clone()
    }

    /// Puts other faults in force.
    ///
    /// # Errors
    /// When a rate or time is outside its range.
    pub fn set_faults(&self, faults: Faults) -> Result<(), FaultError> {
        faults.validate()?;
        self.shared.set_faults(faults);
        Ok(())
    }

    /// Sets how many simulated seconds pass in one second, from the next step on. Ignores what is not above 0.
    pub fn set_speed(&self, speed: f64) {
        if speed.is_finite() && speed > 0.0 {
            self.shared.speed.send_replace(speed);
        }
    }

    /// Forgets the prefix cache, but for blocks in use (a restart without one).
    pub fn reset_prefix_cache(&self) {
        self.shared.core.lock().engine.reset_prefix_cache();
    }

    /// Waits until the server ends of itself: whether its engine died.
    pub async fn ended(&mut self) -> bool {
        let mut phase = self.shared.phase.subscribe();
        tokio::select! {
            // Fails only when the sender is gone, which `self` holds.
            _ = phase.wait_for(|phase| *phase == Phase::Died) => sleep(LAST_WORDS).await,
            _ = &mut self.connections => {}
        }
        *self.shared.phase.borrow() == Phase::Died
    }

    /// Ends the server, and returns when it has.
    pub async fn stop(mut self, how: Stop) {
        if how == Stop::Instant {
            return;
        }
        let timeout = self.shared.config.shutdown_timeout;
        if timeout > Duration::ZERO {
            self.shared.phase.send_replace(Phase::Draining);
            let until = Instant::now() + timeout;
            while self.shared.in_flight.load(Ordering::Relaxed) > 0 {
                if Instant::now() >= until {
                    return;
                }
                sleep(TRY_AGAIN).await;
            }
        }
        self.shared.phase.send_replace(Phase::Leaving);
        // Its only error is a panic, after which the server has ended as well.
        let _ = (&mut self.connections).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.connections.abort();
        self.engine.abort();
    }
}

/// Accepts connections while the port is to be open; ends when the server leaves and its last client has.
async fn accept(shared: Arc<Shared>, listener: TcpListener, address: SocketAddr) {
    let (mut faults, mut phase) = (shared.faults.subscribe(), shared.phase.subscribe());
    let mut listener = Some(listener);
    let mut connections = JoinSet::new();
    loop {
        let now = *phase.borrow_and_update();
        let open = now != Phase::Leaving && !faults.borrow_and_update().refuse_connections;
        if !open {
            listener = None;
        }
        if now == Phase::Leaving && connections.is_empty() {
            return;
        }
        tokio::select! {
            accepted = next(listener.as_ref()) => match accepted {
                Ok(stream) => {
                    connections.spawn(connection(shared.clone(), stream));
                }
                // Out of file descriptors, say; others may be given back meanwhile.
                Err(_) => sleep(TRY_AGAIN).await,
            },
            bound = bind(address), if open && listener.is_none() => listener = Some(bound),
            _ = connections.join_next(), if !connections.is_empty() => {}
            _ = faults.changed() => {}
            _ = phase.changed() => {}
        }
    }
}

async fn next(listener: Option<&TcpListener>) -> io::Result<TcpStream> {
    match listener {
        Some(listener) => listener.accept().await.map(|(stream, _)| stream),
        None => std::future::pending().await,
    }
}

/// Gets the port back, however often it takes.
async fn bind(address: SocketAddr) -> TcpListener {
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(_) => sleep(TRY_AGAIN).await,
        }
    }
}

async fn connection(shared: Arc<Shared>, stream: TcpStream) {
    // Without it tokens may come late; nothing fails.
    let _ = stream.set_nodelay(true);
    let reset = Arc::new(AtomicBool::new(false));
    let socket = Socket { stream, reset: reset.clone() };
    let phase = shared.phase.subscribe();
    let answer = service_fn(move |request| service::serve(shared.clone(), reset.clone(), request));
    let connection = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(socket), answer);
    tokio::pin!(connection);
    tokio::select! {
        // A client that left is no concern of the server's.
        _ = connection.as_mut() => return,
        _ = leaving(phase) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}

async fn leaving(mut phase: watch::Receiver<Phase>) -> Result<(), Infallible> {
    // The sender lives as long as the connection's service does.
    let _ = phase.wait_for(|phase| *phase == Phase::Leaving).await;
    Ok(())
}
