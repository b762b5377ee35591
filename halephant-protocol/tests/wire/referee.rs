//! Messages against postgres-protocol: its encoders make what our encoders make, its parser reads what we write.

use crate::parts::appended;
use bytes::BytesMut;
use fallible_iterator::FallibleIterator;
use halephant_protocol::list::{FormatCodes, Oids, StringsBuf, ValuesBuf};
use halephant_protocol::startup::{self, ProtocolVersion};
use halephant_protocol::{SqlState, backend, frontend};
use postgres_protocol::IsNull;
use postgres_protocol::message::{backend as their_backend, frontend as theirs};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

fn text() -> impl Strategy<Value = String> {
    "[^\0]{0,16}"
}

proptest! {
    #[test]
    fn parse_and_bind(
        (portal, statement, query) in (text(), text(), text()),
        types in vec(any::<u32>(), 0..5),
        formats in vec(any::<i16>(), 0..5),
        parameters in vec(option::of(vec(any::<u8>(), 0..9)), 0..5),
    ) {
        let oids: Vec<_> = types.iter().map(|oid| oid.to_be_bytes()).collect();
        let parse = frontend::Parse {
            statement: statement.as_bytes(),
            query: query.as_bytes(),
            parameter_types: Oids::new(&oids),
        };
        let expected = appended(|out| theirs::parse(&statement, &query, types.iter().copied(), out).unwrap());
        prop_assert_eq!(appended(|out| parse.encode(out).unwrap()), &expected);
        prop_assert!(frontend::Parse::parse(&expected[5..]).unwrap().parameter_types.iter().eq(types));

        let codes: Vec<_> = formats.iter().map(|code| code.to_be_bytes()).collect();
        let mut values = ValuesBuf::new();
        for parameter in &parameters {
            values.push(parameter.as_deref()).unwrap();
        }
        let bind = frontend::Bind {
            portal: portal.as_bytes(),
            statement: statement.as_bytes(),
            parameter_formats: FormatCodes::new(&codes),
            parameters: values.as_values(),
            result_formats: FormatCodes::new(&codes),
        };
        let write = |value: &Option<Vec<u8>>, out: &mut BytesMut| {
            out.extend_from_slice(value.as_deref().unwrap_or_default());
            Ok(if value.is_none() { IsNull::Yes } else { IsNull::No })
        };
        let expected = appended(|out| {
            let formats = || formats.iter().copied();
            assert!(theirs::bind(&portal, &statement, formats(), &parameters, write, formats(), out).is_ok());
        });
        prop_assert_eq!(appended(|out| bind.encode(out).unwrap()), &expected);
        prop_assert_eq!(frontend::Bind::parse(&expected[5..]), Ok(bind));
    }

    #[test]
    fn other_frontend_messages(a in text(), data in vec(any::<u8>(), 0..40), number: i32, key: [u8; 4]) {
        use frontend::{Close, CopyData, CopyFail, Describe, Execute, PasswordMessage, Query, Target};
        let name = a.as_bytes();
        let both = |ours: &dyn Fn(&mut BytesMut), theirs: &dyn Fn(&mut BytesMut)| {
            assert_eq!(appended(ours), appended(theirs));
        };
        for (target, variant) in [(Target::Statement, b'S'), (Target::Portal, b'P')] {
            both(&|out| Close { target, name }.encode(out).unwrap(), &|out| {
                theirs::close(variant, &a, out).unwrap();
            });
            both(&|out| Describe { target, name }.encode(out).unwrap(), &|out| {
                theirs::describe(variant, &a, out).unwrap();
            });
        }
        both(&|out| Execute { portal: name, rows_max: number }.encode(out).unwrap(), &|out| {
            theirs::execute(&a, number, out).unwrap();
        });
        both(&|out| Query { query: name }.encode(out).unwrap(), &|out| theirs::query(&a, out).unwrap());
        both(&|out| CopyData { data: &data }.encode(out).unwrap(), &|out| {
            theirs::CopyData::new(&data[..]).unwrap().write(out);
        });
        both(&|out| CopyFail { message: name }.encode(out).unwrap(), &|out| {
            theirs::copy_fail(&a, out).unwrap();
        });
        both(&|out| PasswordMessage { password: name }.encode(out).unwrap(), &|out| {
            theirs::password_message(name, out).unwrap();
        });
        let initial = frontend::SaslInitialResponse { mechanism: &a, data: Some(&data) };
        both(&|out| initial.encode(out).unwrap(), &|out| {
            theirs::sasl_initial_response(&a, &data, out).unwrap();
        });
        both(&|out| frontend::SaslResponse { data: &data }.encode(out).unwrap(), &|out| {
            theirs::sasl_response(&data, out).unwrap();
        });
        let cancel = startup::CancelRequest { process_id: number as u32, secret_key: &key };
        both(&|out| cancel.encode(out).unwrap(), &|out| {
            theirs::cancel_request(number, i32::from_be_bytes(key), out);
        });
        let parameters = || [("user", "alice"), ("application_name", a.as_str())];
        both(
            &|out| startup::encode_startup_message(ProtocolVersion::V3_0, parameters(), out).unwrap(),
            &|out| theirs::startup_message(parameters(), out).unwrap(),
        );
    }
}

#[test]
fn frontend_messages_without_a_body() {
    assert_eq!(appended(|out| frontend::Sync.encode(out)), appended(theirs::sync));
    assert_eq!(appended(|out| frontend::Flush.encode(out)), appended(theirs::flush));
    assert_eq!(appended(|out| frontend::Terminate.encode(out)), appended(theirs::terminate));
    assert_eq!(appended(|out| frontend::CopyDone.encode(out)), appended(theirs::copy_done));
    assert_eq!(appended(startup::encode_ssl_request), appended(theirs::ssl_request));
}

