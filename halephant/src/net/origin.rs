//! Where a client comes from: what access rules, limits, logs and lists go by.

use nix::unistd::{Uid, User};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::net::UnixStream;

/// Longest that the system is given to name a user: the name may come over the network.
const NAME_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Tcp {
        /// The client itself, also where a proxy stands between it and us.
        client: SocketAddr,
        /// The proxy that said so in a PROXY protocol header.
        via: Option<SocketAddr>,
    },
    /// A process on this host.
    Unix(PeerCredentials),
}

/// Who connected to a Unix socket, by SO_PEERCRED: the kernel's word of the moment of the connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerCredentials {
    pub uid: u32,
    pub gid: u32,
    /// 0 where the peer is outside of our PID namespace.
    pub pid: i32,
}

#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    #[error("this host has no user with ID {0}")]
    Unknown(u32),
    #[error("user ID {uid} could not be looked up: {source}")]
    Lookup { uid: u32, source: std::io::Error },
    #[error("user ID {0} was not looked up in time")]
    Timeout(u32),
}

impl Origin {
    pub fn tcp(client: SocketAddr) -> Self {
        Self::Tcp { client, via: None }
    }

    pub fn of_unix(stream: &UnixStream) -> std::io::Result<Self> {
        let peer = stream.peer_cred()?;
        Ok(Self::Unix(PeerCredentials { uid: peer.uid(), gid: peer.gid(), pid: peer.pid().unwrap_or(0) }))
    }

    /// Over TCP: the client's address, an IPv4 one that is mapped into IPv6 as IPv4.
    pub fn ip(&self) -> Option<IpAddr> {
        self.address().map(|address| address.ip().to_canonical())
    }

    /// Over TCP.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp { client, .. } => Some(*client),
            Self::Unix(_) => None,
        }
    }

    /// Over a Unix socket.
    pub fn peer(&self) -> Option<PeerCredentials> {
        match self {
            Self::Tcp { .. } => None,
            Self::Unix(peer) => Some(*peer),
        }
    }
}

/// The client as lists and logs show it.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { client, .. } => write!(f, "{client}"),
            Self::Unix(_) => f.write_str("unix"),
        }
    }
}

impl PeerCredentials {
    /// The name of the peer's user on this host, as the `peer` method compares it. It is asked for on a thread that may
    /// block. Cancel safe.
    pub async fn user_name(self) -> Result<String, PeerError> {
        let uid = self.uid;
        let asking = tokio::task::spawn_blocking(move || User::from_uid(Uid::from_raw(uid)));
        match tokio::time::timeout(NAME_TIMEOUT, asking).await {
            Err(_) => Err(PeerError::Timeout(uid)),
            Ok(Ok(Ok(Some(user)))) => Ok(user.name),
            Ok(Ok(Ok(None))) => Err(PeerError::Unknown(uid)),
            Ok(Ok(Err(error))) => Err(PeerError::Lookup { uid, source: error.into() }),
            Ok(Err(ended)) => Err(PeerError::Lookup { uid, source: std::io::Error::other(ended) }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_peer_of_a_unix_socket_is_known_by_name() {
        let (ours, _theirs) = UnixStream::pair().expect("sockets are there");
        let origin = Origin::of_unix(&ours).expect("the kernel knows");
        let peer = origin.peer().expect("it is a Unix socket");
        assert_eq!(
            (peer.uid, peer.pid),
            (nix::unistd::getuid().as_raw(), std::process::id().try_into().expect("it fits"))
        );
        let own = User::from_uid(nix::unistd::getuid()).expect("it is known").expect("it is there");
        assert_eq!(peer.user_name().await.expect("it is known"), own.name);
        assert_eq!((origin.ip(), origin.to_string().as_str()), (None, "unix"));
        let nobody = PeerCredentials { uid: 4_000_000_001, gid: 0, pid: 0 };
        assert!(matches!(nobody.user_name().await, Err(PeerError::Unknown(4_000_000_001))));
    }

    #[test]
    fn mapped_addresses_are_ipv4() {
        let origin = Origin::tcp("[::ffff:10.0.0.1]:5".parse().expect("it is an address"));
        assert_eq!(origin.ip(), Some(IpAddr::from([10, 0, 0, 1])));
        assert_eq!(origin.peer(), None);
    }
}
