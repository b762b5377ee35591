//! Certificates for tests: an authority, what it signs, what it takes back, and certificates that sign themselves.

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer, KeyIdMethod,
    KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

pub use rcgen::{
    PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256, PKCS_RSA_SHA384,
    PKCS_RSA_SHA512, SignatureAlgorithm,
};

static SERIAL: AtomicU64 = AtomicU64::new(1);

/// A chain and its key, both PEM.
#[derive(Clone, Debug)]
pub struct Identity {
    pub certificate: String,
    pub key: String,
    serial: u64,
}

/// Where the two are.
#[derive(Clone, Debug)]
pub struct IdentityFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Identity {
    /// Writes `name.crt` and `name.key`, which only its owner can read. Each is replaced at once, as a reload may read it.
    pub fn write(&self, directory: &Path, name: &str) -> Result<IdentityFiles> {
        let files = IdentityFiles {
            certificate: directory.join(format!("{name}.crt")),
            key: directory.join(format!("{name}.key")),
        };
        write(&files.certificate, &self.certificate)?;
        write(&files.key, &self.key)?;
        Ok(files)
    }
}

/// Replaces a file by one that only its owner can read.
pub fn write(path: &Path, text: &str) -> Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, text)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o600))?;
    Ok(fs::rename(new, path)?)
}

/// What a certificate says.
#[derive(Clone, Debug)]
pub struct Subject {
    pub common_name: String,
    /// Host names and addresses; with none, the certificate has no alternative names at all.
    pub names: Vec<String>,
    pub expired: bool,
}

impl Subject {
    pub fn new(common_name: &str, names: &[&str]) -> Self {
        let names = names.iter().map(|&name| name.to_owned()).collect();
        Self { common_name: common_name.into(), names, expired: false }
    }

    #[must_use]
    pub fn expired(mut self) -> Self {
        self.expired = true;
        self
    }

    fn params(&self, serial: u64) -> Result<CertificateParams> {
        let mut params = CertificateParams::new(self.names.clone())?;
        params.distinguished_name.push(DnType::CommonName, &self.common_name);
        params.serial_number = Some(SerialNumber::from(serial));
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(if self.expired { 2021 } else { 2099 }, 1, 1);
        params.is_ca = IsCa::ExplicitNoCa;
        Ok(params)
    }

    /// Signed by itself: nobody vouches for it.
    pub fn self_signed(&self) -> Result<Identity> {
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let key = KeyPair::generate()?;
        let certificate = self.params(serial)?.self_signed(&key)?.pem();
        Ok(Identity { certificate, key: key.serialize_pem(), serial })
    }
}

#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate as PEM: what others trust.
    pub certificate: String,
}

impl Authority {
    pub fn new(name: &str) -> Result<Self> {
        Self::with(name, &PKCS_ECDSA_P256_SHA256)
    }

    /// What it signs is signed by this algorithm.
    pub fn with(name: &str, algorithm: &'static SignatureAlgorithm) -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2099, 1, 1);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate_for(algorithm)?;
        let certificate = params.self_signed(&key)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), certificate })
    }

    pub fn issue(&self, subject: &Subject) -> Result<Identity> {
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let key = KeyPair::generate()?;
        let certificate = subject.params(serial)?.signed_by(&key, &self.issuer)?.pem();
        Ok(Identity { certificate, key: key.serialize_pem(), serial })
    }

    /// The list of certificates that it has taken back, as PEM.
    pub fn revoke(&self, identities: &[&Identity]) -> Result<String> {
        let revoked = |identity: &&Identity| RevokedCertParams {
            serial_number: SerialNumber::from(identity.serial),
            revocation_time: date_time_ymd(2022, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2022, 1, 1),
            next_update: date_time_ymd(2099, 1, 1),
            crl_number: SerialNumber::from(SERIAL.fetch_add(1, Ordering::Relaxed)),
            issuing_distribution_point: None,
            revoked_certs: identities.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Ok(list.signed_by(&self.issuer)?.pem()?)
    }
}
