//! Loopback addresses that no other test uses.

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// An unused address in 127.64.0.0/10, different for each call and, as good as surely, for each process.
pub fn address() -> IpAddr {
    let count = NEXT.fetch_add(1, Ordering::Relaxed);
    let number = std::process::id().wrapping_mul(1021).wrapping_add(count) & 0x003f_ffff;
    let [_, high, middle, low] = (0x0040_0000 | number).to_be_bytes();
    // Of all of 127.0.0.0/8 any address will do, those that end in 0 too.
    IpAddr::V4(Ipv4Addr::new(127, high, middle, low))
}

/// A port that was free a moment ago on `address`.
pub fn free_port(address: IpAddr) -> u16 {
    TcpListener::bind((address, 0)).expect("bind a loopback port").local_addr().expect("its address").port()
}
