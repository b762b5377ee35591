//! The other leg: halephant is the client. What the manual says of libpq is computed as for any client of `grid.rs`.

use super::attempt::{Attempt, End, Habits, Mode};
use super::expected::{Certificate, Server, expected};
use super::matrix::{Kind, present};
use super::pki::{self, Pki};
use halephant_harness::certificates::Identity;
use halephant_harness::{Cluster, Login, Proxy, ProxyConfig};
use halephant_suite::{Client, Stage, stage};
use std::path::Path;

/// docs/security.md: "The modes are those of libpq's sslmode".
const HABITS: Habits =
    Habits { checks_below_verify: true, falls_back: true, knows_revoked: true, shows_by_issuer: false };

fn kind(certificate: Option<Certificate>) -> Kind {
    match certificate {
        None => Kind::Off,
        Some(Certificate::Good) => Kind::Good,
        Some(Certificate::Expired) => Kind::Expired,
        Some(Certificate::WrongName) => Kind::WrongHost,
        Some(Certificate::Revoked) => Kind::Revoked,
        Some(Certificate::SelfSigned) => Kind::SelfSigned,
    }
}

/// `[cluster.main.tls]`
fn configure(cluster: &Cluster, attempt: &Attempt) -> ProxyConfig {
    let config = ProxyConfig::new(cluster)
        .pool(stage::DATABASE, "transaction", 2, &[stage::ROLE])
        .set("server.workers", 1)
        .set("cluster.main.nodes", vec![format!("localhost:{}", attempt.port)])
        .set("cluster.main.tls.mode", attempt.mode.as_str());
    let set = |config: ProxyConfig, key: &str, path: Option<&Path>| match path {
        Some(path) => config.set(key, pki::text(path)),
        None => config,
    };
    let config = set(config, "cluster.main.tls.ca", attempt.ca.as_deref());
    set(config, "cluster.main.tls.crl", attempt.crl.as_deref())
}

/// Through a whole proxy: the auth query, the pool and the statement all need the node.
fn make(cluster: &Cluster, attempt: &Attempt) -> (End, String) {
    let proxy = Proxy::start(&configure(cluster, attempt)).expect("it starts");
    let login: Login = proxy.login(cluster.login(stage::ROLE, stage::DATABASE));
    let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    match Client::connect(&login).and_then(|mut client| client.value(sql)) {
        Ok(answer) if answer == "t" => (End::Tls, answer),
        Ok(answer) => (End::Clear, answer),
        Err(error) => (End::Refused, format!("{error:#}\n{}", proxy.log_tail())),
    }
}

#[test]
#[allow(clippy::print_stdout)]
fn modes_of_the_cluster_and_certificates_of_the_node() {
    let pki = Pki::new();
    let stage = Stage::with(Cluster::builder().tls(&pki.server()), |config| config).expect("it starts");
    let port = stage.cluster.primary().port();
    let mut certificates: Vec<Option<Certificate>> = Certificate::ALL.map(Some).into();
    certificates.insert(0, None);
    println!("\nhalephant to PostgreSQL by cluster.<name>.tls.mode\n");
    println!("{:<24} {}", "", Mode::ALL.map(|mode| format!("{:<13}", mode.as_str())).concat());
    let mut differences = Vec::new();
    for certificate in certificates {
        let identity: Identity = kind(certificate).identity(&pki);
        let is_revoked = certificate == Some(Certificate::Revoked);
        pki.revoke(
            if is_revoked { std::slice::from_ref(&&identity).to_vec() } else { Vec::new() }.as_slice(),
        );
        present(&stage, &pki, kind(certificate), &identity);
        for trusts in [true, false] {
            let name = certificate.map_or("off", Certificate::name);
            let row = format!("{name:<11} {}", if trusts { "with the CA" } else { "without" });
            let mut line = format!("{row:<24} ");
            for mode in Mode::ALL.into_iter().filter(|mode| trusts || *mode < Mode::VerifyCa) {
                let path = |name: &str| (trusts && mode != Mode::Disable).then(|| pki.path().join(name));
                let attempt =
                    Attempt { ca: path("root.crt"), crl: path("root.crl"), ..Attempt::at(port, mode) };
                let wanted = expected(Server::postgres(certificate), &attempt, None, &HABITS);
                let (end, said) = make(&stage.cluster, &attempt);
                if end != wanted {
                    differences.push(format!("{row} {}: {end:?} and not {wanted:?}: {said}", mode.as_str()));
                }
                line += &format!("{:<13}", end.name());
            }
            println!("{line}");
        }
    }
    println!();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
