//! TLS for clients that do not speak it: a port where they connect in the clear, and from which their bytes go on
//! encrypted. The TLS is rustls' own buffered client, so that nothing of halephant's is on both sides.

use anyhow::{Context, Result, bail};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// How a connection asks for TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// SSLRequest.
    Request,
    /// The handshake at once, with the protocol's name.
    Direct,
    /// The handshake at once, and no name.
    DirectUnnamed,
}

/// Any certificate will do.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Connects to `port` of this host and has the connection encrypted.
pub async fn connect(port: u16, host: &str, ask: Ask) -> Result<TlsStream<TcpStream>> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
        .with_no_client_auth();
    if ask != Ask::DirectUnnamed {
        config.alpn_protocols = vec![b"postgresql".to_vec()];
    }
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    if ask == Ask::Request {
        stream.write_all(&crate::encode::ssl_request()).await?;
        let answer = stream.read_u8().await?;
        if answer != b'S' {
            bail!("{:?} in answer to SSLRequest", char::from(answer));
        }
    }
    let name = ServerName::try_from(host.to_owned())?;
    Ok(TlsConnector::from(Arc::new(config)).connect(name, stream).await?)
}

/// Listens until it is dropped.
#[derive(Debug)]
pub struct Tunnel {
    port: u16,
    last_error: Arc<Mutex<Option<String>>>,
    // It ends every connection.
    _runtime: Runtime,
}

impl Tunnel {
    /// To `port` of this host.
    pub fn to(port: u16, ask: Ask) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let last_error: Arc<Mutex<Option<String>>> = Arc::default();
        let own = listener.local_addr().context("it is bound")?.port();
        let errors = Arc::clone(&last_error);
        runtime.spawn(async move {
            while let Ok((plain, _)) = listener.accept().await {
                let errors = Arc::clone(&errors);
                tokio::spawn(async move {
                    if let Err(error) = carry(plain, port, ask).await {
                        *errors.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
                    }
                });
            }
        });
        Ok(Self { port: own, last_error, _runtime: runtime })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// What went wrong last.
    pub fn error(&self) -> Option<String> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The end of one direction is passed on as such: a half-closed socket here is close_notify there.
async fn carry(mut plain: TcpStream, port: u16, ask: Ask) -> Result<()> {
    plain.set_nodelay(true)?;
    let mut encrypted = connect(port, "localhost", ask).await?;
    tokio::io::copy_bidirectional(&mut plain, &mut encrypted).await?;
    Ok(())
}
