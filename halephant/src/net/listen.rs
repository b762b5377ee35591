//! Listening sockets, one per worker on the same address, and the options of every connection.

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;

/// Connections that may wait for accept: a login storm of 1,000 fits; the kernel caps it at net.core.somaxconn.
pub(super) const BACKLOG: i32 = 4096;
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 6;

/// Binds `count` sockets to `address`, among which the kernel spreads connections (SO_REUSEPORT); what they accept has the
/// options of [`tune`]. Unless the address is
/// `shared` with other processes of ours, one is bound without it first, so that another program's listener on the
/// address is an error and not a rival.
pub fn bind(address: SocketAddr, count: usize, shared: bool) -> io::Result<Vec<std::net::TcpListener>> {
    let probe = socket(address)?;
    probe.set_reuse_port(shared)?;
    probe.bind(&address.into())?;
    // With port 0 the kernel has chosen; the others must share it.
    let address = probe.local_addr()?.as_socket().ok_or(io::ErrorKind::InvalidInput)?;
    drop(probe);
    (0..count)
        .map(|_| {
            let socket = socket(address)?;
            socket.set_reuse_port(true)?;
            socket.bind(&address.into())?;
            // Linux hands them on to each accepted socket.
            tune(&socket);
            socket.listen(BACKLOG)?;
            Ok(socket.into())
        })
        .collect()
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // `[::]` and `0.0.0.0` are two entries of `listen`.
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

/// Small messages leave at once, and a peer that vanished without a word is noticed.
pub fn tune(socket: &impl AsFd) {
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    let socket = SockRef::from(socket);
    if let Err(error) = socket.set_tcp_nodelay(true).and_then(|()| socket.set_tcp_keepalive(&keepalive)) {
        tracing::debug!(%error, "socket options could not be set");
    }
}

/// Lifts the soft limit on open descriptors to the hard one: every client and every server connection takes one.
/// Returns the limit in force.
pub fn raise_descriptor_limit() -> nix::Result<u64> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepted_connections_have_the_options() {
        let listeners = bind("127.0.0.1:0".parse().expect("an address"), 1, false).expect("it is free");
        let address = listeners[0].local_addr().expect("it is bound");
        let _client = std::net::TcpStream::connect(address).expect("it listens");
        listeners[0].set_nonblocking(false).expect("a socket option");
        let (accepted, _) = listeners[0].accept().expect("one has come");
        let socket = SockRef::from(&accepted);
        assert!(socket.tcp_nodelay().expect("a socket option"));
        assert!(socket.keepalive().expect("a socket option"));
        assert_eq!(socket.tcp_keepalive_time().expect("a socket option"), KEEPALIVE_IDLE);
        assert_eq!(socket.tcp_keepalive_interval().expect("a socket option"), KEEPALIVE_INTERVAL);
        assert_eq!(socket.tcp_keepalive_retries().expect("a socket option"), KEEPALIVE_PROBES);
    }
}
