//! The keys that tokens are signed with: a JSON Web Key Set (RFC 7517).

use crate::tls::ClientConfigError;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Header};
use serde_json::Value;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Sets of large providers have some tens of kilobytes.
pub(super) const JWKS_BYTES_MAX: usize = 512 * 1024;
/// A token without a key's name is tried with all of them.
const KEYS_MAX: usize = 64;

/// Why there are no keys, or never will be.
#[derive(Debug, thiserror::Error)]
pub enum JwksError {
    #[error("\"{}\" cannot be read: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("\"{}\": {source}", path.display())]
    File { path: PathBuf, source: KeysError },
    /// Without the URL: it may have a password in it.
    #[error("the URL cannot be used for jwks: {why}")]
    Url { why: &'static str },
    #[error(transparent)]
    Tls(#[from] ClientConfigError),
    #[error("no HTTP client can be made: {0}")]
    Client(#[source] reqwest::Error),
}

/// What is wrong with a set of keys.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    #[error("more than {JWKS_BYTES_MAX} bytes are no key set")]
    TooLarge,
    #[error("this is not a JSON Web Key Set: {0}")]
    Json(#[from] serde_json::Error),
    #[error("this is not a JSON Web Key Set: it has no list of keys")]
    NoList,
    #[error("the set has no public key that tokens can be signed with")]
    Nothing,
}

#[derive(Debug)]
pub(super) struct Keys(Vec<Key>);

#[derive(Debug)]
struct Key {
    id: Option<String>,
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

/// A secret that both sides know is none that a set of public keys could hold.
pub(super) fn is_asymmetric(algorithm: Algorithm) -> bool {
    !matches!(algorithm, Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512)
}

impl Keys {
    /// Blocks.
    pub(super) fn load(path: &Path) -> Result<Self, JwksError> {
        let unreadable = |source| JwksError::Unreadable { path: path.into(), source };
        let mut json = Vec::new();
        let file = File::open(path).map_err(unreadable)?;
        file.take(JWKS_BYTES_MAX as u64 + 1).read_to_end(&mut json).map_err(unreadable)?;
        Self::parse(&json).map_err(|source| JwksError::File { path: path.into(), source })
    }

    /// Keys of kinds that are not known, or not for signatures, are left out.
    pub(super) fn parse(json: &[u8]) -> Result<Self, KeysError> {
        if json.len() > JWKS_BYTES_MAX {
            return Err(KeysError::TooLarge);
        }
        let set: Value = serde_json::from_slice(json)?;
        let list = set.get("keys").and_then(Value::as_array).ok_or(KeysError::NoList)?;
        let keys: Vec<_> = list.iter().filter_map(Key::of).take(KEYS_MAX).collect();
        if keys.is_empty() { Err(KeysError::Nothing) } else { Ok(Self(keys)) }
    }

    /// The keys that a token with this header may be signed with.
    pub(super) fn fitting(&self, header: &Header) -> impl Iterator<Item = &DecodingKey> {
        let fits = |key: &&Key| {
            key.algorithms.contains(&header.alg) && (header.kid.is_none() || key.id == header.kid)
        };
        self.0.iter().filter(fits).map(|key| &key.key)
    }
}

impl Key {
    fn of(value: &Value) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(value.clone()).ok()?;
        if !matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature)) {
            return None;
        }
        let mut algorithms = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => vec![
                Algorithm::RS256,
                Algorithm::RS384,
                Algorithm::RS512,
                Algorithm::PS256,
                Algorithm::PS384,
                Algorithm::PS512,
            ],
            AlgorithmParameters::EllipticCurve(curve) => match curve.curve {
                EllipticCurve::P256 => vec![Algorithm::ES256],
                EllipticCurve::P384 => vec![Algorithm::ES384],
                _ => return None,
            },
            AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => {
                vec![Algorithm::EdDSA]
            }
            _ => return None,
        };
        if let Some(only) = jwk.common.key_algorithm {
            let only = Algorithm::from_str(&only.to_string()).ok()?;
            algorithms.retain(|algorithm| *algorithm == only);
        }
        let key = DecodingKey::from_jwk(&jwk).ok()?;
        (!algorithms.is_empty()).then_some(Self { id: jwk.common.key_id, algorithms, key })
    }
}
