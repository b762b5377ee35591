//! The client's side of the exchange.

use super::attribute::{Attributes, decode_base64, decode_key, encode_base64, is_nonce, text};
use super::keys::{ClientKeys, Key, hmac, xor};
use super::nonce::Nonce;
use super::verifier::parse_iterations;
use super::{SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramError};
use std::num::NonZeroU32;
use subtle::ConstantTimeEq;

/// What a client says about channel binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientBinding {
    /// `n`: we do not support it on this connection.
    Unsupported,
    /// `y`: we do, but the server did not offer it. Where it did, it will see that somebody is between us.
    NotOffered,
    /// `p=tls-server-end-point`: with the hash of the server's certificate.
    TlsServerEndPoint(Vec<u8>),
}

impl ClientBinding {
    fn gs2_header(&self) -> &'static str {
        match self {
            Self::Unsupported => "n,,",
            Self::NotOffered => "y,,",
            Self::TlsServerEndPoint(_) => "p=tls-server-end-point,,",
        }
    }

    /// What `c=` has to say.
    fn encode(&self) -> String {
        let mut binding = self.gs2_header().as_bytes().to_vec();
        if let Self::TlsServerEndPoint(end_point) = self {
            binding.extend_from_slice(end_point);
        }
        encode_base64(&binding)
    }
}

/// Before the client's first message.
#[derive(Clone, Debug)]
pub struct Client {
    binding: ClientBinding,
    nonce: Nonce,
}

impl Client {
    pub const fn new(binding: ClientBinding, nonce: Nonce) -> Self {
        Self { binding, nonce }
    }

    /// Picks the strongest mechanism of those `offered`; `None` where no SCRAM is among them. `end_point`: the
    /// `tls-server-end-point` data of the TLS session, `None` without TLS.
    pub fn choose<'m>(
        offered: impl IntoIterator<Item = &'m str>,
        end_point: Option<Vec<u8>>,
        nonce: Nonce,
    ) -> Option<Self> {
        let (mut plain, mut plus) = (false, false);
        for mechanism in offered {
            plain |= mechanism == SCRAM_SHA_256;
            plus |= mechanism == SCRAM_SHA_256_PLUS;
        }
        let binding = match end_point {
            Some(end_point) if plus => ClientBinding::TlsServerEndPoint(end_point),
            Some(_) if plain => ClientBinding::NotOffered,
            None if plain => ClientBinding::Unsupported,
            _ => return None,
        };
        Some(Self::new(binding, nonce))
    }

    /// The mechanism to name in SASLInitialResponse.
    pub const fn mechanism(&self) -> &'static str {
        match self.binding {
            ClientBinding::TlsServerEndPoint(_) => SCRAM_SHA_256_PLUS,
            ClientBinding::Unsupported | ClientBinding::NotOffered => SCRAM_SHA_256,
        }
    }

    /// Gives the client's first message. It names no user, as libpq's does not: the startup packet has.
    pub fn client_first(self) -> (AwaitServerFirst, String) {
        let bare = format!("n=,r={}", self.nonce.as_str());
        let message = format!("{}{bare}", self.binding.gs2_header());
        (AwaitServerFirst { binding: self.binding, nonce: self.nonce, bare }, message)
    }
}

/// Between the client's first message and the server's.
#[derive(Debug)]
pub struct AwaitServerFirst {
    binding: ClientBinding,
    nonce: Nonce,
    bare: String,
}

impl AwaitServerFirst {
    /// Takes the server's first message. More iterations than `iterations_max` are refused, since it is us who
    /// would have to compute them; `ITERATIONS_MAX` is a sensible cap.
    pub fn server_first(self, message: &[u8], iterations_max: u32) -> Result<Challenge, ScramError> {
        let message = text(message)?;
        let mut attributes = Attributes::new(message);
        let nonce = attributes.expect(b'r')?;
        let salt = decode_base64(attributes.expect(b's')?)?;
        let iterations = parse_iterations(attributes.expect(b'i')?).ok_or(ScramError::Malformed)?;
        attributes.skip_extensions()?;
        // The server has to add something of its own.
        match nonce.strip_prefix(self.nonce.as_str()) {
            Some(added) if is_nonce(added) => {}
            _ => return Err(ScramError::Nonce),
        }
        if iterations.get() > iterations_max {
            return Err(ScramError::Iterations { iterations: iterations.get(), iterations_max });
        }
        let without_proof = format!("c={},r={nonce}", self.binding.encode());
        let auth_message = format!("{},{message},{without_proof}", self.bare);
        Ok(Challenge { salt, iterations, without_proof, auth_message })
    }
}

/// What the keys have to be made for.
#[derive(Debug)]
pub struct Challenge {
    salt: Vec<u8>,
    iterations: NonZeroU32,
    without_proof: String,
    auth_message: String,
}

impl Challenge {
    pub fn salt(&self) -> &[u8] {
        &self.salt
    }

    pub const fn iterations(&self) -> NonZeroU32 {
        self.iterations
    }

    /// Gives the client's last message. The keys come from `SaltedPassword::derive` with this salt and these
    /// iterations, or from a client that logged in against the same verifier.
    pub fn respond(self, keys: &ClientKeys) -> (AwaitServerFinal, String) {
        let auth_message = self.auth_message.as_bytes();
        let client_signature = hmac(keys.stored_key().as_slice(), &[auth_message]);
        let proof = xor(keys.client_key(), &client_signature);
        let server_signature = hmac(keys.server_key(), &[auth_message]);
        let message = format!("{},p={}", self.without_proof, encode_base64(&*proof));
        (AwaitServerFinal { server_signature }, message)
    }
}

/// Between the client's last message and the server's.
pub struct AwaitServerFinal {
    server_signature: Key,
}

impl AwaitServerFinal {
    /// Takes the server's last message. Until it has, nothing says that the server is the one it should be.
    pub fn server_final(self, message: &[u8]) -> Result<(), ScramError> {
        let mut attributes = Attributes::new(text(message)?);
        let signature = match attributes.any()? {
            (b'v', signature) => decode_key(signature)?,
            (b'e', _) => return Err(ScramError::Rejected),
            _ => return Err(ScramError::Malformed),
        };
        attributes.skip_extensions()?;
        if bool::from(signature.as_slice().ct_eq(self.server_signature.as_slice())) {
            Ok(())
        } else {
            Err(ScramError::ServerSignature)
        }
    }
}

impl std::fmt::Debug for AwaitServerFinal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AwaitServerFinal")
    }
}
