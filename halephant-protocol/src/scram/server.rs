//! The server's side of the exchange.

use super::attribute::{Attributes, decode_base64, decode_key, encode_base64, is_nonce, text};
use super::keys::{ClientKeys, hmac, sha256, xor};
use super::nonce::Nonce;
use super::verifier::Verifier;
use super::{SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramError};
use subtle::{Choice, ConstantTimeEq};

/// The only type of channel binding PostgreSQL knows.
const BINDING_TYPE: &str = "tls-server-end-point";

/// Before the client's first message.
#[derive(Debug)]
pub struct Server {
    verifier: Verifier,
    /// The hash of our certificate, where the connection is one we offer channel binding on.
    end_point: Option<Vec<u8>>,
}

impl Server {
    /// `end_point`: the `tls-server-end-point` data of the TLS session, `None` without TLS.
    pub const fn new(verifier: Verifier, end_point: Option<Vec<u8>>) -> Self {
        Self { verifier, end_point }
    }

    /// The mechanisms to offer, strongest first.
    pub const fn mechanisms(&self) -> &'static [&'static str] {
        match self.end_point {
            Some(_) => &[SCRAM_SHA_256_PLUS, SCRAM_SHA_256],
            None => &[SCRAM_SHA_256],
        }
    }

    /// Takes the client's choice of mechanism and first message; gives the server's first message.
    pub fn client_first(
        self,
        mechanism: &str,
        message: &[u8],
        nonce: &Nonce,
    ) -> Result<(AwaitClientFinal, String), ScramError> {
        let with_binding = match mechanism {
            SCRAM_SHA_256 => false,
            SCRAM_SHA_256_PLUS if self.end_point.is_some() => true,
            _ => return Err(ScramError::Mechanism),
        };
        let message = text(message)?;
        let (gs2_header, bare) = split_gs2_header(message)?;
        self.check_gs2_flag(with_binding, gs2_header)?;
        let client_nonce = parse_bare(bare)?;

        let nonce = format!("{client_nonce}{}", nonce.as_str());
        let server_first =
            format!("r={nonce},s={},i={}", encode_base64(self.verifier.salt()), self.verifier.iterations());
        let mut binding = gs2_header.as_bytes().to_vec();
        if with_binding {
            binding.extend(self.end_point.into_iter().flatten());
        }
        let next = AwaitClientFinal {
            verifier: self.verifier,
            binding,
            nonce,
            auth_message: format!("{bare},{server_first},"),
        };
        Ok((next, server_first))
    }

    /// The flag must agree with the mechanism and with what we offered.
    fn check_gs2_flag(&self, with_binding: bool, gs2_header: &str) -> Result<(), ScramError> {
        let (flag, authzid) =
            gs2_header.strip_suffix(',').and_then(|h| h.split_once(',')).ok_or(ScramError::Malformed)?;
        match (with_binding, flag) {
            (false, "n") => {}
            // Somebody took our offer of channel binding out on its way to the client.
            (false, "y") if self.end_point.is_some() => return Err(ScramError::BindingDowngrade),
            (false, "y") => {}
            (true, "n" | "y") => return Err(ScramError::BindingMissing),
            (with_binding, flag) => match (with_binding, flag.strip_prefix("p=")) {
                (_, None) => return Err(ScramError::Malformed),
                (false, Some(_)) => return Err(ScramError::BindingUnexpected),
                (true, Some(BINDING_TYPE)) => {}
                (true, Some(_)) => return Err(ScramError::BindingType),
            },
        }
        match authzid {
            "" => Ok(()),
            authzid if authzid.starts_with("a=") => Err(ScramError::AuthorizationIdentity),
            _ => Err(ScramError::Malformed),
        }
    }
}

/// `gs2-header client-first-message-bare`: the header ends with its second comma.
fn split_gs2_header(message: &str) -> Result<(&str, &str), ScramError> {
    let (end, _) = message.match_indices(',').nth(1).ok_or(ScramError::Malformed)?;
    message.split_at_checked(end + 1).ok_or(ScramError::Malformed)
}

/// The client's nonce. The user name is ignored: the one of the startup packet counts, as in PostgreSQL.
fn parse_bare(bare: &str) -> Result<&str, ScramError> {
    let mut attributes = Attributes::new(bare);
    attributes.expect(b'n')?;
    let nonce = attributes.expect(b'r')?;
    attributes.skip_extensions()?;
    if is_nonce(nonce) { Ok(nonce) } else { Err(ScramError::Malformed) }
}

/// Between the server's first message and the client's last.
pub struct AwaitClientFinal {
    verifier: Verifier,
    /// What the client must prove to have seen: its own gs2 header and our end point.
    binding: Vec<u8>,
    /// Of both sides.
    nonce: String,
    /// RFC 5802's AuthMessage, but for the client's last message.
    auth_message: String,
}

impl AwaitClientFinal {
    /// Takes the client's last message and checks its proof.
    pub fn client_final(self, message: &[u8]) -> Result<Authenticated, ScramError> {
        let message = text(message)?;
        let ClientFinal { without_proof, binding, nonce, proof } = ClientFinal::parse(message)?;
        if binding != self.binding {
            return Err(ScramError::Binding);
        }
        if nonce != self.nonce {
            return Err(ScramError::Nonce);
        }
        let auth_message = [self.auth_message.as_bytes(), without_proof.as_bytes()];

        let client_signature = hmac(self.verifier.stored_key(), &auth_message);
        let client_key = xor(&proof, &client_signature);
        let known = sha256(&*client_key).as_slice().ct_eq(self.verifier.stored_key());
        let server_signature = hmac(self.verifier.server_key(), &auth_message);
        if !bool::from(known & !Choice::from(u8::from(self.verifier.is_mock()))) {
            return Err(ScramError::Proof);
        }
        Ok(Authenticated {
            server_final: format!("v={}", encode_base64(&*server_signature)),
            keys: ClientKeys::new(*client_key, *self.verifier.server_key()),
        })
    }
}

impl std::fmt::Debug for AwaitClientFinal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AwaitClientFinal").field("verifier", &self.verifier).finish_non_exhaustive()
    }
}

/// The parts of a client-final-message.
struct ClientFinal<'a> {
    without_proof: &'a str,
    binding: Vec<u8>,
    nonce: &'a str,
    proof: [u8; super::KEY_BYTES],
}

impl<'a> ClientFinal<'a> {
    fn parse(message: &'a str) -> Result<Self, ScramError> {
        let mut attributes = Attributes::new(message);
        let binding = attributes.expect(b'c')?;
        let nonce = attributes.expect(b'r')?;
        // Extensions, then the proof, then nothing.
        let proof = loop {
            if let (b'p', proof) = attributes.any()? {
                break proof;
            }
        };
        if !attributes.is_at_end() {
            return Err(ScramError::Malformed);
        }
        let end = message.len() - proof.len() - ",p=".len();
        Ok(Self {
            without_proof: message.get(..end).ok_or(ScramError::Malformed)?,
            binding: decode_base64(binding)?,
            nonce,
            proof: decode_key(proof)?,
        })
    }
}

/// The client knows the password.
#[derive(Debug)]
pub struct Authenticated {
    /// The server's last message, which proves to the client that we know its verifier.
    pub server_final: String,
    /// Good to log in with, as this user, wherever the verifier is the same.
    pub keys: ClientKeys,
}
