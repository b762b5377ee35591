//! The first packet of a connection, which has a length but no tag (manual: Start-up, and the SSL, GSSAPI and
//! cancel requests in Message Formats).

mod cancel;
mod message;
mod version;

pub use cancel::CancelRequest;
pub use message::{Negotiation, Parameters, StartupMessage, encode_startup_message};
pub use version::ProtocolVersion;

use crate::parse::{Cursor, ParseError};
use crate::sqlstate::SqlState;
use bytes::{BufMut, BytesMut};

/// PostgreSQL's MAX_STARTUP_PACKET_LENGTH: the packet without its length field.
pub const PACKET_BODY_BYTES_MAX: usize = 10_000;
/// No first packet is longer, length field included: what a reader's buffer has to hold.
pub const PACKET_BYTES_MAX: usize = LENGTH_BYTES + PACKET_BODY_BYTES_MAX;

/// The one-byte answers to SSLRequest and GSSENCRequest.
pub const SSL_ACCEPTED: u8 = b'S';
pub const GSSENC_ACCEPTED: u8 = b'G';
pub const ENCRYPTION_REFUSED: u8 = b'N';

/// The first byte of a TLS handshake record: a client of PostgreSQL 17 and later with `sslnegotiation=direct`.
pub const DIRECT_TLS_FIRST_BYTE: u8 = 0x16;

const LENGTH_BYTES: usize = 4;
const CANCEL_REQUEST: u32 = 80_877_102;
const SSL_REQUEST: u32 = 80_877_103;
const GSSENC_REQUEST: u32 = 80_877_104;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartupError {
    #[error("invalid length of startup packet")]
    Length { length: u32 },
    #[error("unsupported frontend protocol {0}")]
    Version(ProtocolVersion),
    #[error("invalid startup packet layout: {0}")]
    Layout(#[from] ParseError),
    #[error("no PostgreSQL user name specified in startup packet")]
    NoUser,
    #[error("more than one user name specified in startup packet")]
    DuplicateUser,
}

impl StartupError {
    pub const fn sqlstate(&self) -> SqlState {
        match self {
            Self::Length { .. } | Self::Layout(_) | Self::DuplicateUser => SqlState::PROTOCOL_VIOLATION,
            Self::Version(_) => SqlState::FEATURE_NOT_SUPPORTED,
            Self::NoUser => SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
        }
    }
}

/// What a connection may start with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstPacket<'a> {
    SslRequest,
    GssEncRequest,
    CancelRequest(CancelRequest<'a>),
    StartupMessage(StartupMessage<'a>),
}

/// How many bytes the packet at the start of `bytes` has, length field included; `None` while its length is not
/// there. Never more than `PACKET_BYTES_MAX`.
pub fn packet_bytes(bytes: &[u8]) -> Result<Option<usize>, StartupError> {
    let Some(length) = bytes.first_chunk() else { return Ok(None) };
    let length = u32::from_be_bytes(*length);
    match usize::try_from(length) {
        // The length field and the code are always there.
        Ok(n) if (LENGTH_BYTES + 4..=PACKET_BYTES_MAX).contains(&n) => Ok(Some(n)),
        _ => Err(StartupError::Length { length }),
    }
}

/// The packet at the start of `bytes` and how many bytes it took; `None` while it is incomplete.
///
/// Bytes after an SSLRequest or GSSENCRequest came before the handshake they ask for: the caller must refuse them,
/// not take them for part of the encrypted stream.
pub fn parse(bytes: &[u8]) -> Result<Option<(FirstPacket<'_>, usize)>, StartupError> {
    let Some(taken) = packet_bytes(bytes)? else { return Ok(None) };
    let Some(packet) = bytes.get(..taken) else { return Ok(None) };
    let mut cursor = Cursor::new(packet);
    cursor.bytes(LENGTH_BYTES)?;
    let packet = match cursor.u32()? {
        SSL_REQUEST => {
            cursor.finish()?;
            FirstPacket::SslRequest
        }
        GSSENC_REQUEST => {
            cursor.finish()?;
            FirstPacket::GssEncRequest
        }
        CANCEL_REQUEST => FirstPacket::CancelRequest(CancelRequest::parse(cursor)?),
        code => {
            let version = ProtocolVersion::from_code(code);
            if version.major != 3 {
                return Err(StartupError::Version(version));
            }
            FirstPacket::StartupMessage(StartupMessage::parse(version, cursor)?)
        }
    };
    Ok(Some((packet, taken)))
}

pub fn encode_ssl_request(out: &mut BytesMut) {
    out.put_u32(8);
    out.put_u32(SSL_REQUEST);
}

pub fn encode_gssenc_request(out: &mut BytesMut) {
    out.put_u32(8);
    out.put_u32(GSSENC_REQUEST);
}
