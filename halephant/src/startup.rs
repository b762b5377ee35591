//! The first packets of a connection: encryption requests, then a CancelRequest or a StartupMessage.

use crate::wire::{MessageBuffer, ReadError, Stream};
use halephant_protocol::SqlState;
use halephant_protocol::backend::ErrorReport;
use halephant_protocol::startup::{self, ENCRYPTION_REFUSED, FirstPacket, ProtocolVersion, StartupError};
use std::io;

/// The newest protocol that is spoken with clients.
pub const NEWEST_MINOR: u16 = 2;

/// What a connection turned out to be.
#[derive(Debug)]
pub enum Opening {
    Cancel { process_id: u32, secret_key: Vec<u8> },
    Session(StartupRequest),
}

/// A StartupMessage, owned.
#[derive(Debug)]
pub struct StartupRequest {
    pub version: ProtocolVersion,
    pub user: String,
    pub database: String,
    pub parameters: Vec<(String, String)>,
    /// NegotiateProtocolVersion, encoded, when the client asked for more than there is.
    pub negotiation: bytes::BytesMut,
}

#[derive(Debug, thiserror::Error)]
pub enum OpeningError {
    #[error(transparent)]
    Startup(#[from] StartupError),
    #[error("received unencrypted data after {request}")]
    AheadOfHandshake { request: &'static str },
    #[error("{request} came twice")]
    Repeated { request: &'static str },
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl OpeningError {
    /// What the client is told; a connection that just ended is told nothing.
    pub fn report(&self) -> Option<ErrorReport> {
        let sqlstate = match self {
            Self::Startup(error) => error.sqlstate(),
            Self::AheadOfHandshake { .. } | Self::Repeated { .. } => SqlState::PROTOCOL_VIOLATION,
            Self::Read(_) | Self::Io(_) => return None,
        };
        Some(ErrorReport::fatal(sqlstate, self.to_string()))
    }
}

/// Reads up to the packet that says what the connection is for. Encryption is refused politely, once each.
pub async fn read_opening(stream: &mut Stream, buffer: &mut MessageBuffer) -> Result<Opening, OpeningError> {
    let (mut ssl_asked, mut gssenc_asked) = (false, false);
    loop {
        let (request, taken) = match startup::parse(buffer.bytes())? {
            None => {
                buffer.fill(stream).await?;
                continue;
            }
            Some((FirstPacket::CancelRequest(cancel), _)) => {
                let secret_key = cancel.secret_key.to_vec();
                return Ok(Opening::Cancel { process_id: cancel.process_id, secret_key });
            }
            Some((FirstPacket::StartupMessage(message), taken)) => {
                let mut negotiation = bytes::BytesMut::new();
                let mut version = message.version;
                if let Some(outcome) = message.negotiate(NEWEST_MINOR) {
                    version = outcome.version;
                    // Names that fitted into a startup packet fit into the answer.
                    let _ = outcome.message().encode(&mut negotiation);
                }
                let request = StartupRequest {
                    version,
                    user: message.user().to_owned(),
                    database: message.database().to_owned(),
                    parameters: message
                        .parameters
                        .iter()
                        .map(|(n, v)| (n.to_owned(), v.to_owned()))
                        .collect(),
                    negotiation,
                };
                buffer.consume(taken);
                return Ok(Opening::Session(request));
            }
            Some((FirstPacket::SslRequest, taken)) => (("SSLRequest", &mut ssl_asked), taken),
            Some((FirstPacket::GssEncRequest, taken)) => (("GSSENCRequest", &mut gssenc_asked), taken),
        };
        let (request, asked) = request;
        if std::mem::replace(asked, true) {
            return Err(OpeningError::Repeated { request });
        }
        buffer.consume(taken);
        // Whatever comes before our answer may have been put there by somebody in between.
        if !buffer.bytes().is_empty() {
            return Err(OpeningError::AheadOfHandshake { request });
        }
        stream.write_all(&[ENCRYPTION_REFUSED]).await?;
    }
}
