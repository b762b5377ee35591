//! The SCRAM-SHA-256 exchange with a client.

use crate::wire::{MessageBuffer, ReadError, Stream};
use bytes::BytesMut;
use halephant_protocol::backend::{Authentication, ErrorReport};
use halephant_protocol::frame::UNAUTHENTICATED_BODY_BYTES_MAX;
use halephant_protocol::frontend::{AuthenticationResponse, tag};
use halephant_protocol::list::StringsBuf;
use halephant_protocol::scram::{ClientKeys, Nonce, ScramError, Server, Verifier};
use halephant_protocol::{EncodeError, ParseError, SqlState};
use std::io;

#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    #[error("password authentication failed for user \"{user}\"")]
    Failed { user: String },
    #[error("expected an authentication response, got message type {tag}")]
    Unexpected { tag: u8 },
    #[error(transparent)]
    Scram(#[from] ScramError),
    #[error(transparent)]
    Parse(#[from] ParseError),
    #[error(transparent)]
    Encode(#[from] EncodeError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl AuthError {
    /// What the client is told; a connection that just ended is told nothing.
    pub fn report(&self) -> Option<ErrorReport> {
        let sqlstate = match self {
            Self::Failed { .. } => SqlState::INVALID_PASSWORD,
            Self::Unexpected { .. } | Self::Parse(_) | Self::Encode(_) | Self::Read(ReadError::Frame(_)) => {
                SqlState::PROTOCOL_VIOLATION
            }
            Self::Scram(error) => error.sqlstate(),
            Self::Read(_) | Self::Io(_) => return None,
        };
        Some(ErrorReport::fatal(sqlstate, self.to_string()))
    }
}

/// Asks the client to prove that it knows the password behind `verifier`; gives the keys that it proved it with.
///
/// With a mock verifier the exchange looks the same and cannot succeed.
pub async fn authenticate(
    stream: &mut Stream,
    buffer: &mut MessageBuffer,
    user: &str,
    verifier: Verifier,
) -> Result<ClientKeys, AuthError> {
    let server = Server::new(verifier, None);
    let mut mechanisms = StringsBuf::new();
    for mechanism in server.mechanisms() {
        mechanisms.push(mechanism)?;
    }
    send(stream, &Authentication::Sasl { mechanisms: mechanisms.as_strings() }).await?;

    let body = read_response(stream, buffer).await?;
    let initial = AuthenticationResponse { body: &body }.sasl_initial()?;
    let nonce = Nonce::generate()?;
    let (state, first) = server.client_first(initial.mechanism, initial.data.unwrap_or_default(), &nonce)?;
    send(stream, &Authentication::SaslContinue { data: first.as_bytes() }).await?;

    let body = read_response(stream, buffer).await?;
    let response = AuthenticationResponse { body: &body }.sasl()?;
    let authenticated = state.client_final(response.data).map_err(|error| match error {
        ScramError::Proof => AuthError::Failed { user: user.to_owned() },
        error => AuthError::Scram(error),
    })?;
    send(stream, &Authentication::SaslFinal { data: authenticated.server_final.as_bytes() }).await?;
    Ok(authenticated.keys)
}

async fn send(stream: &mut Stream, message: &Authentication<'_>) -> Result<(), AuthError> {
    let mut out = BytesMut::new();
    message.encode(&mut out)?;
    Ok(stream.write_all(&out).await?)
}

async fn read_response(stream: &mut Stream, buffer: &mut MessageBuffer) -> Result<bytes::Bytes, AuthError> {
    let message = buffer.read_message(stream, UNAUTHENTICATED_BODY_BYTES_MAX).await?;
    match message.tag {
        tag::AUTHENTICATION_RESPONSE => Ok(message.body),
        tag => Err(AuthError::Unexpected { tag }),
    }
}
