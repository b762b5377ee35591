//! Server connections without a server, for tests: sockets whose other ends the test holds.

use super::cancel::CancelTarget;
use super::connection::ServerConnection;
use super::error::OpenError;
use super::open::{Login, OpenFuture, Opener};
use super::parameters::ReportedParameters;
use crate::net::{NodeAddress, ServerAddress};
use crate::wire::Stream;
use crate::wire::fake::socket_pair;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// A connection that has just been opened, and the server's end of it.
pub(crate) async fn connection(reported: &[(&str, &str)]) -> (ServerConnection, TcpStream) {
    let (ours, theirs) = socket_pair().await;
    let address = theirs.local_addr().expect("the socket is connected");
    let mut parameters = ReportedParameters::default();
    reported.iter().for_each(|(name, value)| assert!(parameters.set(name, value)));
    let cancel = CancelTarget::new("fake", ServerAddress::Tcp(address), 1, &[0; 4]);
    (ServerConnection::new(Stream::Tcp(ours), cancel, parameters), theirs)
}

/// What becomes of an attempt to open a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Opened,
    /// An error that may pass.
    Failed,
    /// An error that waiting does not mend.
    Refused,
}

/// Opens connections whose servers do nothing but close when their clients do, and counts them.
#[derive(Debug, Default)]
pub(crate) struct FakeOpener {
    state: Mutex<Counts>,
    /// Ends every connection as if its server had gone.
    pub(crate) kill: Notify,
    /// Where there is one, an attempt takes a permit for good.
    pub(crate) gate: Option<tokio::sync::Semaphore>,
}

#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// By node's port and role: open, being opened or not yet closed.
    pub(crate) now: HashMap<(u16, String), u32>,
    pub(crate) attempts: u32,
    /// The most at one time, by node's port.
    pub(crate) most: HashMap<u16, u32>,
    pub(crate) most_of_role: HashMap<(u16, String), u32>,
    /// For the next attempts; those behind them are `Opened`.
    pub(crate) outcomes: VecDeque<Outcome>,
}

impl FakeOpener {
    /// One whose attempts wait until the gate has permits.
    pub(crate) fn gated() -> Self {
        Self { gate: Some(tokio::sync::Semaphore::new(0)), ..Self::default() }
    }

    pub(crate) fn counts(&self) -> MutexGuard<'_, Counts> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, key: &(u16, String)) -> Outcome {
        let mut counts = self.counts();
        counts.attempts += 1;
        let own = *counts.now.entry(key.clone()).and_modify(|now| *now += 1).or_insert(1);
        let all = counts.now.iter().filter(|((port, _), _)| *port == key.0).map(|(_, now)| now).sum();
        let most = counts.most.entry(key.0).or_default();
        *most = (*most).max(all);
        let most = counts.most_of_role.entry(key.clone()).or_default();
        *most = (*most).max(own);
        counts.outcomes.pop_front().unwrap_or(Outcome::Opened)
    }

    fn end(&self, key: &(u16, String)) {
        self.counts().now.entry(key.clone()).and_modify(|now| *now -= 1);
    }

    pub(crate) fn open_now(&self) -> u32 {
        self.counts().now.values().sum()
    }
}

/// As an [`Opener`] must outlive its attempts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fake(pub(crate) Arc<FakeOpener>);

impl Opener for Fake {
    fn open<'a>(&'a self, node: &'a NodeAddress, login: Login<'a>) -> OpenFuture<'a> {
        let (opener, key) = (Arc::clone(&self.0), (node.port, login.role.to_owned()));
        let node = node.to_string();
        Box::pin(async move {
            let outcome = opener.begin(&key);
            if let Some(gate) = &opener.gate {
                gate.acquire().await.expect("the gate stays").forget();
            }
            let failed =
                |source: std::io::ErrorKind| OpenError::Connect { node: node.clone(), source: source.into() };
            match outcome {
                Outcome::Opened => {}
                Outcome::Failed => {
                    opener.end(&key);
                    return Err(failed(std::io::ErrorKind::ConnectionRefused));
                }
                Outcome::Refused => {
                    opener.end(&key);
                    return Err(OpenError::NoCredentials { node, role: key.1 });
                }
            }
            let (connection, server) = connection(&[]).await;
            tokio::spawn(async move {
                let mut sink = [0; 64];
                loop {
                    tokio::select! {
                        () = opener.kill.notified() => break,
                        readable = server.readable() => match readable.and_then(|()| server.try_read(&mut sink)) {
                            Ok(0) => break,
                            Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => break,
                            _ => {}
                        },
                    }
                }
                // Counted before the other side can see it.
                opener.end(&key);
                drop(server);
            });
            Ok(connection)
        })
    }
}

/// Opens connections and hands their servers' ends to a test. A CancelRequest for one is taken and closed.
#[derive(Debug)]
pub(crate) struct Handed(pub(crate) tokio::sync::mpsc::UnboundedSender<TcpStream>);

impl Opener for Handed {
    fn open<'a>(&'a self, _: &'a NodeAddress, _: Login<'a>) -> OpenFuture<'a> {
        Box::pin(async move {
            let cancels = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            let address = cancels.local_addr().expect("the listener is bound");
            tokio::spawn(async move { while cancels.accept().await.is_ok() {} });
            let (ours, theirs) = socket_pair().await;
            let mut reported = ReportedParameters::default();
            assert!(reported.set("client_encoding", "UTF8") && reported.set("TimeZone", "UTC"));
            // The test may be over.
            let _ = self.0.send(theirs);
            let cancel = CancelTarget::new("fake", ServerAddress::Tcp(address), 1, &[0; 4]);
            Ok(ServerConnection::new(Stream::Tcp(ours), cancel, reported))
        })
    }
}
