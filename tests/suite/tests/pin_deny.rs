//! `pin = "deny"`: what would keep a client on its server connection is answered with an error.

use halephant_harness::port::Port;
use halephant_harness::{Cluster, ProxyConfig, wait_for};
use halephant_suite::message::error;
use halephant_suite::{Client, Message, Stage, encode, http};
use nix::sys::signal::Signal;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(20);

struct Denying {
    stage: Stage,
    config: ProxyConfig,
    admin: Port,
}

fn stage() -> Denying {
    let admin = Port::pick().expect("there is one");
    let cluster = Cluster::builder();
    let mut written = None;
    let stage = Stage::with(cluster, |config| {
        let config = config
            .set("cluster.main.pool.app.pin", "deny")
            .set("cluster.main.pool.app.max_connections.primary", 1)
            .set("admin.listen", format!("127.0.0.1:{}", admin.number()));
        written.insert(config).clone()
    });
    let config = written.expect("it was asked for");
    Denying { stage: stage.expect("it starts"), config, admin }
}

/// Statements that pin, and the reason.
const PINNING: [(&str, &str); 12] = [
    ("PREPARE p AS SELECT 1", "prepared_statement"),
    ("SET SESSION AUTHORIZATION app", "role"),
    ("LISTEN here", "listen"),
    ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", "cursor"),
    ("LOAD 'plpgsql'", "load"),
    ("CREATE TEMP TABLE t (n int)", "temporary"),
    ("SELECT 1 AS n INTO TEMP t", "temporary"),
    ("SELECT 1; SELECT pg_advisory_lock(1)", "advisory_lock"),
    ("SELECT pg_create_physical_replication_slot('s')", "session_object"),
    ("SELEKT 1", "unknown"),
    ("SELECT setseed(0.5)", "parameter"),
    ("SELECT set_config(n, 'x', false) FROM (SELECT 'my.name' AS n) AS names", "parameter"),
];

#[track_caller]
fn is_denied(answer: &[Message], reason: &str, status: u8) {
    let refused = error(answer).unwrap_or_else(|| panic!("{reason}: {answer:?}"));
    assert_eq!(refused.sqlstate().as_deref(), Some("0A000"), "{refused:?}");
    let detail = refused.field(b'D').unwrap_or_default();
    assert!(detail.contains(&format!("\"{reason}\"")), "{refused:?}");
    assert!(refused.field(b'H').is_some(), "{refused:?}");
    assert_eq!(answer.last().map(|ready| (ready.tag, ready.body.clone())), Some((b'Z', vec![status])));
}

fn extended(client: &mut Client, name: &str, sql: &str) -> Vec<Message> {
    let all = [encode::parse(name, sql), encode::bind("", name, &[]), encode::execute("", 0), encode::sync()];
    client.send(&all.concat()).expect("it reads");
    client.receive_until(b'Z').expect("it answers")
}

#[test]
fn what_would_pin_is_refused_and_changes_nothing() {
    let Denying { stage, admin, .. } = stage();
    let mut client = stage.client().expect("it may log in");
    let mut other = stage.client().expect("it may log in");
    for (sql, reason) in PINNING {
        is_denied(&client.query(sql).expect("it answers"), reason, b'I');
        for name in ["", "named"] {
            if !sql.contains("; ") {
                is_denied(&extended(&mut client, name, sql), reason, b'I');
            }
        }
        // There is one connection, and it is free.
        assert_eq!(other.value("SELECT 1").expect("it answers"), "1", "{sql}");
        // Within a transaction block, it fails as by any error.
        client.query("BEGIN").expect("it answers");
        is_denied(&client.query(sql).expect("it answers"), reason, b'E');
        let failed = client.query("SELECT 1").expect("it answers");
        assert_eq!(error(&failed).and_then(Message::sqlstate).as_deref(), Some("25P02"));
        client.query("ROLLBACK").expect("it answers");
        assert_eq!(client.value("SELECT 2").expect("it goes on"), "2");
    }
    let metrics = http::get(admin.number(), "/metrics").expect("it answers").body;
    for reason in ["listen", "temporary", "cursor"] {
        let line = metrics
            .lines()
            .find(|line| line.starts_with("halephant_pins_denied_total") && line.contains(reason))
            .unwrap_or_else(|| panic!("{reason} in {metrics}"));
        assert!(!line.ends_with(" 0"), "{line}");
    }
    assert!(!metrics.lines().any(|line| line.starts_with("halephant_pins_total")), "{metrics}");
}

