//! Whole messages, one at a time: for startup, authentication and the proxy's own queries, not for the relay.

use super::Stream;
use super::scratch::with_scratch;
use bytes::{Buf, Bytes, BytesMut};
use halephant_protocol::frame::{FrameError, HEADER_BYTES, parse_header_capped};
use std::future::poll_fn;
use std::io;
use std::task::{Poll, ready};
use zeroize::Zeroize;

/// Read at once; startup packets and authentication messages are smaller.
const READ_BYTES: usize = 4096;

#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("the connection was closed")]
    Closed,
    #[error("the connection was closed within a message")]
    Truncated,
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A message with its body.
#[derive(Debug)]
pub struct Message {
    pub tag: u8,
    pub body: Bytes,
}

/// What was read and not yet taken.
#[derive(Debug, Default)]
pub struct MessageBuffer {
    bytes: BytesMut,
}

impl MessageBuffer {
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn consume(&mut self, count: usize) {
        self.bytes.advance(count);
    }

    /// What is left, for whoever reads the stream from here on.
    pub fn into_bytes(self) -> BytesMut {
        self.bytes
    }

    /// Waits for the next message; one whose body is larger than `body_bytes_max` is an error. Cancel safe.
    pub async fn read_message(
        &mut self,
        stream: &mut Stream,
        body_bytes_max: u32,
    ) -> Result<Message, ReadError> {
        loop {
            if let Some(header) = parse_header_capped(&self.bytes, body_bytes_max)?
                && self.bytes.len() >= header.frame_bytes()
            {
                let mut frame = self.bytes.split_to(header.frame_bytes()).freeze();
                frame.advance(HEADER_BYTES);
                return Ok(Message { tag: header.tag, body: frame });
            }
            self.fill(stream).await?;
        }
    }

    /// Reads what there is, at least one byte. Cancel safe.
    pub async fn fill(&mut self, stream: &mut Stream) -> Result<(), ReadError> {
        let bytes = &mut self.bytes;
        let read = poll_fn(|context| {
            with_scratch(|scratch| {
                let chunk = &mut scratch[..READ_BYTES];
                let read = ready!(stream.poll_read(context, chunk))?;
                bytes.extend_from_slice(&chunk[..read]);
                // It may be a password, and the buffer is everybody's.
                chunk[..read].zeroize();
                Poll::Ready(io::Result::Ok(read))
            })
        });
        match read.await? {
            0 if self.bytes.is_empty() => Err(ReadError::Closed),
            0 => Err(ReadError::Truncated),
            _ => Ok(()),
        }
    }
}
