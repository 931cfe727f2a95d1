//! Opening one socket, and saying what to do when that fails.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::net::TcpListener;

/// Connections that wait to be accepted at most.
const BACKLOG: i32 = 4096;
/// After how long a silent client is asked whether it is still there.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Listens on an address. Must be called inside a runtime.
pub(crate) fn bind(address: SocketAddr) -> Result<TcpListener, String> {
    // Where a listener for IPv4 has the port, `::` takes the other family alone.
    let both = address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let bound = match try_bind(address, both) {
        Err(error) if both && error.kind() == ErrorKind::AddrInUse => try_bind(address, false),
        bound => bound,
    };
    bound.map_err(|error| {
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

fn try_bind(address: SocketAddr, both_families: bool) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(!both_families)?;
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
    async fn the_unspecified_ipv6_address_takes_clients_of_both_families() {
        if std::net::TcpListener::bind("[::1]:0").is_err() {
            eprintln!("left out: this machine has no IPv6");
            return;
        }
        let both = bind("[::]:0".parse().unwrap()).unwrap();
        let port = both.local_addr().unwrap().port();
        for client in ["127.0.0.1", "::1"] {
            let client: IpAddr = client.parse().unwrap();
            let (_stream, accepted) =
                tokio::try_join!(tokio::net::TcpStream::connect((client, port)), both.accept()).unwrap();
            assert_eq!(accepted.1.ip().to_canonical(), client);
        }
        // Beside a listener for IPv4 it takes what is left.
        let four = bind("0.0.0.0:0".parse().unwrap()).unwrap();
        let port = four.local_addr().unwrap().port();
        let six = bind(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port)).unwrap();
        for (client, listener) in [("127.0.0.1", &four), ("::1", &six)] {
            let client: IpAddr = client.parse().unwrap();
            tokio::try_join!(tokio::net::TcpStream::connect((client, port)), listener.accept()).unwrap();
        }
        let one = bind("[::1]:0".parse().unwrap()).unwrap().local_addr().unwrap();
        assert!(tokio::net::TcpStream::connect(("127.0.0.1", one.port())).await.is_err());
    }

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
