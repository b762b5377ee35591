//! The authentication requests, which share the tag `R` and are told apart by a code.

use super::tag;
use crate::encode::{self, EncodeError};
use crate::list::Strings;
use crate::parse::{Cursor, ParseError};
use bytes::{BufMut, BytesMut};
use std::fmt;

/// AuthenticationOk, AuthenticationCleartextPassword and so on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Authentication<'a> {
    Ok,
    KerberosV5,
    CleartextPassword,
    Md5Password {
        salt: [u8; 4],
    },
    Gss,
    GssContinue {
        data: &'a [u8],
    },
    Sspi,
    /// The mechanisms offered, in the server's order of preference.
    Sasl {
        mechanisms: Strings<'a>,
    },
    SaslContinue {
        data: &'a [u8],
    },
    SaslFinal {
        data: &'a [u8],
    },
}

const OK: u32 = 0;
const KERBEROS_V5: u32 = 2;
const CLEARTEXT_PASSWORD: u32 = 3;
const MD5_PASSWORD: u32 = 5;
const GSS: u32 = 7;
const GSS_CONTINUE: u32 = 8;
const SSPI: u32 = 9;
const SASL: u32 = 10;
const SASL_CONTINUE: u32 = 11;
const SASL_FINAL: u32 = 12;

impl<'a> Authentication<'a> {
    pub fn parse(body: &'a [u8]) -> Result<Self, ParseError> {
        let mut cursor = Cursor::new(body);
        let message = match cursor.u32()? {
            OK => Self::Ok,
            KERBEROS_V5 => Self::KerberosV5,
            CLEARTEXT_PASSWORD => Self::CleartextPassword,
            MD5_PASSWORD => Self::Md5Password { salt: cursor.array()? },
            GSS => Self::Gss,
            GSS_CONTINUE => Self::GssContinue { data: cursor.rest() },
            SSPI => Self::Sspi,
            SASL => Self::Sasl { mechanisms: Strings::parse_closed(&mut cursor)? },
            SASL_CONTINUE => Self::SaslContinue { data: cursor.rest() },
            SASL_FINAL => Self::SaslFinal { data: cursor.rest() },
            code => return Err(ParseError::Authentication { code }),
        };
        cursor.finish()?;
        Ok(message)
    }

    const fn code(&self) -> u32 {
        match self {
            Self::Ok => OK,
            Self::KerberosV5 => KERBEROS_V5,
            Self::CleartextPassword => CLEARTEXT_PASSWORD,
            Self::Md5Password { .. } => MD5_PASSWORD,
            Self::Gss => GSS,
            Self::GssContinue { .. } => GSS_CONTINUE,
            Self::Sspi => SSPI,
            Self::Sasl { .. } => SASL,
            Self::SaslContinue { .. } => SASL_CONTINUE,
            Self::SaslFinal { .. } => SASL_FINAL,
        }
    }

    /// The manual's name of the message.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Ok => "AuthenticationOk",
            Self::KerberosV5 => "AuthenticationKerberosV5",
            Self::CleartextPassword => "AuthenticationCleartextPassword",
            Self::Md5Password { .. } => "AuthenticationMD5Password",
            Self::Gss => "AuthenticationGSS",
            Self::GssContinue { .. } => "AuthenticationGSSContinue",
            Self::Sspi => "AuthenticationSSPI",
            Self::Sasl { .. } => "AuthenticationSASL",
            Self::SaslContinue { .. } => "AuthenticationSASLContinue",
            Self::SaslFinal { .. } => "AuthenticationSASLFinal",
        }
    }

    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        encode::message(tag::AUTHENTICATION, out, |out| {
            out.put_u32(self.code());
            match self {
                Self::Ok | Self::KerberosV5 | Self::CleartextPassword | Self::Gss | Self::Sspi => Ok(()),
                Self::Md5Password { salt } => encode::rest(out, salt),
                Self::Sasl { mechanisms } => mechanisms.encode_closed(out),
                Self::GssContinue { data } | Self::SaslContinue { data } | Self::SaslFinal { data } => {
                    encode::rest(out, data)
                }
            }
        })
    }
}

impl fmt::Debug for Authentication<'_> {
    /// Salts and exchanged data are not shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Self::Sasl { mechanisms } => f.debug_list().entries(mechanisms.iter()).finish(),
            _ => Ok(()),
        }
    }
}
