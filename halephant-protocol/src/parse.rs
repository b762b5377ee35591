//! The cursor that message bodies are parsed with (manual: Message Data Types).

use crate::sqlstate::SqlState;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    #[error("message ends before its contents do")]
    Truncated,
    #[error("a string in the message is not terminated")]
    MissingTerminator,
    #[error("{bytes} bytes follow the contents of the message")]
    TrailingBytes { bytes: usize },
    #[error("invalid length {length} inside the message")]
    Length { length: i64 },
    #[error("unknown message type {tag}")]
    Tag { tag: u8 },
    #[error("{target} is neither a prepared statement nor a portal")]
    Target { target: u8 },
    #[error("unknown authentication request {code}")]
    Authentication { code: u32 },
    #[error("unknown transaction status {status}")]
    TransactionStatus { status: u8 },
    #[error("a secret key of {bytes} bytes is not within 4 to 256")]
    SecretKeyLength { bytes: usize },
    #[error("invalid UTF-8")]
    Utf8,
}

impl ParseError {
    pub const fn sqlstate(&self) -> SqlState {
        SqlState::PROTOCOL_VIOLATION
    }
}

/// Takes values off the front of a body. Every take is checked; nothing is copied.
#[derive(Clone, Copy)]
pub(crate) struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    pub(crate) const fn new(body: &'a [u8]) -> Self {
        Self(body)
    }

    pub(crate) fn bytes(&mut self, n: usize) -> Result<&'a [u8], ParseError> {
        let (taken, rest) = self.0.split_at_checked(n).ok_or(ParseError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], ParseError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(ParseError::Truncated)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, ParseError> {
        self.array().map(u8::from_be_bytes)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, ParseError> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn i16(&mut self) -> Result<i16, ParseError> {
        self.array().map(i16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, ParseError> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn i32(&mut self) -> Result<i32, ParseError> {
        self.array().map(i32::from_be_bytes)
    }

    /// A String: the bytes before the next NUL, in whatever the client encoding is.
    pub(crate) fn string(&mut self) -> Result<&'a [u8], ParseError> {
        let end = self.0.iter().position(|&b| b == 0).ok_or(ParseError::MissingTerminator)?;
        let string = self.bytes(end)?;
        self.bytes(1)?;
        Ok(string)
    }

    /// A String that the protocol keeps in ASCII or UTF-8.
    pub(crate) fn utf8(&mut self) -> Result<&'a str, ParseError> {
        std::str::from_utf8(self.string()?).map_err(|_| ParseError::Utf8)
    }

    /// A value with a 32-bit length before it; -1 is NULL.
    pub(crate) fn value(&mut self) -> Result<Option<&'a [u8]>, ParseError> {
        match self.i32()? {
            -1 => Ok(None),
            length => {
                let length =
                    usize::try_from(length).map_err(|_| ParseError::Length { length: length.into() })?;
                self.bytes(length).map(Some)
            }
        }
    }

    /// What `take` consumes, as the bytes it was made of: for lists that are checked once and walked later.
    pub(crate) fn span(
        &mut self,
        take: impl FnOnce(&mut Self) -> Result<(), ParseError>,
    ) -> Result<&'a [u8], ParseError> {
        let before = self.0;
        take(self)?;
        let taken = before.len() - self.0.len();
        before.get(..taken).ok_or(ParseError::Truncated)
    }

    pub(crate) const fn rest(&mut self) -> &'a [u8] {
        let rest = self.0;
        self.0 = &[];
        rest
    }

    /// The body must end here.
    pub(crate) fn finish(self) -> Result<(), ParseError> {
        match self.0.len() {
            0 => Ok(()),
            bytes => Err(ParseError::TrailingBytes { bytes }),
        }
    }
}
