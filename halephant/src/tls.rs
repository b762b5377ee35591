//! TLS on both legs: what the configuration asks for, the files that it names, handshakes and encrypted streams.
//!
//! Sessions are never resumed and there is no early data, as PostgreSQL has it: each handshake proves everything anew.

pub mod accept;
pub mod client;
pub mod connect;
mod digest;
pub mod error;
pub mod file;
pub mod identity;
pub mod mode;
mod name;
mod record;
pub mod settings;
pub mod stream;
pub mod trust;
mod verify;

pub use accept::{Acceptor, ClientCertificate, ClientPeer};
pub use client::{Authorities, ClientConfigError, client_config};
pub use connect::Connector;
pub use error::TlsError;
pub use identity::Identity;
pub use mode::{MinimumVersion, TlsMode};
pub use settings::{ClientLeg, ClientLegSettings, NamedIdentity, ServerLeg, ServerLegSettings};
pub use stream::TlsStream;
pub use trust::Trust;

use rustls::crypto::CryptoProvider;
use std::sync::{Arc, LazyLock};

/// The protocol's name in ALPN, as PostgreSQL 17 and later have it.
const ALPN: &[u8] = b"postgresql";

static PROVIDER: LazyLock<Arc<CryptoProvider>> =
    LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));

/// Where the cryptography comes from.
fn provider() -> Arc<CryptoProvider> {
    Arc::clone(&PROVIDER)
}

#[cfg(test)]
mod tests;
