//! The exchanges with a client about its password: SCRAM-SHA-256 here, MD5 and cleartext below.

mod clear;
mod md5;

pub use clear::{ask_cleartext, check_cleartext};
pub use md5::authenticate_md5;

use super::throttle::{Admission, Throttled};
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
    #[error("empty password returned by client")]
    EmptyPassword,
    /// Neither a password nor anything that a client could have guessed.
    #[error("{method} authentication failed for user \"{user}\"")]
    Method { method: &'static str, user: String },
    #[error("connection requires a valid client certificate")]
    NoCertificate,
    #[error("expected an authentication response, got message type {tag}")]
    Unexpected { tag: u8 },
    #[error(transparent)]
    Throttled(#[from] Throttled),
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
            Self::Failed { .. } | Self::EmptyPassword => SqlState::INVALID_PASSWORD,
            Self::Method { .. } | Self::NoCertificate | Self::Throttled(_) => {
                SqlState::INVALID_AUTHORIZATION_SPECIFICATION
            }
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
/// `end_point` is what a login over TLS can be bound to (SCRAM-SHA-256-PLUS): a client that can do that and was not offered
/// it says so, and is refused, because somebody in between took the offer away.
///
/// With a mock verifier the exchange looks the same and cannot succeed. The last message is appended to `out`: it leaves in one
/// write with what comes behind it.
pub async fn authenticate(
    stream: &mut Stream,
    buffer: &mut MessageBuffer,
    out: &mut BytesMut,
    user: &str,
    verifier: Verifier,
    end_point: Option<&[u8]>,
    admission: &mut Admission<'_>,
) -> Result<ClientKeys, AuthError> {
    let server = Server::new(verifier, end_point.map(<[u8]>::to_vec));
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
    admission.judge().await?;
    let authenticated = state.client_final(response.data).map_err(|error| match error {
        ScramError::Proof => AuthError::Failed { user: user.to_owned() },
        error => AuthError::Scram(error),
    })?;
    Authentication::SaslFinal { data: authenticated.server_final.as_bytes() }.encode(out)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Origin;
    use crate::auth::throttle::{Candidate, Realm, Throttle, ThrottleSettings};
    use crate::wire::fake::socket_pair;
    use std::num::NonZeroU32;
    use std::time::Instant;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// What a client with the password "secret" gets of an exchange, salts and nonces blotted out; and its outcome.
    async fn exchange(verifier: Verifier, user: &str) -> (Vec<String>, Result<ClientKeys, AuthError>) {
        let (ours, mut socket) = socket_pair().await;
        let mut stream = Stream::Tcp(ours);
        let mut buffer = MessageBuffer::default();
        let client = async move {
            let mut seen = Vec::new();
            let read = async |socket: &mut tokio::net::TcpStream| {
                let mut header = [0; 5];
                socket.read_exact(&mut header).await.expect("a message");
                let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
                let mut body = vec![0; length - 4];
                socket.read_exact(&mut body).await.expect("its body");
                (header, body)
            };
            let (header, body) = read(&mut socket).await;
            seen.push(format!("{header:?} {}", body.escape_ascii()));
            let mut out = b"SCRAM-SHA-256\0\0\0\0\x12n,,n=,r=clientnonc".to_vec();
            out.splice(0..0, [&[b'p'][..], &(out.len() as u32 + 4).to_be_bytes()].concat());
            socket.write_all(&out).await.expect("it is read");
            let (header, body) = read(&mut socket).await;
            let text = String::from_utf8(body[4..].to_vec()).expect("text");
            let parts: Vec<_> = text.split(',').map(|part| format!("{}{}", &part[..2], part.len())).collect();
            seen.push(format!("{header:?} {parts:?} {}", text.rsplit(',').next().unwrap_or_default()));
            let nonce = text.split(',').next().unwrap_or_default().to_owned();
            let last = format!("c=biws,{nonce},p={}=", "A".repeat(43));
            let out = [&[b'p'][..], &(last.len() as u32 + 4).to_be_bytes(), last.as_bytes()].concat();
            socket.write_all(&out).await.expect("it is read");
            (seen, socket)
        };
        let (throttle, settings) = (Throttle::default(), ThrottleSettings::default());
        let candidate = Candidate { realm: Realm::Elsewhere, user, origin: Origin::Local };
        let mut admission = throttle.admit(&settings, &candidate, Instant::now()).expect("it is the first");
        let mut out = BytesMut::new();
        let server = authenticate(&mut stream, &mut buffer, &mut out, user, verifier, None, &mut admission);
        let both = async { tokio::join!(server, client) };
        let both = tokio::time::timeout(std::time::Duration::from_secs(30), both).await;
        let (result, (seen, _socket)) = both.expect("neither side waits for the other");
        (seen, result)
    }

    /// A client cannot tell a user that does not exist from one whose password it does not know.
    #[tokio::test]
    async fn a_mock_exchange_looks_like_a_real_one_that_fails() {
        let stored = "SCRAM-SHA-256$4096:QUFBQUFBQUFBQUFBQUFBQQ==$QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=:QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=";
        let real = Verifier::parse(stored).expect("a stored verifier");
        let iterations = NonZeroU32::new(halephant_protocol::scram::ITERATIONS_DEFAULT).expect("not zero");
        let mock = Verifier::mock(&[7; 32], "u", iterations);
        let (seen, result) = exchange(real, "u").await;
        let (seen_mock, result_mock) = exchange(mock, "u").await;
        assert_eq!(seen, seen_mock);
        let report = report(result);
        assert!(report.escape_ascii().to_string().contains("C28P01"));
        assert_eq!(report, self::report(result_mock));
    }

    fn report(result: Result<ClientKeys, AuthError>) -> BytesMut {
        let mut out = BytesMut::new();
        result.expect_err("the proof is wrong").report().expect("it is told").encode_error(&mut out);
        out
    }

    /// The salt of a name does not change from one try to the next, or it would tell that there is none.
    #[test]
    fn a_mock_has_one_salt_for_each_name() {
        let mock = |user| Verifier::mock(&[7; 32], user, NonZeroU32::MIN).salt().to_vec();
        assert_eq!(mock("u"), mock("u"));
        assert_ne!(mock("u"), mock("v"));
    }
}
