//! TCP ports that nobody else uses.

use anyhow::{Context, Result};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicU16, Ordering};

/// Below Linux's default range for outgoing connections, so that no client's own port is in the way.
const RANGE: std::ops::Range<u16> = 20_000..32_000;

/// A port that was free on both loopback addresses and is ours, among all processes on this host that pick their ports
/// here, until this is dropped.
#[derive(Debug)]
pub struct Port {
    number: u16,
    /// Bound to a name made from the number: the kernel lets one process at a time have it and forgets it with the
    /// process, which a lock file or a socket held open on the port itself would not do.
    _claim: UnixDatagram,
}

impl Port {
    pub fn pick() -> Result<Self> {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let width = RANGE.end - RANGE.start;
        // Processes begin at different places and go on from there.
        let start = u16::try_from(std::process::id().wrapping_mul(61) % u32::from(width)).unwrap_or(0);
        (0..width)
            .map(|_| NEXT.fetch_add(1, Ordering::Relaxed))
            .map(|step| RANGE.start + (start.wrapping_add(step) % width))
            .find_map(Self::claim)
            .context("no free port")
    }

    fn claim(number: u16) -> Option<Self> {
        let name = SocketAddr::from_abstract_name(format!("halephant-port-{number}")).ok()?;
        let claim = UnixDatagram::bind_addr(&name).ok()?;
        TcpListener::bind((Ipv4Addr::LOCALHOST, number)).ok()?;
        if has_ipv6() {
            TcpListener::bind((Ipv6Addr::LOCALHOST, number)).ok()?;
        }
        Some(Self { number, _claim: claim })
    }

    pub fn number(&self) -> u16 {
        self.number
    }
}

/// Whether the loopback interface has an IPv6 address.
pub fn has_ipv6() -> bool {
    TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claimed_port_is_not_given_again_until_it_is_dropped() {
        let first = Port::pick().expect("a port is free");
        let second = Port::pick().expect("another is free");
        assert_ne!(first.number(), second.number());
        assert!(Port::claim(first.number()).is_none());
        let number = first.number();
        drop(first);
        assert!(Port::claim(number).is_some());
    }
}
