//! A certificate chain with its private key.

use super::digest::end_point;
use super::file::{self, FileError, Fingerprint};
use super::provider;
use rustls::sign::CertifiedKey;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What one side proves who it is with.
#[derive(Clone, Debug)]
pub struct Identity {
    pub(super) certified: Arc<CertifiedKey>,
    /// What a login over TLS with this certificate is bound to.
    pub(super) end_point: Option<Arc<[u8]>>,
    pub(super) seen: Fingerprint,
}

/// Which of the two files is at fault.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error(transparent)]
    Certificate(FileError),
    #[error(transparent)]
    Key(FileError),
    #[error("\"{}\" is not the key of the certificate", path.display())]
    Mismatch { path: PathBuf },
}

impl Identity {
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, IdentityError> {
        let mut seen = Fingerprint::default();
        let chain = file::certificates(certificate, &mut seen).map_err(IdentityError::Certificate)?;
        let secret = file::private_key(key, &mut seen).map_err(IdentityError::Key)?;
        let end_point = chain.first().and_then(|own| end_point(own)).map(Arc::from);
        let unusable = |path: &Path, source| FileError::Unusable { path: path.into(), source };
        let certified = CertifiedKey::from_der(chain, secret, &provider()).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => IdentityError::Mismatch { path: key.into() },
            error @ rustls::Error::InvalidCertificate(_) => {
                IdentityError::Certificate(unusable(certificate, error))
            }
            error => IdentityError::Key(unusable(key, error)),
        })?;
        Ok(Self { certified: Arc::new(certified), end_point, seen })
    }
}
