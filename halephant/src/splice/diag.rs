//! sock_diag: how much another process of this network namespace has not read yet, and the end of a connection.
#![allow(unsafe_code)]

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::sync::{Mutex, PoisonError};

use halephant_common::address::{AF_INET, AF_INET6, Address, FlowKey, is_mapped, mapped};

const NETLINK_SOCK_DIAG: libc::c_int = 4;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
/// Whatever socket has the addresses.
pub const ANY_COOKIE: u64 = u64::MAX;
const INET_DIAG_SKMEMINFO: u16 = 7;
const HEADER_BYTES: usize = 16;
const REQUEST_BYTES: usize = HEADER_BYTES + 56;
/// `struct inet_diag_msg`, and where the cookie lies in it.
const ANSWER_BYTES: usize = 72;
const COOKIE_AT: usize = 44;

/// Memory of one socket, in the kernel's accounting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    pub cookie: u64,
    /// Received and not read, with overhead.
    pub unread: u64,
    pub receive_buffer: u64,
    /// Written and not acknowledged, with overhead.
    pub unsent: u64,
    pub send_buffer: u64,
}

/// A netlink socket; one question at a time.
pub struct Diag {
    socket: Mutex<OwnedFd>,
}

impl Diag {
    pub fn open() -> io::Result<Self> {
        // SAFETY: no pointers.
        let fd = unsafe {
            libc::socket(libc::AF_NETLINK, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, NETLINK_SOCK_DIAG)
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just opened and is nobody else's.
        Ok(Self { socket: Mutex::new(unsafe { OwnedFd::from_raw_fd(fd) }) })
    }

    /// The socket with these addresses in this network namespace; `None` where there is none.
    pub fn memory(&self, key: &FlowKey) -> io::Result<Option<Memory>> {
        let request = request(key, SOCK_DIAG_BY_FAMILY, libc::NLM_F_REQUEST, ANY_COOKIE);
        self.ask(&request, parse)
    }

    /// Ends the connection as if it had been reset.
    pub fn destroy(&self, key: &FlowKey, cookie: u64) -> io::Result<()> {
        let request = request(key, SOCK_DESTROY, libc::NLM_F_REQUEST | libc::NLM_F_ACK, cookie);
        match self.ask(&request, |answer| word(answer, HEADER_BYTES))?.map(|code| code as i32) {
            Some(0) => Ok(()),
            Some(code) => Err(io::Error::from_raw_os_error(code.saturating_neg())),
            None => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    fn ask<T>(&self, request: &[u8], parse: impl FnOnce(&[u8]) -> T) -> io::Result<T> {
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the buffer is as long as the length says.
        let sent = unsafe { libc::send(socket.as_raw_fd(), request.as_ptr().cast(), request.len(), 0) };
        if sent < 0 {
            return Err(io::Error::last_os_error());
        }
        let mut answer = [0_u8; 1024];
        // SAFETY: the buffer is as long as the length says.
        let bytes = unsafe { libc::recv(socket.as_raw_fd(), answer.as_mut_ptr().cast(), answer.len(), 0) };
        match usize::try_from(bytes) {
            Ok(bytes) => Ok(parse(answer.get(..bytes).unwrap_or_default())),
            Err(_) => Err(io::Error::last_os_error()),
        }
    }
}

/// The key of a socket of this network namespace, as [`Diag::memory`] wants it.
pub fn key_of(local: SocketAddr, remote: SocketAddr) -> FlowKey {
    FlowKey::new(words(&local), local.port(), words(&remote), remote.port(), 0)
}

/// Words in network order, as the kernel programs hold them.
fn words(address: &SocketAddr) -> Address {
    match address {
        SocketAddr::V4(v4) => mapped(u32::from_ne_bytes(v4.ip().octets())),
        SocketAddr::V6(v6) => {
            let mut words = [0; 4];
            for (word, bytes) in words.iter_mut().zip(v6.ip().octets().chunks_exact(4)) {
                *word = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            }
            words
        }
    }
}

fn request(key: &FlowKey, kind: u16, flags: libc::c_int, cookie: u64) -> [u8; REQUEST_BYTES] {
    let v4 = is_mapped(&key.local);
    let mut bytes = Vec::with_capacity(REQUEST_BYTES);
    bytes.extend((REQUEST_BYTES as u32).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((flags as u16).to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.push(if v4 { AF_INET } else { AF_INET6 } as u8);
    bytes.push(libc::IPPROTO_TCP as u8);
    bytes.push(1 << (INET_DIAG_SKMEMINFO - 1));
    bytes.push(0);
    bytes.extend(u32::MAX.to_ne_bytes());
    bytes.extend(key.local_port.to_be_bytes());
    bytes.extend(key.remote_port.to_be_bytes());
    for address in [&key.local, &key.remote] {
        let words = if v4 { [address[3], 0, 0, 0] } else { *address };
        bytes.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
    }
    // Any interface.
    bytes.extend([0; 4]);
    // The lower half first.
    bytes.extend([cookie as u32, (cookie >> 32) as u32].iter().flat_map(|word| word.to_ne_bytes()));
    let mut request = [0; REQUEST_BYTES];
    request.copy_from_slice(&bytes);
    request
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn parse(answer: &[u8]) -> Option<Memory> {
    if half(answer, 4)? != SOCK_DIAG_BY_FAMILY {
        return None;
    }
    let message = answer.get(HEADER_BYTES..)?;
    let cookie = u64::from(word(message, COOKIE_AT)?) | u64::from(word(message, COOKIE_AT + 4)?) << 32;
    let mut at = ANSWER_BYTES;
    loop {
        let length = usize::from(half(message, at)?);
        if half(message, at + 2)? == INET_DIAG_SKMEMINFO {
            let field = |index: usize| word(message, at + 4 + 4 * index).map(u64::from);
            // Received, and received while the socket was locked.
            return Some(Memory {
                cookie,
                unread: field(0)? + field(7)?,
                receive_buffer: field(1)?,
                unsent: field(5)?,
                send_buffer: field(3)?,
            });
        }
        at += length.max(4).next_multiple_of(4);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd as _;

    use crate::splice::socket::cookie;

    fn key(socket: &TcpStream) -> FlowKey {
        key_of(socket.local_addr().unwrap(), socket.peer_addr().unwrap())
    }

    #[test]
    fn unread_bytes_of_another_socket_are_seen() {
        let diag = Diag::open().unwrap();
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let mut near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (far, _) = listener.accept().unwrap();
            let before = diag.memory(&key(&far)).unwrap().unwrap();
            assert_eq!((before.cookie, before.unread), (cookie(far.as_fd()).unwrap(), 0));
            near.write_all(&[7; 10_000]).unwrap();
            assert!(diag.memory(&key(&far)).unwrap().unwrap().unread >= 10_000);
        }
        let nobody = FlowKey::new([1; 4], 1, [2; 4], 2, 0);
        assert_eq!(diag.memory(&nobody).unwrap(), None);
    }
}