/// What ends with its transaction, or follows the client, is not meant.
#[test]
fn what_pins_nobody_passes() {
    let Denying { stage, .. } = stage();
    let mut client = stage.client().expect("it may log in");
    for sql in [
        "BEGIN; SET LOCAL work_mem = '1MB'; CREATE TEMP TABLE t (n int) ON COMMIT DROP; COMMIT",
        "SET application_name = 'mine'",
        "SELECT pg_advisory_xact_lock(1)",
        "DISCARD ALL",
        "UNLISTEN *",
        "RESET application_name",
    ] {
        let answer = client.query(sql).expect("it answers");
        assert!(error(&answer).is_none(), "{sql}: {answer:?}");
    }
}

/// A message beyond what is read is dropped as it comes, and answered when it is complete.
#[test]
fn what_is_too_long_to_be_read_is_refused() {
    let Denying { stage, .. } = stage();
    let mut client = stage.client().expect("it may log in");
    let long = format!("SELECT '{}'", "x".repeat(3 << 20));
    is_denied(&client.query(&long).expect("it answers"), "unknown", b'I');
    is_denied(&extended(&mut client, "", &long), "unknown", b'I');
    is_denied(&extended(&mut client, "named", &long), "unknown", b'I');
    // In front of it and behind it in one write.
    client
        .send(&[encode::query("SELECT 1"), encode::query(&long), encode::query("SELECT 2")].concat())
        .expect("it reads");
    assert!(error(&client.receive_until(b'Z').expect("it answers")).is_none());
    is_denied(&client.receive_until(b'Z').expect("it answers"), "unknown", b'I');
    assert!(error(&client.receive_until(b'Z').expect("it answers")).is_none());
    let mut other = stage.client().expect("it may log in");
    assert_eq!(other.value("SELECT 1").expect("the connection is free"), "1");
}

/// A statement of the protocol that SQL speaks of would have to be put on the server under the client's name.
#[test]
fn sql_about_statements_of_the_protocol() {
    let Denying { stage, .. } = stage();
    let mut client = stage.client().expect("it may log in");
    let prepared = extended(&mut client, "mine", "SELECT 7");
    assert!(error(&prepared).is_none(), "{prepared:?}");
    is_denied(&client.query("EXECUTE mine").expect("it answers"), "prepared_statement", b'I');
    is_denied(&client.query("EXPLAIN EXECUTE mine").expect("it answers"), "prepared_statement", b'I');
    let answer = client.query("DEALLOCATE mine").expect("it answers");
    assert!(error(&answer).is_none(), "{answer:?}");
    let long_name = "n".repeat(64);
    is_denied(&extended(&mut client, &long_name, "SELECT 1"), "prepared_statement", b'I');
}

#[test]
fn a_reload_changes_it_for_new_transactions() {
    let Denying { stage, config, .. } = stage();
    let mut client = stage.client().expect("it may log in");
    is_denied(&client.query("LISTEN here").expect("it answers"), "listen", b'I');
    let reload = |config: &ProxyConfig| {
        let done = || stage.proxy.log().matches("the configuration was reloaded").count();
        let before = done();
        stage.proxy.write_config(config).expect("it is ours");
        stage.proxy.signal(Signal::SIGHUP).expect("it runs");
        wait_for("the reload", LIMIT, || Ok((done() > before).then_some(()))).expect("it is carried out");
    };
    reload(&config.clone().set("cluster.main.pool.app.pin", "allow"));
    let allowed = extended(&mut client, "listens", "LISTEN here");
    assert!(error(&allowed).is_none(), "{allowed:?}");
    client.query("UNLISTEN *").expect("it answers");
    reload(&config);
    is_denied(&client.query("LISTEN here").expect("it answers"), "listen", b'I');
    // Prepared before, and still not run.
    client
        .send(&[encode::bind("", "listens", &[]), encode::execute("", 0), encode::sync()].concat())
        .expect("it reads");
    is_denied(&client.receive_until(b'Z').expect("it answers"), "listen", b'I');
}