/// Their reading of one message that we encoded.
fn read(message: backend::Message<'_>) -> their_backend::Message {
    let mut encoded = appended(|out| message.encode(out).unwrap());
    let read = their_backend::Message::parse(&mut encoded).unwrap().unwrap();
    assert!(encoded.is_empty());
    read
}

macro_rules! read_as {
    ($message:expr, $kind:ident) => {{
        match read($message) {
            their_backend::Message::$kind(body) => body,
            _ => panic!("not read as {}", stringify!($kind)),
        }
    }};
}

#[test]
fn session_messages_as_they_read_them() {
    use backend::Message;
    let key = backend::BackendKeyData { process_id: 7, secret_key: &[0, 0, 1, 2] };
    let body = read_as!(Message::BackendKeyData(key), BackendKeyData);
    assert_eq!((body.process_id(), body.secret_key()), (7, 258));

    let status = backend::ParameterStatus { name: b"TimeZone", value: b"UTC" };
    let body = read_as!(Message::ParameterStatus(status), ParameterStatus);
    assert_eq!((body.name().unwrap(), body.value().unwrap()), ("TimeZone", "UTC"));

    let ready = backend::ReadyForQuery { status: backend::TransactionStatus::Failed };
    assert_eq!(read_as!(Message::ReadyForQuery(ready), ReadyForQuery).status(), b'E');

    let mut mechanisms = StringsBuf::new();
    mechanisms.push("SCRAM-SHA-256-PLUS").unwrap();
    mechanisms.push("SCRAM-SHA-256").unwrap();
    let sasl = backend::Authentication::Sasl { mechanisms: mechanisms.as_strings() };
    let body = read_as!(Message::Authentication(sasl), AuthenticationSasl);
    let read: Vec<String> = body.mechanisms().map(|m| Ok(m.to_owned())).collect().unwrap();
    assert_eq!(read, ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"]);

    let md5 = backend::Authentication::Md5Password { salt: *b"salt" };
    assert_eq!(&read_as!(Message::Authentication(md5), AuthenticationMd5Password).salt(), b"salt");

    let notification = backend::NotificationResponse { process_id: 9, channel: b"c", payload: b"p" };
    let body = read_as!(Message::NotificationResponse(notification), NotificationResponse);
    assert_eq!((body.process_id(), body.channel().unwrap(), body.message().unwrap()), (9, "c", "p"));
}

#[test]
fn query_messages_as_they_read_them() {
    use backend::Message;
    let complete = backend::CommandComplete { command_tag: b"INSERT 0 1" };
    assert_eq!(read_as!(Message::CommandComplete(complete), CommandComplete).tag().unwrap(), "INSERT 0 1");

    let types = [23_u32.to_be_bytes(), 25_u32.to_be_bytes()];
    let description = backend::ParameterDescription { parameter_types: Oids::new(&types) };
    let body = read_as!(Message::ParameterDescription(description), ParameterDescription);
    assert_eq!(body.parameters().collect::<Vec<_>>().unwrap(), [23, 25]);

    let formats = [FormatCodes::TEXT, FormatCodes::BINARY];
    let copy = backend::CopyInResponse { format: 1, column_formats: FormatCodes::new(&formats) };
    let body = read_as!(Message::CopyInResponse(copy), CopyInResponse);
    assert_eq!(body.format(), 1);
    assert_eq!(body.column_formats().collect::<Vec<_>>().unwrap(), [0, 1]);

    let field = backend::Field {
        name: b"id",
        table_oid: 16_384,
        column: 1,
        type_oid: 20,
        type_bytes: 8,
        type_modifier: -1,
        format: 1,
    };
    let mut fields = backend::FieldsBuf::new();
    fields.push(field).unwrap();
    let body = read_as!(Message::RowDescription(fields.as_row_description()), RowDescription);
    let read = body.fields().next().unwrap().unwrap();
    assert_eq!((read.name(), read.table_oid(), read.column_id()), ("id", 16_384, 1));
    assert_eq!((read.type_oid(), read.type_size(), read.type_modifier(), read.format()), (20, 8, -1, 1));

    let mut values = ValuesBuf::new();
    values.push(Some(b"one")).unwrap();
    values.push(None).unwrap();
    let row = backend::DataRow { columns: values.as_values() };
    let body = read_as!(Message::DataRow(row), DataRow);
    let ranges: Vec<_> = body.ranges().collect().unwrap();
    let columns: Vec<_> = ranges.iter().map(|r| r.as_ref().map(|r| &body.buffer()[r.clone()])).collect();
    assert_eq!(columns, [Some(&b"one"[..]), None]);
}

#[test]
fn our_errors_as_they_read_them() {
    let report = backend::ErrorReport::fatal(SqlState::INVALID_PASSWORD, "no").detail("d").hint("h");
    let mut encoded = appended(|out| report.encode_error(out));
    let Ok(Some(their_backend::Message::ErrorResponse(body))) = their_backend::Message::parse(&mut encoded)
    else {
        panic!("not read as an ErrorResponse");
    };
    let fields: Vec<_> = body.fields().map(|f| Ok((f.type_(), f.value_bytes().to_vec()))).collect().unwrap();
    let expected =
        [(b'S', "FATAL"), (b'V', "FATAL"), (b'C', "28P01"), (b'M', "no"), (b'D', "d"), (b'H', "h")];
    assert_eq!(fields, expected.map(|(code, text)| (code, text.as_bytes().to_vec())));
}
