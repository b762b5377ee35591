//! A result of the console: named columns of text.

use bytes::BytesMut;
use halephant_protocol::EncodeError;
use halephant_protocol::backend::{DataRow, Field, FieldsBuf};
use halephant_protocol::list::ValuesBuf;

/// PostgreSQL's type text.
const TEXT_OID: u32 = 25;

pub(super) type Row = Vec<Option<String>>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) columns: &'static [&'static str],
    pub(super) rows: Vec<Row>,
}

pub(super) fn encode_description(columns: &[&str], out: &mut BytesMut) -> Result<(), EncodeError> {
    let mut fields = FieldsBuf::new();
    for name in columns {
        fields.push(Field {
            name: name.as_bytes(),
            table_oid: 0,
            column: 0,
            type_oid: TEXT_OID,
            type_bytes: -1,
            type_modifier: -1,
            format: 0,
        })?;
    }
    fields.as_row_description().encode(out)
}

pub(super) fn encode_row(row: &Row, out: &mut BytesMut) -> Result<(), EncodeError> {
    let mut values = ValuesBuf::new();
    for value in row {
        values.push(value.as_deref().map(str::as_bytes))?;
    }
    DataRow { columns: values.as_values() }.encode(out)
}
