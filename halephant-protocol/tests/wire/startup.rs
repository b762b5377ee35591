//! First packets, whole and in parts, good and bad.

use crate::parts::appended;
use bytes::BytesMut;
use halephant_protocol::backend::NegotiateProtocolVersion;
use halephant_protocol::startup::*;
use halephant_protocol::{EncodeError, ParseError, SqlState};
use proptest::collection::vec;
use proptest::prelude::*;

/// A packet with its length in front.
fn packet(code: u32, rest: &[u8]) -> Vec<u8> {
    [&(rest.len() as u32 + 8).to_be_bytes()[..], &code.to_be_bytes(), rest].concat()
}

const V3_0: u32 = 3 << 16;

/// What a peer that sends one byte at a time is told: nothing until the packet is there.
fn parse_byte_by_byte(bytes: &[u8]) -> Result<Option<(FirstPacket<'_>, usize)>, StartupError> {
    for end in 0..=bytes.len() {
        match parse(&bytes[..end]) {
            Ok(None) => assert!(end < PACKET_BYTES_MAX),
            found => return found,
        }
    }
    Ok(None)
}

fn options() -> impl Strategy<Value = Vec<(String, String)>> {
    let name = prop_oneof!["[^\0]{1,12}", "_pq_\\.[a-z]{1,6}", "database|application_name|options"];
    vec((name.prop_filter("one user", |name| name != "user"), "[^\0]{0,12}"), 0..6)
}

fn minor() -> impl Strategy<Value = u16> {
    prop_oneof![0..5_u16, any::<u16>()]
}

