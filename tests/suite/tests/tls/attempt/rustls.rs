//! rustls, through tokio-postgres. Its modes are libpq's where it has them; what it verifies is rustls' own.

use super::{Attempt, Binding, End, Ended, Habits, Maker, Mode, Negotiation};
use anyhow::Result;
use halephant_suite::stage;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio_postgres::config::{ChannelBinding, SslMode, SslNegotiation};
use tokio_postgres_rustls::MakeRustlsConnect;

const LIMIT: Duration = Duration::from_secs(30);

const HABITS: Habits =
    Habits { checks_below_verify: true, falls_back: false, knows_revoked: true, shows_by_issuer: false };

pub(super) fn maker() -> Maker {
    const MODES: [Mode; 5] = [Mode::Disable, Mode::Prefer, Mode::Require, Mode::VerifyCa, Mode::VerifyFull];
    Maker {
        name: "rustls (tokio-postgres)".into(),
        habits: HABITS,
        modes: &MODES,
        negotiations: &[Negotiation::Postgres, Negotiation::Direct],
        bindings: &[Binding::Disable, Binding::Prefer, Binding::Require],
        make: Box::new(|attempts| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let mut ended = Vec::with_capacity(attempts.len());
                for attempt in attempts {
                    ended.push(make(attempt).await?);
                }
                Ok(ended)
            })
        }),
    }
}

async fn make(attempt: &Attempt) -> Result<Ended> {
    let verifier = Arc::new(Verifier::new(attempt)?);
    let tls = MakeRustlsConnect::new(config(attempt, Arc::clone(&verifier))?);
    let mut config = tokio_postgres::Config::new();
    config
        .host("localhost")
        .port(attempt.port)
        .dbname(stage::DATABASE)
        .user(stage::ROLE)
        .password(stage::PASSWORD)
        .connect_timeout(LIMIT)
        .ssl_mode(match attempt.mode {
            Mode::Disable => SslMode::Disable,
            Mode::Allow | Mode::Prefer => SslMode::Prefer,
            Mode::Require | Mode::VerifyCa | Mode::VerifyFull => SslMode::Require,
        })
        .ssl_negotiation(match attempt.negotiation {
            Negotiation::Postgres => SslNegotiation::Postgres,
            Negotiation::Direct => SslNegotiation::Direct,
        })
        .channel_binding(match attempt.binding {
            Binding::Disable => ChannelBinding::Disable,
            Binding::Prefer => ChannelBinding::Prefer,
            Binding::Require => ChannelBinding::Require,
        });
    let outcome = async {
        let (client, connection) = config.connect(tls).await?;
        let connection = tokio::spawn(connection);
        let answer = client.query_one("SELECT $1::int4 + 1", &[&41_i32]).await.map(|_| ());
        drop(client);
        connection.await??;
        answer.map_err(anyhow::Error::from)
    };
    Ok(match tokio::time::timeout(LIMIT, outcome).await? {
        // Every handshake ends with a look at the certificate.
        Ok(()) if verifier.was_asked.load(Ordering::Relaxed) => Ended { end: End::Tls, said: String::new() },
        Ok(()) => Ended { end: End::Clear, said: String::new() },
        Err(error) => Ended { end: End::Refused, said: format!("{error:#}") },
    })
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    Ok(CertificateDer::pem_file_iter(path)?.collect::<Result<_, _>>()?)
}

fn config(attempt: &Attempt, verifier: Arc<Verifier>) -> Result<ClientConfig> {
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match &attempt.identity {
        Some(files) => config
            .with_client_auth_cert(chain(&files.certificate)?, PrivateKeyDer::from_pem_file(&files.key)?)?,
        None => config.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    Ok(config)
}

/// rustls' verifier where there is a CA, without its opinion on names below `verify-full`.
#[derive(Debug)]
struct Verifier {
    inner: Option<Arc<WebPkiServerVerifier>>,
    checks_name: bool,
    was_asked: AtomicBool,
}

impl Verifier {
    fn new(attempt: &Attempt) -> Result<Self> {
        let inner = attempt.ca.as_deref().map(|ca| {
            let mut roots = RootCertStore::empty();
            for certificate in chain(ca)? {
                roots.add(certificate)?;
            }
            let crls = attempt.crl.as_deref().map(CertificateRevocationListDer::from_pem_file).transpose()?;
            let provider = Arc::new(aws_lc_rs::default_provider());
            let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
            Ok::<_, anyhow::Error>(builder.with_crls(crls).build()?)
        });
        let checks_name = attempt.mode == Mode::VerifyFull;
        Ok(Self { inner: inner.transpose()?, checks_name, was_asked: AtomicBool::new(false) })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.was_asked.store(true, Ordering::Relaxed);
        let Some(inner) = &self.inner else { return Ok(ServerCertVerified::assertion()) };
        match inner.verify_server_cert(certificate, intermediates, name, ocsp, now) {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.checks_name => Ok(ServerCertVerified::assertion()),
            outcome => outcome,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
