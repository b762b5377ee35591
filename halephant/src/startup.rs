//! The first packets of a connection: encryption requests, then a CancelRequest or a StartupMessage.

use crate::net::Origin;
use crate::tls::{Acceptor, ClientPeer, TlsError};
use crate::wire::{MessageBuffer, ReadError, Stream};
use halephant_protocol::SqlState;
use halephant_protocol::backend::ErrorReport;
use halephant_protocol::startup::{
    self, DIRECT_TLS_FIRST_BYTE, ENCRYPTION_REFUSED, FirstPacket, ProtocolVersion, SSL_ACCEPTED,
    StartupError, StartupMessage,
};
use std::io;
use std::sync::Arc;

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
    /// What the TLS handshake told about the client; `None` in the clear.
    pub tls: Option<Box<ClientPeer>>,
    /// Who is at the other end, as far as the sockets tell.
    pub origin: Arc<Origin>,
}

impl StartupRequest {
    /// What the login can be bound to.
    pub fn end_point(&self) -> Option<&[u8]> {
        self.tls.as_ref()?.end_point.as_deref()
    }
}

#[derive(Debug, thiserror::Error)]
pub enum OpeningError {
    #[error(transparent)]
    Startup(#[from] StartupError),
    #[error("received unencrypted data after {request}")]
    AheadOfHandshake { request: &'static str },
    #[error("{request} came twice")]
    Repeated { request: &'static str },
    #[error("connection requires TLS")]
    TlsRequired,
    #[error("connection requires a valid client certificate")]
    NoCertificate,
    #[error("certificate authentication failed for user \"{user}\"")]
    CertificateName { user: String },
    #[error("direct TLS connection request, but there is no TLS")]
    NoDirectTls,
    #[error(transparent)]
    Tls(#[from] TlsError),
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
            Self::TlsRequired | Self::NoCertificate | Self::CertificateName { .. } => {
                SqlState::INVALID_AUTHORIZATION_SPECIFICATION
            }
            // TLS has alerts of its own, and a client that speaks TLS would not understand anything else.
            Self::NoDirectTls | Self::Tls(_) | Self::Read(_) | Self::Io(_) => return None,
        };
        Some(ErrorReport::fatal(sqlstate, self.to_string()))
    }
}

/// Reads up to the packet that says what the connection is for, and has the connection encrypted on the way where the
/// client asks for it and there is an `acceptor`.
pub async fn read_opening(
    stream: &mut Stream,
    buffer: &mut MessageBuffer,
    acceptor: Option<&Acceptor>,
    origin: &Arc<Origin>,
) -> Result<Opening, OpeningError> {
    // As PostgreSQL has it: there is no TLS on Unix sockets, and no need for it.
    let acceptor = acceptor.filter(|_| origin.peer().is_none());
    let (mut ssl_asked, mut gssenc_asked) = (false, false);
    let mut peer = None;
    loop {
        if buffer.bytes().is_empty() {
            buffer.fill(stream).await?;
        }
        if !ssl_asked && !gssenc_asked && buffer.bytes().first() == Some(&DIRECT_TLS_FIRST_BYTE) {
            ssl_asked = true;
            peer = Some(accept_direct(stream, buffer, acceptor).await?);
            continue;
        }
        let (request, taken) = match startup::parse(buffer.bytes())? {
            None => {
                buffer.fill(stream).await?;
                continue;
            }
            Some((FirstPacket::CancelRequest(cancel), _)) => {
                // In the clear, too, whatever the mode: libpq before version 17 knows no other way.
                let secret_key = cancel.secret_key.to_vec();
                return Ok(Opening::Cancel { process_id: cancel.process_id, secret_key });
            }
            Some((FirstPacket::StartupMessage(message), taken)) => {
                let request = own(&message, peer, Arc::clone(origin));
                buffer.consume(taken);
                admit(acceptor, &request)?;
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
        match acceptor {
            Some(acceptor) if request == "SSLRequest" => {
                stream.write_all(&[SSL_ACCEPTED]).await?;
                peer = Some(accept(stream, &[], acceptor).await?);
            }
            _ => stream.write_all(&[ENCRYPTION_REFUSED]).await?,
        }
    }
}

/// A client that begins with a TLS handshake has to name the protocol in it (ALPN), so that a handshake meant for
/// another protocol's server cannot be brought here.
async fn accept_direct(
    stream: &mut Stream,
    buffer: &mut MessageBuffer,
    acceptor: Option<&Acceptor>,
) -> Result<Box<ClientPeer>, OpeningError> {
    let acceptor = acceptor.ok_or(OpeningError::NoDirectTls)?;
    let received = std::mem::take(buffer).into_bytes();
    let peer = accept(stream, &received, acceptor).await?;
    if peer.named_protocol { Ok(peer) } else { Err(TlsError::NoAlpn.into()) }
}

/// After an error there is no stream.
async fn accept(
    stream: &mut Stream,
    received: &[u8],
    acceptor: &Acceptor,
) -> Result<Box<ClientPeer>, OpeningError> {
    let tcp = stream.take_tcp()?;
    let (encrypted, peer) = acceptor.accept(tcp, received).await?;
    *stream = Stream::Tls(Box::new(encrypted));
    Ok(Box::new(peer))
}

/// Whether a client may go on to its authentication, as far as TLS has a say in it.
fn admit(acceptor: Option<&Acceptor>, request: &StartupRequest) -> Result<(), OpeningError> {
    let Some(mode) = acceptor.map(Acceptor::mode).filter(|mode| mode.is_mandatory()) else { return Ok(()) };
    let peer = request.tls.as_ref().ok_or(OpeningError::TlsRequired)?;
    if !mode.needs_trust() {
        return Ok(());
    }
    let certificate = peer.certificate.as_ref().ok_or(OpeningError::NoCertificate)?;
    if mode.checks_name() && certificate.common_name.as_deref() != Some(&request.user) {
        return Err(OpeningError::CertificateName { user: request.user.clone() });
    }
    Ok(())
}

fn own(message: &StartupMessage<'_>, tls: Option<Box<ClientPeer>>, origin: Arc<Origin>) -> StartupRequest {
    let mut negotiation = bytes::BytesMut::new();
    let mut version = message.version;
    if let Some(outcome) = message.negotiate(NEWEST_MINOR) {
        version = outcome.version;
        // Names that fitted into a startup packet fit into the answer.
        let _ = outcome.message().encode(&mut negotiation);
    }
    StartupRequest {
        version,
        user: message.user().to_owned(),
        database: message.database().to_owned(),
        parameters: message.parameters.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect(),
        negotiation,
        tls,
        origin,
    }
}