proptest! {
    #[test]
    fn startup_message(minor in minor(), user in "[^\0]{1,20}", options in options(), after in vec(any::<u8>(), 0..9)) {
        let version = ProtocolVersion { major: 3, minor };
        let mut expected = vec![("user", user.as_str())];
        expected.extend(options.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let mut encoded =
            appended(|out| encode_startup_message(version, expected.iter().copied(), out).unwrap());
        let bytes = encoded.len();
        encoded.extend(after);

        let parsed = parse(&encoded);
        prop_assert_eq!(parsed, parse_byte_by_byte(&encoded));
        let Ok(Some((FirstPacket::StartupMessage(message), taken))) = parsed else {
            panic!("{parsed:?}");
        };
        prop_assert_eq!(taken, bytes);
        prop_assert_eq!(message.version, version);
        prop_assert_eq!(message.user(), &user);
        prop_assert!(message.parameters.iter().eq(expected));
        let again = appended(|out| message.encode(out).unwrap());
        prop_assert_eq!(&again[..], &encoded[..bytes]);

        let unknown: Vec<&str> =
            options.iter().map(|(name, _)| name.as_str()).filter(|name| name.starts_with("_pq_.")).collect();
        match message.negotiate(2) {
            None => prop_assert!(minor <= 2 && unknown.is_empty()),
            Some(negotiation) => {
                prop_assert!(minor > 2 || !unknown.is_empty());
                prop_assert_eq!(negotiation.version.minor, minor.min(2));
                let encoded = appended(|out| negotiation.message().encode(out).unwrap());
                let answer = NegotiateProtocolVersion::parse(&encoded[5..]).unwrap();
                prop_assert_eq!(answer.newest, negotiation.version);
                prop_assert!(answer.unrecognized_options.iter().eq(unknown));
            }
        }
    }

    #[test]
    fn cancel_request(process_id: u32, secret_key in vec(any::<u8>(), 4..=256)) {
        let request = CancelRequest { process_id, secret_key: &secret_key };
        let encoded = appended(|out| request.encode(out).unwrap());
        let expected = Ok(Some((FirstPacket::CancelRequest(request), encoded.len())));
        prop_assert_eq!(parse(&encoded), expected);
        prop_assert_eq!(parse_byte_by_byte(&encoded), expected);
    }

    #[test]
    fn arbitrary_bytes(bytes in vec(any::<u8>(), 0..64), code in 0usize..6) {
        let _ = parse_byte_by_byte(&bytes);
        let code = [V3_0, V3_0 + 2, 80_877_102, 80_877_103, 80_877_104, 2 << 16][code];
        let packet = packet(code, &bytes);
        let parsed = parse(&packet);
        prop_assert_eq!(parsed, parse_byte_by_byte(&packet));
        prop_assert!(!matches!(parsed, Ok(None)), "the packet is complete");
        if let Ok(Some((FirstPacket::StartupMessage(message), _))) = parsed {
            prop_assert_eq!(&appended(|out| message.encode(out).unwrap())[..], packet);
        }
    }

    #[test]
    fn damaged_packets(at in any::<prop::sample::Index>(), byte: u8) {
        let mut bytes = packet(V3_0, b"user\0alice\0database\0shop\0options\0-c a=b\0\0");
        let at = at.index(bytes.len());
        bytes[at] = byte;
        prop_assert_eq!(parse(&bytes), parse_byte_by_byte(&bytes));
    }
}

#[test]
fn encryption_requests() {
    let ssl = appended(encode_ssl_request);
    let gss = appended(encode_gssenc_request);
    assert_eq!(ssl, [0, 0, 0, 8, 4, 210, 22, 47][..]);
    assert_eq!(gss, [0, 0, 0, 8, 4, 210, 22, 48][..]);
    assert_eq!(parse_byte_by_byte(&ssl), Ok(Some((FirstPacket::SslRequest, 8))));
    assert_eq!(parse_byte_by_byte(&gss), Ok(Some((FirstPacket::GssEncRequest, 8))));
    // What follows is not taken: the caller sees that it is there.
    assert_eq!(parse(&[&ssl[..], b"smuggled"].concat()), Ok(Some((FirstPacket::SslRequest, 8))));
}

#[test]
fn lengths() {
    for length in [0, 1, 7, 10_005, 0x1603_0100, u32::from_be_bytes(*b"GET "), u32::MAX] {
        let error = StartupError::Length { length };
        assert_eq!(packet_bytes(&length.to_be_bytes()), Err(error));
        assert_eq!(parse(&length.to_be_bytes()), Err(error));
        assert_eq!(error.sqlstate(), SqlState::PROTOCOL_VIOLATION);
    }
    for length in [8_u32, 9, 10_004] {
        assert_eq!(packet_bytes(&length.to_be_bytes()), Ok(Some(length as usize)));
        assert_eq!(parse(&length.to_be_bytes()), Ok(None));
    }
    for n in 0..4 {
        assert_eq!(packet_bytes(&[0xff; 4][..n]), Ok(None));
    }
    let odd = Err(StartupError::Layout(ParseError::TrailingBytes { bytes: 1 }));
    assert_eq!(parse(&packet(80_877_103, b"x")), odd);
    assert_eq!(parse(&packet(80_877_104, b"x")), odd);
    let keyless = StartupError::Layout(ParseError::SecretKeyLength { bytes: 3 });
    assert_eq!(parse(&packet(80_877_102, b"\0\0\0\x01abc")), Err(keyless));
    let long = [&[0, 0, 0, 1], &[7; 257][..]].concat();
    let long_key = StartupError::Layout(ParseError::SecretKeyLength { bytes: 257 });
    assert_eq!(parse(&packet(80_877_102, &long)), Err(long_key));
}

#[test]
fn bad_startup_messages() {
    let layout = StartupError::Layout;
    let cases: [(&[u8], StartupError); 9] = [
        (b"", layout(ParseError::MissingTerminator)),
        (b"\0", StartupError::NoUser),
        (b"user\0\0\0", StartupError::NoUser),
        (b"database\0a\0\0", StartupError::NoUser),
        (b"user\0a\0", layout(ParseError::MissingTerminator)),
        (b"user\0a", layout(ParseError::MissingTerminator)),
        (b"user\0a\0\0x", layout(ParseError::TrailingBytes { bytes: 1 })),
        (b"user\0a\0user\0b\0\0", StartupError::DuplicateUser),
        (b"user\0\xff\0\0", layout(ParseError::Utf8)),
    ];
    for (rest, error) in cases {
        assert_eq!(parse(&packet(V3_0, rest)), Err(error), "{rest:?}");
    }
    assert_eq!(StartupError::NoUser.sqlstate(), SqlState::INVALID_AUTHORIZATION_SPECIFICATION);
    for (major, minor) in [(0, 0), (1, 0), (2, 0), (4, 0), (1234, 5677)] {
        let version = ProtocolVersion { major, minor };
        let error = StartupError::Version(version);
        assert_eq!(parse(&packet(version.code(), b"user\0a\0\0")), Err(error));
        assert_eq!(error.sqlstate(), SqlState::FEATURE_NOT_SUPPORTED);
    }
}

#[test]
fn database_defaults_to_the_user_and_the_last_value_wins() {
    let database = |rest: &[u8]| match parse(&packet(V3_0, rest)) {
        Ok(Some((FirstPacket::StartupMessage(message), _))) => message.database().to_owned(),
        other => panic!("{other:?}"),
    };
    assert_eq!(database(b"user\0a\0\0"), "a");
    assert_eq!(database(b"user\0a\0database\0\0\0"), "a");
    assert_eq!(database(b"user\0a\0database\0b\0\0"), "b");
    assert_eq!(database(b"database\0b\0user\0a\0database\0c\0\0"), "c");
}

#[test]
fn what_does_not_fit_is_refused() {
    let encode = |name: &str, value: &str, out: &mut BytesMut| {
        encode_startup_message(ProtocolVersion::V3_2, [("user", "a"), (name, value)], out)
    };
    let long = "x".repeat(10_000);
    for (name, value, error) in [
        ("", "x", EncodeError::EmptyElement),
        ("a\0", "x", EncodeError::NulInString),
        ("a", "\0x", EncodeError::NulInString),
    ] {
        assert_eq!(appended(|out| assert_eq!(encode(name, value, out), Err(error))), b""[..]);
    }
    let too_long = |out: &mut BytesMut| {
        assert!(matches!(encode("a", &long, out), Err(EncodeError::TooLong { .. })));
    };
    assert_eq!(appended(too_long), b""[..]);
}
