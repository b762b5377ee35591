//! Query and FunctionCall, each a whole cycle of its own, and Terminate.

use super::tag;
use crate::encode::{self, EncodeError};
use crate::list::{FormatCodes, Values};
use crate::parse::{Cursor, ParseError};
use bytes::{BufMut, BytesMut};
use std::fmt;

#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Query<'a> {
    pub query: &'a [u8],
}

impl<'a> Query<'a> {
    pub fn parse(body: &'a [u8]) -> Result<Self, ParseError> {
        let mut cursor = Cursor::new(body);
        let query = cursor.string()?;
        cursor.finish()?;
        Ok(Self { query })
    }

    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        encode::message(tag::QUERY, out, |out| encode::string(out, self.query))
    }
}

impl fmt::Debug for Query<'_> {
    /// Query text is not shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Query({} bytes)", self.query.len())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FunctionCall<'a> {
    pub function_oid: u32,
    pub argument_formats: FormatCodes<'a>,
    pub arguments: Values<'a>,
    /// 0 is text, 1 is binary.
    pub result_format: u16,
}

impl<'a> FunctionCall<'a> {
    pub fn parse(body: &'a [u8]) -> Result<Self, ParseError> {
        let mut cursor = Cursor::new(body);
        let message = Self {
            function_oid: cursor.u32()?,
            argument_formats: FormatCodes::parse(&mut cursor)?,
            arguments: Values::parse(&mut cursor)?,
            result_format: cursor.u16()?,
        };
        cursor.finish()?;
        Ok(message)
    }

    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        encode::message(tag::FUNCTION_CALL, out, |out| {
            out.put_u32(self.function_oid);
            self.argument_formats.encode(out)?;
            self.arguments.encode(out)?;
            out.put_u16(self.result_format);
            Ok(())
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terminate;

impl Terminate {
    pub fn parse(body: &[u8]) -> Result<Self, ParseError> {
        Cursor::new(body).finish().map(|()| Self)
    }

    pub fn encode(&self, out: &mut BytesMut) {
        encode::fixed(tag::TERMINATE, [], out);
    }
}
