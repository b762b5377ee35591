//! Every message of a server: parse is the inverse of encode, and survives anything.

use crate::parts::{Parts, appended, parts, single_frame};
use bytes::BytesMut;
use halephant_protocol::backend::*;
use halephant_protocol::frontend::{CopyData, CopyDone};
use halephant_protocol::list::{FormatCodes, Oids, Strings, StringsBuf, ValuesBuf};
use halephant_protocol::startup::ProtocolVersion;
use halephant_protocol::{EncodeError, ParseError, SqlState};
use proptest::prelude::*;

const STATUSES: [TransactionStatus; 3] =
    [TransactionStatus::Idle, TransactionStatus::InTransaction, TransactionStatus::Failed];

fn authentications<'a>(parts: &'a Parts, mechanisms: Strings<'a>) -> [Authentication<'a>; 10] {
    let data = parts.bytes.as_slice();
    [
        Authentication::Ok,
        Authentication::KerberosV5,
        Authentication::CleartextPassword,
        Authentication::Md5Password { salt: parts.int.to_be_bytes() },
        Authentication::Gss,
        Authentication::GssContinue { data },
        Authentication::Sspi,
        Authentication::Sasl { mechanisms },
        Authentication::SaslContinue { data },
        Authentication::SaslFinal { data },
    ]
}

