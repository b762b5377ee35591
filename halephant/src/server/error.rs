//! Why a server connection could not be opened or used.

use crate::tls::TlsError;
use crate::wire::ReadError;
use halephant_protocol::SqlState;
use halephant_protocol::backend::ErrorFields;
use std::io;
use std::time::Duration;

/// An error that PostgreSQL sent, cut to what may be shown and logged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{severity}: {message} (SQLSTATE {sqlstate})")]
pub struct ServerError {
    pub severity: &'static str,
    pub sqlstate: SqlState,
    pub message: String,
}

/// Longest message of a server that is kept.
const MESSAGE_BYTES_MAX: usize = 1024;

impl ServerError {
    pub fn from_fields(fields: &ErrorFields<'_>) -> Self {
        let message = String::from_utf8_lossy(fields.message());
        let end = message.floor_char_boundary(MESSAGE_BYTES_MAX);
        Self {
            severity: fields.severity().map_or("ERROR", |severity| severity.as_str()),
            sqlstate: fields.sqlstate().unwrap_or(SqlState::PROTOCOL_VIOLATION),
            message: message[..end].to_owned(),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("could not resolve \"{host}\": {source}")]
    Resolve { host: String, source: io::Error },
    #[error("could not connect to {node}: {source}")]
    Connect { node: String, source: io::Error },
    #[error("{node} did not let us in within connect_timeout ({})", humantime::format_duration(*after))]
    Timeout { node: String, after: Duration },
    #[error("{node} refused: {error}")]
    Refused { node: String, error: ServerError },
    #[error(
        "{node} asks for a password of role \"{role}\": no .pgpass line matches and no client has logged in as it yet"
    )]
    NoCredentials { node: String, role: String },
    #[error("{node} asks for an authentication method that is not supported: {method}")]
    Method { node: String, method: &'static str },
    #[error("{node} broke the protocol: {reason}")]
    Protocol { node: String, reason: String },
    #[error("{node} does not offer TLS")]
    NoTls { node: String },
    #[error("no encrypted connection to {node}: {source}")]
    Tls { node: String, source: TlsError },
    #[error("{node} offers no SCRAM-SHA-256-PLUS, and channel_binding is \"require\"")]
    NoBinding { node: String },
    #[error("connection to {node} was lost: {source}")]
    Lost { node: String, source: ReadError },
}

impl OpenError {
    /// The `error.type` in metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Resolve { .. } => "resolve",
            Self::Connect { .. } => "connect",
            Self::Timeout { .. } => "connect_timeout",
            Self::Refused { .. } => "refused",
            Self::NoCredentials { .. } => "no_credentials",
            Self::Method { .. } => "authentication_method",
            Self::Protocol { .. } => "protocol",
            Self::NoTls { .. } | Self::Tls { .. } => "tls",
            Self::NoBinding { .. } => "channel_binding",
            Self::Lost { .. } => "lost",
        }
    }

    /// Whether trying again later cannot help unless somebody changes something.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Refused { error, .. } => {
                matches!(&error.sqlstate.class(), b"28" | b"3D" | b"42" | b"22" | b"0A")
            }
            Self::NoCredentials { .. } | Self::Method { .. } | Self::Protocol { .. } => true,
            Self::NoTls { .. } | Self::NoBinding { .. } => true,
            Self::Tls { source, .. } => !matches!(source, TlsError::Io(_)),
            _ => false,
        }
    }

    /// What the waiting client is told.
    pub fn sqlstate(&self) -> SqlState {
        match self {
            Self::Refused { error, .. } => error.sqlstate,
            Self::NoCredentials { .. } => SqlState::INVALID_PASSWORD,
            Self::Method { .. } => SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
            Self::Protocol { .. } => SqlState::PROTOCOL_VIOLATION,
            Self::NoBinding { .. } => SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
            Self::NoTls { .. } | Self::Tls { .. } => SqlState::CONNECTION_FAILURE,
            Self::Resolve { .. } | Self::Connect { .. } | Self::Timeout { .. } | Self::Lost { .. } => {
                SqlState::CONNECTION_FAILURE
            }
        }
    }
}
