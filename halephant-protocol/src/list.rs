//! The counted lists inside message bodies: format codes, type OIDs, nullable values, strings.
//!
//! A list is checked when its message is parsed and keeps the bytes it was made of, so walking it cannot fail and
//! encoding it again is one copy.

use crate::encode::{self, EncodeError};
use crate::parse::{Cursor, ParseError};
use bytes::{BufMut, BytesMut};
use std::fmt;

/// Format codes, as the 16-bit integers of the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FormatCodes<'a>(&'a [[u8; 2]]);

impl<'a> FormatCodes<'a> {
    pub const TEXT: [u8; 2] = [0, 0];
    pub const BINARY: [u8; 2] = [0, 1];

    pub const fn new(codes: &'a [[u8; 2]]) -> Self {
        Self(codes)
    }

    pub const fn len(&self) -> usize {
        self.0.len()
    }

    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// 0 is text, 1 is binary; others are for the receiver to refuse.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = u16> + 'a {
        self.0.iter().map(|&code| u16::from_be_bytes(code))
    }

    pub(crate) fn parse(cursor: &mut Cursor<'a>) -> Result<Self, ParseError> {
        let count = usize::from(cursor.u16()?);
        Ok(Self(cursor.bytes(count * 2)?.as_chunks().0))
    }

    pub(crate) fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        out.put_u16(count16(self.0.len())?);
        out.put_slice(self.0.as_flattened());
        Ok(())
    }
}

/// Object IDs, as the 32-bit integers of the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Oids<'a>(&'a [[u8; 4]]);

impl<'a> Oids<'a> {
    /// Each is the OID's big-endian bytes.
    pub const fn new(oids: &'a [[u8; 4]]) -> Self {
        Self(oids)
    }

    pub const fn len(&self) -> usize {
        self.0.len()
    }

    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = u32> + 'a {
        self.0.iter().map(|&oid| u32::from_be_bytes(oid))
    }

    pub(crate) fn parse(cursor: &mut Cursor<'a>) -> Result<Self, ParseError> {
        let count = usize::from(cursor.u16()?);
        Ok(Self(cursor.bytes(count * 4)?.as_chunks().0))
    }

    pub(crate) fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        out.put_u16(count16(self.0.len())?);
        out.put_slice(self.0.as_flattened());
        Ok(())
    }
}

/// Nullable values: the parameters of a Bind, the columns of a DataRow, the arguments of a FunctionCall.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Values<'a> {
    count: u16,
    raw: &'a [u8],
}

impl<'a> Values<'a> {
    pub const fn len(&self) -> usize {
        self.count as usize
    }

    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Each value, `None` for NULL.
    pub fn iter(&self) -> impl Iterator<Item = Option<&'a [u8]>> + 'a {
        let mut cursor = Cursor::new(self.raw);
        (0..self.count).map_while(move |_| cursor.value().ok())
    }

    pub(crate) fn parse(cursor: &mut Cursor<'a>) -> Result<Self, ParseError> {
        let count = cursor.u16()?;
        let raw = cursor.span(|cursor| {
            for _ in 0..count {
                cursor.value()?;
            }
            Ok(())
        })?;
        Ok(Self { count, raw })
    }

    pub(crate) fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        out.put_u16(self.count);
        encode::rest(out, self.raw)
    }
}

impl fmt::Debug for Values<'_> {
    /// Values are never shown: they are what users store.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Values({} in {} bytes)", self.count, self.raw.len())
    }
}

/// Builds `Values`.
#[derive(Clone, Debug, Default)]
pub struct ValuesBuf {
    count: u16,
    raw: BytesMut,
}

impl ValuesBuf {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn push(&mut self, value: Option<&[u8]>) -> Result<(), EncodeError> {
        let count = self.count.checked_add(1).ok_or(EncodeError::TooMany { count: 1 << 16 })?;
        encode::value(&mut self.raw, value)?;
        self.count = count;
        Ok(())
    }

    pub fn as_values(&self) -> Values<'_> {
        Values { count: self.count, raw: &self.raw }
    }
}

/// Strings without a count, closed by an empty one: the mechanisms of AuthenticationSASL.
/// With a 32-bit count: the unrecognized options of NegotiateProtocolVersion.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Strings<'a> {
    count: u32,
    raw: &'a [u8],
}

impl<'a> Strings<'a> {
    pub const fn len(&self) -> usize {
        self.count as usize
    }

    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub fn iter(&self) -> impl Iterator<Item = &'a str> + 'a {
        let mut cursor = Cursor::new(self.raw);
        (0..self.count).map_while(move |_| cursor.utf8().ok())
    }

    pub(crate) fn parse_counted(cursor: &mut Cursor<'a>) -> Result<Self, ParseError> {
        let count = cursor.u32()?;
        let raw = cursor.span(|cursor| {
            // Ends at the latest when the body does: every string takes a byte.
            for _ in 0..count {
                cursor.utf8()?;
            }
            Ok(())
        })?;
        Ok(Self { count, raw })
    }

    pub(crate) fn encode_counted(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        out.put_u32(self.count);
        encode::rest(out, self.raw)
    }

    pub(crate) fn parse_closed(cursor: &mut Cursor<'a>) -> Result<Self, ParseError> {
        let mut count = 0;
        let mut ahead = *cursor;
        while !ahead.utf8()?.is_empty() {
            count += 1;
        }
        let raw = cursor.span(|cursor| {
            for _ in 0..count {
                cursor.utf8()?;
            }
            Ok(())
        })?;
        *cursor = ahead;
        Ok(Self { count, raw })
    }

    pub(crate) fn encode_closed(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        if self.iter().any(str::is_empty) {
            return Err(EncodeError::EmptyElement);
        }
        encode::rest(out, self.raw)?;
        out.put_u8(0);
        Ok(())
    }
}

/// Builds `Strings`.
#[derive(Clone, Debug, Default)]
pub struct StringsBuf {
    count: u32,
    raw: BytesMut,
}

impl StringsBuf {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn push(&mut self, string: &str) -> Result<(), EncodeError> {
        encode::string(&mut self.raw, string.as_bytes())?;
        self.count += 1;
        Ok(())
    }

    pub fn as_strings(&self) -> Strings<'_> {
        Strings { count: self.count, raw: &self.raw }
    }
}

pub(crate) fn count16(count: usize) -> Result<u16, EncodeError> {
    u16::try_from(count).map_err(|_| EncodeError::TooMany { count })
}
