//! Checking a server's certificate as far as `sslmode` asks for it.

use super::name::{common_name_is, is_in_time};
use super::provider;
use super::trust::Trust;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::{ParsedCertificate, VerifierBuilderError};
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};
use std::sync::Arc;

/// With `trust`, the chain is checked; with `checks_name`, the name too. Without either, any certificate will do, but its
/// holder must have the key.
#[derive(Debug)]
pub(super) struct ServerVerifier {
    chain: Option<(Arc<WebPkiServerVerifier>, Vec<CertificateDer<'static>>)>,
    checks_name: bool,
}

impl ServerVerifier {
    pub(super) fn new(trust: Option<&Trust>, checks_name: bool) -> Result<Self, VerifierBuilderError> {
        let chain = match trust {
            Some(trust) => Some((trust.server_verifier()?, trust.pinned.clone())),
            None => None,
        };
        Ok(Self { chain, checks_name })
    }

    /// A certificate that has no alternative names is known by its common name, as libpq has it.
    fn check_name(&self, certificate: &CertificateDer<'_>, name: &ServerName<'_>) -> Result<(), Error> {
        let error = match verify_server_name(&ParsedCertificate::try_from(certificate)?, name) {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        if common_name_is(certificate, &name.to_str()) { Ok(()) } else { Err(error) }
    }
}

fn is_about_name(error: &Error) -> bool {
    matches!(
        error,
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }
        )
    )
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some((chain, pinned)) = &self.chain else { return Ok(ServerCertVerified::assertion()) };
        if pinned.iter().any(|known| known == end_entity) {
            // A self-signed certificate that is its own CA file, as `openssl req -x509` makes them.
            if !is_in_time(end_entity, now.as_secs()) {
                return Err(CertificateError::Expired.into());
            }
        } else {
            let verdict =
                chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
            match verdict {
                // The name is looked at last: the rest is in order.
                Err(error) if !is_about_name(&error) => return Err(error),
                _ => {}
            }
        }
        if self.checks_name {
            self.check_name(end_entity, server_name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
