//! Connecting to a name that stands for several addresses.

use super::listen::tune;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

/// How long an attempt is waited for before the next address is tried beside it (RFC 8305 names this value).
const STAGGER: Duration = Duration::from_millis(250);

/// Where a connection to a server leads: for another one to the same server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerAddress {
    Tcp(SocketAddr),
    Unix(Box<Path>),
}

type Look = dyn Fn(BorrowedFd<'_>) + Send + Sync;

/// Who wants to see a socket before it is connected.
#[derive(Clone, Default)]
pub struct BeforeConnect(Option<Arc<Look>>);

impl BeforeConnect {
    pub fn new(look: impl Fn(BorrowedFd<'_>) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(look)))
    }

    async fn connect(self, address: SocketAddr) -> io::Result<TcpStream> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        if let Some(look) = &self.0 {
            look(socket.as_fd());
        }
        socket.connect(address).await
    }
}

impl fmt::Debug for BeforeConnect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BeforeConnect").field(&self.0.is_some()).finish()
    }
}

/// Connects to the first address that answers. All are tried, in their order, and one that is silent delays the next by
/// no more than a moment. Cancel safe: attempts end with the future.
pub async fn dial(
    addresses: impl IntoIterator<Item = SocketAddr>,
    before: &BeforeConnect,
) -> io::Result<(TcpStream, SocketAddr)> {
    let mut addresses = addresses.into_iter();
    let mut attempts = JoinSet::new();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    loop {
        let next = addresses.next();
        let more = next.is_some();
        if let Some(address) = next {
            let before = before.clone();
            attempts.spawn(async move { Ok::<_, io::Error>((before.connect(address).await?, address)) });
        }
        let ended = if more {
            match tokio::time::timeout(STAGGER, attempts.join_next()).await {
                Ok(ended) => ended,
                Err(_) => continue,
            }
        } else {
            attempts.join_next().await
        };
        match ended {
            Some(Ok(Ok((stream, address)))) => {
                tune(&stream);
                return Ok((stream, address));
            }
            Some(Ok(Err(error))) => last = error,
            Some(Err(ended)) => last = io::Error::other(ended),
            None => return Err(last),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    fn any() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }

    /// An address where nobody listens.
    async fn deaf() -> SocketAddr {
        let listener = TcpListener::bind(any()).await.expect("a port is free");
        listener.local_addr().expect("it is bound")
    }

    #[tokio::test]
    async fn every_address_is_tried() {
        let listener = TcpListener::bind(any()).await.expect("a port is free");
        let good = listener.local_addr().expect("it is bound");
        let (_, reached) =
            dial([deaf().await, deaf().await, good], &BeforeConnect::default()).await.expect("one listens");
        assert_eq!(reached, good);
    }

    #[tokio::test]
    async fn a_silent_address_does_not_hold_up_the_next() {
        // A listener whose queue is full takes no more connections, and says nothing.
        let socket = tokio::net::TcpSocket::new_v4().expect("sockets are there");
        socket.bind(any()).expect("a port is free");
        let full = socket.listen(1).expect("it is bound");
        let silent = full.local_addr().expect("it is bound");
        let mut queued = Vec::new();
        while let Ok(Ok(stream)) =
            tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(silent)).await
        {
            queued.push(stream);
        }
        let listener = TcpListener::bind(any()).await.expect("a port is free");
        let good = listener.local_addr().expect("it is bound");
        let (_, reached) = dial([silent, good], &BeforeConnect::default()).await.expect("one answers");
        assert_eq!(reached, good);
    }

    #[tokio::test]
    async fn no_address_is_an_error() {
        assert_eq!(
            dial([], &BeforeConnect::default()).await.expect_err("there is none").kind(),
            io::ErrorKind::NotFound
        );
        let refused = dial([deaf().await], &BeforeConnect::default()).await.expect_err("nobody listens");
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }
}
