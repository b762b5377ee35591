//! One side's part of the nonce.

use super::ScramError;
use super::attribute::{encode_base64, is_nonce};

/// PostgreSQL's SCRAM_RAW_NONCE_LEN.
const RANDOM_BYTES: usize = 18;
/// Leaves room for the rest of the message within its cap.
const TEXT_BYTES_MAX: usize = 256;

/// Printable ASCII without commas; must never be used twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nonce(String);

impl Nonce {
    /// 18 random bytes in base64.
    pub fn generate() -> Result<Self, ScramError> {
        let mut bytes = [0; RANDOM_BYTES];
        getrandom::fill(&mut bytes).map_err(|_| ScramError::Random)?;
        Ok(Self::from_random(bytes))
    }

    /// From random bytes of the caller's.
    pub fn from_random(bytes: [u8; RANDOM_BYTES]) -> Self {
        Self(encode_base64(&bytes))
    }

    /// `None` when it is empty, longer than 256 bytes, or not printable ASCII without commas.
    pub fn new(text: &str) -> Option<Self> {
        (is_nonce(text) && text.len() <= TEXT_BYTES_MAX).then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}
