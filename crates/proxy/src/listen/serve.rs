//! One connection from its first byte to its last: TLS, then hyper, under the clock.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::{HeaderValue, Request};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tidegate_routing::snapshot::{Limits, SocketProtocol};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};

use crate::connection::{Clock, Connection, Stage, Stop, Verdict};
use crate::listen::accept::OpenSocket;
use crate::listen::client_io::ClientIo;
use crate::spine;

/// For a TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Bytes of a connection's read buffer at most; a head must fit in.
const BUFFER: usize = 256 * 1024;
/// Bytes of an HTTP/2 header list at most.
const HEADER_LIST: u32 = 64 * 1024;
/// Requests at once on one HTTP/2 connection.
const STREAMS: u32 = 1024;
/// HTTP/2 flow control: per stream and per connection. Prompts are large.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// hyper's settings, shared by a socket's connections.
pub(crate) struct Server {
    builder: auto::Builder<TokioExecutor>,
    tls: tls::Acceptors,
}

use crate::listen::tls;

impl Server {
    pub(crate) fn new() -> Self {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        // The connection's own clock does this; see `connection`.
        builder.http1().header_read_timeout(None).max_buf_size(BUFFER);
        builder
            .http2()
            .max_header_list_size(HEADER_LIST)
            .max_concurrent_streams(STREAMS)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW);
        Self { builder, tls: tls::Acceptors::default() }
    }
}

/// Serves one connection.
pub(crate) async fn connection(
    socket: &Arc<OpenSocket>,
    server: &Server,
    stream: TcpStream,
    peer: SocketAddr,
    number: u64,
) -> Result<(), Error> {
    stream.set_nodelay(true)?;
    let opened = Instant::now();
    match socket.protocol {
        SocketProtocol::Http => {
            let connection = new_connection(socket, peer, opened, None, false)?;
            socket.register(number, &connection);
            drive(server, stream, connection).await
        }
        SocketProtocol::Https => {
            let acceptor = server.tls.acceptor(&socket.certificates)?;
            let handshake = timeout(HANDSHAKE, acceptor.accept(stream));
            let stream = tokio::select! {
                handshaken = handshake => handshaken??,
                () = socket.reaches(Stage::Drain) => return Ok(()),
            };
            let name = stream.get_ref().1.server_name().map(str::to_ascii_lowercase);
            let connection = new_connection(socket, peer, opened, name, true)?;
            socket.register(number, &connection);
            drive(server, stream, connection).await
        }
    }
}

fn new_connection(
    socket: &OpenSocket,
    peer: SocketAddr,
    opened: Instant,
    server_name: Option<String>,
    tls: bool,
) -> Result<Arc<Connection>, Error> {
    Ok(Arc::new(Connection {
        shared: socket.shared.clone(),
        socket: socket.address,
        port: socket.local.port(),
        peer: HeaderValue::try_from(peer.ip().to_canonical().to_string())?,
        server_name,
        tls,
        clock: Clock::new(opened),
        stop: Stop::default(),
    }))
}

/// Lets hyper serve the connection. Only hyper's future is polled each time; the timer and the stop are looked at,
/// which costs an atomic read each.
async fn drive<S>(server: &Server, stream: S, connection: Arc<Connection>) -> Result<(), Error>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let io = TokioIo::new(ClientIo::new(stream, connection.clone()));
    let service = {
        let connection = connection.clone();
        service_fn(move |request: Request<Incoming>| spine::serve_request(connection.clone(), request))
    };
    let mut serving = pin!(server.builder.serve_connection(io, service));
    let mut timer = pin!(sleep_until(look_at(&connection, Instant::now()).unwrap_or_else(|_| Instant::now())));
    let (mut armed, mut draining) = (false, false);
    std::future::poll_fn(|context| {
        if !armed {
            armed = true;
            connection.stop.register(context.waker());
            let _first = timer.as_mut().poll(context);
        }
        if timer.is_elapsed() {
            let now = Instant::now();
            match look_at(&connection, now) {
                Ok(next) => {
                    timer.as_mut().reset(next);
                    let _armed = timer.as_mut().poll(context);
                }
                Err(Stage::Cut) => return Poll::Ready(Ok(())),
                Err(_) => {
                    connection.stop.advance(Stage::Drain);
                    timer.as_mut().reset(now + Duration::from_secs(60));
                    let _armed = timer.as_mut().poll(context);
                }
            }
        }
        match connection.stop.stage() {
            Stage::Serve => {}
            Stage::Drain if draining => {}
            Stage::Drain => {
                draining = true;
                serving.as_mut().graceful_shutdown();
                // Being woken used the registration up.
                connection.stop.register(context.waker());
            }
            Stage::Cut => return Poll::Ready(Ok(())),
        }
        if draining && connection.stop.stage() == Stage::Cut {
            return Poll::Ready(Ok(()));
        }
        serving.as_mut().poll(context)
    })
    .await
}

/// When to look at the connection's clock again, or how it is to end.
fn look_at(connection: &Connection, now: Instant) -> Result<Instant, Stage> {
    let table = connection.shared.table.load();
    let limits = table.socket(connection.socket).and_then(|socket| socket.listeners.first());
    let verdict = match limits {
        Some(table) => connection.clock.verdict(now, &table.listener.limits),
        None => connection.clock.verdict(now, &Limits::default()),
    };
    match verdict {
        Verdict::Until(next) => Ok(next),
        Verdict::Drain => Err(Stage::Drain),
        Verdict::Cut => Err(Stage::Cut),
    }
}
