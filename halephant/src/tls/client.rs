//! TLS with servers of other protocols: directories, and those that keys are fetched from.

use super::file::{self, FileError, Fingerprint};
use super::provider;
use rustls::client::Resumption;
use rustls::{ClientConfig, RootCertStore};
use std::path::Path;

#[derive(Debug, thiserror::Error)]
pub enum ClientConfigError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("the system has no certificate authorities that could be read; name a file of them")]
    NoSystem,
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

/// Who may have signed a server's certificate.
#[derive(Clone, Copy, Debug)]
pub enum Authorities<'a> {
    /// There is no TLS.
    Nobody,
    System,
    File(&'a Path),
}

impl<'a> Authorities<'a> {
    /// The system's, unless a file is named.
    pub fn of(ca: Option<&'a Path>) -> Self {
        ca.map_or(Self::System, Self::File)
    }
}

/// Takes certificates for the server's own name alone. Blocks.
pub fn client_config(authorities: Authorities<'_>) -> Result<ClientConfig, ClientConfigError> {
    let mut roots = RootCertStore::empty();
    match authorities {
        Authorities::Nobody => {}
        Authorities::File(path) => {
            for certificate in file::certificates(path, &mut Fingerprint::default())? {
                let unusable = |source| FileError::Unusable { path: path.into(), source };
                roots.add(certificate).map_err(unusable)?;
            }
        }
        Authorities::System => {
            // A system's own file has oddities; what can be used of it is.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err(ClientConfigError::NoSystem);
            }
        }
    }
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(config)
}
