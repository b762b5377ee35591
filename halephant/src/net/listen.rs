//! Listening sockets, one per worker on the same address, and the options of every connection.

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;

/// Connections that may wait for accept: a login storm of 1,000 fits; the kernel caps it at net.core.somaxconn.
pub(super) const BACKLOG: i32 = 4096;
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 6;

/// Binds `count` sockets to `address`, among which the kernel spreads connections (SO_REUSEPORT). Unless the address is
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
pub fn tune(stream: &TcpStream) {
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    let socket = SockRef::from(stream);
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
