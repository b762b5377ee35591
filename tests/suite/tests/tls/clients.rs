//! What clients of the proxy get: the certificate for their host, direct handshakes, certificates of their own, and refusals.

use super::pki::{self, LIMIT, Pki, reload, text, with_clients, with_servers};
use super::sessions::peer_certificate;
use halephant_harness::certificates::{Authority, Identity, Subject};
use halephant_harness::{Cluster, Login, command, psql};
use halephant_suite::tunnel::{Ask, Tunnel};
use halephant_suite::{Client, Refused, Stage, encode, stage};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::io::Read;

fn der(identity: &Identity) -> Vec<u8> {
    CertificateDer::from_pem_slice(identity.certificate.as_bytes()).expect("it is PEM").to_vec()
}

#[test]
fn a_client_gets_the_certificate_of_the_host_it_asks_for() {
    let pki = Pki::new();
    let identities = ["default", "exact", "wild"].map(|name| pki.issue(&Subject::new(name, &[])));
    let [default, exact, wild] = &identities;
    let [files, exact_files, wild_files] = [("default", default), ("exact", exact), ("wild", wild)]
        .map(|(name, identity)| pki.put(name, identity));
    let stage = Stage::with(Cluster::builder(), |config| {
        let mut sni = toml::Table::new();
        for (host, files) in [("shop.example.com", &exact_files), ("*.example.com", &wild_files)] {
            let mut entry = toml::Table::new();
            entry.insert("certificate".into(), text(&files.certificate).into());
            entry.insert("key".into(), text(&files.key).into());
            sni.insert(host.into(), entry.into());
        }
        with_clients(config, "prefer", &files).set("server.tls.sni", sni)
    })
    .expect("it starts");
    for (host, identity) in [
        ("shop.example.com", exact),
        ("SHOP.example.com", exact),
        ("other.example.com", wild),
        ("a.b.example.com", default),
        ("example.com", default),
        ("localhost", default),
        // An address is not a host name: nothing is asked for.
        ("127.0.0.1", default),
    ] {
        assert_eq!(peer_certificate(stage.proxy.port(), host), der(identity), "{host}");
    }
}

#[test]
fn a_handshake_may_come_at_once_if_it_names_the_protocol() {
    let stage = pki::stage(&Pki::new(), Cluster::builder());
    let attempt = |ask| {
        let tunnel = Tunnel::to(stage.proxy.port(), ask).expect("it listens");
        let login = Login { host: "127.0.0.1".into(), ..stage.session() }.at(tunnel.port());
        Client::connect(&login).and_then(|mut client| client.value("SELECT 1"))
    };
    assert_eq!(attempt(Ask::Direct).expect("it answers"), "1");
    attempt(Ask::DirectUnnamed).expect_err("it might be meant for somebody else");
    stage.proxy.wait_for_log("without ALPN", 1, LIMIT).expect("it says why");
}

#[test]
fn nothing_is_taken_that_came_ahead_of_the_handshake() {
    let stage = pki::stage(&Pki::new(), Cluster::builder());
    let startup = encode::startup(3, 0, &[("user", stage::ROLE), ("database", stage::DATABASE)]);
    let mut client = Client::open(&stage.transaction()).expect("it accepts");
    client.send(&[encode::ssl_request(), startup].concat()).expect("it is read");
    let message = client.receive().expect("an ErrorResponse and no 'S'");
    assert_eq!((message.tag, message.sqlstate().as_deref()), (b'E', Some("08P01")));
    // What comes behind the answer is no handshake either.
    let mut client = Client::open(&stage.transaction()).expect("it accepts");
    client.send(&encode::ssl_request()).expect("it is read");
    let mut socket = client.socket().expect("it is open");
    let mut answer = [0];
    socket.read_exact(&mut answer).expect("an answer");
    assert_eq!(answer, *b"S");
    client.send(&encode::startup(3, 0, &[("user", stage::ROLE)])).expect("it may be read");
    let mut rest = Vec::new();
    // A reset is an end, too.
    let _ = socket.read_to_end(&mut rest);
    assert!(!rest.starts_with(b"R") && !rest.starts_with(b"E"), "{rest:?}");
    // GSSAPI encryption is declined, and TLS may be asked for afterwards.
    let mut client = Client::open(&stage.transaction()).expect("it accepts");
    for (request, expected) in [(encode::gssenc_request(), b'N'), (encode::ssl_request(), b'S')] {
        client.send(&request).expect("it is read");
        client.socket().expect("it is open").read_exact(&mut answer).expect("an answer");
        assert_eq!(answer, [expected]);
    }
}

