//! The extended query protocol: Parse, Bind, Describe, Execute, Close, Flush, Sync.
//!
//! An empty name means the unnamed prepared statement or portal.

use super::tag;
use crate::encode::{self, EncodeError};
use crate::list::{FormatCodes, Oids, Values};
use crate::parse::{Cursor, ParseError};
use bytes::{BufMut, BytesMut};
use std::fmt;

/// Creates a prepared statement.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Parse<'a> {
    pub statement: &'a [u8],
    pub query: &'a [u8],
    /// May be fewer than the query has parameters; 0 leaves a type open.
    pub parameter_types: Oids<'a>,
}

impl<'a> Parse<'a> {
    #[allow(clippy::self_named_constructors, reason = "the manual names the message, the house the verb")]
    pub fn parse(body: &'a [u8]) -> Result<Self, ParseError> {
        let mut cursor = Cursor::new(body);
        let message = Self {
            statement: cursor.string()?,
            query: cursor.string()?,
            parameter_types: Oids::parse(&mut cursor)?,
        };
        cursor.finish()?;
        Ok(message)
    }

    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        encode::message(tag::PARSE, out, |out| {
            encode::string(out, self.statement)?;
            encode::string(out, self.query)?;
            self.parameter_types.encode(out)
        })
    }
}

impl fmt::Debug for Parse<'_> {
    /// Query text is not shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parse")
            .field("statement", &String::from_utf8_lossy(self.statement))
            .field("query_bytes", &self.query.len())
            .field("parameter_types", &self.parameter_types)
            .finish()
    }
}

/// Creates a portal from a prepared statement.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Bind<'a> {
    pub portal: &'a [u8],
    pub statement: &'a [u8],
    /// None: all text. One: for all. Else one for each.
    pub parameter_formats: FormatCodes<'a>,
    pub parameters: Values<'a>,
    /// As `parameter_formats`, for the result columns.
    pub result_formats: FormatCodes<'a>,
}

impl<'a> Bind<'a> {
    pub fn parse(body: &'a [u8]) -> Result<Self, ParseError> {
        let mut cursor = Cursor::new(body);
        let message = Self {
            portal: cursor.string()?,
            statement: cursor.string()?,
            parameter_formats: FormatCodes::parse(&mut cursor)?,
            parameters: Values::parse(&mut cursor)?,
            result_formats: FormatCodes::parse(&mut cursor)?,
        };
        cursor.finish()?;
        Ok(message)
    }

    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        encode::message(tag::BIND, out, |out| {
            encode::string(out, self.portal)?;
            encode::string(out, self.statement)?;
            self.parameter_formats.encode(out)?;
            self.parameters.encode(out)?;
            self.result_formats.encode(out)
        })
    }
}

impl fmt::Debug for Bind<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bind")
            .field("portal", &String::from_utf8_lossy(self.portal))
            .field("statement", &String::from_utf8_lossy(self.statement))
            .field("parameters", &self.parameters)
            .finish_non_exhaustive()
    }
}

/// What a Describe or Close is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    Statement,
    Portal,
}

impl Target {
    const fn parse(target: u8) -> Result<Self, ParseError> {
        match target {
            b'S' => Ok(Self::Statement),
            b'P' => Ok(Self::Portal),
            target => Err(ParseError::Target { target }),
        }
    }

    const fn encode(self) -> u8 {
        match self {
            Self::Statement => b'S',
            Self::Portal => b'P',
        }
    }
}

fn parse_target_and_name(body: &[u8]) -> Result<(Target, &[u8]), ParseError> {
    let mut cursor = Cursor::new(body);
    let target = Target::parse(cursor.u8()?)?;
    let name = cursor.string()?;
    cursor.finish()?;
    Ok((target, name))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Describe<'a> {
    pub target: Target,
    pub name: &'a [u8],
}

impl<'a> Describe<'a> {
    pub fn parse(body: &'a [u8]) -> Result<Self, ParseError> {
        parse_target_and_name(body).map(|(target, name)| Self { target, name })
    }

    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        encode::message(tag::DESCRIBE, out, |out| {
            out.put_u8(self.target.encode());
            encode::string(out, self.name)
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Close<'a> {
    pub target: Target,
    pub name: &'a [u8],
}

impl<'a> Close<'a> {
    pub fn parse(body: &'a [u8]) -> Result<Self, ParseError> {
        parse_target_and_name(body).map(|(target, name)| Self { target, name })
    }

    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        encode::message(tag::CLOSE, out, |out| {
            out.put_u8(self.target.encode());
            encode::string(out, self.name)
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Execute<'a> {
    pub portal: &'a [u8],
    /// 0, and for PostgreSQL anything negative, means no limit.
    pub rows_max: i32,
}

impl<'a> Execute<'a> {
    pub fn parse(body: &'a [u8]) -> Result<Self, ParseError> {
        let mut cursor = Cursor::new(body);
        let message = Self { portal: cursor.string()?, rows_max: cursor.i32()? };
        cursor.finish()?;
        Ok(message)
    }

    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        encode::message(tag::EXECUTE, out, |out| {
            encode::string(out, self.portal)?;
            out.put_i32(self.rows_max);
            Ok(())
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flush;

impl Flush {
    pub fn parse(body: &[u8]) -> Result<Self, ParseError> {
        Cursor::new(body).finish().map(|()| Self)
    }

    pub fn encode(&self, out: &mut BytesMut) {
        encode::fixed(tag::FLUSH, [], out);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sync;

impl Sync {
    pub fn parse(body: &[u8]) -> Result<Self, ParseError> {
        Cursor::new(body).finish().map(|()| Self)
    }

    pub fn encode(&self, out: &mut BytesMut) {
        encode::fixed(tag::SYNC, [], out);
    }
}
