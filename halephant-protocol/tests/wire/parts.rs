//! What messages are made of in these tests, and what must hold for every message.

use bytes::BytesMut;
use halephant_protocol::backend::{Field, FieldsBuf};
use halephant_protocol::frame::{self, Frame, HEADER_BYTES};
use halephant_protocol::list::{StringsBuf, ValuesBuf};
use proptest::collection::vec;
use proptest::prelude::*;

/// Raw material for one message of any kind.
#[derive(Clone, Debug)]
pub struct Parts {
    /// Strings: anything without NUL.
    pub a: Vec<u8>,
    pub b: Vec<u8>,
    pub names: Vec<String>,
    pub values: Vec<Option<Vec<u8>>>,
    pub formats: Vec<[u8; 2]>,
    pub oids: Vec<[u8; 4]>,
    pub fields: Vec<FieldParts>,
    pub bytes: Vec<u8>,
    /// 4 to 256 bytes.
    pub key: Vec<u8>,
    pub int: u32,
    pub short: u16,
    pub byte: u8,
}

/// Name; OIDs of table and type; column and width; modifier; format.
type FieldParts = (Vec<u8>, [u32; 2], [i16; 2], i32, u16);

fn string() -> impl Strategy<Value = Vec<u8>> {
    vec(1..=u8::MAX, 0..20)
}

pub fn parts() -> impl Strategy<Value = Parts> {
    let texts = (string(), string(), vec("[^\0]{1,12}", 0..5));
    let lists = (
        vec(proptest::option::of(vec(any::<u8>(), 0..12)), 0..6),
        vec(any::<[u8; 2]>(), 0..6),
        vec(any::<[u8; 4]>(), 0..6),
        vec((string(), any::<[u32; 2]>(), any::<[i16; 2]>(), any::<i32>(), any::<u16>()), 0..4),
    );
    let rest = (vec(any::<u8>(), 0..40), vec(any::<u8>(), 4..=256), any::<u32>(), any::<u16>(), any::<u8>());
    (texts, lists, rest).prop_map(|((a, b, names), (values, formats, oids, fields), rest)| {
        let (bytes, key, int, short, byte) = rest;
        Parts { a, b, names, values, formats, oids, fields, bytes, key, int, short, byte }
    })
}

impl Parts {
    pub fn values(&self) -> ValuesBuf {
        let mut values = ValuesBuf::new();
        for value in &self.values {
            values.push(value.as_deref()).unwrap();
        }
        assert!(values.as_values().iter().eq(self.values.iter().map(Option::as_deref)));
        assert_eq!(values.as_values().len(), self.values.len());
        values
    }

    pub fn names(&self) -> StringsBuf {
        let mut names = StringsBuf::new();
        for name in &self.names {
            names.push(name).unwrap();
        }
        assert!(names.as_strings().iter().eq(self.names.iter().map(String::as_str)));
        assert_eq!(names.as_strings().len(), self.names.len());
        names
    }

    pub fn fields(&self) -> FieldsBuf {
        let mut fields = FieldsBuf::new();
        for field in self.fields_iter() {
            fields.push(field).unwrap();
        }
        assert!(fields.as_row_description().fields().eq(self.fields_iter()));
        fields
    }

    fn fields_iter(&self) -> impl Iterator<Item = Field<'_>> {
        self.fields.iter().map(|(name, oids, shorts, type_modifier, format)| Field {
            name,
            table_oid: oids[0],
            column: shorts[0],
            type_oid: oids[1],
            type_bytes: shorts[1],
            type_modifier: *type_modifier,
            format: *format,
        })
    }

    /// The body of an ErrorResponse with these texts.
    pub fn error_body(&self) -> Vec<u8> {
        let mut body = Vec::new();
        for (code, text) in [(b'S', &self.a), (b'M', &self.b), (self.byte.max(1), &self.a)] {
            body.push(code);
            body.extend_from_slice(text);
            body.push(0);
        }
        body.push(0);
        body
    }
}

/// `encoded` is exactly one message; every shorter part of it is an incomplete one.
pub fn single_frame(encoded: &[u8]) -> Frame<'_> {
    let mut messages = frame::split(encoded);
    let message = messages.next().unwrap().unwrap();
    assert_eq!(messages.next(), None);
    assert_eq!(messages.rest(), b"");
    assert_eq!(message.body.len(), encoded.len() - HEADER_BYTES);
    for end in 0..encoded.len() {
        let mut messages = frame::split(&encoded[..end]);
        assert_eq!(messages.next(), None);
        assert_eq!(messages.rest(), &encoded[..end]);
    }
    message
}

/// What `encode` appends to bytes that are there already.
pub fn appended(encode: impl FnOnce(&mut BytesMut)) -> BytesMut {
    let mut out = BytesMut::from(&b"before"[..]);
    encode(&mut out);
    assert_eq!(out.split_to(6), &b"before"[..]);
    out
}
