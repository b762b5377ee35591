//! libpq's modes against every kind of server certificate. The referee is libpq against PostgreSQL: halephant has to come
//! to the same end in PostgreSQL's place and in libpq's.

use super::pki::{self, LIMIT, Pki, reload, text, with_clients};
use super::sessions::peer_certificate;
use halephant::net::{BeforeConnect, NodeAddress};
use halephant::secret::Secret;
use halephant::server::settings::ParameterSettings;
use halephant::server::{Credentials, KeyCache, Login as ServerLogin, OpenError, open};
use halephant::tls::settings::TrustFiles;
use halephant::tls::{ServerLeg, ServerLegSettings, TlsMode, Trust};
use halephant_harness::certificates::{Identity, Subject, write};
use halephant_harness::{Cluster, Login, command, psql, wait_for};
use halephant_suite::{Stage, stage};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::path::Path;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Off,
    Good,
    Expired,
    WrongHost,
    Revoked,
    SelfSigned,
    /// Self-signed, and what the client trusts.
    Pinned,
    /// With nothing but a common name.
    CommonName,
}

pub const KINDS: [Kind; 8] = [
    Kind::Off,
    Kind::Good,
    Kind::Expired,
    Kind::WrongHost,
    Kind::Revoked,
    Kind::SelfSigned,
    Kind::Pinned,
    Kind::CommonName,
];

impl Kind {
    pub fn identity(self, pki: &Pki) -> Identity {
        let subject = Subject::new("server", &["localhost", "127.0.0.1", "::1"]);
        match self {
            Self::Off | Self::Good | Self::Revoked => pki.issue(&subject),
            Self::Expired => pki.issue(&subject.expired()),
            Self::WrongHost => pki.issue(&Subject::new("server", &["elsewhere.example.com"])),
            Self::SelfSigned | Self::Pinned => subject.self_signed().expect("it signs itself"),
            Self::CommonName => pki.issue(&Subject::new("localhost", &[])),
        }
    }
}

/// How one attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Tls,
    Clear,
    Refused,
}

struct Trusted<'a> {
    ca: Option<&'a Path>,
    crl: Option<&'a Path>,
}

fn libpq(stage: &Stage, login: &Login, mode: TlsMode, trusted: &Trusted<'_>) -> End {
    let mut psql = psql::command(stage.cluster.binaries(), login).expect("psql is there");
    psql.env("PGSSLMODE", mode.as_str()).env("PGGSSENCMODE", "disable").env("HOME", "/nonexistent");
    psql.env("PGSSLROOTCERT", trusted.ca.map_or("/nonexistent/root.crt".to_owned(), text));
    if let Some(crl) = trusted.crl {
        psql.env("PGSSLCRL", text(crl));
    }
    psql.args(["--command", "\\conninfo", "--command", "SELECT 1"]);
    let output = command::run(&mut psql, psql::LIMIT).expect("psql ends");
    match (output.status.success(), String::from_utf8_lossy(&output.stdout).contains("SSL connection")) {
        (true, true) => End::Tls,
        (true, false) => End::Clear,
        (false, _) => End::Refused,
    }
}

/// What halephant opens connections by.
pub fn server_leg(mode: TlsMode, ca: Option<&Path>, crl: Option<&Path>, requires_binding: bool) -> ServerLeg {
    let trust = ca.map(|ca| Trust::load(ca, crl).expect("the files are in order"));
    let trust_files = ca.map(|ca| TrustFiles { ca: ca.into(), crl: crl.map(Into::into) });
    let settings =
        ServerLegSettings { mode, trust: trust_files, sni: true, requires_binding, ..Default::default() };
    ServerLeg::new(settings, None, trust).expect("the settings are in order")
}

/// Whether a connection that halephant opened to `port` is encrypted, or why there is none.
pub fn open_to(port: u16, leg: &ServerLeg) -> Result<bool, OpenError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("it starts");
    runtime.block_on(async {
        let node = NodeAddress { host: "localhost".into(), port };
        let parameters = ParameterSettings::default();
        let login = ServerLogin {
            database: stage::DATABASE,
            role: stage::ROLE,
            parameters: &parameters,
            replication: None,
        };
        let password = Some(Secret::new(stage::PASSWORD.as_bytes().to_vec()));
        let credentials = Credentials { password, ..Credentials::default() };
        let mut connection = {
            let (cache, before) = (KeyCache::default(), BeforeConnect::default());
            open(&node, login, &credentials, &cache, leg.made(), &before, LIMIT).await?
        };
        let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        let rows = connection.query(sql, &[]).await.expect("it answers");
        connection.close().await;
        Ok(rows[0][0].as_deref() == Some("t"))
    })
}

fn halephant(port: u16, mode: TlsMode, trusted: &Trusted<'_>) -> End {
    let leg = match mode {
        TlsMode::Disable => ServerLeg::default(),
        mode => server_leg(mode, trusted.ca, trusted.crl, false),
    };
    match open_to(port, &leg) {
        Ok(true) => End::Tls,
        Ok(false) => End::Clear,
        Err(_) => End::Refused,
    }
}

