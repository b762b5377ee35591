//! Message headers and the walk from one to the next without parsing bodies (manual: Messaging Overview).
//!
//! A message is a tag byte, a 32-bit length that counts itself but not the tag, and a body.

use crate::frontend;
use crate::sqlstate::SqlState;

/// The tag and the length.
pub const HEADER_BYTES: usize = 5;

/// The largest body that either side can build: PostgreSQL's MaxAllocSize, 1 GiB - 1.
pub const BODY_BYTES_MAX: u32 = 0x3fff_ffff;

/// What a client may send in one message before it is authenticated; the cap PostgreSQL puts on small messages.
pub const UNAUTHENTICATED_BODY_BYTES_MAX: u32 = 10_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub tag: u8,
    /// The length field minus the 4 bytes of the field itself.
    pub body_bytes: u32,
}

impl Header {
    /// Header and body together.
    #[inline]
    pub const fn frame_bytes(self) -> usize {
        HEADER_BYTES + self.body_bytes as usize
    }

    #[inline]
    pub const fn encode(self) -> [u8; HEADER_BYTES] {
        let [a, b, c, d] = (self.body_bytes.saturating_add(4)).to_be_bytes();
        [self.tag, a, b, c, d]
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("invalid message length {length} of message type {tag}")]
    Length { tag: u8, length: i32 },
    #[error("message type {tag} has a body of {body_bytes} bytes, more than the {body_bytes_max} allowed")]
    TooLong { tag: u8, body_bytes: u32, body_bytes_max: u32 },
    #[error("invalid frontend message type {tag}")]
    Tag { tag: u8 },
}

impl FrameError {
    pub const fn sqlstate(&self) -> SqlState {
        SqlState::PROTOCOL_VIOLATION
    }
}

/// The header at the start of `bytes`; `None` while fewer than `HEADER_BYTES` are there.
#[inline]
pub const fn parse_header(bytes: &[u8]) -> Result<Option<Header>, FrameError> {
    parse_header_capped(bytes, BODY_BYTES_MAX)
}

/// `parse_header` with the caller's cap on the body.
#[inline]
pub const fn parse_header_capped(bytes: &[u8], body_bytes_max: u32) -> Result<Option<Header>, FrameError> {
    let [tag, a, b, c, d, ..] = *bytes else { return Ok(None) };
    let length = i32::from_be_bytes([a, b, c, d]);
    if length < 4 {
        return Err(FrameError::Length { tag, length });
    }
    let body_bytes = length as u32 - 4;
    if body_bytes > body_bytes_max {
        return Err(FrameError::TooLong { tag, body_bytes, body_bytes_max });
    }
    Ok(Some(Header { tag, body_bytes }))
}

/// `parse_header` for what a client sends after authentication: only the tags PostgreSQL takes then, each with
/// PostgreSQL's cap for it.
#[inline]
pub const fn parse_frontend_header(bytes: &[u8]) -> Result<Option<Header>, FrameError> {
    match parse_header(bytes) {
        Ok(Some(header)) => match check_frontend(header) {
            Ok(()) => Ok(Some(header)),
            Err(error) => Err(error),
        },
        other => other,
    }
}

/// Is the tag one that an authenticated client may send, and is the body within PostgreSQL's cap for it?
#[inline]
pub const fn check_frontend(Header { tag, body_bytes }: Header) -> Result<(), FrameError> {
    match frontend::tag::body_bytes_max(tag) {
        None => Err(FrameError::Tag { tag }),
        Some(body_bytes_max) if body_bytes > body_bytes_max => {
            Err(FrameError::TooLong { tag, body_bytes, body_bytes_max })
        }
        Some(_) => Ok(()),
    }
}

/// One complete message, its body not looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    pub tag: u8,
    pub body: &'a [u8],
}

impl std::fmt::Debug for Frame<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Frame({:?}, {} bytes)", char::from(self.tag), self.body.len())
    }
}

/// The complete messages at the start of `bytes`, in order.
pub const fn split(bytes: &[u8]) -> Split<'_> {
    Split { rest: bytes, failed: false }
}

/// Iterator over complete messages. It ends at the first incomplete one, or after the first bad header.
#[derive(Clone, Debug)]
pub struct Split<'a> {
    rest: &'a [u8],
    failed: bool,
}

impl<'a> Split<'a> {
    /// What has not been taken yet: once the iterator has ended, the incomplete message or the bad header.
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Split<'a> {
    type Item = Result<Frame<'a>, FrameError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let header = match parse_header(self.rest) {
            Ok(header) => header?,
            Err(error) => {
                self.failed = true;
                return Some(Err(error));
            }
        };
        let (message, rest) = self.rest.split_at_checked(header.frame_bytes())?;
        self.rest = rest;
        Some(Ok(Frame { tag: header.tag, body: message.get(HEADER_BYTES..)? }))
    }
}

impl std::iter::FusedIterator for Split<'_> {}

#[cfg(test)]
mod tests;
