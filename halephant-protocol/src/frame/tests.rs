//! Headers good and bad, and the walk over them.

use super::*;
use crate::frontend::tag;

fn header(tag: u8, length: i32) -> Vec<u8> {
    let mut bytes = vec![tag];
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes
}

#[test]
fn fewer_bytes_than_a_header_are_not_an_error() {
    for n in 0..HEADER_BYTES {
        assert_eq!(parse_header(&header(b'Q', -1)[..n]), Ok(None));
    }
}

#[test]
fn lengths() {
    for length in [i32::MIN, -1, 0, 3] {
        assert_eq!(parse_header(&header(b'Q', length)), Err(FrameError::Length { tag: b'Q', length }));
    }
    assert_eq!(parse_header(&header(b'S', 4)), Ok(Some(Header { tag: b'S', body_bytes: 0 })));
    let longest = BODY_BYTES_MAX as i32 + 4;
    assert_eq!(
        parse_header(&header(b'D', longest)),
        Ok(Some(Header { tag: b'D', body_bytes: BODY_BYTES_MAX }))
    );
    for length in [longest + 1, i32::MAX] {
        let body_bytes = length as u32 - 4;
        let error = FrameError::TooLong { tag: b'D', body_bytes, body_bytes_max: BODY_BYTES_MAX };
        assert_eq!(parse_header(&header(b'D', length)), Err(error));
    }
    assert!(parse_header_capped(&header(b'p', 10_005), UNAUTHENTICATED_BODY_BYTES_MAX).is_err());
    assert!(parse_header_capped(&header(b'p', 10_004), UNAUTHENTICATED_BODY_BYTES_MAX).is_ok());
}

#[test]
fn encode_is_the_inverse_of_parse() {
    for body_bytes in [0, 1, 0xff, 0x1234_5678, BODY_BYTES_MAX] {
        let header = Header { tag: b'd', body_bytes };
        assert_eq!(parse_header(&header.encode()), Ok(Some(header)));
        assert_eq!(header.frame_bytes(), body_bytes as usize + 5);
    }
}

/// The limits of PostgreSQL's SocketBackend, which count the length field.
#[test]
fn frontend_tags_have_postgres_limits() {
    let legal = b"BCdcfDEFHPQSX";
    for tag in 0..=u8::MAX {
        let smallest = parse_frontend_header(&header(tag, 4));
        if legal.contains(&tag) {
            let limit = if b"BdFPQ".contains(&tag) { 0x3fff_fffe } else { 10_000 };
            assert_eq!(smallest, Ok(Some(Header { tag, body_bytes: 0 })));
            assert!(parse_frontend_header(&header(tag, limit)).is_ok());
            assert!(matches!(
                parse_frontend_header(&header(tag, limit + 1)),
                Err(FrameError::TooLong { tag: this, .. }) if this == tag
            ));
        } else {
            assert_eq!(smallest, Err(FrameError::Tag { tag }));
        }
    }
}

#[test]
fn split_takes_what_is_complete() {
    let mut bytes = Vec::new();
    bytes.extend(header(tag::SYNC, 4));
    bytes.extend(header(tag::QUERY, 7));
    bytes.extend(b"ab\0");
    bytes.extend(header(tag::QUERY, 5));
    let mut messages = split(&bytes);
    assert_eq!(messages.next(), Some(Ok(Frame { tag: tag::SYNC, body: b"" })));
    assert_eq!(messages.next(), Some(Ok(Frame { tag: tag::QUERY, body: b"ab\0" })));
    assert_eq!(messages.next(), None);
    assert_eq!(messages.rest(), header(tag::QUERY, 5));
}

#[test]
fn split_ends_at_a_bad_header() {
    let mut bytes = header(tag::SYNC, 4);
    bytes.extend(header(tag::QUERY, 3));
    bytes.extend(header(tag::SYNC, 4));
    let mut messages = split(&bytes);
    assert!(matches!(messages.next(), Some(Ok(_))));
    assert_eq!(messages.next(), Some(Err(FrameError::Length { tag: tag::QUERY, length: 3 })));
    assert_eq!(messages.next(), None);
    assert_eq!(messages.rest(), &bytes[5..]);
}
