//! An encrypted stream, without buffers of its own while it is idle.
//!
//! Records are read into the worker's buffer, decrypted there and handed on; a connection keeps bytes only where a record
//! is not complete, a reader took less than a record, or the socket takes no more.

use super::error::TlsError;
use super::record::{PLAINTEXT_BYTES_MAX, RECORDS_BYTES, with_records};
use rustls::CommonState;
use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus,
};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

/// Read at once even where the reader wants less: a small record with its overhead.
const READ_BYTES_MIN: usize = 4096;

/// One side of a TLS connection.
pub(super) enum Connection {
    Client(UnbufferedClientConnection),
    Server(UnbufferedServerConnection),
}

/// Keys are in it.
impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Client(_) => "Client",
            Self::Server(_) => "Server",
        })
    }
}

/// What one step of a connection came to.
enum Step {
    /// There may be more to do.
    Progress,
    /// The peer will send nothing more.
    PeerClosed,
    /// More has to be read first.
    Idle,
}

/// Where plaintext goes: to the reader, and what does not fit is kept for it.
struct Sink<'a> {
    buffer: &'a mut [u8],
    filled: usize,
    rest: &'a mut Vec<u8>,
}

impl Sink<'_> {
    fn take(&mut self, plaintext: &[u8]) {
        let free = &mut self.buffer[self.filled..];
        let fitting = if self.rest.is_empty() { plaintext.len().min(free.len()) } else { 0 };
        free[..fitting].copy_from_slice(&plaintext[..fitting]);
        self.filled += fitting;
        self.rest.extend_from_slice(&plaintext[fitting..]);
    }
}

#[derive(Debug)]
pub struct TlsStream {
    stream: TcpStream,
    connection: Connection,
    /// Records that are not complete.
    incoming: Vec<u8>,
    /// Decrypted and not yet taken, from `taken` on.
    plaintext: Vec<u8>,
    taken: usize,
    /// Encrypted and not yet sent, from `sent` on.
    outgoing: Vec<u8>,
    sent: usize,
    peer_closed: bool,
    /// Our close_notify is out, or on its way.
    closing: bool,
}

