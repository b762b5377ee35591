//! TLS with clients: which certificate one gets, and what is known of it afterwards.

use super::error::TlsError;
use super::identity::Identity;
use super::mode::TlsMode;
use super::name::{common_name, matches, subject};
use super::settings::{ClientLegSettings, NamedIdentity};
use super::stream::{Connection, TlsStream};
use super::trust::Trust;
use super::{ALPN, provider};
use rustls::ServerConfig;
use rustls::server::{
    ClientHello, NoServerSessionStorage, ResolvesServerCert, UnbufferedServerConnection, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use std::sync::{Arc, OnceLock};
use tokio::net::TcpStream;

/// Everything that a handshake with a client needs; replaced as a whole by a reload.
#[derive(Debug)]
pub struct Acceptor {
    mode: TlsMode,
    config: ServerConfig,
    identities: Arc<Identities>,
}

#[derive(Debug)]
struct Identities {
    default: Identity,
    named: Vec<NamedIdentity>,
}

impl Identities {
    /// A name as it is comes before a wildcard.
    fn find(&self, host: Option<&str>) -> &Identity {
        let Some(host) = host else { return &self.default };
        let exact = self.named.iter().find(|named| named.host.eq_ignore_ascii_case(host));
        let named = exact.or_else(|| self.named.iter().find(|named| matches(&named.host, host)));
        named.map_or(&self.default, |named| &named.identity)
    }
}

/// Remembers which certificate one connection got: the login is bound to it.
#[derive(Debug)]
struct Choice {
    identities: Arc<Identities>,
    chosen: OnceLock<Identity>,
}

impl ResolvesServerCert for Choice {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let identity = self.identities.find(hello.server_name());
        Some(Arc::clone(&self.chosen.get_or_init(|| identity.clone()).certified))
    }
}

/// What the handshake told about a client.
#[derive(Debug)]
pub struct ClientPeer {
    /// What SCRAM-SHA-256-PLUS binds to; `None` where our certificate has no hash function.
    pub end_point: Option<Arc<[u8]>>,
    pub certificate: Option<ClientCertificate>,
    /// The client named the protocol, and it is PostgreSQL's.
    pub named_protocol: bool,
}

/// A client's certificate, which was checked.
#[derive(Debug)]
pub struct ClientCertificate {
    pub common_name: Option<String>,
    /// The distinguished name as RFC 2253 writes it; `None` where it has parts that cannot be written.
    pub subject: Option<String>,
}

impl Acceptor {
    pub fn new(
        settings: &ClientLegSettings,
        identity: Identity,
        trust: Option<&Trust>,
        named: Vec<NamedIdentity>,
    ) -> Result<Self, rustls::Error> {
        let verifier = match trust {
            None => WebPkiClientVerifier::no_client_auth(),
            Some(trust) => {
                trust.client_verifier().map_err(|error| rustls::Error::General(error.to_string()))?
            }
        };
        let identities = Arc::new(Identities { default: identity, named });
        let unchosen = Arc::new(Choice { identities: Arc::clone(&identities), chosen: OnceLock::new() });
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(settings.min_version.versions())?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(unchosen);
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self { mode: settings.mode, config, identities })
    }

    pub fn mode(&self) -> TlsMode {
        self.mode
    }

    /// The handshake with a client; `received` is what has been read of it. Not cancel safe: the stream goes with it.
    pub async fn accept(
        &self,
        stream: TcpStream,
        received: &[u8],
    ) -> Result<(TlsStream, ClientPeer), TlsError> {
        let choice = Arc::new(Choice { identities: Arc::clone(&self.identities), chosen: OnceLock::new() });
        let mut config = self.config.clone();
        config.cert_resolver = Arc::clone(&choice) as Arc<dyn ResolvesServerCert>;
        let connection = Connection::Server(UnbufferedServerConnection::new(Arc::new(config))?);
        let stream = TlsStream::handshake(stream, connection, received).await?;
        let state = stream.state();
        let certificate = state.peer_certificates().and_then(|chain| chain.first());
        let peer = ClientPeer {
            end_point: choice.chosen.get().and_then(|identity| identity.end_point.clone()),
            certificate: certificate
                .map(|own| ClientCertificate { common_name: common_name(own), subject: subject(own) }),
            named_protocol: state.alpn_protocol() == Some(ALPN),
        };
        Ok((stream, peer))
    }
}
