//! The answers that open a COPY.

use super::tag;
use crate::encode::{self, EncodeError};
use crate::list::FormatCodes;
use crate::parse::{Cursor, ParseError};
use bytes::{BufMut, BytesMut};

macro_rules! copy_response {
    ($($(#[$doc:meta])* $message:ident = $tag:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $message<'a> {
            /// 0 is text, 1 is binary.
            pub format: u8,
            pub column_formats: FormatCodes<'a>,
        }

        impl<'a> $message<'a> {
            pub fn parse(body: &'a [u8]) -> Result<Self, ParseError> {
                let mut cursor = Cursor::new(body);
                let message =
                    Self { format: cursor.u8()?, column_formats: FormatCodes::parse(&mut cursor)? };
                cursor.finish()?;
                Ok(message)
            }

            pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
                encode::message(tag::$tag, out, |out| {
                    out.put_u8(self.format);
                    self.column_formats.encode(out)
                })
            }
        }
    )*};
}

copy_response! {
    /// The client is to send CopyData.
    CopyInResponse = COPY_IN_RESPONSE;
    /// CopyData follows.
    CopyOutResponse = COPY_OUT_RESPONSE;
    /// CopyData goes both ways: streaming replication.
    CopyBothResponse = COPY_BOTH_RESPONSE;
}