impl TlsStream {
    /// Runs a handshake to its end, the peer's part included; `received` is what has been read of it.
    pub(super) async fn handshake(
        stream: TcpStream,
        connection: Connection,
        received: &[u8],
    ) -> Result<Self, TlsError> {
        let mut this = Self {
            stream,
            connection,
            incoming: received.to_vec(),
            plaintext: Vec::new(),
            taken: 0,
            outgoing: Vec::new(),
            sent: 0,
            peer_closed: false,
            closing: false,
        };
        let mut incoming = std::mem::take(&mut this.incoming);
        let mut outcome = this.process(&mut incoming, &mut []).map(drop).map_err(TlsError::from);
        loop {
            let flushed = std::future::poll_fn(|cx| this.poll_flush(cx)).await;
            if let Err(error) = outcome {
                // The alert that says why is out: let it arrive.
                let _ = this.stream.shutdown().await;
                return Err(error);
            }
            flushed?;
            if !this.state().is_handshaking() {
                return Ok(this);
            }
            let received = std::future::poll_fn(|cx| this.poll_receive(cx, &mut [])).await;
            outcome = received.map(drop).map_err(TlsError::from);
            if this.peer_closed && outcome.is_ok() {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
    }

    pub(super) fn state(&self) -> &CommonState {
        match &self.connection {
            Connection::Client(connection) => connection,
            Connection::Server(connection) => connection,
        }
    }

    /// Reads at most `buffer.len()` bytes; 0 is the end of the stream. `Pending` registers the task.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        // Who only reads must not hold back what the connection has to say.
        let _ = self.poll_flush(cx)?;
        self.poll_read_by(buffer, |this, buffer| this.poll_receive(cx, buffer))
    }

    /// Takes what has already arrived, without waiting: `None` when there is nothing.
    pub fn try_read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let read = self.poll_read_by(buffer, |this, buffer| {
            this.receive_by(buffer, |stream, records| match stream.try_read(records) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
                read => Poll::Ready(read),
            })
        });
        match read {
            Poll::Ready(read) => read.map(Some),
            Poll::Pending => Ok(None),
        }
    }

    fn poll_read_by(
        &mut self,
        buffer: &mut [u8],
        mut receive: impl FnMut(&mut Self, &mut [u8]) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        loop {
            let kept = self.take_plaintext(buffer);
            if kept > 0 || buffer.is_empty() {
                return Poll::Ready(Ok(kept));
            }
            if self.peer_closed {
                return Poll::Ready(Ok(0));
            }
            let read = ready!(receive(self, buffer))?;
            if read > 0 {
                return Poll::Ready(Ok(read));
            }
        }
    }

    fn take_plaintext(&mut self, buffer: &mut [u8]) -> usize {
        let kept = &self.plaintext[self.taken..];
        let taken = kept.len().min(buffer.len());
        buffer[..taken].copy_from_slice(&kept[..taken]);
        self.taken += taken;
        if self.taken == self.plaintext.len() && self.taken > 0 {
            (self.plaintext, self.taken) = (Vec::new(), 0);
        }
        taken
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.receive_by(buffer, |stream, records| {
            let mut records = ReadBuf::new(records);
            ready!(Pin::new(stream).poll_read(cx, &mut records))?;
            Poll::Ready(Ok(records.filled().len()))
        })
    }

    /// Reads once from the socket; gives how much of `buffer` that filled, which may be nothing.
    fn receive_by(
        &mut self,
        buffer: &mut [u8],
        mut read: impl FnMut(&mut TcpStream, &mut [u8]) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        with_records(|records| {
            let held = self.incoming.len();
            let end = RECORDS_BYTES.min(held + buffer.len().max(READ_BYTES_MIN));
            if held >= end {
                return Poll::Ready(Err(invalid("a TLS message is too long")));
            }
            let received = ready!(read(&mut self.stream, &mut records[held..end]))?;
            if received == 0 {
                // Without close_notify, too: PostgreSQL's messages tell by themselves whether one is cut short.
                self.peer_closed = true;
                return Poll::Ready(Ok(0));
            }
            records[..held].copy_from_slice(&self.incoming);
            self.incoming = Vec::new();
            Poll::Ready(self.process(&mut records[..held + received], buffer).map_err(invalid))
        })
    }

    /// Works through `records`; plaintext goes to `buffer` first, and what is not complete is kept. Gives how much of `buffer`
    /// was filled. On an error the alert for the peer is in `outgoing`.
    fn process(&mut self, records: &mut [u8], buffer: &mut [u8]) -> Result<usize, rustls::Error> {
        let mut sink = Sink { buffer, filled: 0, rest: &mut self.plaintext };
        let mut done = 0;
        let outcome = loop {
            let (discard, step) = self.connection.step(&mut records[done..], &mut sink, &mut self.outgoing);
            done += discard;
            match step {
                Ok(Step::Progress) => {}
                Ok(Step::PeerClosed) => self.peer_closed = true,
                Ok(Step::Idle) => break Ok(sink.filled),
                Err(error) => break Err(error),
            }
        };
        while outcome.is_err() && self.state_wants_write() {
            let mut sink = Sink { buffer: &mut [], filled: 0, rest: &mut self.plaintext };
            let (discard, _) = self.connection.step(&mut records[done..], &mut sink, &mut self.outgoing);
            done += discard;
        }
        self.incoming = records[done..].to_vec();
        outcome
    }

    fn state_wants_write(&self) -> bool {
        self.state().wants_write()
    }

    /// Encrypts and sends a part of `bytes`, at least one. What the socket does not take at once is kept: see
    /// [`poll_flush`](Self::poll_flush). `Pending` registers the task.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_flush(cx))?;
        if self.closing {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        ready!(self.stream.poll_write_ready(cx))?;
        let bytes = &bytes[..bytes.len().min(PLAINTEXT_BYTES_MAX)];
        self.queue_own()?;
        with_records(|records| {
            let encrypted = self.connection.encrypt(&mut self.incoming, bytes, records)?;
            let mut sent = 0;
            if self.outgoing.is_empty() {
                match Pin::new(&mut self.stream).poll_write(cx, &records[..encrypted]) {
                    Poll::Ready(written) => sent = written?,
                    Poll::Pending => {}
                }
            }
            self.outgoing.extend_from_slice(&records[sent..encrypted]);
            Poll::Ready(Ok(bytes.len()))
        })
    }

    /// Puts what the connection itself has to say, such as new keys, ahead of what is written next.
    fn queue_own(&mut self) -> io::Result<()> {
        if self.state_wants_write() {
            let mut incoming = std::mem::take(&mut self.incoming);
            self.process(&mut incoming, &mut []).map_err(invalid)?;
        }
        Ok(())
    }

    /// Sends what was kept. Who waits for an answer must have waited for this.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.outgoing.len() {
            let rest = &self.outgoing[self.sent..];
            match ready!(Pin::new(&mut self.stream).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => self.sent += sent,
            }
        }
        if self.outgoing.capacity() > 0 {
            (self.outgoing, self.sent) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(()))
    }

    /// Nothing is kept that the socket did not take.
    pub fn is_flushed(&self) -> bool {
        self.outgoing.is_empty()
    }

    /// Something has arrived that nobody has taken: the kernel does not know of it.
    pub fn holds_input(&self) -> bool {
        !self.plaintext.is_empty() || !self.incoming.is_empty()
    }

    /// Says close_notify and closes the sending side.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !std::mem::replace(&mut self.closing, true) {
            self.connection.close(&mut self.incoming, &mut self.outgoing)?;
        }
        ready!(self.poll_flush(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    /// Moves the stream to the reactor of the calling thread's runtime.
    pub fn adopt(self) -> io::Result<Self> {
        let stream = TcpStream::from_std(self.stream.into_std()?)?;
        Ok(Self { stream, ..self })
    }

    pub fn tcp(&self) -> &TcpStream {
        &self.stream
    }

    /// Memory of all that is kept.
    #[cfg(test)]
    pub(super) fn kept_bytes(&self) -> usize {
        self.incoming.capacity() + self.plaintext.capacity() + self.outgoing.capacity()
    }

    #[cfg(test)]
    pub(super) fn into_tcp(self) -> TcpStream {
        self.stream
    }
}

fn invalid(reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

impl Connection {
    fn step(
        &mut self,
        records: &mut [u8],
        sink: &mut Sink<'_>,
        outgoing: &mut Vec<u8>,
    ) -> (usize, Result<Step, rustls::Error>) {
        match self {
            Self::Client(connection) => step(connection.process_tls_records(records), sink, outgoing),
            Self::Server(connection) => step(connection.process_tls_records(records), sink, outgoing),
        }
    }

    /// Records of `bytes` in `records`, and how many bytes they have. `incoming` is what is not complete, as it was left.
    fn encrypt(&mut self, incoming: &mut [u8], bytes: &[u8], records: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Client(connection) => encrypt(connection.process_tls_records(incoming), bytes, records),
            Self::Server(connection) => encrypt(connection.process_tls_records(incoming), bytes, records),
        }
    }

    fn close(&mut self, incoming: &mut [u8], outgoing: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Self::Client(connection) => close(connection.process_tls_records(incoming), outgoing),
            Self::Server(connection) => close(connection.process_tls_records(incoming), outgoing),
        }
    }
}

