//! Ports for servers that are killed and started again on the same one.

use std::net::TcpListener;
use std::ops::Range;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Mutex;

/// Below lie the ports of well-known services.
const LOWEST: u16 = 10_000;

/// The ports that this process has given out, and the next to be tried. Kept to its end: who asked
/// for one may start a server on it at any time.
static GIVEN: Mutex<(Vec<UnixDatagram>, Option<u16>)> = Mutex::new((Vec::new(), None));

/// A port for a server, given to nobody else as long as this process lives.
///
/// It lies outside the range from which the system takes the ports of outgoing connections and of
/// whoever asks for any: while the server is down, no other connection gets its port, and a client
/// that tries again and again does not get connected to itself. Tests that run at the same time in
/// other processes take care of each other through names of abstract sockets, which are free again
/// when a process ends.
///
/// # Panics
/// Where no port is free.
#[must_use]
pub fn free_port() -> u16 {
    let range = range();
    let mut given = GIVEN.lock().expect("no panic while it is held");
    let (held, next) = &mut *given;
    let first = next.unwrap_or_else(|| {
        range.start
            + u16::try_from(std::process::id() % u32::from(range.end - range.start)).unwrap_or(0)
    });
    let port = (first..range.end).chain(range.start..first).find(|port| {
        let Some(name) = claim(*port) else {
            return false;
        };
        held.push(name);
        TcpListener::bind(("127.0.0.1", *port)).is_ok()
    });
    let port = port.unwrap_or_else(|| panic!("no port in {range:?} is free"));
    *next = Some(port + 1);
    port
}

fn claim(port: u16) -> Option<UnixDatagram> {
    let name = SocketAddr::from_abstract_name(format!("pointsman-test-port-{port}")).ok()?;
    UnixDatagram::bind_addr(&name).ok()
}

/// The larger part of what the system leaves alone (ip(7), `ip_local_port_range`).
fn range() -> Range<u16> {
    let text =
        std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut bounds = text
        .split_whitespace()
        .map_while(|bound| bound.parse().ok());
    let (first, last) = (
        bounds.next().unwrap_or(32_768),
        bounds.next().unwrap_or(60_999),
    );
    let (below, above) = (LOWEST..u16::max(first, LOWEST), last..u16::MAX);
    if below.len() >= above.len() {
        below
    } else {
        above.start + 1..above.end
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_port_is_given_out_once_and_to_nobody_who_connects() {
        let ports: HashSet<u16> = (0..200).map(|_| free_port()).collect();
        assert_eq!(ports.len(), 200);
        assert!(ports.iter().all(|port| range().contains(port)));
        // What another process would find.
        assert!(ports.iter().all(|port| claim(*port).is_none()));
        let any = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        assert!(!range().contains(&any), "{any} lies in {:?}", range());
    }
}
