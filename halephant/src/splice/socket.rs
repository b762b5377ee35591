//! What the kernel tells of a TCP socket of ours.
#![allow(unsafe_code)]

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// Words of `struct tcp_info` up to `tcpi_bytes_received`; the kernel fills as much as it is given room for.
const TCP_INFO_WORDS: usize = 17;
const TCP_ESTABLISHED: u8 = 1;
const TCP_CLOSE_WAIT: u8 = 8;
/// Values of `TCP_REPAIR`; `OFF` sends no window probe.
const REPAIR_ON: libc::c_int = 1;
const REPAIR_OFF: libc::c_int = -1;
const BYTES_ACKED_WORD: usize = 15;
const BYTES_RECEIVED_WORD: usize = 16;

/// Byte counts of a connection; both count a FIN or SYN as one byte at times, so compare differences only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flowed {
    /// The connection can still carry what we write.
    pub open: bool,
    /// Sent and acknowledged by the other end.
    pub acked: u64,
    /// Received, read by userspace or not.
    pub received: u64,
}

pub fn flowed(socket: BorrowedFd<'_>) -> io::Result<Flowed> {
    let mut words = [0_u64; TCP_INFO_WORDS];
    let mut bytes = size_of::<[u64; TCP_INFO_WORDS]>() as libc::socklen_t;
    // SAFETY: the buffer is as long as the length says, and any bytes are a valid value of it.
    let status = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            words.as_mut_ptr().cast(),
            &raw mut bytes,
        )
    };
    if status != 0 {
        return Err(io::Error::last_os_error());
    }
    let state = words[0].to_ne_bytes()[0];
    let open = matches!(state, TCP_ESTABLISHED | TCP_CLOSE_WAIT);
    Ok(Flowed { open, acked: words[BYTES_ACKED_WORD], received: words[BYTES_RECEIVED_WORD] })
}

/// Bytes written to the socket and not yet acknowledged.
pub fn unacked(socket: BorrowedFd<'_>) -> io::Result<u64> {
    ioctl(socket, libc::TIOCOUTQ)
}

/// Bytes received and not yet read.
pub fn unread(socket: BorrowedFd<'_>) -> io::Result<u64> {
    ioctl(socket, libc::FIONREAD)
}

fn ioctl(socket: BorrowedFd<'_>, request: libc::Ioctl) -> io::Result<u64> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: both requests write one int.
    if unsafe { libc::ioctl(socket.as_raw_fd(), request, &raw mut bytes) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(u64::try_from(bytes).unwrap_or(0))
}

/// Position in the outgoing stream up to which bytes were handed to TCP.
pub fn written(socket: BorrowedFd<'_>) -> io::Result<u64> {
    // In this order: what is acknowledged in between makes the sum too small, never too large.
    let acked = flowed(socket)?.acked;
    Ok(acked + unacked(socket)?)
}

/// As [`written`], but exact: both figures are of one moment.
pub fn position(socket: BorrowedFd<'_>) -> io::Result<u64> {
    loop {
        let acked = flowed(socket)?.acked;
        let unacked = unacked(socket)?;
        if flowed(socket)?.acked == acked {
            return Ok(acked + unacked);
        }
    }
}

/// The kernel's own number of the socket, the same that programs and sock_diag see.
pub fn cookie(socket: BorrowedFd<'_>) -> io::Result<u64> {
    let mut cookie = 0_u64;
    let mut bytes = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the buffer is as long as the length says.
    let status = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut bytes,
        )
    };
    if status != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(cookie)
}

/// A direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    Receive = 1,
    Send = 2,
}

/// The sequence number of the next byte that the socket receives or sends. Only a connection that is being repaired tells it;
/// that changes nothing else, but forgets that the address may be reused.
pub fn next_sequence(socket: BorrowedFd<'_>, queue: Queue) -> io::Result<u32> {
    let reuse = option(socket, libc::SOL_SOCKET, libc::SO_REUSEADDR)?;
    set_option(socket, libc::IPPROTO_TCP, libc::TCP_REPAIR, REPAIR_ON)?;
    let sequence = set_option(socket, libc::IPPROTO_TCP, libc::TCP_REPAIR_QUEUE, queue as libc::c_int)
        .and_then(|()| option(socket, libc::IPPROTO_TCP, libc::TCP_QUEUE_SEQ));
    set_option(socket, libc::IPPROTO_TCP, libc::TCP_REPAIR, REPAIR_OFF)?;
    set_option(socket, libc::SOL_SOCKET, libc::SO_REUSEADDR, reuse)?;
    Ok(sequence?.cast_unsigned())
}

/// Makes room for `bytes` in the send buffer, beyond the system's limit if need be.
pub fn widen_send_buffer(socket: BorrowedFd<'_>, bytes: u64) -> io::Result<()> {
    let bytes = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX / 2);
    set_option(socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, bytes)
}

fn option(socket: BorrowedFd<'_>, level: libc::c_int, name: libc::c_int) -> io::Result<libc::c_int> {
    let (mut value, mut bytes) = (0, size_of::<libc::c_int>() as libc::socklen_t);
    // SAFETY: there is room for one int.
    let status =
        unsafe { libc::getsockopt(socket.as_raw_fd(), level, name, (&raw mut value).cast(), &raw mut bytes) };
    if status != 0 { Err(io::Error::last_os_error()) } else { Ok(value) }
}

fn set_option(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    // SAFETY: the options take one int.
    let status = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if status != 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