fn step<D>(
    status: UnbufferedStatus<'_, '_, D>,
    sink: &mut Sink<'_>,
    outgoing: &mut Vec<u8>,
) -> (usize, Result<Step, rustls::Error>) {
    let mut discard = status.discard;
    let step = status.state.and_then(|state| match state {
        ConnectionState::ReadTraffic(mut traffic) => {
            while let Some(record) = traffic.next_record() {
                let record = record?;
                discard += record.discard;
                sink.take(record.payload);
            }
            Ok(Step::Progress)
        }
        ConnectionState::EncodeTlsData(mut data) => {
            if let Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) =
                data.encode(&mut [])
            {
                let start = outgoing.len();
                outgoing.resize(start + required_size, 0);
                data.encode(&mut outgoing[start..])
                    .map_err(|error| rustls::Error::General(error.to_string()))?;
            }
            Ok(Step::Progress)
        }
        ConnectionState::TransmitTlsData(data) => {
            // It is in `outgoing`, ahead of everything that comes later.
            data.done();
            Ok(Step::Progress)
        }
        ConnectionState::PeerClosed => Ok(Step::PeerClosed),
        ConnectionState::Closed | ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_) => {
            Ok(Step::Idle)
        }
        state => Err(rustls::Error::General(format!("unexpected state {state:?}"))),
    });
    (discard, step)
}

fn encrypt<D>(status: UnbufferedStatus<'_, '_, D>, bytes: &[u8], records: &mut [u8]) -> io::Result<usize> {
    match status.state.map_err(invalid)? {
        ConnectionState::WriteTraffic(mut traffic) => {
            traffic.encrypt(bytes, records).map_err(|error: EncryptError| invalid(error))
        }
        state => Err(invalid(format!("cannot send in state {state:?}"))),
    }
}

fn close<D>(status: UnbufferedStatus<'_, '_, D>, outgoing: &mut Vec<u8>) -> io::Result<()> {
    // Where nothing can be sent there is nobody to be told.
    let Ok(ConnectionState::WriteTraffic(mut traffic)) = status.state else { return Ok(()) };
    if let Err(EncryptError::InsufficientSize(InsufficientSizeError { required_size })) =
        traffic.queue_close_notify(&mut [])
    {
        let start = outgoing.len();
        outgoing.resize(start + required_size, 0);
        let written = traffic.queue_close_notify(&mut outgoing[start..]).map_err(invalid)?;
        outgoing.truncate(start + written);
    }
    Ok(())
}
