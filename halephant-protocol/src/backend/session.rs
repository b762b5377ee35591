//! What a server says about the session: its key, its parameters, its protocol version, its transaction status.

use super::tag;
use crate::encode::{self, EncodeError};
use crate::list::Strings;
use crate::parse::{Cursor, ParseError};
use crate::startup::ProtocolVersion;
use bytes::{BufMut, BytesMut};
use std::fmt;

/// Protocol 3.0 has keys of exactly this length.
pub const SECRET_KEY_BYTES_MIN: usize = 4;
/// Protocol 3.2 allows keys up to this length.
pub const SECRET_KEY_BYTES_MAX: usize = 256;

/// Is `key` of a length that protocol 3.2 (or, at 4 bytes, 3.0) allows?
pub(crate) const fn check_secret_key(key: &[u8]) -> bool {
    key.len() >= SECRET_KEY_BYTES_MIN && key.len() <= SECRET_KEY_BYTES_MAX
}

/// What a CancelRequest for this session has to name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct BackendKeyData<'a> {
    pub process_id: u32,
    /// 4 to 256 bytes.
    pub secret_key: &'a [u8],
}

impl<'a> BackendKeyData<'a> {
    pub fn parse(body: &'a [u8]) -> Result<Self, ParseError> {
        let mut cursor = Cursor::new(body);
        let process_id = cursor.u32()?;
        let secret_key = cursor.rest();
        if !check_secret_key(secret_key) {
            return Err(ParseError::SecretKeyLength { bytes: secret_key.len() });
        }
        Ok(Self { process_id, secret_key })
    }

    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        if !check_secret_key(self.secret_key) {
            return Err(EncodeError::SecretKeyLength { bytes: self.secret_key.len() });
        }
        encode::message(tag::BACKEND_KEY_DATA, out, |out| {
            out.put_u32(self.process_id);
            encode::rest(out, self.secret_key)
        })
    }
}

impl fmt::Debug for BackendKeyData<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BackendKeyData {{ process_id: {}, secret_key: *** }}", self.process_id)
    }
}

/// A run-time parameter's value, at start and whenever it changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParameterStatus<'a> {
    pub name: &'a [u8],
    pub value: &'a [u8],
}

impl<'a> ParameterStatus<'a> {
    pub fn parse(body: &'a [u8]) -> Result<Self, ParseError> {
        let mut cursor = Cursor::new(body);
        let message = Self { name: cursor.string()?, value: cursor.string()? };
        cursor.finish()?;
        Ok(message)
    }

    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        encode::message(tag::PARAMETER_STATUS, out, |out| {
            encode::string(out, self.name)?;
            encode::string(out, self.value)
        })
    }
}

/// The answer to a startup packet that asks for more than the server knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NegotiateProtocolVersion<'a> {
    /// The newest version the server speaks. The manual calls it the minor version; servers send all of it.
    pub newest: ProtocolVersion,
    /// Names of the `_pq_.` options the server did not recognize.
    pub unrecognized_options: Strings<'a>,
}

impl<'a> NegotiateProtocolVersion<'a> {
    pub fn parse(body: &'a [u8]) -> Result<Self, ParseError> {
        let mut cursor = Cursor::new(body);
        let message = Self {
            newest: ProtocolVersion::from_code(cursor.u32()?),
            unrecognized_options: Strings::parse_counted(&mut cursor)?,
        };
        cursor.finish()?;
        Ok(message)
    }

    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        encode::message(tag::NEGOTIATE_PROTOCOL_VERSION, out, |out| {
            out.put_u32(self.newest.code());
            self.unrecognized_options.encode_counted(out)
        })
    }
}

/// Where the session stands when a cycle ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TransactionStatus {
    /// Not in a transaction block.
    Idle,
    /// In a transaction block.
    InTransaction,
    /// In a failed transaction block: queries are refused until it is ended.
    Failed,
}

impl TransactionStatus {
    #[inline]
    pub const fn parse(status: u8) -> Result<Self, ParseError> {
        match status {
            b'I' => Ok(Self::Idle),
            b'T' => Ok(Self::InTransaction),
            b'E' => Ok(Self::Failed),
            status => Err(ParseError::TransactionStatus { status }),
        }
    }

    pub const fn encode(self) -> u8 {
        match self {
            Self::Idle => b'I',
            Self::InTransaction => b'T',
            Self::Failed => b'E',
        }
    }
}

/// The server awaits the next cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadyForQuery {
    pub status: TransactionStatus,
}

impl ReadyForQuery {
    #[inline]
    pub const fn parse(body: &[u8]) -> Result<Self, ParseError> {
        match *body {
            [status] => match TransactionStatus::parse(status) {
                Ok(status) => Ok(Self { status }),
                Err(error) => Err(error),
            },
            [] => Err(ParseError::Truncated),
            [_, ..] => Err(ParseError::TrailingBytes { bytes: body.len() - 1 }),
        }
    }

    pub fn encode(&self, out: &mut BytesMut) {
        encode::fixed(tag::READY_FOR_QUERY, [self.status.encode()], out);
    }
}
