//! Every message of a client: parse is the inverse of encode, and survives anything.

use crate::parts::{Parts, appended, parts, single_frame};
use bytes::BytesMut;
use halephant_protocol::EncodeError;
use halephant_protocol::ParseError;
use halephant_protocol::frontend::*;
use halephant_protocol::list::{FormatCodes, Oids, ValuesBuf};
use proptest::prelude::*;

/// Calls `check` with one message of every kind.
fn every_message(parts: &Parts, mut check: impl FnMut(Message<'_>)) {
    let (a, b) = (parts.a.as_slice(), parts.b.as_slice());
    let formats = FormatCodes::new(&parts.formats);
    let values = parts.values();
    let values = values.as_values();
    let target = if parts.byte < 128 { Target::Statement } else { Target::Portal };
    let all = [
        Message::Bind(Bind {
            portal: a,
            statement: b,
            parameter_formats: formats,
            parameters: values,
            result_formats: formats,
        }),
        Message::Close(Close { target, name: a }),
        Message::CopyData(CopyData { data: &parts.bytes }),
        Message::CopyDone(CopyDone),
        Message::CopyFail(CopyFail { message: a }),
        Message::Describe(Describe { target, name: a }),
        Message::Execute(Execute { portal: a, rows_max: parts.int as i32 }),
        Message::Flush(Flush),
        Message::FunctionCall(FunctionCall {
            function_oid: parts.int,
            argument_formats: formats,
            arguments: values,
            result_format: parts.short,
        }),
        Message::Parse(Parse { statement: a, query: b, parameter_types: Oids::new(&parts.oids) }),
        Message::AuthenticationResponse(AuthenticationResponse { body: &parts.bytes }),
        Message::Query(Query { query: a }),
        Message::Sync(Sync),
        Message::Terminate(Terminate),
    ];
    all.into_iter().for_each(&mut check);
}

/// Messages whose last part is as long as the body: a shorter body is a shorter message.
fn ends_with_the_body(message: &Message<'_>) -> bool {
    matches!(message, Message::CopyData(_) | Message::AuthenticationResponse(_))
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
        for tag in [tag, b"BCdcfDEFHPpQSX"[usize::from(tag) % 14]] {
            if let Ok(parsed) = Message::parse(tag, &body) {
                prop_assert_eq!(&encode(&parsed)[5..], &body);
            }
        }
    }

    #[test]
    fn answers_to_authentication_requests(parts in parts()) {
        let mechanism = parts.names.first().map_or("", String::as_str);
        let data = (parts.byte < 128).then_some(parts.bytes.as_slice());
        let initial = SaslInitialResponse { mechanism, data };
        let encoded = appended(|out| initial.encode(out).unwrap());
        let answer = AuthenticationResponse::parse(single_frame(&encoded).body).unwrap();
        prop_assert_eq!(answer.sasl_initial(), Ok(initial));

        let password = PasswordMessage { password: &parts.a };
        let encoded = appended(|out| password.encode(out).unwrap());
        let answer = AuthenticationResponse::parse(single_frame(&encoded).body).unwrap();
        prop_assert_eq!(answer.password(), Ok(password));

        let response = SaslResponse { data: &parts.bytes };
        let encoded = appended(|out| response.encode(out).unwrap());
        let answer = AuthenticationResponse::parse(single_frame(&encoded).body).unwrap();
        prop_assert_eq!(answer.sasl(), Ok(response));
        prop_assert_eq!(answer.gss(), Ok(GssResponse { data: &parts.bytes }));
    }
}

/// An error leaves nothing behind in the buffer.
#[test]
fn what_does_not_fit_is_refused() {
    let nul = Query { query: b"select '\0'" };
    let long = vec![[0; 2]; 1 << 16];
    let formats = Bind {
        portal: b"",
        statement: b"",
        parameter_formats: FormatCodes::new(&long),
        parameters: Default::default(),
        result_formats: FormatCodes::default(),
    };
    let nul = |out: &mut BytesMut| assert_eq!(nul.encode(out), Err(EncodeError::NulInString));
    let many = |out: &mut BytesMut| {
        assert_eq!(formats.encode(out), Err(EncodeError::TooMany { count: 1 << 16 }));
    };
    assert_eq!(appended(nul), b""[..]);
    assert_eq!(appended(many), b""[..]);

    let mut values = ValuesBuf::new();
    for _ in 0..usize::from(u16::MAX) {
        values.push(None).unwrap();
    }
    assert_eq!(values.push(None), Err(EncodeError::TooMany { count: 1 << 16 }));
    assert_eq!(values.as_values().iter().count(), usize::from(u16::MAX));
}

/// Debug output goes to logs.
#[test]
fn debug_shows_no_secret_and_no_data() {
    let mut values = ValuesBuf::new();
    values.push(Some(b"hunter2")).unwrap();
    let parameters = values.as_values();
    let bind = Bind {
        portal: b"",
        statement: b"s1",
        parameter_formats: FormatCodes::default(),
        parameters,
        result_formats: FormatCodes::default(),
    };
    let shown = [
        format!("{bind:?}"),
        format!("{:?}", Query { query: b"hunter2" }),
        format!("{:?}", Parse { statement: b"", query: b"hunter2", parameter_types: Oids::default() }),
        format!("{:?}", PasswordMessage { password: b"hunter2" }),
        format!("{:?}", SaslResponse { data: b"hunter2" }),
        format!("{:?}", SaslInitialResponse { mechanism: "m", data: Some(b"hunter2") }),
        format!("{:?}", AuthenticationResponse { body: b"hunter2" }),
        format!("{:?}", CopyData { data: b"hunter2" }),
    ];
    let bytes = format!("{:?}", b"hunter2");
    for text in shown {
        assert!(!text.contains("hunter2") && !text.contains(bytes.trim_matches(['[', ']'])), "{text}");
    }
}

#[test]
fn hostile_lengths_inside_a_body() {
    // A value of -2 bytes; one of i32::MAX bytes; 65,535 values in no bytes.
    let with_value = |length: i32| [&b"\0\0\0\0\0\x01"[..], &length.to_be_bytes(), b"\0\0"].concat();
    assert_eq!(Bind::parse(&with_value(-2)), Err(ParseError::Length { length: -2 }));
    assert_eq!(Bind::parse(&with_value(i32::MAX)), Err(ParseError::Truncated));
    assert!(Bind::parse(&with_value(-1)).is_ok());
    assert_eq!(Bind::parse(b"\0\0\0\0\xff\xff\0\0"), Err(ParseError::Truncated));
    assert_eq!(Bind::parse(b"\0\0\xff\xff\0\0\0\0"), Err(ParseError::Truncated));
    assert_eq!(Query::parse(b"select 1"), Err(ParseError::MissingTerminator));
    assert_eq!(Describe::parse(b"X\0"), Err(ParseError::Target { target: b'X' }));
    assert_eq!(Message::parse(b'z', b""), Err(ParseError::Tag { tag: b'z' }));
}
