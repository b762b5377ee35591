//! The answers to authentication requests, which share the tag `p`.

use super::tag;
use crate::encode::{self, EncodeError};
use crate::parse::{Cursor, ParseError};
use bytes::BytesMut;
use std::fmt;

/// An answer whose kind only the request tells.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct AuthenticationResponse<'a> {
    pub body: &'a [u8],
}

impl<'a> AuthenticationResponse<'a> {
    pub const fn parse(body: &'a [u8]) -> Result<Self, ParseError> {
        Ok(Self { body })
    }

    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        encode::message(tag::AUTHENTICATION_RESPONSE, out, |out| encode::rest(out, self.body))
    }

    /// As the answer to AuthenticationCleartextPassword or AuthenticationMD5Password.
    pub fn password(&self) -> Result<PasswordMessage<'a>, ParseError> {
        PasswordMessage::parse(self.body)
    }

    /// As the answer to AuthenticationSASL.
    pub fn sasl_initial(&self) -> Result<SaslInitialResponse<'a>, ParseError> {
        SaslInitialResponse::parse(self.body)
    }

    /// As the answer to AuthenticationSASLContinue.
    pub fn sasl(&self) -> Result<SaslResponse<'a>, ParseError> {
        SaslResponse::parse(self.body)
    }

    /// As the answer to AuthenticationGSS, AuthenticationSSPI or AuthenticationGSSContinue.
    pub fn gss(&self) -> Result<GssResponse<'a>, ParseError> {
        GssResponse::parse(self.body)
    }
}

/// A cleartext password, or one hashed as AuthenticationMD5Password asks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PasswordMessage<'a> {
    pub password: &'a [u8],
}

impl<'a> PasswordMessage<'a> {
    pub fn parse(body: &'a [u8]) -> Result<Self, ParseError> {
        let mut cursor = Cursor::new(body);
        let password = cursor.string()?;
        cursor.finish()?;
        Ok(Self { password })
    }

    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        encode::message(tag::AUTHENTICATION_RESPONSE, out, |out| encode::string(out, self.password))
    }
}

/// The choice of a SASL mechanism, with the mechanism's first message if it starts with one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SaslInitialResponse<'a> {
    pub mechanism: &'a str,
    pub data: Option<&'a [u8]>,
}

impl<'a> SaslInitialResponse<'a> {
    pub fn parse(body: &'a [u8]) -> Result<Self, ParseError> {
        let mut cursor = Cursor::new(body);
        let message = Self { mechanism: cursor.utf8()?, data: cursor.value()? };
        cursor.finish()?;
        Ok(message)
    }

    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        encode::message(tag::AUTHENTICATION_RESPONSE, out, |out| {
            encode::string(out, self.mechanism.as_bytes())?;
            encode::value(out, self.data)
        })
    }
}

/// A SASL message after the first.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SaslResponse<'a> {
    pub data: &'a [u8],
}

impl<'a> SaslResponse<'a> {
    pub const fn parse(body: &'a [u8]) -> Result<Self, ParseError> {
        Ok(Self { data: body })
    }

    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        encode::message(tag::AUTHENTICATION_RESPONSE, out, |out| encode::rest(out, self.data))
    }
}

/// A GSSAPI or SSPI token.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct GssResponse<'a> {
    pub data: &'a [u8],
}

impl<'a> GssResponse<'a> {
    pub const fn parse(body: &'a [u8]) -> Result<Self, ParseError> {
        Ok(Self { data: body })
    }

    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        encode::message(tag::AUTHENTICATION_RESPONSE, out, |out| encode::rest(out, self.data))
    }
}

/// Secrets: nothing of them is shown.
macro_rules! redacted_debug {
    ($($message:ident)*) => {$(
        impl fmt::Debug for $message<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($message), "(***)"))
            }
        }
    )*};
}
redacted_debug!(AuthenticationResponse PasswordMessage SaslInitialResponse SaslResponse GssResponse);
