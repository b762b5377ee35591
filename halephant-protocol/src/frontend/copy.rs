//! CopyFail: the client gives up a COPY IN.

use super::tag;
use crate::encode::{self, EncodeError};
use crate::parse::{Cursor, ParseError};
use bytes::BytesMut;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyFail<'a> {
    /// The cause, for the server's error message.
    pub message: &'a [u8],
}

impl<'a> CopyFail<'a> {
    pub fn parse(body: &'a [u8]) -> Result<Self, ParseError> {
        let mut cursor = Cursor::new(body);
        let message = cursor.string()?;
        cursor.finish()?;
        Ok(Self { message })
    }

    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        encode::message(tag::COPY_FAIL, out, |out| encode::string(out, self.message))
    }
}