/// Has PostgreSQL and the proxy show `identity`, and waits until they do.
pub fn present(stage: &Stage, pki: &Pki, kind: Kind, identity: &Identity) {
    let files = pki.put("server", identity);
    let node = stage.cluster.primary();
    let on = if kind == Kind::Off { "off" } else { "on" };
    node.write_file("server.crt", &identity.certificate).expect("it is ours");
    node.write_file("server.key", &identity.key).expect("it is ours");
    node.query("postgres", &format!("ALTER SYSTEM SET ssl = {on}")).expect("it may be set");
    node.reload().expect("it runs");
    let config = Stage::config(&stage.cluster).set("cluster.main.nodes", vec![node.address()]);
    let config = if kind == Kind::Off { config } else { with_clients(config, "prefer", &files) };
    assert!(reload(stage, &config), "{kind:?}");
    let wanted = CertificateDer::from_pem_slice(identity.certificate.as_bytes()).expect("it is PEM");
    wait_for("PostgreSQL to reload", LIMIT, || {
        let is_there = match kind {
            Kind::Off => node.query("postgres", "SHOW ssl")? == "off",
            _ => {
                node.query("postgres", "SHOW ssl")? == "on"
                    && peer_certificate(node.port(), "localhost") == *wanted
            }
        };
        Ok(is_there.then_some(()))
    })
    .expect("it does");
}

#[test]
fn every_mode_and_certificate() {
    let pki = Pki::new();
    let first = pki.server();
    let stage = Stage::with(Cluster::builder().tls(&first), |config| config).expect("it starts");
    let direct = Login { host: "localhost".into(), ..stage.direct() };
    let through = Login { host: "localhost".into(), ..stage.session() };
    let (root, crl) = (pki.path().join("root.crt"), pki.path().join("root.crl"));
    let pinned = pki.path().join("pinned.crt");
    let mut differences = Vec::new();
    println!(
        "\nlibpq to PostgreSQL = libpq to halephant = halephant to PostgreSQL, unless it says otherwise\n"
    );
    println!(
        "{:<12} {:<6} {}",
        "certificate",
        "CA",
        TlsMode::ALL.map(|mode| format!("{:<12}", mode.as_str())).concat()
    );
    for kind in KINDS {
        let identity = kind.identity(&pki);
        let revoked = if kind == Kind::Revoked { vec![&identity] } else { Vec::new() };
        pki.revoke(&revoked);
        write(&pinned, &identity.certificate).expect("it is ours");
        present(&stage, &pki, kind, &identity);
        let with_ca = match kind {
            Kind::Pinned => Trusted { ca: Some(&pinned), crl: None },
            _ => Trusted { ca: Some(&root), crl: Some(&crl) },
        };
        for trusted in [Trusted { ca: None, crl: None }, with_ca] {
            let mut cells = Vec::new();
            for mode in TlsMode::ALL {
                if mode.needs_trust() && trusted.ca.is_none() {
                    cells.push("-".to_owned());
                    continue;
                }
                let ends = [
                    libpq(&stage, &direct, mode, &trusted),
                    libpq(&stage, &through, mode, &trusted),
                    halephant(stage.cluster.primary().port(), mode, &trusted),
                ];
                if ends.iter().all(|end| *end == ends[0]) {
                    cells.push(format!("{:?}", ends[0]).to_lowercase());
                } else {
                    cells.push(format!("{ends:?}"));
                    differences.push(format!("{kind:?} {} {ends:?}", mode.as_str()));
                }
            }
            let row: String = cells.iter().map(|cell| format!("{cell:<12}")).collect();
            println!(
                "{:<12} {:<6} {row}",
                format!("{kind:?}"),
                if trusted.ca.is_some() { "yes" } else { "no" }
            );
        }
    }
    println!();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// `allow` asks for TLS where the server insists on it, `disable` does not.
#[test]
fn a_server_that_insists_on_tls_gets_it() {
    let pki = Pki::new();
    let builder = Cluster::builder()
        .tls(&pki.server())
        .hba("hostssl all app all scram-sha-256")
        .hba("hostnossl all app all reject");
    let cluster = pki::cluster(builder);
    let port = cluster.primary().port();
    let anyone = Trusted { ca: None, crl: None };
    assert_eq!(halephant(port, TlsMode::Disable, &anyone), End::Refused);
    for mode in [TlsMode::Allow, TlsMode::Prefer, TlsMode::Require] {
        assert_eq!(halephant(port, mode, &anyone), End::Tls, "{mode:?}");
    }
}

/// And the other way round.
#[test]
fn a_server_that_will_have_no_tls_is_left_in_peace() {
    let pki = Pki::new();
    let builder = Cluster::builder()
        .tls(&pki.server())
        .hba("hostssl all app all reject")
        .hba("hostnossl all app all scram-sha-256");
    let cluster = pki::cluster(builder);
    let port = cluster.primary().port();
    let anyone = Trusted { ca: None, crl: None };
    for (mode, end) in [
        (TlsMode::Disable, End::Clear),
        (TlsMode::Allow, End::Clear),
        (TlsMode::Prefer, End::Clear),
        (TlsMode::Require, End::Refused),
    ] {
        assert_eq!(halephant(port, mode, &anyone), end, "{mode:?}");
    }
}
