//! The keys that follow from a password (RFC 5802, section 3).

use super::verifier::Verifier;
use crate::saslprep;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use std::fmt;
use std::num::NonZeroU32;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

pub const KEY_BYTES: usize = 32;

pub(super) type Key = Zeroizing<[u8; KEY_BYTES]>;

/// HMAC-SHA-256 of the parts one after the other.
pub(super) fn hmac(key: &[u8], parts: &[&[u8]]) -> Key {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    for part in parts {
        mac.update(part);
    }
    let mut output = mac.finalize().into_bytes();
    let key = Key::new(output.into());
    output.as_mut_slice().zeroize();
    key
}

pub(super) fn sha256(bytes: &[u8]) -> Key {
    let mut output = Sha256::digest(bytes);
    let key = Key::new(output.into());
    output.as_mut_slice().zeroize();
    key
}

pub(super) fn xor(a: &[u8; KEY_BYTES], b: &[u8; KEY_BYTES]) -> Key {
    let mut out = Key::new(*a);
    for (out, b) in out.iter_mut().zip(b) {
        *out ^= b;
    }
    out
}

/// PBKDF2 of a password: what all keys come from. As good as the password against this salt and iteration count.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SaltedPassword([u8; KEY_BYTES]);

impl SaltedPassword {
    /// SASLprep and `iterations` rounds of HMAC: milliseconds and more. Not for a thread that does I/O.
    pub fn derive(password: &[u8], salt: &[u8], iterations: NonZeroU32) -> Self {
        let mut salted = Self([0; KEY_BYTES]);
        let prepared = saslprep::prepare(password);
        pbkdf2::pbkdf2_hmac::<Sha256>(&prepared, salt, iterations.get(), &mut salted.0);
        salted
    }

    pub fn client_keys(&self) -> ClientKeys {
        ClientKeys {
            client_key: *hmac(&self.0, &[b"Client Key"]),
            server_key: *hmac(&self.0, &[b"Server Key"]),
        }
    }
}

impl fmt::Debug for SaltedPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SaltedPassword(***)")
    }
}

/// What a client needs to log in, for one salt and iteration count: ClientKey for its proof, ServerKey to check the
/// server with.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct ClientKeys {
    pub(super) client_key: [u8; KEY_BYTES],
    pub(super) server_key: [u8; KEY_BYTES],
}

impl ClientKeys {
    pub const fn new(client_key: [u8; KEY_BYTES], server_key: [u8; KEY_BYTES]) -> Self {
        Self { client_key, server_key }
    }

    pub const fn client_key(&self) -> &[u8; KEY_BYTES] {
        &self.client_key
    }

    pub const fn server_key(&self) -> &[u8; KEY_BYTES] {
        &self.server_key
    }

    pub(super) fn stored_key(&self) -> Key {
        sha256(&self.client_key)
    }

    /// The verifier that these keys log in against, if they were made with this salt and iteration count.
    pub fn verifier(&self, salt: &[u8], iterations: NonZeroU32) -> Verifier {
        Verifier::from_keys(iterations, salt.to_vec(), *self.stored_key(), self.server_key)
    }

    /// Do these keys log in against `verifier`? No longer, once the password has been changed.
    pub fn fit(&self, verifier: &Verifier) -> bool {
        bool::from(
            self.stored_key().as_slice().ct_eq(verifier.stored_key())
                & self.server_key.as_slice().ct_eq(verifier.server_key()),
        )
    }
}

impl fmt::Debug for ClientKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientKeys(***)")
    }
}

impl PartialEq for ClientKeys {
    fn eq(&self, other: &Self) -> bool {
        bool::from(
            self.client_key.as_slice().ct_eq(&other.client_key)
                & self.server_key.as_slice().ct_eq(&other.server_key),
        )
    }
}

impl Eq for ClientKeys {}
