//! Whose signature under a certificate counts, and which certificates have been taken back.

use super::file::{self, FileError, Fingerprint};
use super::provider;
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use std::path::Path;
use std::sync::Arc;

/// A CA file and, beside it, a file of revocation lists.
#[derive(Clone, Debug)]
pub struct Trust {
    roots: Arc<RootCertStore>,
    /// The same as they stand in the file: a certificate that is one of them is trusted for itself.
    pub(super) pinned: Vec<CertificateDer<'static>>,
    revocations: Vec<CertificateRevocationListDer<'static>>,
    pub(super) seen: Fingerprint,
}

/// Which of the two files is at fault.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    #[error(transparent)]
    Ca(FileError),
    #[error(transparent)]
    Crl(FileError),
}

impl Trust {
    pub fn load(ca: &Path, crl: Option<&Path>) -> Result<Self, TrustError> {
        let mut seen = Fingerprint::default();
        let pinned = file::certificates(ca, &mut seen).map_err(TrustError::Ca)?;
        let mut roots = RootCertStore::empty();
        for certificate in &pinned {
            let unusable = |source| TrustError::Ca(FileError::Unusable { path: ca.into(), source });
            roots.add(certificate.clone()).map_err(unusable)?;
        }
        let revocations = match crl {
            Some(path) => file::revocation_lists(path, &mut seen).map_err(TrustError::Crl)?,
            None => Vec::new(),
        };
        let trust = Self { roots: Arc::new(roots), pinned, revocations, seen };
        match (trust.server_verifier(), crl) {
            (Err(source), Some(path)) => {
                Err(TrustError::Crl(FileError::Revocations { path: path.into(), source }))
            }
            _ => Ok(trust),
        }
    }

    /// Checks servers' certificates. As OpenSSL does for libpq: with revocation lists, every certificate of a chain must
    /// be covered by one that is not out of date.
    pub(super) fn server_verifier(
        &self,
    ) -> Result<Arc<WebPkiServerVerifier>, rustls::server::VerifierBuilderError> {
        WebPkiServerVerifier::builder_with_provider(Arc::clone(&self.roots), provider())
            .with_crls(self.revocations.iter().cloned())
            .enforce_revocation_expiration()
            .build()
    }

    /// Checks the certificates of clients that have one. As PostgreSQL does, a client without one is let in here, and
    /// told that it needs one afterwards, in words it can show.
    pub(super) fn client_verifier(
        &self,
    ) -> Result<Arc<dyn ClientCertVerifier>, rustls::server::VerifierBuilderError> {
        WebPkiClientVerifier::builder_with_provider(Arc::clone(&self.roots), provider())
            .with_crls(self.revocations.iter().cloned())
            .enforce_revocation_expiration()
            .allow_unauthenticated()
            .build()
    }
}
