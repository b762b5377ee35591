//! Every client by every mode of either side and every certificate. What each cell has to be is computed in `expected.rs`; a cell
//! that is something else fails the test by its name.

use super::attempt::{Attempt, End, Ended, Maker, Mode, Negotiation, makers};
use super::expected::{Certificate, Server, expected};
use super::pki::{self, Pki, with_clients};
use halephant_harness::certificates::{Identity, IdentityFiles, Subject};
use halephant_harness::{Cluster, Proxy, ProxyConfig};
use halephant_suite::stage;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use std::collections::HashMap;
use std::path::PathBuf;

const HOSTS: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// One identity for each kind of certificate, of the server and of a client, and a list of those that are revoked.
pub struct Identities {
    pki: Pki,
    servers: HashMap<Certificate, IdentityFiles>,
    clients: HashMap<Certificate, IdentityFiles>,
}

impl Identities {
    pub fn new() -> Self {
        let pki = Pki::new();
        let issue = |certificate, subject: Subject, other: Subject| match certificate {
            Certificate::Good | Certificate::Revoked => pki.issue(&subject),
            Certificate::Expired => pki.issue(&subject.expired()),
            Certificate::WrongName => pki.issue(&other),
            Certificate::SelfSigned => subject.self_signed().expect("it signs itself"),
        };
        let all = |name: &str, hosts: &[&str], other: Subject| -> Vec<(Certificate, Identity)> {
            let of = |certificate| issue(certificate, Subject::new(name, hosts), other.clone());
            Certificate::ALL.map(|certificate| (certificate, of(certificate))).into()
        };
        let servers = all("server", &HOSTS, Subject::new("server", &["elsewhere.example.com"]));
        let clients = all(stage::ROLE, &[], Subject::new("somebody", &[]));
        let revoked = [&servers, &clients].into_iter().flatten();
        let revoked = revoked.filter(|(certificate, _)| *certificate == Certificate::Revoked);
        pki.revoke(&revoked.map(|(_, identity)| identity).collect::<Vec<_>>());
        let put = |side: &str, identities: &[(Certificate, Identity)]| {
            let put = |(certificate, identity): &(Certificate, Identity)| {
                let name = format!("{side}-{}", certificate.name().replace(' ', "-"));
                let files = pki.put(&name, identity);
                // As Java reads keys.
                let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).expect("it is PEM");
                std::fs::write(files.key.with_extension("pk8"), key.secret_der()).expect("it is ours");
                (*certificate, files)
            };
            identities.iter().map(put).collect()
        };
        let (servers, clients) = (put("server", &servers), put("client", &clients));
        Self { pki, servers, clients }
    }

    fn ca(&self) -> PathBuf {
        self.pki.path().join("root.crt")
    }

    fn crl(&self) -> PathBuf {
        self.pki.path().join("root.crl")
    }

    /// Of the client's side: what it trusts, and what it shows.
    fn attempt(&self, port: u16, mode: Mode, trusts: bool, shown: Option<Certificate>) -> Attempt {
        Attempt {
            ca: trusts.then(|| self.ca()),
            crl: trusts.then(|| self.crl()),
            identity: shown.map(|shown| self.clients[&shown].clone()),
            ..Attempt::at(port, mode)
        }
    }

    /// `[server.tls]`
    fn configure(&self, config: ProxyConfig, server: Server) -> ProxyConfig {
        if server.mode == Mode::Disable {
            return config.set("server.tls.mode", server.mode.as_str());
        }
        let config = with_clients(config, server.mode.as_str(), &self.servers[&server.certificate]);
        match server.has_ca {
            true => config
                .set("server.tls.ca", pki::text(&self.ca()))
                .set("server.tls.crl", pki::text(&self.crl())),
            false => config,
        }
    }
}

/// One cell of a table: what is tried, where, and how it has to end.
struct Cell {
    row: String,
    column: &'static str,
    server: Server,
    attempt: Attempt,
    shown: Option<Certificate>,
}

/// Makes all attempts of every client, prints a table of each and gives what differs.
#[allow(clippy::print_stdout)]
fn compare(title: &str, makers: &[Maker], cells: impl Fn(&Maker) -> Vec<Cell> + Sync) -> Vec<String> {
    let made: Vec<(Vec<Cell>, Vec<Ended>)> = std::thread::scope(|scope| {
        let make = |maker| {
            let cells: Vec<Cell> = cells(maker);
            let attempts: Vec<Attempt> = cells.iter().map(|cell| cell.attempt.clone()).collect();
            let ended = (maker.make)(&attempts).unwrap_or_else(|error| panic!("{}: {error:#}", maker.name));
            assert_eq!(ended.len(), cells.len(), "{}", maker.name);
            (cells, ended)
        };
        let threads: Vec<_> = makers.iter().map(|maker| scope.spawn(move || make(maker))).collect();
        threads.into_iter().map(|thread| thread.join().expect("all were made")).collect()
    });
    let mut differences = Vec::new();
    for (maker, (cells, ended)) in makers.iter().zip(&made) {
        println!("\n{title}: {}\n", maker.name);
        let mut header = false;
        for row in cells.chunk_by(|a, b| a.row == b.row) {
            let at = cells.iter().position(|cell| std::ptr::eq(cell, &row[0])).unwrap_or_default();
            if !header {
                let names: String = row.iter().map(|cell| format!("{:<13}", cell.column)).collect();
                println!("{:<40} {names}", "");
                header = true;
            }
            let mut line = format!("{:<40} ", row[0].row);
            for (cell, ended) in row.iter().zip(&ended[at..]) {
                let wanted = expected(cell.server, &cell.attempt, cell.shown, &maker.habits);
                let shown = if wanted == ended.end {
                    wanted.name().to_owned()
                } else {
                    differences.push(format!(
                        "{title}: {}: {} {}: {} and not {}: {}",
                        maker.name,
                        cell.row,
                        cell.column,
                        ended.end.name(),
                        wanted.name(),
                        ended.said
                    ));
                    format!("{}!{}", ended.end.name(), wanted.name())
                };
                line += &format!("{shown:<13}");
            }
            println!("{line}");
        }
    }
    let (cells, tls): (usize, usize) = made.iter().fold((0, 0), |(cells, tls), (_, ended)| {
        (cells + ended.len(), tls + ended.iter().filter(|ended| ended.end == End::Tls).count())
    });
    println!(
        "\n{title}: {cells} attempts by {} clients, {tls} over TLS, {} other than expected\n",
        made.len(),
        differences.len()
    );
    differences
}

