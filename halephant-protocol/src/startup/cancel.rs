//! CancelRequest.

use super::CANCEL_REQUEST;
use crate::backend::check_secret_key;
use crate::encode::EncodeError;
use crate::parse::{Cursor, ParseError};
use bytes::{BufMut, BytesMut};
use std::fmt;

/// Asks for the query to be cancelled that the session with this key is running.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CancelRequest<'a> {
    pub process_id: u32,
    /// 4 to 256 bytes.
    pub secret_key: &'a [u8],
}

impl<'a> CancelRequest<'a> {
    pub(super) fn parse(mut cursor: Cursor<'a>) -> Result<Self, ParseError> {
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
        // At most 268.
        out.put_u32(12 + self.secret_key.len() as u32);
        out.put_u32(CANCEL_REQUEST);
        out.put_u32(self.process_id);
        out.put_slice(self.secret_key);
        Ok(())
    }
}

impl fmt::Debug for CancelRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CancelRequest {{ process_id: {}, secret_key: *** }}", self.process_id)
    }
}
