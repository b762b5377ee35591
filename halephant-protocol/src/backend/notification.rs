//! NotificationResponse: what a NOTIFY brings to those who LISTEN.

use super::tag;
use crate::encode::{self, EncodeError};
use crate::parse::{Cursor, ParseError};
use bytes::{BufMut, BytesMut};
use std::fmt;

#[derive(Clone, Copy, PartialEq, Eq)]
pub struct NotificationResponse<'a> {
    /// Of the session that notified.
    pub process_id: u32,
    pub channel: &'a [u8],
    pub payload: &'a [u8],
}

impl<'a> NotificationResponse<'a> {
    pub fn parse(body: &'a [u8]) -> Result<Self, ParseError> {
        let mut cursor = Cursor::new(body);
        let message =
            Self { process_id: cursor.u32()?, channel: cursor.string()?, payload: cursor.string()? };
        cursor.finish()?;
        Ok(message)
    }

    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        encode::message(tag::NOTIFICATION_RESPONSE, out, |out| {
            out.put_u32(self.process_id);
            encode::string(out, self.channel)?;
            encode::string(out, self.payload)
        })
    }
}

impl fmt::Debug for NotificationResponse<'_> {
    /// The payload is user data and is not shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NotificationResponse")
            .field("process_id", &self.process_id)
            .field("channel", &String::from_utf8_lossy(self.channel))
            .field("payload_bytes", &self.payload.len())
            .finish()
    }
}
