//! The answers that say how far a query has come.

use super::tag;
use crate::encode::{self, EncodeError};
use crate::list::Oids;
use crate::parse::{Cursor, ParseError};
use bytes::BytesMut;
use std::fmt;

/// Messages without a body.
macro_rules! empty {
    ($($(#[$doc:meta])* $message:ident = $tag:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $message;

        impl $message {
            pub fn parse(body: &[u8]) -> Result<Self, ParseError> {
                Cursor::new(body).finish().map(|()| Self)
            }

            pub fn encode(&self, out: &mut BytesMut) {
                encode::fixed(tag::$tag, [], out);
            }
        }
    )*};
}

empty! {
    ParseComplete = PARSE_COMPLETE;
    BindComplete = BIND_COMPLETE;
    CloseComplete = CLOSE_COMPLETE;
    /// In the place of RowDescription: no rows will come.
    NoData = NO_DATA;
    /// In the place of CommandComplete: the query string was empty.
    EmptyQueryResponse = EMPTY_QUERY_RESPONSE;
    /// In the place of CommandComplete: Execute's row limit was reached.
    PortalSuspended = PORTAL_SUSPENDED;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandComplete<'a> {
    /// Such as `INSERT 0 1`.
    pub command_tag: &'a [u8],
}

impl<'a> CommandComplete<'a> {
    pub fn parse(body: &'a [u8]) -> Result<Self, ParseError> {
        let mut cursor = Cursor::new(body);
        let command_tag = cursor.string()?;
        cursor.finish()?;
        Ok(Self { command_tag })
    }

    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        encode::message(tag::COMMAND_COMPLETE, out, |out| encode::string(out, self.command_tag))
    }
}

/// The types of a prepared statement's parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParameterDescription<'a> {
    pub parameter_types: Oids<'a>,
}

impl<'a> ParameterDescription<'a> {
    pub fn parse(body: &'a [u8]) -> Result<Self, ParseError> {
        let mut cursor = Cursor::new(body);
        let parameter_types = Oids::parse(&mut cursor)?;
        cursor.finish()?;
        Ok(Self { parameter_types })
    }

    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        encode::message(tag::PARAMETER_DESCRIPTION, out, |out| self.parameter_types.encode(out))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FunctionCallResponse<'a> {
    pub result: Option<&'a [u8]>,
}

impl<'a> FunctionCallResponse<'a> {
    pub fn parse(body: &'a [u8]) -> Result<Self, ParseError> {
        let mut cursor = Cursor::new(body);
        let result = cursor.value()?;
        cursor.finish()?;
        Ok(Self { result })
    }

    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        encode::message(tag::FUNCTION_CALL_RESPONSE, out, |out| encode::value(out, self.result))
    }
}

impl fmt::Debug for FunctionCallResponse<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FunctionCallResponse({:?} bytes)", self.result.map(<[u8]>::len))
    }
}
