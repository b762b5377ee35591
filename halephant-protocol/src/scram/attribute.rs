//! The attributes that SCRAM messages are lists of: a letter, `=`, a value without commas.

use super::{MESSAGE_BYTES_MAX, ScramError};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Walks the attributes of one message.
#[derive(Clone, Copy)]
pub(super) struct Attributes<'a>(Option<&'a str>);

impl<'a> Attributes<'a> {
    pub(super) const fn new(message: &'a str) -> Self {
        Self(Some(message))
    }

    /// The next attribute, whichever it is.
    pub(super) fn any(&mut self) -> Result<(u8, &'a str), ScramError> {
        let rest = self.0.take().ok_or(ScramError::Malformed)?;
        let (attribute, rest) = match rest.split_once(',') {
            Some((attribute, rest)) => (attribute, Some(rest)),
            None => (rest, None),
        };
        self.0 = rest;
        let (name, value) = attribute.split_once('=').ok_or(ScramError::Malformed)?;
        match *name.as_bytes() {
            [name] if name.is_ascii_alphabetic() => Ok((name, value)),
            _ => Err(ScramError::Malformed),
        }
    }

    /// The next attribute, which must be `name`. `m=` in its place is an extension that we would have to know.
    pub(super) fn expect(&mut self, name: u8) -> Result<&'a str, ScramError> {
        match self.any()? {
            (this, value) if this == name => Ok(value),
            (b'm', _) => Err(ScramError::Extension),
            _ => Err(ScramError::Malformed),
        }
    }

    /// Optional extensions up to the end: ignored, but they must be attributes.
    pub(super) fn skip_extensions(mut self) -> Result<(), ScramError> {
        while self.0.is_some() {
            self.any()?;
        }
        Ok(())
    }

    pub(super) const fn is_at_end(&self) -> bool {
        self.0.is_none()
    }
}

/// A message's text, within its cap.
pub(super) fn text(message: &[u8]) -> Result<&str, ScramError> {
    if message.len() > MESSAGE_BYTES_MAX {
        return Err(ScramError::TooLong { bytes: message.len() });
    }
    let text = std::str::from_utf8(message).map_err(|_| ScramError::Malformed)?;
    if text.contains('\0') { Err(ScramError::Malformed) } else { Ok(text) }
}

pub(super) fn decode_base64(value: &str) -> Result<Vec<u8>, ScramError> {
    STANDARD.decode(value).map_err(|_| ScramError::Malformed)
}

pub(super) fn decode_key(value: &str) -> Result<[u8; super::KEY_BYTES], ScramError> {
    decode_base64(value)?.try_into().map_err(|_| ScramError::Malformed)
}

pub(super) fn encode_base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// RFC 5802's "printable": ASCII without controls, space and comma. Never empty.
pub(super) fn is_nonce(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && b != b',')
}
