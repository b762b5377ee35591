//! The messages both sides send during COPY (manual: COPY Operations). CopyFail is the frontend's alone.

use crate::encode::{self, EncodeError};
use crate::parse::{Cursor, ParseError};
use bytes::BytesMut;
use std::fmt;

pub const COPY_DATA_TAG: u8 = b'd';
pub const COPY_DONE_TAG: u8 = b'c';

/// A part of the data stream; row borders need not be message borders.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CopyData<'a> {
    pub data: &'a [u8],
}

impl<'a> CopyData<'a> {
    pub const fn parse(body: &'a [u8]) -> Result<Self, ParseError> {
        Ok(Self { data: body })
    }

    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        encode::message(COPY_DATA_TAG, out, |out| encode::rest(out, self.data))
    }
}

impl fmt::Debug for CopyData<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CopyData({} bytes)", self.data.len())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyDone;

impl CopyDone {
    pub fn parse(body: &[u8]) -> Result<Self, ParseError> {
        Cursor::new(body).finish().map(|()| Self)
    }

    pub fn encode(&self, out: &mut BytesMut) {
        encode::fixed(COPY_DONE_TAG, [], out);
    }
}
