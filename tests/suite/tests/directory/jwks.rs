//! Keys that sign tokens, and a server that gives their public halves away.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use halephant_harness::certificates::{Identity, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PKCS_RSA_SHA256};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::KeyPair;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Before the key itself, for a key of 2048 bits.
const PKCS8_RSA_HEADER_BYTES: usize = 26;

pub struct Signer {
    pub id: String,
    pub algorithm: Algorithm,
    key: EncodingKey,
    /// As an Ed25519 key has it.
    point: String,
}

impl Signer {
    pub fn new(id: &str, algorithm: Algorithm) -> Self {
        let pair = KeyPair::generate_for(match algorithm {
            Algorithm::ES256 => &PKCS_ECDSA_P256_SHA256,
            Algorithm::EdDSA => &PKCS_ED25519,
            _ => &PKCS_RSA_SHA256,
        });
        let pair = pair.expect("it is made");
        let der = pair.serialize_der();
        let key = match algorithm {
            Algorithm::ES256 => EncodingKey::from_ec_der(&der),
            Algorithm::EdDSA => EncodingKey::from_ed_der(&der),
            // Without the wrapping of PKCS #8.
            _ => EncodingKey::from_rsa_der(&der[PKCS8_RSA_HEADER_BYTES..]),
        };
        Self { id: id.into(), algorithm, key, point: URL_SAFE_NO_PAD.encode(pair.public_key_raw()) }
    }

    pub fn public(&self) -> Value {
        if self.algorithm == Algorithm::EdDSA {
            return json!({ "kty": "OKP", "crv": "Ed25519", "x": self.point, "kid": self.id });
        }
        let mut key = Jwk::from_encoding_key(&self.key, self.algorithm).expect("it has a public half");
        key.common.key_id = Some(self.id.clone());
        serde_json::to_value(key).expect("it is JSON")
    }

    pub fn token(&self, claims: &Value) -> String {
        self.token_with(Header { kid: Some(self.id.clone()), ..Header::new(self.algorithm) }, claims)
    }

    pub fn token_with(&self, header: Header, claims: &Value) -> String {
        encode(&header, claims, &self.key).expect("it is signed")
    }
}

pub fn set(signers: &[&Signer]) -> String {
    json!({ "keys": signers.iter().map(|signer| signer.public()).collect::<Vec<_>>() }).to_string()
}

pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later").as_secs()
}

/// HTTP, or HTTPS with a certificate.
pub struct Server {
    pub url: String,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// Status line and body.
    answer: Mutex<(String, String)>,
    asked: AtomicUsize,
}

impl Server {
    pub fn start(identity: Option<&Identity>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let port = listener.local_addr().expect("it is bound").port();
        let tls = identity.map(tls);
        let scheme = if tls.is_some() { "https" } else { "http" };
        let server = Self { url: format!("{scheme}://127.0.0.1:{port}/keys"), state: Arc::default() };
        let state = Arc::clone(&server.state);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
                match &tls {
                    None => state.serve(stream),
                    Some(config) => {
                        let connection = ServerConnection::new(Arc::clone(config)).expect("it is configured");
                        state.serve(StreamOwned::new(connection, stream));
                    }
                }
            }
        });
        server
    }

    pub fn answer(&self, status: &str, body: String) {
        *self.state.answer.lock().expect("nobody panics") = (status.to_owned(), body);
    }

    pub fn asked(&self) -> usize {
        self.state.asked.load(Ordering::SeqCst)
    }
}

impl State {
    fn serve(&self, mut stream: impl Read + Write) {
        let mut request = Vec::new();
        let mut part = [0; 1024];
        while !request.ends_with(b"\r\n\r\n") {
            match stream.read(&mut part) {
                Ok(count) if count > 0 => request.extend_from_slice(&part[..count]),
                _ => return,
            }
        }
        self.asked.fetch_add(1, Ordering::SeqCst);
        let (status, body) = self.answer.lock().expect("nobody panics").clone();
        let head =
            format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
        let _ = stream.flush();
    }
}

fn tls(identity: &Identity) -> Arc<ServerConfig> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(identity.certificate.as_bytes())
        .collect::<Result<_, _>>()
        .expect("it is PEM");
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).expect("it is PEM");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("there are some")
        .with_no_client_auth();
    Arc::new(builder.with_single_cert(chain, key).expect("they belong together"))
}

/// Refuses every connection: nobody listens there.
pub fn nowhere() -> String {
    let port = TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("one is free")
        .port();
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    format!("http://127.0.0.1:{port}/keys")
}
