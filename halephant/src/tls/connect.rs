//! TLS with servers: what is asked of their certificates, and what we show them.

use super::digest::end_point;
use super::error::TlsError;
use super::identity::Identity;
use super::mode::TlsMode;
use super::settings::ServerLegSettings;
use super::stream::{Connection, TlsStream};
use super::trust::Trust;
use super::verify::ServerVerifier;
use super::{ALPN, provider};
use rustls::ClientConfig;
use rustls::client::{Resumption, UnbufferedClientConnection};
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use std::sync::Arc;
use tokio::net::TcpStream;

/// Everything that a handshake with a server needs; replaced as a whole by a reload.
#[derive(Debug)]
pub struct Connector {
    mode: TlsMode,
    config: Arc<ClientConfig>,
    server_name: Option<String>,
    requires_binding: bool,
}

impl Connector {
    pub fn new(
        settings: &ServerLegSettings,
        identity: Option<Identity>,
        trust: Option<&Trust>,
    ) -> Result<Self, rustls::Error> {
        let verifier = ServerVerifier::new(trust, settings.mode.checks_name())
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(settings.min_version.versions())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let own: SingleCertAndKey = identity.certified.into();
                builder.with_client_cert_resolver(Arc::new(own))
            }
        };
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.enable_sni = settings.sni;
        config.resumption = Resumption::disabled();
        Ok(Self {
            mode: settings.mode,
            config: Arc::new(config),
            server_name: settings.server_name.clone(),
            requires_binding: settings.requires_binding,
        })
    }

    pub fn mode(&self) -> TlsMode {
        self.mode
    }

    pub fn requires_binding(&self) -> bool {
        self.requires_binding
    }

    /// The handshake with a server that has agreed to one, and what a login over it is bound to. Not cancel safe: the
    /// stream goes with it.
    pub async fn connect(
        &self,
        stream: TcpStream,
        host: &str,
    ) -> Result<(TlsStream, Option<Vec<u8>>), TlsError> {
        let host = self.server_name.as_deref().unwrap_or(host).trim_end_matches('.');
        let name = ServerName::try_from(host.to_owned()).map_err(|_| TlsError::Name(host.to_owned()))?;
        let connection = Connection::Client(UnbufferedClientConnection::new(Arc::clone(&self.config), name)?);
        let stream = TlsStream::handshake(stream, connection, &[]).await?;
        let certificate = stream.state().peer_certificates().and_then(|chain| chain.first());
        let end_point = certificate.and_then(|own| end_point(own));
        Ok((stream, end_point))
    }
}
