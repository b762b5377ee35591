//! Certificates of clients as rules ask for them. The referee is PostgreSQL with the same rules and maps.

use super::pki::{Pki, reload, text, with_clients};
use super::stage::Ruled;
use halephant_harness::certificates::{Identity, Subject};
use halephant_harness::{Cluster, Login, command, psql};
use halephant_suite::Stage;

/// Each database of PostgreSQL and each pool of the proxy stands for one way to ask.
const RULES: &str = "\
hostssl all halephant all scram-sha-256
host all halephant all scram-sha-256
hostssl plain app all cert
hostssl mapped app,other all cert map=people
hostssl dn app all cert clientname=DN map=names
hostssl ca app all trust clientcert=verify-ca
hostssl full app all trust clientcert=verify-full
hostnossl all all all reject
";
const MAPS: &str = "\
people /^(.*)@example\\.com$ \\1
people boss app
people boss other
names \"/^CN=person,?.*\" app
";
const DATABASES: [&str; 5] = ["plain", "mapped", "dn", "ca", "full"];

fn connect(
    stage: &Stage,
    pki: &Pki,
    login: &Login,
    identity: Option<&Identity>,
    mode: &str,
) -> Result<(), String> {
    let mut psql = psql::command(stage.cluster.binaries(), login).expect("psql is there");
    psql.env("PGSSLMODE", mode).env("HOME", "/nonexistent").args(["--command", "SELECT 1"]);
    if let Some(identity) = identity {
        let files = pki.put("client", identity);
        psql.env("PGSSLCERT", text(&files.certificate)).env("PGSSLKEY", text(&files.key));
    }
    let output = command::run(&mut psql, psql::LIMIT).expect("psql ends");
    if output.status.success() {
        return Ok(());
    }
    let error = String::from_utf8_lossy(&output.stderr);
    let message = error.lines().find_map(|line| Some(line.split_once("FATAL:")?.1.trim().to_owned()));
    Err(message.unwrap_or_else(|| error.into_owned()))
}

#[test]
fn certificates_open_the_doors_that_postgresql_opens() {
    let pki = Pki::new();
    let identity = pki.server();
    let files = pki.put("server", &identity);
    let root = std::fs::read_to_string(pki.path().join("root.crt")).expect("it is there");
    let builder = Cluster::builder()
        .tls(&identity)
        .file("root.crt", &root)
        .setting("ssl_ca_file", "root.crt")
        .role("other", "other");
    let builder = DATABASES.into_iter().fold(builder, |builder, database| builder.database(database, "app"));
    let ruled = Ruled::with("hostssl all all all scram-sha-256", builder, |config| {
        with_clients(config, "prefer", &files)
    });
    let stage = &ruled.stage;
    let node = stage.cluster.primary();
    // The proxy's own connections come in the clear.
    let own = "host all halephant all scram-sha-256\nhost all postgres all trust\nhostnossl all app,other all trust\n";
    node.write_file("pg_hba.conf", &(own.to_owned() + RULES)).expect("it is ours");
    node.write_file("pg_ident.conf", MAPS).expect("it is ours");
    node.reload().expect("it reads them");
    let wrong = "SELECT count(*) FROM pg_hba_file_rules WHERE error IS NOT NULL";
    assert_eq!(stage.cluster.query("postgres", wrong).expect("it answers"), "0");
    ruled.write("pg_hba.conf", RULES);
    ruled.write("pg_ident.conf", MAPS);
    let config = with_clients(Stage::config(&stage.cluster), "prefer", &files)
        .set("server.tls.ca", pki.file("root.crt"))
        .set("server.hba", text(&ruled.path("pg_hba.conf")))
        .set("server.ident", text(&ruled.path("pg_ident.conf")));
    let config = DATABASES
        .into_iter()
        .fold(config, |config, database| config.pool(database, "session", 5, &["app", "other"]));
    assert!(reload(stage, &config), "{}", stage.proxy.log_tail());

    let names = ["app", "boss", "app@example.com", "other@example.com", "app@example_com", "person", "APP"];
    let mut identities: Vec<(&str, Option<Identity>)> =
        names.into_iter().map(|name| (name, Some(pki.issue(&Subject::new(name, &[]))))).collect();
    identities.push(("none", None));
    let mut differences = Vec::new();
    let mut let_in = 0;
    for database in DATABASES {
        for user in ["app", "other"] {
            for (name, identity) in &identities {
                let login = Login { user: user.into(), ..stage.direct().database(database) };
                let direct = connect(stage, &pki, &login, identity.as_ref(), "require");
                let through = stage.proxy.login(login);
                let through = connect(stage, &pki, &through, identity.as_ref(), "require");
                let_in += usize::from(direct.is_ok());
                if direct != through {
                    differences.push(format!("{database} {user} {name}: {direct:?} {through:?}"));
                }
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    assert!(let_in > 8, "{let_in}");
    // In the clear there is no certificate.
    let login = stage.proxy.login(stage.direct().database("plain"));
    let error = connect(stage, &pki, &login, None, "disable").expect_err("it is rejected");
    assert!(error.contains("pg_hba.conf rejects connection") && error.contains("no encryption"), "{error}");
}

#[test]
fn what_cannot_work_is_an_error() {
    let pki = Pki::new();
    let files = pki.put("server", &pki.server());
    let ruled = Ruled::with("hostssl all all all scram-sha-256", Cluster::builder(), |config| {
        with_clients(config, "prefer", &files)
    });
    let stage = &ruled.stage;
    let config = with_clients(Stage::config(&stage.cluster), "prefer", &files)
        .set("server.hba", text(&ruled.path("pg_hba.conf")));
    ruled.write("pg_hba.conf", "hostssl all all all cert\n");
    assert!(!reload(stage, &config));
    let words = "pg_hba.conf:1: client certificates can only be checked where server.tls.ca names";
    stage.proxy.wait_for_log(words, 1, super::pki::LIMIT).expect("it says so");
    ruled.write("pg_hba.conf", "hostssl all all all cert map=nobody\n");
    assert!(!reload(stage, &config.set("server.tls.ca", pki.file("root.crt"))));
    stage.proxy.wait_for_log("there is no map \"nobody\"", 1, super::pki::LIMIT).expect("it says so");
}