/// A proxy for each of `servers`, all before one cluster.
struct Proxies {
    proxies: Vec<(Server, Proxy)>,
    _cluster: Cluster,
}

impl Proxies {
    fn start(identities: &Identities, servers: &[Server]) -> Self {
        let cluster = pki::cluster(Cluster::builder().setting("max_connections", "400"));
        let config = ProxyConfig::new(&cluster)
            .pool(stage::DATABASE, "transaction", 3, &[stage::ROLE])
            .set("server.workers", 1);
        let start = |server: &Server| {
            let proxy = Proxy::start(&identities.configure(config.clone(), *server)).expect("it starts");
            (*server, proxy)
        };
        Self { proxies: servers.iter().map(start).collect(), _cluster: cluster }
    }
}

/// Certificates of the server by the modes of both, with a client that has a good certificate of its own.
#[test]
fn modes_of_both_sides_and_certificates_of_the_server() {
    let identities = Identities::new();
    let mut servers = vec![Server { mode: Mode::Disable, certificate: Certificate::Good, has_ca: false }];
    for mode in &Mode::ALL[1..] {
        servers.extend(Certificate::ALL.map(|certificate| Server { mode: *mode, certificate, has_ca: true }));
    }
    let proxies = Proxies::start(&identities, &servers);
    let differences = compare("sslmode", &makers(), |maker| {
        let mut cells = Vec::new();
        for (server, proxy) in &proxies.proxies {
            for trusts in [true, false] {
                let modes = maker.modes.iter().filter(|mode| trusts || **mode < Mode::VerifyCa);
                cells.extend(modes.map(|mode| Cell {
                    row: format!(
                        "{:<11} {:<11} {}",
                        server.mode.as_str(),
                        if server.mode == Mode::Disable { "-" } else { server.certificate.name() },
                        if trusts { "with the CA" } else { "without" }
                    ),
                    column: mode.as_str(),
                    server: *server,
                    attempt: identities.attempt(proxy.port(), *mode, trusts, Some(Certificate::Good)),
                    shown: Some(Certificate::Good),
                }));
            }
        }
        cells
    });
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// SSLRequest and the handshake at once, and channel binding, by the modes of both sides.
#[test]
fn ways_to_ask_for_tls_and_channel_binding() {
    let identities = Identities::new();
    let servers =
        Mode::ALL.map(|mode| Server { mode, certificate: Certificate::Good, has_ca: mode != Mode::Disable });
    let proxies = Proxies::start(&identities, &servers);
    let differences = compare("sslnegotiation and channel_binding", &makers(), |maker| {
        let mut cells = Vec::new();
        let ways = maker.negotiations.iter().flat_map(|way| maker.bindings.iter().map(move |it| (way, it)));
        for (negotiation, binding) in ways {
            for (server, proxy) in &proxies.proxies {
                cells.extend(maker.modes.iter().filter(|mode| is_sensible(maker, *negotiation, **mode)).map(
                    |mode| Cell {
                        row: format!(
                            "{:<11} {:<9} binding {}",
                            server.mode.as_str(),
                            negotiation.name(),
                            binding.name()
                        ),
                        column: mode.as_str(),
                        server: *server,
                        attempt: Attempt {
                            negotiation: *negotiation,
                            binding: *binding,
                            ..identities.attempt(proxy.port(), *mode, true, Some(Certificate::Good))
                        },
                        shown: Some(Certificate::Good),
                    },
                ));
            }
        }
        cells
    });
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// libpq refuses to begin with a handshake in its weak modes; what others do then is theirs.
fn is_sensible(maker: &Maker, negotiation: Negotiation, mode: Mode) -> bool {
    maker.habits.falls_back || negotiation == Negotiation::Postgres || mode >= Mode::Require
}

/// Certificates of the client by the server's modes, with a CA and without one.
#[test]
fn certificates_of_the_client() {
    let identities = Identities::new();
    let mut servers = Vec::new();
    for mode in &Mode::ALL[1..] {
        servers.push(Server { mode: *mode, certificate: Certificate::Good, has_ca: true });
        if *mode < Mode::VerifyCa {
            servers.push(Server { mode: *mode, certificate: Certificate::Good, has_ca: false });
        }
    }
    let proxies = Proxies::start(&identities, &servers);
    let mut shown: Vec<Option<Certificate>> = Certificate::ALL.map(Some).into();
    shown.insert(0, None);
    let differences = compare("certificates of the client", &makers(), |maker| {
        let mut cells = Vec::new();
        for (server, proxy) in &proxies.proxies {
            cells.extend(shown.iter().map(|shown| Cell {
                row: format!(
                    "{:<11} {}",
                    server.mode.as_str(),
                    if server.has_ca { "has a CA" } else { "has none" }
                ),
                column: shown.map_or("none", Certificate::name),
                server: *server,
                attempt: identities.attempt(proxy.port(), Mode::Require, true, *shown),
                shown: *shown,
            }));
        }
        let _ = maker;
        cells
    });
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