/// Calls `check` with one message of every kind.
fn every_message(parts: &Parts, mut check: impl FnMut(Message<'_>)) {
    let (a, b, format) = (parts.a.as_slice(), parts.b.as_slice(), parts.byte);
    let (values, names, fields) = (parts.values(), parts.names(), parts.fields());
    let column_formats = FormatCodes::new(&parts.formats);
    let error_body = parts.error_body();
    let error = ErrorFields::parse(&error_body).unwrap();
    let process_id = parts.int;
    let result = (parts.byte < 128).then_some(parts.bytes.as_slice());
    for authentication in authentications(parts, names.as_strings()) {
        check(Message::Authentication(authentication));
    }
    let all = [
        Message::BackendKeyData(BackendKeyData { process_id, secret_key: &parts.key }),
        Message::BindComplete(BindComplete),
        Message::CloseComplete(CloseComplete),
        Message::CommandComplete(CommandComplete { command_tag: a }),
        Message::CopyBothResponse(CopyBothResponse { format, column_formats }),
        Message::CopyData(CopyData { data: &parts.bytes }),
        Message::CopyDone(CopyDone),
        Message::CopyInResponse(CopyInResponse { format, column_formats }),
        Message::CopyOutResponse(CopyOutResponse { format, column_formats }),
        Message::DataRow(DataRow { columns: values.as_values() }),
        Message::EmptyQueryResponse(EmptyQueryResponse),
        Message::ErrorResponse(error),
        Message::FunctionCallResponse(FunctionCallResponse { result }),
        Message::NegotiateProtocolVersion(NegotiateProtocolVersion {
            newest: ProtocolVersion::from_code(parts.int),
            unrecognized_options: names.as_strings(),
        }),
        Message::NoData(NoData),
        Message::NoticeResponse(error),
        Message::NotificationResponse(NotificationResponse { process_id, channel: a, payload: b }),
        Message::ParameterDescription(ParameterDescription { parameter_types: Oids::new(&parts.oids) }),
        Message::ParameterStatus(ParameterStatus { name: a, value: b }),
        Message::ParseComplete(ParseComplete),
        Message::PortalSuspended(PortalSuspended),
        Message::ReadyForQuery(ReadyForQuery { status: STATUSES[usize::from(parts.byte) % 3] }),
        Message::RowDescription(fields.as_row_description()),
    ];
    all.into_iter().for_each(&mut check);
}

/// Messages whose last part is as long as the body: a shorter body may be a shorter message.
fn ends_with_the_body(message: &Message<'_>) -> bool {
    use Authentication::{GssContinue, SaslContinue, SaslFinal};
    matches!(
        message,
        Message::CopyData(_)
            | Message::BackendKeyData(_)
            | Message::Authentication(GssContinue { .. } | SaslContinue { .. } | SaslFinal { .. })
    )
}

fn encode(message: &Message<'_>) -> BytesMut {
    appended(|out| message.encode(out).unwrap())
}

proptest! {
    #[test]
    fn parse_of_encode_is_identity(parts in parts()) {
        every_message(&parts, |message| {
            let encoded = encode(&message);
            let frame = single_frame(&encoded);
            assert_eq!(frame.tag, message.tag());
            assert!(tag::is_known(frame.tag));
            assert_eq!(Message::parse(frame.tag, frame.body), Ok(message));
        });
    }

    #[test]
    fn a_cut_body_is_an_error(parts in parts()) {
        every_message(&parts, |message| {
            let encoded = encode(&message);
            let frame = single_frame(&encoded);
            for end in 0..frame.body.len() {
                let parsed = Message::parse(frame.tag, &frame.body[..end]);
                assert!(parsed.is_err() || ends_with_the_body(&message), "{parsed:?}");
            }
        });
    }

    #[test]
    fn a_longer_body_is_an_error(parts in parts(), more in any::<u8>()) {
        every_message(&parts, |message| {
            let mut encoded = encode(&message);
            encoded.extend([more]);
            let parsed = Message::parse(encoded[0], &encoded[5..]);
            let expected = Err(ParseError::TrailingBytes { bytes: 1 });
            assert!(parsed == expected || ends_with_the_body(&message), "{parsed:?}");
        });
    }

    /// Nothing panics, and what parses is written again as it was read.
    #[test]
    fn damaged_messages(parts in parts(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        every_message(&parts, |message| {
            let mut encoded = encode(&message);
            let at = at.index(encoded.len());
            encoded[at] = byte;
            if let Ok(parsed) = Message::parse(encoded[0], &encoded[5..]) {
                assert_eq!(self::encode(&parsed)[5..], encoded[5..]);
            }
        });
    }

    #[test]
    fn arbitrary_bytes(tag in any::<u8>(), body in prop::collection::vec(any::<u8>(), 0..200)) {
        for tag in [tag, b"RK23CWdcGHDIEVvnNAtS1sZT"[usize::from(tag) % 24]] {
            let parsed = Message::parse(tag, &body);
            if let Ok(parsed) = parsed {
                prop_assert_eq!(&encode(&parsed)[5..], &body);
            }
            prop_assert_eq!(parsed == Err(ParseError::Tag { tag }), !tag::is_known(tag));
        }
    }

    #[test]
    fn reports_come_out_as_they_went_in(message in "[^\0]*", detail in "[^\0]{0,40}", fatal in any::<bool>()) {
        let severity = if fatal { Severity::Fatal } else { Severity::Error };
        let report = ErrorReport::new(severity, SqlState::TOO_MANY_CONNECTIONS, &*message).detail(&*detail);
        let encoded = appended(|out| report.encode_error(out));
        let Ok(Message::ErrorResponse(fields)) = Message::parse(b'E', single_frame(&encoded).body) else {
            panic!("not an ErrorResponse");
        };
        prop_assert_eq!(fields.severity(), Some(severity));
        prop_assert_eq!(fields.field(field::SEVERITY_LOCALIZED), Some(severity.as_str().as_bytes()));
        prop_assert_eq!(fields.sqlstate(), Some(SqlState::TOO_MANY_CONNECTIONS));
        prop_assert_eq!(fields.message(), message.as_bytes());
        prop_assert_eq!(fields.field(field::DETAIL), Some(detail.as_bytes()));
        prop_assert_eq!(fields.field(field::HINT), None);
    }
}

/// An error must get through, whatever is in its text.
#[test]
fn reports_are_cut_and_cleaned() {
    let message = format!("a\0b{}", "ä".repeat(ErrorReport::TEXT_BYTES_MAX));
    let report = ErrorReport::fatal(SqlState::PROTOCOL_VIOLATION, message).hint("h\0");
    let encoded = appended(|out| report.encode_notice(out));
    let fields = ErrorFields::parse(single_frame(&encoded).body).unwrap();
    let text = std::str::from_utf8(fields.message()).unwrap();
    assert!(text.starts_with("abä") && text.len() <= ErrorReport::TEXT_BYTES_MAX);
    assert_eq!(fields.field(field::HINT), Some(&b"h"[..]));
    assert!(fields.severity().is_some_and(Severity::ends_session));
}

#[test]
fn secret_keys_have_4_to_256_bytes() {
    for (bytes, good) in [(0, false), (3, false), (4, true), (5, true), (256, true), (257, false)] {
        let key = BackendKeyData { process_id: 1, secret_key: &vec![7; bytes] };
        let mut out = BytesMut::new();
        assert_eq!(key.encode(&mut out).is_ok(), good);
        assert_eq!(out.is_empty(), !good);
        let body = [&[0, 0, 0, 1], key.secret_key].concat();
        let expected = if good { Ok(key) } else { Err(ParseError::SecretKeyLength { bytes }) };
        assert_eq!(BackendKeyData::parse(&body), expected);
    }
}

/// An empty mechanism would end the list before the rest of it.
#[test]
fn an_empty_mechanism_is_refused() {
    let mut mechanisms = StringsBuf::new();
    mechanisms.push("SCRAM-SHA-256").unwrap();
    mechanisms.push("").unwrap();
    let message = Authentication::Sasl { mechanisms: mechanisms.as_strings() };
    let refused = |out: &mut BytesMut| assert_eq!(message.encode(out), Err(EncodeError::EmptyElement));
    assert_eq!(appended(refused), b""[..]);
}

#[test]
fn hostile_counts_inside_a_body() {
    // 4,294,967,295 option names, 65,535 fields, 65,535 columns: there is nothing behind the counts.
    assert!(NegotiateProtocolVersion::parse(b"\0\x03\0\0\xff\xff\xff\xff").is_err());
    assert!(RowDescription::parse(b"\xff\xff").is_err());
    assert!(DataRow::parse(b"\xff\xff").is_err());
    assert!(ParameterDescription::parse(b"\xff\xff").is_err());
    assert_eq!(ReadyForQuery::parse(b""), Err(ParseError::Truncated));
    assert_eq!(ReadyForQuery::parse(b"II"), Err(ParseError::TrailingBytes { bytes: 1 }));
    assert_eq!(ReadyForQuery::parse(b"X"), Err(ParseError::TransactionStatus { status: b'X' }));
    assert_eq!(Authentication::parse(b"\0\0\0\x63"), Err(ParseError::Authentication { code: 99 }));
}

/// Debug output goes to logs.
#[test]
fn debug_shows_no_secret_and_no_data() {
    let mut values = ValuesBuf::new();
    values.push(Some(b"hunter2")).unwrap();
    let report = ErrorReport::error(SqlState::SYNTAX_ERROR, "hunter2");
    let encoded = appended(|out| report.encode_error(out));
    let shown = [
        format!("{:?}", DataRow { columns: values.as_values() }),
        format!("{:?}", BackendKeyData { process_id: 1, secret_key: b"hunter2" }),
        format!("{:?}", FunctionCallResponse { result: Some(b"hunter2") }),
        format!("{:?}", NotificationResponse { process_id: 1, channel: b"c", payload: b"hunter2" }),
        format!("{:?}", Authentication::SaslContinue { data: b"hunter2" }),
        format!("{:?}", Message::parse(b'E', single_frame(&encoded).body).unwrap()),
    ];
    let bytes = format!("{:?}", b"hunter2");
    for text in shown {
        assert!(!text.contains("hunter2") && !text.contains(bytes.trim_matches(['[', ']'])), "{text}");
    }
}
