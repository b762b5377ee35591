//! The tags of a client's messages, and how long PostgreSQL lets each be.

pub const BIND: u8 = b'B';
pub const CLOSE: u8 = b'C';
pub const COPY_DATA: u8 = crate::copy::COPY_DATA_TAG;
pub const COPY_DONE: u8 = crate::copy::COPY_DONE_TAG;
pub const COPY_FAIL: u8 = b'f';
pub const DESCRIBE: u8 = b'D';
pub const EXECUTE: u8 = b'E';
pub const FLUSH: u8 = b'H';
pub const FUNCTION_CALL: u8 = b'F';
pub const PARSE: u8 = b'P';
pub const QUERY: u8 = b'Q';
pub const SYNC: u8 = b'S';
pub const TERMINATE: u8 = b'X';
/// PasswordMessage, SASLInitialResponse, SASLResponse and GSSResponse.
pub const AUTHENTICATION_RESPONSE: u8 = b'p';

/// PQ_SMALL_MESSAGE_LIMIT, which is a limit on the length field, less that field.
pub const SMALL_BODY_BYTES_MAX: u32 = 10_000 - 4;
/// PQ_LARGE_MESSAGE_LIMIT (MaxAllocSize - 1), less the length field.
pub const LARGE_BODY_BYTES_MAX: u32 = 0x3fff_fffe - 4;

/// The longest body PostgreSQL takes of an authenticated client; `None` for a tag it does not take then,
/// `AUTHENTICATION_RESPONSE` included.
#[inline]
pub const fn body_bytes_max(tag: u8) -> Option<u32> {
    match tag {
        BIND | COPY_DATA | FUNCTION_CALL | PARSE | QUERY => Some(LARGE_BODY_BYTES_MAX),
        CLOSE | COPY_DONE | COPY_FAIL | DESCRIBE | EXECUTE | FLUSH | SYNC | TERMINATE => {
            Some(SMALL_BODY_BYTES_MAX)
        }
        _ => None,
    }
}
