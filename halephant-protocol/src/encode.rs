//! The appends that messages are encoded with (manual: Message Data Types).

use crate::frame::{BODY_BYTES_MAX, HEADER_BYTES, Header};
use bytes::{BufMut, BytesMut};

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    #[error("a string contains a NUL byte")]
    NulInString,
    #[error("{count} elements are more than the message can count")]
    TooMany { count: usize },
    #[error("{bytes} bytes do not fit into the message")]
    TooLong { bytes: usize },
    #[error("a secret key of {bytes} bytes is not within 4 to 256")]
    SecretKeyLength { bytes: usize },
    #[error("a list element is empty, which would end the list")]
    EmptyElement,
}

/// Appends one message; on an error `out` is as it was before.
pub(crate) fn message(
    tag: u8,
    out: &mut BytesMut,
    body: impl FnOnce(&mut BytesMut) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let start = out.len();
    out.put_slice(&[tag, 0, 0, 0, 0]);
    let written = body(out).and_then(|()| {
        let bytes = out.len() - start - HEADER_BYTES;
        match u32::try_from(bytes) {
            Ok(body_bytes) if body_bytes <= BODY_BYTES_MAX => Ok(Header { tag, body_bytes }),
            _ => Err(EncodeError::TooLong { bytes }),
        }
    });
    match written {
        Ok(header) => {
            if let Some(place) = out.get_mut(start..start + HEADER_BYTES) {
                place.copy_from_slice(&header.encode());
            }
            Ok(())
        }
        Err(error) => {
            out.truncate(start);
            Err(error)
        }
    }
}

/// Appends a message whose body is a fixed number of bytes.
pub(crate) fn fixed<const N: usize>(tag: u8, body: [u8; N], out: &mut BytesMut) {
    out.reserve(HEADER_BYTES + N);
    out.put_slice(&Header { tag, body_bytes: N as u32 }.encode());
    out.put_slice(&body);
}

/// A String: its bytes and a NUL.
pub(crate) fn string(out: &mut BytesMut, string: &[u8]) -> Result<(), EncodeError> {
    if string.contains(&0) {
        return Err(EncodeError::NulInString);
    }
    bounded(string.len())?;
    out.reserve(string.len() + 1);
    out.put_slice(string);
    out.put_u8(0);
    Ok(())
}

/// A value with a 32-bit length before it; NULL is -1.
pub(crate) fn value(out: &mut BytesMut, value: Option<&[u8]>) -> Result<(), EncodeError> {
    match value {
        None => out.put_i32(-1),
        Some(value) => {
            out.put_u32(bounded(value.len())?);
            out.put_slice(value);
        }
    }
    Ok(())
}

/// Bytes that end with the message.
pub(crate) fn rest(out: &mut BytesMut, bytes: &[u8]) -> Result<(), EncodeError> {
    bounded(bytes.len())?;
    out.put_slice(bytes);
    Ok(())
}

/// Refuses before copying what could not fit into any message.
fn bounded(bytes: usize) -> Result<u32, EncodeError> {
    match u32::try_from(bytes) {
        Ok(n) if n <= BODY_BYTES_MAX => Ok(n),
        _ => Err(EncodeError::TooLong { bytes }),
    }
}
