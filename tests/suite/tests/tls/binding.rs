//! Channel binding on both legs, and what somebody in between can do: nothing.

use super::matrix::{open_to, server_leg};
use super::pki::{self, Pki, reload, with_clients, with_servers};
use halephant::server::OpenError;
use halephant::tls::TlsMode;
use halephant_harness::certificates::{
    Authority, Identity, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256,
    PKCS_RSA_SHA384, PKCS_RSA_SHA512, SignatureAlgorithm,
};
use halephant_harness::{Cluster, Login, command, psql};
use halephant_suite::tunnel::{Ask, Tunnel, connect};
use halephant_suite::{Client, Stage, encode, stage};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;

fn psql_binding(stage: &Stage, binding: &str) -> Result<(), String> {
    let mut psql = psql::command(stage.cluster.binaries(), &stage.session()).expect("psql is there");
    psql.env("PGSSLMODE", "require").env("PGCHANNELBINDING", binding).env("HOME", "/nonexistent");
    let output = command::run(psql.args(["--command", "SELECT 1"]), psql::LIMIT).expect("psql ends");
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// libpq computes the hash of the certificate by itself, and so does PostgreSQL.
#[test]
fn logins_are_bound_by_the_hash_of_each_signature() {
    let algorithms: [(&str, &'static SignatureAlgorithm); 5] = [
        ("ECDSA with SHA-256", &PKCS_ECDSA_P256_SHA256),
        ("ECDSA with SHA-384", &PKCS_ECDSA_P384_SHA384),
        ("RSA with SHA-256", &PKCS_RSA_SHA256),
        ("RSA with SHA-384", &PKCS_RSA_SHA384),
        ("RSA with SHA-512", &PKCS_RSA_SHA512),
    ];
    for (name, algorithm) in algorithms {
        let pki = Pki::of(Authority::with("root", algorithm).expect("it signs itself"));
        let identity = pki.server();
        let files = pki.put("server", &identity);
        let stage = Stage::with(Cluster::builder().tls(&identity), |config| {
            let config = with_clients(config, "require", &files);
            with_servers(config, "verify-full", Some(pki.path().join("root.crt")))
                .set("cluster.main.tls.channel_binding", "require")
        })
        .expect("it starts");
        for binding in ["require", "prefer", "disable"] {
            psql_binding(&stage, binding).unwrap_or_else(|error| panic!("{name} {binding}: {error}"));
        }
    }
}

/// There is no hash to bind with: who insists on one is not let in, everybody else is.
#[test]
fn a_certificate_without_a_hash_cannot_be_bound_to() {
    let pki = Pki::of(Authority::with("root", &PKCS_ED25519).expect("it signs itself"));
    let files = pki.put("server", &pki.server());
    let stage =
        Stage::with(Cluster::builder(), |config| with_clients(config, "require", &files)).expect("it starts");
    psql_binding(&stage, "prefer").expect("it is let in");
    psql_binding(&stage, "require").expect_err("it is not bound");
}

/// A client that says "I could have, but you did not offer it" was lied to.
#[test]
fn a_client_that_was_not_shown_the_offer_is_refused() {
    let pki = Pki::new();
    let stage = pki::stage(&pki, Cluster::builder());
    let tunnel = Tunnel::to(stage.proxy.port(), Ask::Request).expect("it listens");
    let login = Login { host: "127.0.0.1".into(), ..stage.session() }.at(tunnel.port());
    for (header, mechanism, refused) in [
        ("n,,", "SCRAM-SHA-256", None),
        ("y,,", "SCRAM-SHA-256", Some("28000")),
        ("n,,", "SCRAM-SHA-256-PLUS", Some("08P01")),
        ("p=tls-unique,,", "SCRAM-SHA-256-PLUS", Some("08P01")),
        ("p=tls-server-end-point,,", "SCRAM-SHA-256", Some("08P01")),
    ] {
        let mut client = Client::open(&login).expect("it accepts");
        client
            .send(&encode::startup(3, 0, &[("user", stage::ROLE), ("database", "app_session")]))
            .expect("it is read");
        let offer = client.receive().expect("an offer");
        assert_eq!(offer.body, b"\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0");
        let first = format!("{header}n=,r=clientnonce");
        let length = u32::try_from(first.len()).expect("it is short").to_be_bytes();
        let body = [mechanism.as_bytes(), b"\0", &length, first.as_bytes()].concat();
        client.send(&encode::message(b'p', &body)).expect("it is read");
        let answer = client.receive().expect("an answer");
        assert_eq!((answer.tag == b'E').then(|| answer.sqlstate()).flatten().as_deref(), refused, "{header}");
    }
    // In the clear nothing can be bound to.
    let mut client = Client::open(&stage.session()).expect("it accepts");
    client.send(&encode::startup(3, 0, &[("user", stage::ROLE)])).expect("it is read");
    assert_eq!(client.receive().expect("an offer").body, b"\0\0\0\x0aSCRAM-SHA-256\0\0");
    assert!(reload(&stage, &Stage::config(&stage.cluster)), "without TLS as well");
}

/// Somebody between halephant and PostgreSQL with a certificate of their own, who passes everything on.
struct Between {
    port: u16,
    _runtime: Runtime,
}

impl Between {
    /// With `strip`, the server's offer to bind is taken away.
    fn new(identity: &Identity, to: u16, strip: bool) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("it starts");
        let chain = vec![CertificateDer::from_pem_slice(identity.certificate.as_bytes()).expect("it is PEM")];
        let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).expect("it is PEM");
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("there are some")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("they fit");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port is free");
        let port = listener.local_addr().expect("it is bound").port();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(pass_on(stream, acceptor.clone(), to, strip));
            }
        });
        Self { port, _runtime: runtime }
    }
}

