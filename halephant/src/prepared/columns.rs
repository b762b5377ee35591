//! The columns of a statement's rows, as far as PostgreSQL holds a statement to them: their names and types.

use halephant_protocol::ParseError;
use halephant_protocol::backend::RowDescription;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Two that are known and equal stand for the same columns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Columns(u64);

impl Columns {
    pub const UNKNOWN: Self = Self(0);
    /// It has no rows.
    pub const NONE: Self = Self(1);

    /// `body`: that of a RowDescription. Formats are not the statement's, and which table a column is of does not matter.
    pub fn described(body: &[u8]) -> Result<Self, ParseError> {
        let row = RowDescription::parse(body)?;
        let mut hasher = DefaultHasher::new();
        row.len().hash(&mut hasher);
        for field in row.fields() {
            (field.name, field.type_oid, field.type_modifier).hash(&mut hasher);
        }
        Ok(Self(hasher.finish() | 2))
    }

    pub fn is_known(self) -> bool {
        self != Self::UNKNOWN
    }

    /// Whether a client that goes by them reads rows by them.
    pub fn has_rows(self) -> bool {
        self.0 > Self::NONE.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;
    use halephant_protocol::backend::{Field, FieldsBuf};
    use halephant_protocol::frame::HEADER_BYTES;

    const FIELD: Field<'static> = Field {
        name: b"a",
        table_oid: 16384,
        column: 1,
        type_oid: 23,
        type_bytes: 4,
        type_modifier: -1,
        format: 0,
    };

    fn columns(fields: &[Field<'_>]) -> Columns {
        let mut row = FieldsBuf::new();
        for &field in fields {
            row.push(field).expect("there is room");
        }
        let mut message = BytesMut::new();
        row.as_row_description().encode(&mut message).expect("it fits");
        Columns::described(&message[HEADER_BYTES..]).expect("it is one")
    }

    #[test]
    fn names_types_and_their_order_count_and_nothing_else() {
        let same = Field { table_oid: 7, column: 3, format: 1, ..FIELD };
        assert_eq!(columns(&[FIELD]), columns(&[same]));
        let others = [
            columns(&[]),
            columns(&[FIELD, FIELD]),
            columns(&[Field { name: b"b", ..FIELD }]),
            columns(&[Field { type_oid: 25, ..FIELD }]),
            columns(&[Field { type_modifier: 8, ..FIELD }]),
            Columns::NONE,
            Columns::UNKNOWN,
        ];
        assert!(others.iter().all(|other| *other != columns(&[FIELD])));
        let b = Field { name: b"b", ..FIELD };
        assert_ne!(columns(&[FIELD, b]), columns(&[b, FIELD]));
    }

    #[test]
    fn only_what_was_described_has_rows() {
        assert!(columns(&[FIELD]).has_rows() && columns(&[]).has_rows() && columns(&[]).is_known());
        assert!(!Columns::NONE.has_rows() && Columns::NONE.is_known());
        assert!(!Columns::UNKNOWN.has_rows() && !Columns::default().is_known());
        assert!(Columns::described(b"\0").is_err() && Columns::described(b"\0\x01a\0").is_err());
    }
}
