//! One connection's byte stream, whatever carries it.

use crate::tls::TlsStream;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// The transport of a client or server connection.
#[derive(Debug)]
pub enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream>),
    /// What is left of a stream that could not be moved.
    Closed,
}

fn closed() -> io::Error {
    io::ErrorKind::NotConnected.into()
}

impl Stream {
    /// Reads at most `buffer.len()` bytes; 0 is the end of the stream. `Pending` registers the task.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        match self {
            Self::Tcp(stream) => ready!(Pin::new(stream).poll_read(cx, &mut buffer))?,
            Self::Unix(stream) => ready!(Pin::new(stream).poll_read(cx, &mut buffer))?,
            Self::Tls(stream) => return stream.poll_read(cx, buffer.initialized_mut()),
            Self::Closed => return Poll::Ready(Err(closed())),
        }
        Poll::Ready(Ok(buffer.filled().len()))
    }

    /// Writes what the transport takes of `bytes`. An encrypted stream may keep a part of what it took: see
    /// [`poll_flush`](Self::poll_flush). `Pending` registers the task.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => stream.poll_write(cx, bytes),
            Self::Closed => Poll::Ready(Err(closed())),
        }
    }

    /// Hands everything that was written to the kernel. `Pending` registers the task.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tls(stream) => stream.poll_flush(cx),
            Self::Tcp(_) | Self::Unix(_) | Self::Closed => Poll::Ready(Ok(())),
        }
    }

    /// Whether [`poll_flush`](Self::poll_flush) has nothing to do.
    pub fn is_flushed(&self) -> bool {
        match self {
            Self::Tls(stream) => stream.is_flushed(),
            Self::Tcp(_) | Self::Unix(_) | Self::Closed => true,
        }
    }

    /// Flushes the transport and closes its sending side.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => stream.poll_shutdown(cx),
            Self::Closed => Poll::Ready(Err(closed())),
        }
    }

    /// Takes what has already arrived, without waiting: `None` when there is nothing.
    pub fn try_read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let read = match self {
            Self::Tcp(stream) => stream.try_read(buffer),
            Self::Unix(stream) => stream.try_read(buffer),
            Self::Tls(stream) => return stream.try_read(buffer),
            Self::Closed => Err(closed()),
        };
        match read {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads at most `buffer.len()` bytes. Cancel safe: nothing is lost when the future is dropped.
    pub async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        std::future::poll_fn(|cx| self.poll_read(cx, buffer)).await
    }

    /// Writes all of `bytes`. Not cancel safe: a part may have been written.
    pub async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = std::future::poll_fn(|cx| self.poll_write(cx, bytes)).await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            bytes = &bytes[written..];
        }
        std::future::poll_fn(|cx| self.poll_flush(cx)).await
    }

    pub async fn shutdown(&mut self) -> io::Result<()> {
        std::future::poll_fn(|cx| self.poll_shutdown(cx)).await
    }

    /// Moves the stream to the reactor of the calling thread's runtime. After an error it is closed.
    pub fn adopt(&mut self) -> io::Result<()> {
        match std::mem::replace(self, Self::Closed) {
            Self::Tcp(stream) => *self = Self::Tcp(TcpStream::from_std(stream.into_std()?)?),
            Self::Unix(stream) => *self = Self::Unix(UnixStream::from_std(stream.into_std()?)?),
            Self::Tls(stream) => *self = Self::Tls(Box::new(stream.adopt()?)),
            Self::Closed => return Err(closed()),
        }
        Ok(())
    }

    /// The socket of a stream that is not encrypted yet, for a handshake on it; what is left is closed.
    pub fn take_tcp(&mut self) -> io::Result<TcpStream> {
        match std::mem::replace(self, Self::Closed) {
            Self::Tcp(stream) => Ok(stream),
            Self::Unix(_) | Self::Tls(_) | Self::Closed => Err(closed()),
        }
    }

    /// The stream as a TCP socket whose bytes are the protocol's own: what the kernel path can relay. `None`: encrypted, a
    /// Unix socket, or closed.
    pub fn as_plain_fd(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Tcp(stream) => Some(stream.as_fd()),
            Self::Unix(_) | Self::Tls(_) | Self::Closed => None,
        }
    }

    /// Something has arrived that nobody has taken and of which the kernel does not know.
    pub fn holds_input(&self) -> bool {
        match self {
            Self::Tls(stream) => stream.holds_input(),
            Self::Tcp(_) | Self::Unix(_) | Self::Closed => false,
        }
    }

    /// The descriptor, for socket options and for asking the kernel; it stays the stream's.
    pub fn as_fd(&self) -> io::Result<BorrowedFd<'_>> {
        match self {
            Self::Tcp(stream) => Ok(stream.as_fd()),
            Self::Unix(stream) => Ok(stream.as_fd()),
            Self::Tls(stream) => Ok(stream.tcp().as_fd()),
            Self::Closed => Err(closed()),
        }
    }
}
