//! What the kernel says of a TCP connection of this host.

use anyhow::{Context, Result};
use std::fs;

/// Bytes that have come for the end at `local` port, from `remote` port, and that its process has not read.
pub fn unread_bytes(local: u16, remote: u16) -> Result<u64> {
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let text = fs::read_to_string(table).unwrap_or_default();
        if let Some(bytes) = text.lines().skip(1).find_map(|line| parse(line, local, remote)) {
            return Ok(bytes);
        }
    }
    None.with_context(|| format!("no connection between ports {local} and {remote}"))
}

/// `0: 0100007F:1920 0100007F:D431 01 00000000:00000000 ...`: local and remote address, state, queues to send and to
/// read.
fn parse(line: &str, local: u16, remote: u16) -> Option<u64> {
    let mut fields = line.split_whitespace().skip(1);
    let mut port = || u16::from_str_radix(fields.next()?.rsplit(':').next()?, 16).ok();
    if (port()?, port()?) != (local, remote) {
        return None;
    }
    let (_, unread) = fields.nth(1)?.split_once(':')?;
    u64::from_str_radix(unread, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait_for;
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpListener, TcpStream};
    use std::time::Duration;

    #[test]
    fn counts_what_was_not_read() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let mut client = TcpStream::connect(listener.local_addr().expect("bound")).expect("it accepts");
        let (mut server, peer) = listener.accept().expect("it came");
        let local = listener.local_addr().expect("bound").port();
        client.write_all(b"hello").expect("there is room");
        let arrived = || Ok((unread_bytes(local, peer.port())? == 5).then_some(()));
        wait_for("five bytes", Duration::from_secs(10), arrived).expect("they come");
        server.read_exact(&mut [0; 5]).expect("they are there");
        assert_eq!(unread_bytes(local, peer.port()).expect("it is open"), 0);
        assert!(unread_bytes(1, 1).is_err());
    }
}
