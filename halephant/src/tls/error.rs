//! Why a connection could not be encrypted.

use std::io;

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("TLS handshake failed: {0}")]
    Handshake(#[from] rustls::Error),
    #[error("the connection was lost in the TLS handshake: {0}")]
    Io(#[source] io::Error),
    #[error("received direct TLS connection request without ALPN protocol negotiation extension")]
    NoAlpn,
    #[error("\"{0}\" is not a name that a certificate could have")]
    Name(String),
}

/// What the handshake itself came to may have been found while reading.
impl From<io::Error> for TlsError {
    fn from(error: io::Error) -> Self {
        match error.downcast() {
            Ok(error) => Self::Handshake(error),
            Err(error) => Self::Io(error),
        }
    }
}
