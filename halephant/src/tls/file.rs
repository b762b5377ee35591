//! PEM files: certificates, private keys and revocation lists, each checked as it is read.

use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Revocation lists of large authorities have some megabytes.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("\"{}\" cannot be read: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("\"{}\" is larger than {FILE_BYTES_MAX} bytes", path.display())]
    TooLarge { path: PathBuf },
    #[error("\"{}\" holds no {what} in PEM form", path.display())]
    Nothing { path: PathBuf, what: &'static str },
    #[error("\"{}\" is not PEM", path.display())]
    Syntax { path: PathBuf },
    #[error("\"{}\" is encrypted with a passphrase, which nobody could be asked for", path.display())]
    Encrypted { path: PathBuf },
    #[error(
        "\"{}\" may be read by others (mode {mode:04o}); use 0600, or 0640 where root owns it",
        path.display()
    )]
    Permissions { path: PathBuf, mode: u32 },
    #[error("\"{}\" cannot be used: {source}", path.display())]
    Unusable { path: PathBuf, source: rustls::Error },
    #[error("\"{}\" cannot be used: {source}", path.display())]
    Revocations { path: PathBuf, source: rustls::server::VerifierBuilderError },
}

/// What was read, so that a change of it can be told.
#[derive(Clone, Default)]
pub struct Fingerprint(Sha256);

impl std::fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fingerprint")
    }
}

impl Fingerprint {
    fn add(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
    }

    pub(super) fn add_other(&mut self, other: &Self) {
        self.add(&other.finish());
    }

    pub(super) fn finish(&self) -> [u8; 32] {
        self.0.clone().finalize().into()
    }
}

/// One or more certificates, the first of which is the holder's own.
pub(super) fn certificates(
    path: &Path,
    seen: &mut Fingerprint,
) -> Result<Vec<CertificateDer<'static>>, FileError> {
    objects(path, &read(path, seen)?.0, "certificate")
}

pub(super) fn revocation_lists(
    path: &Path,
    seen: &mut Fingerprint,
) -> Result<Vec<CertificateRevocationListDer<'static>>, FileError> {
    objects(path, &read(path, seen)?.0, "certificate revocation list (X509 CRL)")
}

/// A key that only its owner can read: PostgreSQL's own rule.
pub(super) fn private_key(path: &Path, seen: &mut Fingerprint) -> Result<PrivateKeyDer<'static>, FileError> {
    let (text, metadata) = read(path, seen)?;
    let mode = metadata.mode() & 0o7777;
    let forbidden = if metadata.uid() == 0 { 0o027 } else { 0o077 };
    if metadata.is_file() && mode & forbidden != 0 {
        return Err(FileError::Permissions { path: path.into(), mode });
    }
    match PrivateKeyDer::from_pem_slice(&text) {
        Ok(key) => Ok(key),
        Err(_) if is_encrypted(&text) => Err(FileError::Encrypted { path: path.into() }),
        Err(PemError::NoItemsFound) => Err(FileError::Nothing { path: path.into(), what: "private key" }),
        Err(_) => Err(FileError::Syntax { path: path.into() }),
    }
}

fn is_encrypted(text: &[u8]) -> bool {
    let has = |part: &[u8]| memchr::memmem::find(text, part).is_some();
    has(b"BEGIN ENCRYPTED PRIVATE KEY") || has(b"Proc-Type: 4,ENCRYPTED")
}

fn objects<T: PemObject>(path: &Path, text: &[u8], what: &'static str) -> Result<Vec<T>, FileError> {
    let objects: Result<Vec<T>, PemError> = T::pem_slice_iter(text).collect();
    match objects {
        Ok(objects) if objects.is_empty() => Err(FileError::Nothing { path: path.into(), what }),
        Ok(objects) => Ok(objects),
        Err(_) => Err(FileError::Syntax { path: path.into() }),
    }
}

fn read(path: &Path, seen: &mut Fingerprint) -> Result<(Zeroizing<Vec<u8>>, std::fs::Metadata), FileError> {
    let unreadable = |source| FileError::Unreadable { path: path.into(), source };
    let file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if metadata.len() > FILE_BYTES_MAX {
        return Err(FileError::TooLarge { path: path.into() });
    }
    // Of the right size at once: a buffer that grows leaves copies of the key behind.
    let capacity = usize::try_from(metadata.len()).unwrap_or(0) + 1;
    let mut text = Zeroizing::new(Vec::with_capacity(capacity));
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text).map_err(unreadable)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(FileError::TooLarge { path: path.into() });
    }
    seen.add(&text);
    Ok((text, metadata))
}
