//! StartupMessage, its parameters, and what has to be negotiated about it.

use super::{LENGTH_BYTES, PACKET_BYTES_MAX, ProtocolVersion, StartupError};
use crate::backend::NegotiateProtocolVersion;
use crate::encode::{self, EncodeError};
use crate::list::StringsBuf;
use crate::parse::Cursor;
use bytes::{BufMut, BytesMut};
use std::fmt;

/// Options of the protocol, as opposed to parameters of the session, have names that start with this.
const PROTOCOL_OPTION_PREFIX: &str = "_pq_.";

/// Names the user, the database and the parameters of a session to be started. There is always a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StartupMessage<'a> {
    /// The major version is 3; the minor one may be one that nobody knows yet.
    pub version: ProtocolVersion,
    pub parameters: Parameters<'a>,
    user: &'a str,
}

impl<'a> StartupMessage<'a> {
    pub(super) fn parse(version: ProtocolVersion, mut cursor: Cursor<'a>) -> Result<Self, StartupError> {
        let mut user = None;
        let mut ahead = cursor;
        let mut bytes = 0;
        loop {
            let name = ahead.utf8()?;
            if name.is_empty() {
                break;
            }
            let value = ahead.utf8()?;
            if name == "user" && user.replace(value).is_some() {
                return Err(StartupError::DuplicateUser);
            }
            bytes += name.len() + value.len() + 2;
        }
        ahead.finish()?;
        let user = user.filter(|user| !user.is_empty()).ok_or(StartupError::NoUser)?;
        Ok(Self { version, parameters: Parameters { raw: cursor.bytes(bytes)? }, user })
    }

    /// Never empty.
    pub const fn user(&self) -> &'a str {
        self.user
    }

    /// The database asked for; the user's name where none is.
    pub fn database(&self) -> &'a str {
        self.parameters.last("database").filter(|name| !name.is_empty()).unwrap_or(self.user)
    }

    /// What to tell a client that asks for a minor version newer than `newest_minor` or for options of the
    /// protocol, of which we know none; `None` where all it asks for is understood.
    pub fn negotiate(&self, newest_minor: u16) -> Option<Negotiation> {
        let mut unrecognized_options = StringsBuf::new();
        for (name, _) in self.parameters.iter().filter(|(name, _)| name.starts_with(PROTOCOL_OPTION_PREFIX)) {
            // A parsed name has no NUL.
            unrecognized_options.push(name).ok()?;
        }
        if self.version.minor <= newest_minor && unrecognized_options.as_strings().is_empty() {
            return None;
        }
        let version = ProtocolVersion { minor: self.version.minor.min(newest_minor), ..self.version };
        Some(Negotiation { version, unrecognized_options })
    }

    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        encode_startup_message(self.version, self.parameters.iter(), out)
    }
}

/// The outcome of a negotiation that needs a NegotiateProtocolVersion.
#[derive(Clone, Debug)]
pub struct Negotiation {
    /// The version the session goes on with.
    pub version: ProtocolVersion,
    unrecognized_options: StringsBuf,
}

impl Negotiation {
    pub fn message(&self) -> NegotiateProtocolVersion<'_> {
        NegotiateProtocolVersion {
            newest: self.version,
            unrecognized_options: self.unrecognized_options.as_strings(),
        }
    }
}

/// Names and values in the order sent. A name may come more than once; PostgreSQL lets the last one win.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Parameters<'a> {
    raw: &'a [u8],
}

impl<'a> Parameters<'a> {
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> + 'a {
        let mut cursor = Cursor::new(self.raw);
        std::iter::from_fn(move || Some((cursor.utf8().ok()?, cursor.utf8().ok()?)))
    }

    /// The last value of the parameter.
    pub fn last(&self, name: &str) -> Option<&'a str> {
        self.iter().filter(|(this, _)| *this == name).map(|(_, value)| value).last()
    }
}

impl fmt::Debug for Parameters<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// Appends a StartupMessage; on an error `out` is as it was before.
pub fn encode_startup_message<'p>(
    version: ProtocolVersion,
    parameters: impl IntoIterator<Item = (&'p str, &'p str)>,
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    let start = out.len();
    let written = encode_packet(version, parameters, start, out);
    if written.is_err() {
        out.truncate(start);
    }
    written
}

fn encode_packet<'p>(
    version: ProtocolVersion,
    parameters: impl IntoIterator<Item = (&'p str, &'p str)>,
    start: usize,
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    out.put_u32(0);
    out.put_u32(version.code());
    for (name, value) in parameters {
        if name.is_empty() {
            return Err(EncodeError::EmptyElement);
        }
        encode::string(out, name.as_bytes())?;
        encode::string(out, value.as_bytes())?;
        check_bytes(out.len() - start)?;
    }
    out.put_u8(0);
    let length = check_bytes(out.len() - start)?;
    if let Some(place) = out.get_mut(start..start + LENGTH_BYTES) {
        place.copy_from_slice(&length.to_be_bytes());
    }
    Ok(())
}

fn check_bytes(bytes: usize) -> Result<u32, EncodeError> {
    match u32::try_from(bytes) {
        Ok(n) if bytes <= PACKET_BYTES_MAX => Ok(n),
        _ => Err(EncodeError::TooLong { bytes }),
    }
}
