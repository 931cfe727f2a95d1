//! Opening one socket, and saying what to do when that fails.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::net::TcpListener;

/// Connections that wait to be accepted at most.
const BACKLOG: i32 = 4096;
/// After how long a silent client is asked whether it is still there.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Listens on an address. Must be called inside a runtime.
pub(crate) fn bind(address: SocketAddr) -> Result<TcpListener, String> {
    try_bind(address).map_err(|error| {
        let what_to_do = match error.kind() {
            ErrorKind::PermissionDenied => {
                "ports below 1024 need the capability CAP_NET_BIND_SERVICE; grant it or use a higher port"
            }
            ErrorKind::AddrInUse => "another process listens there; stop it or use another port",
            ErrorKind::AddrNotAvailable => "no interface of this machine has this address; use one that has",
            _ => "see the error",
        };
        format!("cannot listen on {address}: {error}; {what_to_do}")
    })
}

fn try_bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // An IPv4 listener of the same port may stand beside it.
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn failures_say_what_to_do() {
        let taken = bind("127.0.0.1:0".parse().unwrap()).unwrap().local_addr().unwrap();
        let held = bind(taken).unwrap();
        let error = bind(held.local_addr().unwrap()).unwrap_err();
        assert!(error.contains(&taken.to_string()) && error.contains("another process"), "{error}");
        let error = bind("203.0.113.7:0".parse().unwrap()).unwrap_err();
        assert!(error.contains("no interface"), "{error}");
    }
}
