//! RowDescription and DataRow.

use super::tag;
use crate::encode::{self, EncodeError};
use crate::list::Values;
use crate::parse::{Cursor, ParseError};
use bytes::{BufMut, BytesMut};
use std::fmt;

/// One column of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    pub name: &'a [u8],
    /// 0 when the column is not one of a table.
    pub table_oid: u32,
    pub column: i16,
    pub type_oid: u32,
    /// Negative for variable-width types.
    pub type_bytes: i16,
    pub type_modifier: i32,
    /// 0 is text, 1 is binary; 0 too while it is not known yet.
    pub format: u16,
}

impl<'a> Field<'a> {
    fn parse(cursor: &mut Cursor<'a>) -> Result<Self, ParseError> {
        Ok(Self {
            name: cursor.string()?,
            table_oid: cursor.u32()?,
            column: cursor.i16()?,
            type_oid: cursor.u32()?,
            type_bytes: cursor.i16()?,
            type_modifier: cursor.i32()?,
            format: cursor.u16()?,
        })
    }

    fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        encode::string(out, self.name)?;
        out.put_u32(self.table_oid);
        out.put_i16(self.column);
        out.put_u32(self.type_oid);
        out.put_i16(self.type_bytes);
        out.put_i32(self.type_modifier);
        out.put_u16(self.format);
        Ok(())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RowDescription<'a> {
    count: u16,
    raw: &'a [u8],
}

impl<'a> RowDescription<'a> {
    pub const fn len(&self) -> usize {
        self.count as usize
    }

    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub fn fields(&self) -> impl Iterator<Item = Field<'a>> + 'a {
        let mut cursor = Cursor::new(self.raw);
        (0..self.count).map_while(move |_| Field::parse(&mut cursor).ok())
    }

    pub fn parse(body: &'a [u8]) -> Result<Self, ParseError> {
        let mut cursor = Cursor::new(body);
        let count = cursor.u16()?;
        let raw = cursor.span(|cursor| {
            for _ in 0..count {
                Field::parse(cursor)?;
            }
            Ok(())
        })?;
        cursor.finish()?;
        Ok(Self { count, raw })
    }

    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        encode::message(tag::ROW_DESCRIPTION, out, |out| {
            out.put_u16(self.count);
            encode::rest(out, self.raw)
        })
    }
}

impl fmt::Debug for RowDescription<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RowDescription")?;
        f.debug_list().entries(self.fields()).finish()
    }
}

/// Builds a `RowDescription`.
#[derive(Clone, Debug, Default)]
pub struct FieldsBuf {
    count: u16,
    raw: BytesMut,
}

impl FieldsBuf {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn push(&mut self, field: Field<'_>) -> Result<(), EncodeError> {
        let count = self.count.checked_add(1).ok_or(EncodeError::TooMany { count: 1 << 16 })?;
        field.encode(&mut self.raw)?;
        self.count = count;
        Ok(())
    }

    pub fn as_row_description(&self) -> RowDescription<'_> {
        RowDescription { count: self.count, raw: &self.raw }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataRow<'a> {
    pub columns: Values<'a>,
}

impl<'a> DataRow<'a> {
    pub fn parse(body: &'a [u8]) -> Result<Self, ParseError> {
        let mut cursor = Cursor::new(body);
        let columns = Values::parse(&mut cursor)?;
        cursor.finish()?;
        Ok(Self { columns })
    }

    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        encode::message(tag::DATA_ROW, out, |out| self.columns.encode(out))
    }
}
