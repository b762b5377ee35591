//! Cancelling what a server connection is doing.

use crate::net::{NodeAddress, ServerAddress};
use crate::secret::Secret;
use crate::tls::Connector;
use crate::wire::Stream;
use bytes::BytesMut;
use halephant_protocol::startup::{self, CancelRequest, ENCRYPTION_REFUSED, SSL_ACCEPTED};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Notify;

/// Longest a cancel may take; PostgreSQL answers one by closing the connection at once.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(10);

/// Where and with which key PostgreSQL takes a cancel for one connection, and the cancels that are on their way.
///
/// A connection must not change hands while one is: it would hit the next client's query. PostgreSQL has sent the
/// signal by the time it closes the cancelling connection, and a signal that finds the backend idle is ignored.
#[derive(Debug)]
pub struct CancelTarget {
    node: Box<str>,
    address: ServerAddress,
    process_id: u32,
    secret_key: Secret<Vec<u8>>,
    in_flight: AtomicUsize,
    landed: Notify,
    /// One may still come that nobody waits for any more.
    astray: AtomicBool,
    /// How the connection itself is encrypted.
    connector: Option<Arc<Connector>>,
}

/// A cancel on its way; made before the connection can change hands.
#[derive(Debug)]
pub struct CancelInFlight {
    target: Arc<CancelTarget>,
    /// PostgreSQL may have the request, and may not have dealt with it.
    is_sent: bool,
}

impl CancelTarget {
    pub fn new(node: &str, address: ServerAddress, process_id: u32, secret_key: &[u8]) -> Self {
        Self {
            node: node.into(),
            address,
            process_id,
            secret_key: Secret::new(secret_key.to_vec()),
            in_flight: AtomicUsize::new(0),
            landed: Notify::new(),
            astray: AtomicBool::new(false),
            connector: None,
        }
    }

    /// Cancels go over TLS: the key is as good as the connection to whoever reads it.
    #[must_use]
    pub fn over(self, connector: Arc<Connector>) -> Self {
        Self { connector: Some(connector), ..self }
    }

    /// The node as the configuration names it.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Where the connection leads.
    pub fn address(&self) -> &ServerAddress {
        &self.address
    }

    /// The server's process ID, as `pg_stat_activity` shows it.
    pub fn process_id(&self) -> u32 {
        self.process_id
    }

    pub fn begin(self: &Arc<Self>) -> CancelInFlight {
        self.in_flight.fetch_add(1, Ordering::AcqRel);
        CancelInFlight { target: Arc::clone(self), is_sent: false }
    }

    pub fn is_in_flight(&self) -> bool {
        self.in_flight.load(Ordering::Acquire) > 0
    }

    /// Whether a cancel was given up when it had been sent: it may strike whatever the connection does from now on.
    pub fn is_astray(&self) -> bool {
        self.astray.load(Ordering::Acquire)
    }

    /// Resolves when no cancel is on its way.
    pub async fn settled(&self) {
        loop {
            let landed = self.landed.notified();
            if !self.is_in_flight() {
                return;
            }
            landed.await;
        }
    }
}

impl CancelInFlight {
    /// Sends the request and waits until PostgreSQL has dealt with it. Cancel safe: what was sent by then is astray.
    pub async fn send(mut self) -> io::Result<()> {
        tokio::time::timeout(CANCEL_TIMEOUT, self.exchange())
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    async fn exchange(&mut self) -> io::Result<()> {
        let target = &self.target;
        let mut packet = BytesMut::new();
        CancelRequest { process_id: target.process_id, secret_key: target.secret_key.expose() }
            .encode(&mut packet)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let mut stream = match (&target.address, &target.connector) {
            (ServerAddress::Unix(path), _) => Stream::Unix(UnixStream::connect(path).await?),
            (ServerAddress::Tcp(address), None) => Stream::Tcp(TcpStream::connect(address).await?),
            (ServerAddress::Tcp(address), Some(connector)) => {
                encrypt(TcpStream::connect(address).await?, connector, target.node()).await?
            }
        };
        self.is_sent = true;
        stream.write_all(&packet).await?;
        stream.shutdown().await?;
        // PostgreSQL sends nothing; what a hostile server sends is dropped.
        let mut sink = [0; 64];
        loop {
            match stream.read(&mut sink).await {
                Ok(0) => break,
                // It closed without reading our close_notify.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => break,
                read => read?,
            };
        }
        self.is_sent = false;
        Ok(())
    }
}

/// A node that spoke TLS when the connection was made and does not now gets no key.
async fn encrypt(mut stream: TcpStream, connector: &Connector, node: &str) -> io::Result<Stream> {
    if !ask_for_tls(&mut stream).await? {
        return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "the server does not offer TLS"));
    }
    let host = node.parse::<NodeAddress>().map(|address| address.host).unwrap_or_default();
    let (stream, _) = connector.connect(stream, &host).await.map_err(io::Error::other)?;
    Ok(Stream::Tls(Box::new(stream)))
}

/// Sends SSLRequest; `false`: the server has no TLS. One byte is read and no more: what somebody in between puts behind
/// it is the handshake's to refuse.
pub(super) async fn ask_for_tls(stream: &mut TcpStream) -> io::Result<bool> {
    let mut request = BytesMut::new();
    startup::encode_ssl_request(&mut request);
    stream.write_all(&request).await?;
    match stream.read_u8().await? {
        SSL_ACCEPTED => Ok(true),
        ENCRYPTION_REFUSED => Ok(false),
        // An ErrorResponse cannot be believed here, and is not passed on (CVE-2024-10977).
        _ => {
            Err(io::Error::new(io::ErrorKind::InvalidData, "the answer to SSLRequest is neither yes nor no"))
        }
    }
}

impl Drop for CancelInFlight {
    fn drop(&mut self) {
        if self.is_sent {
            self.target.astray.store(true, Ordering::Release);
        }
        self.target.in_flight.fetch_sub(1, Ordering::AcqRel);
        self.target.landed.notify_waiters();
    }
}
