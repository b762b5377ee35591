//! A SCRAM verifier: what `pg_authid.rolpassword` holds for a role, from which a login can be checked, but not made.

use super::SCRAM_SHA_256;
use super::attribute::{decode_base64, decode_key, encode_base64};
use super::keys::{KEY_BYTES, SaltedPassword, hmac};
use std::fmt;
use std::num::NonZeroU32;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// PostgreSQL's SCRAM_DEFAULT_SALT_LEN: the length that tells nobody apart.
pub const MOCK_SALT_BYTES: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifierError {
    #[error("not a SCRAM-SHA-256 verifier")]
    Mechanism,
    #[error("malformed SCRAM-SHA-256 verifier")]
    Malformed,
}

/// `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Verifier {
    #[zeroize(skip)]
    iterations: NonZeroU32,
    salt: Vec<u8>,
    stored_key: [u8; KEY_BYTES],
    server_key: [u8; KEY_BYTES],
    /// Nobody logs in against it.
    mock: bool,
}

impl Verifier {
    pub const fn from_keys(
        iterations: NonZeroU32,
        salt: Vec<u8>,
        stored_key: [u8; KEY_BYTES],
        server_key: [u8; KEY_BYTES],
    ) -> Self {
        Self { iterations, salt, stored_key, server_key, mock: false }
    }

    /// For a new password; as costly as `SaltedPassword::derive`.
    pub fn derive(password: &[u8], salt: &[u8], iterations: NonZeroU32) -> Self {
        SaltedPassword::derive(password, salt, iterations).client_keys().verifier(salt, iterations)
    }

    /// For a user that does not exist: the exchange goes its usual way and fails at its end. The salt follows from
    /// `secret` and the name, so that asking again gives the same answer, as it does for a user that exists.
    pub fn mock(secret: &[u8; KEY_BYTES], user: &str, iterations: NonZeroU32) -> Self {
        let derive = |label: &[u8]| hmac(secret, &[label, b"\0", user.as_bytes()]);
        let salt = derive(b"salt").first_chunk::<MOCK_SALT_BYTES>().map(|salt| salt.to_vec());
        Self {
            iterations,
            salt: salt.unwrap_or_default(),
            stored_key: *derive(b"StoredKey"),
            server_key: *derive(b"ServerKey"),
            mock: true,
        }
    }

    pub fn parse(text: &str) -> Result<Self, VerifierError> {
        let rest = text
            .strip_prefix(SCRAM_SHA_256)
            .and_then(|rest| rest.strip_prefix('$'))
            .ok_or(VerifierError::Mechanism)?;
        Self::parse_fields(rest).ok_or(VerifierError::Malformed)
    }

    fn parse_fields(fields: &str) -> Option<Self> {
        let (iterations_and_salt, keys) = fields.split_once('$')?;
        let (iterations, salt) = iterations_and_salt.split_once(':')?;
        let (stored_key, server_key) = keys.split_once(':')?;
        Some(Self::from_keys(
            parse_iterations(iterations)?,
            decode_base64(salt).ok().filter(|salt| !salt.is_empty())?,
            decode_key(stored_key).ok()?,
            decode_key(server_key).ok()?,
        ))
    }

    pub fn encode(&self) -> Zeroizing<String> {
        Zeroizing::new(format!(
            "{SCRAM_SHA_256}${}:{}${}:{}",
            self.iterations,
            encode_base64(&self.salt),
            encode_base64(&self.stored_key),
            encode_base64(&self.server_key),
        ))
    }

    pub const fn iterations(&self) -> NonZeroU32 {
        self.iterations
    }

    pub fn salt(&self) -> &[u8] {
        &self.salt
    }

    pub(super) const fn stored_key(&self) -> &[u8; KEY_BYTES] {
        &self.stored_key
    }

    pub(super) const fn server_key(&self) -> &[u8; KEY_BYTES] {
        &self.server_key
    }

    pub(super) const fn is_mock(&self) -> bool {
        self.mock
    }
}

impl PartialEq for Verifier {
    fn eq(&self, other: &Self) -> bool {
        let keys = self.stored_key.ct_eq(&other.stored_key) & self.server_key.ct_eq(&other.server_key);
        let open = (self.iterations, &self.salt, self.mock) == (other.iterations, &other.salt, other.mock);
        open & bool::from(keys)
    }
}

impl Eq for Verifier {}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Verifier({SCRAM_SHA_256}${}:***)", self.iterations)
    }
}

/// Decimal digits only; PostgreSQL keeps the number in an `int`.
pub(super) fn parse_iterations(text: &str) -> Option<NonZeroU32> {
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse::<NonZeroU32>().ok().filter(|n| n.get() <= i32::MAX as u32)
}

#[cfg(test)]
mod tests {
    use super::super::{Client, ClientBinding, ITERATIONS_MAX, Nonce, SCRAM_SHA_256, ScramError, Server};
    use super::*;

    /// Even if somebody found a key that hashes to its StoredKey.
    #[test]
    fn nobody_logs_in_against_a_mock() {
        let keys = SaltedPassword::derive(b"secret", b"salt", NonZeroU32::MIN).client_keys();
        for mock in [false, true] {
            let mut verifier = keys.verifier(b"salt", NonZeroU32::MIN);
            verifier.mock = mock;
            let nonce = Nonce::from_random([1; 18]);
            let (client, first) = Client::new(ClientBinding::Unsupported, nonce.clone()).client_first();
            let server = Server::new(verifier, None);
            let (server, first) = server.client_first(SCRAM_SHA_256, first.as_bytes(), &nonce).unwrap();
            let challenge = client.server_first(first.as_bytes(), ITERATIONS_MAX).unwrap();
            let outcome = server.client_final(challenge.respond(&keys).1.as_bytes());
            assert_eq!(outcome.map(|_| ()), if mock { Err(ScramError::Proof) } else { Ok(()) });
        }
    }
}