async fn pass_on(mut stream: TcpStream, acceptor: TlsAcceptor, to: u16, strip: bool) -> anyhow::Result<()> {
    let mut request = [0; 8];
    stream.read_exact(&mut request).await?;
    stream.write_all(b"S").await?;
    let mut client = acceptor.accept(stream).await?;
    let mut server = connect(to, "localhost", Ask::Request).await?;
    if strip {
        let mut startup = vec![0; 4096];
        let read = client.read(&mut startup).await?;
        server.write_all(&startup[..read]).await?;
        let mut header = [0; 5];
        server.read_exact(&mut header).await?;
        let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
        let mut offer = vec![0; length - 4];
        server.read_exact(&mut offer).await?;
        anyhow::ensure!(offer.windows(5).any(|part| part == b"-PLUS"), "PostgreSQL did not offer it");
        client.write_all(&encode::message(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0")).await?;
    }
    tokio::io::copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

#[test]
fn nobody_in_between_gets_a_bound_login() {
    let pki = Pki::new();
    let cluster = pki::cluster(Cluster::builder().tls(&pki.server()));
    let stranger = Pki::new().server();
    let passing = Between::new(&stranger, cluster.primary().port(), false);
    let stripping = Between::new(&stranger, cluster.primary().port(), true);
    // Even where certificates are not checked at all: PostgreSQL notices.
    for requires_binding in [false, true] {
        let leg = server_leg(TlsMode::Require, None, None, requires_binding);
        assert!(open_to(cluster.primary().port(), &leg).expect("without anybody in between"));
        let error = open_to(passing.port, &leg).expect_err("the certificates differ");
        assert!(matches!(error, OpenError::Refused { .. }), "{error}");
        assert!(error.to_string().contains("channel binding"), "{error}");
        let error = open_to(stripping.port, &leg).expect_err("the offer is missing");
        match requires_binding {
            true => assert!(matches!(error, OpenError::NoBinding { .. }), "{error}"),
            false => assert!(error.to_string().contains("channel binding"), "{error}"),
        }
    }
    let root = pki.path().join("root.crt");
    let leg = server_leg(TlsMode::VerifyFull, Some(&root), None, false);
    let error = open_to(passing.port, &leg).expect_err("nobody vouches for it");
    assert!(matches!(error, OpenError::Tls { .. }), "{error}");
}

/// CVE-2021-23222: what is sent ahead of the handshake is not taken for the server's word. CVE-2024-10977: nor is an error.
#[test]
fn nothing_that_a_server_sends_ahead_of_the_handshake_is_taken() {
    let runtime = tokio::runtime::Runtime::new().expect("it starts");
    let answers: [&'static [u8]; 4] =
        [b"S\x52\0\0\0\x08\0\0\0\0Z\0\0\0\x05I", b"E\0\0\0\x20SFATAL\0C28P01\0Msend money\0\0", b"", b"X"];
    for answer in answers {
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port is free");
        let port = listener.local_addr().expect("it is bound").port();
        runtime.spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 8];
                if stream.read_exact(&mut request).await.is_ok() {
                    let _ = stream.write_all(answer).await;
                }
            }
        });
        let error =
            open_to(port, &server_leg(TlsMode::Require, None, None, false)).expect_err("it is refused");
        assert!(matches!(error, OpenError::Tls { .. }), "{error}");
        assert!(!error.to_string().contains("send money"), "{error}");
    }
}