#[test]
fn in_the_clear_is_refused_where_tls_is_required() {
    let pki = Pki::new();
    let files = pki.put("server", &pki.server());
    let stage =
        Stage::with(Cluster::builder(), |config| with_clients(config, "require", &files)).expect("it starts");
    let error = Client::connect(&stage.transaction()).expect_err("it is refused");
    let refused = error.downcast::<Refused>().expect("by an ErrorResponse");
    assert_eq!((refused.sqlstate().as_str(), refused.text().as_str()), ("28000", "connection requires TLS"));
    for (mode, works) in [("disable", false), ("allow", true), ("prefer", true), ("require", true)] {
        let mut psql = psql::command(stage.cluster.binaries(), &stage.session()).expect("psql is there");
        psql.env("PGSSLMODE", mode).args(["--command", "SELECT 1"]);
        let output = command::run(&mut psql, psql::LIMIT).expect("psql ends");
        assert_eq!(output.status.success(), works, "{mode}: {output:?}");
    }
}

/// What a client shows.
struct Shown {
    name: &'static str,
    identity: Option<Identity>,
}

fn shown(pki: &Pki) -> Vec<Shown> {
    let app = Subject::new(stage::ROLE, &[]);
    let other = Authority::new("another").expect("it signs itself");
    let identities = [
        ("none", None),
        ("good", Some(pki.issue(&app))),
        ("other user", Some(pki.issue(&Subject::new("somebody", &[])))),
        ("expired", Some(pki.issue(&app.clone().expired()))),
        ("revoked", Some(pki.issue(&app))),
        ("self-signed", Some(app.self_signed().expect("it signs itself"))),
        ("other CA", Some(other.issue(&app).expect("it is signed"))),
    ];
    identities.into_iter().map(|(name, identity)| Shown { name, identity }).collect()
}

