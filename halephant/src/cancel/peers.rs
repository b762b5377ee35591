//! The other halephant processes of this host. A CancelRequest comes to any process that listens on the address
//! (SO_REUSEPORT); the one whose key it holds gets it over a Unix socket.
//!
//! Sockets have abstract names, which belong to a network namespace as the address does, and end with their process.
//! Either side talks to its own user alone (SO_PEERCRED), as the kernel lets processes of one user alone share an address.

use super::Sessions;
use super::key::{Identity, PLACES, Place};
use nix::unistd::geteuid;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener as StdListener};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

/// Longest that a request may take on its way; what the server does about it included.
const FORWARD_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest that another process is given to say what it wants.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// Requests of other processes that are carried out at a time; more wait.
const REQUESTS_MAX: usize = 64;
/// After an accept error such as too many open files: a pause instead of a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The layout of a request: this, the process ID, the length of the key in one byte, the key.
const MAGIC: [u8; 4] = *b"hpc1";
const HEAD_BYTES: usize = 9;

/// This process's socket.
#[derive(Debug)]
pub struct Peers(StdListener);

fn name(Place(place): Place) -> String {
    format!("halephant/cancel/{place}")
}

/// Takes the first place that is free. Without one, cancels that come to other processes are lost, and all else works.
pub fn claim() -> (Identity, Option<Peers>) {
    for place in (0..PLACES).map(Place) {
        let bound = SocketAddr::from_abstract_name(name(place)).and_then(|address| {
            let listener = StdListener::bind_addr(&address)?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        });
        match bound {
            Ok(listener) => return (Identity::new(Some(place)), Some(Peers(listener))),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => {
                tracing::warn!(%error, "cancel requests that come to other processes will not be forwarded here");
                break;
            }
        }
    }
    (Identity::new(None), None)
}

impl Peers {
    /// Carries out what other processes pass on. Never returns.
    pub async fn serve(self, sessions: Arc<Sessions>) {
        let listener = match UnixListener::from_std(self.0) {
            Ok(listener) => listener,
            Err(error) => {
                return tracing::error!(%error, "the socket for cancel requests could not be registered");
            }
        };
        let permits = Arc::new(Semaphore::new(REQUESTS_MAX));
        loop {
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let sessions = Arc::clone(&sessions);
            tokio::spawn(async move {
                if let Err(error) = carry_out(stream, &sessions).await {
                    tracing::debug!(%error, "a cancel request of another process was not read");
                }
                drop(permit);
            });
        }
    }
}

async fn carry_out(mut stream: UnixStream, sessions: &Sessions) -> io::Result<()> {
    check_peer(&stream)?;
    let request = tokio::time::timeout(REQUEST_TIMEOUT, read_request(&mut stream)).await;
    let (process_id, secret_key) = request.map_err(|_| io::ErrorKind::TimedOut)??;
    sessions.cancel_own(process_id, &secret_key).await;
    // The end of the stream tells the other side that it was carried out.
    Ok(())
}

async fn read_request(stream: &mut UnixStream) -> io::Result<(u32, Vec<u8>)> {
    let mut head = [0; HEAD_BYTES];
    stream.read_exact(&mut head).await?;
    let [m, a, g, i, p0, p1, p2, p3, length] = head;
    if [m, a, g, i] != MAGIC {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut secret_key = vec![0; length.into()];
    stream.read_exact(&mut secret_key).await?;
    Ok((u32::from_be_bytes([p0, p1, p2, p3]), secret_key))
}

fn check_peer(stream: &UnixStream) -> io::Result<()> {
    if stream.peer_cred()?.uid() == geteuid().as_raw() {
        Ok(())
    } else {
        Err(io::ErrorKind::PermissionDenied.into())
    }
}

/// Passes a CancelRequest on, and waits until it was carried out.
pub(super) async fn forward(place: Place, process_id: u32, secret_key: &[u8]) -> io::Result<()> {
    let length = u8::try_from(secret_key.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut request = Vec::with_capacity(HEAD_BYTES + secret_key.len());
    request.extend(MAGIC);
    request.extend(process_id.to_be_bytes());
    request.push(length);
    request.extend(secret_key);
    let forwarded = tokio::time::timeout(FORWARD_TIMEOUT, async {
        let mut stream = UnixStream::connect(format!("\0{}", name(place))).await?;
        // Whoever has the name is not to get keys if it is somebody else.
        check_peer(&stream)?;
        stream.write_all(&request).await?;
        match stream.read(&mut [0; 1]).await? {
            0 => Ok(()),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    });
    forwarded.await.map_err(|_| io::ErrorKind::TimedOut)?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cancel::{ClientDetails, Registration, Signal};

    fn details() -> ClientDetails {
        ClientDetails {
            origin: Arc::new(crate::net::Origin::tcp(([127, 0, 0, 1], 1).into())),
            user: "u".into(),
            database: "d".into(),
            cluster: "c".into(),
            application_name: String::new(),
            role: None,
        }
    }

    /// A process with a session that waits for a server connection.
    fn process() -> (Arc<Sessions>, Registration) {
        let (identity, peers) = claim();
        let sessions = Arc::new(Sessions::new(identity));
        tokio::spawn(peers.expect("a place is free").serve(Arc::clone(&sessions)));
        let registration = sessions.register(true, details()).expect("random bytes");
        registration.set_waiting();
        (sessions, registration)
    }

    #[tokio::test]
    async fn a_cancel_finds_the_process_of_its_key() {
        let (one, own) = process();
        let (other, theirs) = process();
        one.cancel(theirs.process_id(), theirs.key_data().secret_key).await;
        assert!(theirs.has(Signal::Cancel) && !own.has(Signal::Cancel));
        other.cancel(own.process_id(), own.key_data().secret_key).await;
        assert!(own.has(Signal::Cancel));
        // The old protocol's keys tell the process by the process ID.
        let short = other.register(false, details()).expect("random bytes");
        short.set_waiting();
        one.cancel(short.process_id(), short.key_data().secret_key).await;
        assert!(short.has(Signal::Cancel));
    }

    #[tokio::test]
    async fn a_wrong_key_does_nothing_there_either() {
        let (one, _own) = process();
        let (_other, theirs) = process();
        let mut wrong = theirs.key_data().secret_key.to_vec();
        if let Some(last) = wrong.last_mut() {
            *last ^= 1;
        }
        one.cancel(theirs.process_id(), &wrong).await;
        one.cancel(theirs.process_id() ^ 1, theirs.key_data().secret_key).await;
        assert!(!theirs.has(Signal::Cancel));
    }

    #[tokio::test]
    async fn what_is_no_request_is_not_carried_out() {
        let (identity, peers) = claim();
        let sessions = Arc::new(Sessions::new(identity.clone()));
        let place = identity.place.expect("a place is free");
        tokio::spawn(peers.expect("a place is free").serve(Arc::clone(&sessions)));
        for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"hpc1\0\0\0\x01\x04abc", b""] {
            let mut stream = UnixStream::connect(format!("\0{}", name(place))).await.expect("it listens");
            stream.write_all(bytes).await.expect("it reads");
            stream.shutdown().await.expect("it reads");
            let mut rest = Vec::new();
            // Unread bytes make its end a reset.
            let _ = stream.read_to_end(&mut rest).await;
            assert!(rest.is_empty());
        }
    }
}
