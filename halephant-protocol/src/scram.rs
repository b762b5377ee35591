//! SCRAM-SHA-256 and SCRAM-SHA-256-PLUS, both sides, as states that consume themselves (RFC 5802, RFC 7677;
//! manual: SASL Authentication).
//!
//! Server side: `Server::new` -> `client_first` -> `client_final` -> `Authenticated`, which holds the keys that a
//! pooler can log in upstream with.
//! Client side: `Client::new` -> `client_first` -> `server_first` -> `Challenge` -> `respond` -> `server_final`.
//! The costly step, `SaltedPassword::derive`, is the caller's own, to be run where it may take its time.

mod attribute;
mod client;
mod keys;
mod nonce;
mod server;
mod verifier;

pub use client::{AwaitServerFinal, AwaitServerFirst, Challenge, Client, ClientBinding};
pub use keys::{ClientKeys, KEY_BYTES, SaltedPassword};
pub use nonce::Nonce;
pub use server::{Authenticated, AwaitClientFinal, Server};
pub use verifier::{MOCK_SALT_BYTES, Verifier, VerifierError};

use crate::sqlstate::SqlState;

pub const SCRAM_SHA_256: &str = "SCRAM-SHA-256";
/// With channel binding.
pub const SCRAM_SHA_256_PLUS: &str = "SCRAM-SHA-256-PLUS";

/// PostgreSQL's PG_MAX_SASL_MESSAGE_LENGTH; a longer message is refused on either side.
pub const MESSAGE_BYTES_MAX: usize = 1024;

/// PostgreSQL's default.
pub const ITERATIONS_DEFAULT: u32 = 4096;

/// A sensible cap for `AwaitServerFirst::server_first`: about a second of hashing. A server could otherwise keep a
/// thread of ours busy for an hour with one message.
pub const ITERATIONS_MAX: u32 = 1_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScramError {
    #[error("malformed SCRAM message")]
    Malformed,
    #[error("SCRAM message of {bytes} bytes is longer than {MESSAGE_BYTES_MAX}")]
    TooLong { bytes: usize },
    #[error("client selected an invalid SASL authentication mechanism")]
    Mechanism,
    #[error("client uses authorization identity, but it is not supported")]
    AuthorizationIdentity,
    #[error("peer requires an unsupported SCRAM extension")]
    Extension,
    #[error("SCRAM nonce does not match")]
    Nonce,
    #[error("client selected channel binding, but its SCRAM message includes no channel binding data")]
    BindingMissing,
    #[error("client selected no channel binding, but its SCRAM message includes channel binding data")]
    BindingUnexpected,
    #[error("unsupported SCRAM channel-binding type")]
    BindingType,
    #[error("client supports SCRAM channel binding but thinks that the server does not")]
    BindingDowngrade,
    #[error("SCRAM channel binding check failed")]
    Binding,
    #[error("{iterations} SCRAM iterations are not within 1 to {iterations_max}")]
    Iterations { iterations: u32, iterations_max: u32 },
    /// The client does not know the password.
    #[error("password authentication failed")]
    Proof,
    /// The server answered with `e=`: it does not take our proof.
    #[error("server rejected the SCRAM exchange")]
    Rejected,
    /// The server does not know the password's verifier: it is not the one it says it is.
    #[error("incorrect SCRAM server signature")]
    ServerSignature,
    #[error("no random bytes from the system")]
    Random,
}

impl ScramError {
    /// What PostgreSQL answers to a client that gets here.
    pub const fn sqlstate(&self) -> SqlState {
        match self {
            Self::Malformed
            | Self::TooLong { .. }
            | Self::Mechanism
            | Self::Nonce
            | Self::BindingMissing
            | Self::BindingUnexpected
            | Self::BindingType
            | Self::Iterations { .. } => SqlState::PROTOCOL_VIOLATION,
            Self::AuthorizationIdentity | Self::Extension => SqlState::FEATURE_NOT_SUPPORTED,
            Self::BindingDowngrade | Self::Binding | Self::Rejected | Self::ServerSignature => {
                SqlState::INVALID_AUTHORIZATION_SPECIFICATION
            }
            Self::Proof => SqlState::INVALID_PASSWORD,
            Self::Random => SqlState::SYSTEM_ERROR,
        }
    }
}