fn psql_with(stage: &Stage, pki: &Pki, login: &Login, shown: &Shown) -> Result<(), String> {
    let mut psql = psql::command(stage.cluster.binaries(), login).expect("psql is there");
    psql.env("PGSSLMODE", "require").env("HOME", "/nonexistent").args(["--command", "SELECT 1"]);
    if let Some(identity) = &shown.identity {
        let files = pki.put("client", identity);
        psql.env("PGSSLCERT", text(&files.certificate)).env("PGSSLKEY", text(&files.key));
    }
    let output = command::run(&mut psql, psql::LIMIT).expect("psql ends");
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// The referee is PostgreSQL: what it makes of a certificate, halephant does.
#[test]
fn every_certificate_of_a_client() {
    let pki = Pki::new();
    let shown = shown(&pki);
    let revoked =
        shown.iter().filter(|shown| shown.name == "revoked").filter_map(|shown| shown.identity.as_ref());
    pki.revoke(&revoked.collect::<Vec<_>>());
    let identity = pki.server();
    let files = pki.put("server", &identity);
    let read = |name| std::fs::read_to_string(pki.path().join(name)).expect("it is there");
    // One database for each of PostgreSQL's ways to ask.
    let builder = Cluster::builder()
        .tls(&identity)
        .file("root.crt", &read("root.crt"))
        .file("root.crl", &read("root.crl"))
        .setting("ssl_ca_file", "root.crt")
        .setting("ssl_crl_file", "root.crl")
        .hba("hostssl ca app all scram-sha-256 clientcert=verify-ca")
        .hba("hostssl full app all scram-sha-256 clientcert=verify-full")
        .role("owner", "owner")
        .database("ca", "owner")
        .database("full", "owner");
    let stage = Stage::with(builder, |config| config).expect("it starts");
    println!("\nPostgreSQL = halephant, unless it says otherwise\n");
    println!("{:<12} {:<10} {:<10} {:<10}", "certificate", "require", "verify-ca", "verify-full");
    let mut rows: Vec<String> = shown.iter().map(|shown| format!("{:<12}", shown.name)).collect();
    let mut differences = Vec::new();
    for (mode, database) in [("require", stage::DATABASE), ("verify-ca", "ca"), ("verify-full", "full")] {
        let config = with_clients(Stage::config(&stage.cluster), mode, &files)
            .set("server.tls.ca", pki.file("root.crt"))
            .set("server.tls.crl", pki.file("root.crl"));
        assert!(reload(&stage, &config), "{mode}");
        for (row, shown) in rows.iter_mut().zip(&shown) {
            let direct = psql_with(&stage, &pki, &stage.direct().database(database), shown);
            let through = psql_with(&stage, &pki, &stage.session(), shown);
            let end = |outcome: &Result<(), String>| if outcome.is_ok() { "let in" } else { "refused" };
            if direct.is_ok() == through.is_ok() {
                *row += &format!(" {:<10}", end(&direct));
            } else {
                *row += &format!(" {}/{}", end(&direct), end(&through));
                differences.push(format!("{mode} {}: {direct:?} {through:?}", shown.name));
            }
            if let (Err(error), "none") = (&through, shown.name) {
                assert!(error.contains("connection requires a valid client certificate"), "{error}");
            }
        }
    }
    println!("{}\n", rows.join("\n"));
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// A list that names a certificate counts from the next reload on, and open sessions stay.
#[test]
fn a_certificate_can_be_revoked_while_the_proxy_runs() {
    let pki = Pki::new();
    pki.revoke(&[]);
    let own = Shown { name: "own", identity: Some(pki.issue(&Subject::new(stage::ROLE, &[]))) };
    let files = pki.put("server", &pki.server());
    let config = |config| {
        with_clients(config, "verify-full", &files)
            .set("server.tls.ca", pki.file("root.crt"))
            .set("server.tls.crl", pki.file("root.crl"))
    };
    let stage = Stage::with(Cluster::builder(), config).expect("it starts");
    psql_with(&stage, &pki, &stage.session(), &own).expect("it is let in");
    pki.revoke(&[own.identity.as_ref().expect("it has one")]);
    psql_with(&stage, &pki, &stage.session(), &own).expect("nobody has read the list yet");
    assert!(reload(&stage, &config(Stage::config(&stage.cluster))));
    let error = psql_with(&stage, &pki, &stage.session(), &own).expect_err("it is revoked");
    assert!(error.contains("revoked"), "{error}");
}

/// The proxy shows a certificate to servers that ask for one.
#[test]
fn a_server_that_wants_a_certificate_gets_ours() {
    let pki = Pki::new();
    let identity = pki.server();
    let root = std::fs::read_to_string(pki.path().join("root.crt")).expect("it is there");
    let builder = Cluster::builder()
        .tls(&identity)
        .file("root.crt", &root)
        .setting("ssl_ca_file", "root.crt")
        .hba("hostssl app app all scram-sha-256 clientcert=verify-full");
    let own = pki.put("own", &pki.issue(&Subject::new(stage::ROLE, &[])));
    let stage = Stage::with(builder, |config| {
        with_servers(config, "verify-full", Some(pki.path().join("root.crt")))
            .set("cluster.main.tls.certificate", text(&own.certificate))
            .set("cluster.main.tls.key", text(&own.key))
    })
    .expect("it starts");
    let mut client = stage.client().expect("it may log in");
    let subject = "SELECT client_dn FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    assert_eq!(client.value(subject).expect("it answers"), "/CN=app");
}
