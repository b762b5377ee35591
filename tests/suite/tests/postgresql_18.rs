//! What PostgreSQL 18 brought: search_path is reported, protocol 3.2 has long cancel keys, and one order of messages leaves a
//! transaction open that it does not tell of.

use halephant_harness::{Binaries, Cluster, Login, ProxyConfig, psql};
use halephant_suite::encode::{bind, describe_portal, execute, parse, query, sync};
use halephant_suite::script::Transcript;
use halephant_suite::{Client, Message, Stage, message, stage};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(20);

/// One server connection in either mode. `None`: the server's programs are missing, and nobody counts on them.
fn stage() -> Option<Stage> {
    let binaries = match Binaries::major(18) {
        Ok(binaries) => binaries,
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "PostgreSQL 18 is missing: {error:#}");
            eprintln!("PostgreSQL 18 is missing, left out: {error:#}");
            return None;
        }
    };
    let narrow = |config: ProxyConfig| {
        config
            .set("cluster.main.pool.app.max_connections.primary", 1)
            .set("cluster.main.pool.app_session.max_connections.primary", 1)
            .set("admin.users", vec![stage::ROLE])
    };
    Some(Stage::with(Cluster::builder().binaries(binaries), narrow).expect("it starts"))
}

/// The clients that are pinned, and why.
fn pins(stage: &Stage) -> String {
    let console = stage.transaction().database("halephant");
    psql::query(stage.cluster.binaries(), &console, "SHOW PINS").expect("it answers")
}

#[test]
fn search_path_follows_its_client() {
    let Some(stage) = stage() else { return };
    let tables = "CREATE SCHEMA a; CREATE SCHEMA b; CREATE SCHEMA \"C d\";
        CREATE TABLE a.t AS SELECT 'a' AS n; CREATE TABLE b.t AS SELECT 'b' AS n; CREATE TABLE \"C d\".t AS SELECT 'C d' AS n";
    stage.prepare(tables).expect("they are made");
    let login = stage.transaction();
    let mut clients: Vec<(Client, &str)> = [
        ("SET search_path = a, b", "a"),
        ("SET search_path TO b, a", "b"),
        ("SET SCHEMA 'C d'", "C d"),
        ("SELECT set_config('search_path', '\"C d\", a', false)", "C d"),
        ("BEGIN; SET search_path = b; COMMIT; BEGIN; SET search_path = a; ROLLBACK", "b"),
        ("SET search_path = a; BEGIN; SET LOCAL search_path = b; COMMIT", "a"),
    ]
    .into_iter()
    .map(|(sql, expected)| {
        let mut client = Client::connect(&login).expect("it may log in");
        client.values(sql).expect("it may be set");
        (client, expected)
    })
    .collect();
    let asked = [("options", "-c search_path=b")];
    clients.push((Client::connect_with(&login, 0, &asked).expect("it may log in"), "b"));
    let statement = [parse("s", "SELECT n FROM t"), sync()].concat();
    let run = [bind("", "s", &[]), describe_portal(""), execute("", 0), sync()].concat();
    for (client, _) in &mut clients {
        client.send(&statement).expect("it is read");
        client.receive_until(b'Z').expect("it is answered");
    }
    for _ in 0..3 {
        for (client, expected) in &mut clients {
            assert_eq!(client.value("SELECT n FROM t").expect("it is there"), *expected);
            client.send(&run).expect("it is read");
            let messages = client.receive_until(b'Z').expect("it is answered");
            assert_eq!(message::values(&messages), [*expected], "{messages:?}");
        }
    }
    for (client, expected) in &mut clients[..6] {
        client.values("RESET search_path").expect("it may");
        assert_eq!(client.value("SHOW search_path").expect("it answers"), "\"$user\", public", "{expected}");
    }
    assert_eq!(pins(&stage), "");
}

/// What a login by each minor version looks like, NegotiateProtocolVersion and the length of the cancel key with it.
#[test]
fn protocol_3_2_is_spoken() {
    let Some(stage) = stage() else { return };
    for minor in [0, 2, 3, 9999] {
        let greeting = |login: &Login| {
            Transcript::of_greeting(&Client::connect_with(login, minor, &[]).expect("it may log in"))
        };
        let direct = greeting(&stage.direct());
        for login in [stage.session(), stage.transaction()] {
            if let Some(difference) = direct.difference(&greeting(&login)) {
                panic!("3.{minor}: {difference}");
            }
        }
    }
}

#[test]
fn a_long_cancel_key_is_as_good() {
    let Some(stage) = stage() else { return };
    for login in [stage.session(), stage.transaction()] {
        let mut client = Client::connect_with(&login, 2, &[]).expect("it may log in");
        client.send(&query("SELECT pg_sleep(600)")).expect("it is read");
        let running =
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)%' AND state = 'active'
            AND pid <> pg_backend_pid()";
        stage.wait_until(running, "1", LIMIT).expect("it runs");
        client.cancel().expect("it is heard");
        let messages = client.receive_until(b'Z').expect("it is answered");
        let error = message::error(&messages).and_then(Message::sqlstate);
        assert_eq!(error.as_deref(), Some("57014"));
        client.terminate().expect("it leaves");
    }
}

/// After a Query between extended-protocol messages and their Sync, PostgreSQL 18 says idle while its transaction is still open;
/// the next statement there fails. That must be the same client's, and nobody else's.
#[test]
fn an_idle_that_is_none_is_nobody_elses() {
    let Some(stage) = stage() else { return };
    stage.prepare("CREATE TABLE held (n int)").expect("it is made");
    let insert = [parse("", "INSERT INTO held VALUES (1)"), bind("", "", &[]), execute("", 0)].concat();
    for login in [stage.transaction(), stage.session()] {
        for leaves in [true, false] {
            let mut client = Client::connect(&login).expect("it may log in");
            client.send(&[insert.clone(), query("SELECT 1")].concat()).expect("it is read");
            let ready = client.receive_until(b'Z').expect("it is answered").pop().expect("there is one");
            assert_eq!(ready.body, b"T");
            client.send(&sync()).expect("it is read");
            assert_eq!(client.receive().expect("it is answered").body, b"I");
            if !leaves {
                assert_eq!(client.error("SELECT 2").expect("it is answered").sqlstate(), "XX000");
                client.values("SELECT 3").expect("it is over");
            }
            client.terminate().expect("it leaves");
            let mut next = Client::connect(&login).expect("it may log in");
            assert_eq!(next.value("SELECT count(*) FROM held").expect("nothing is left of it"), "0");
            next.values("DROP TABLE held; CREATE TABLE held (n int)").expect("nobody holds it");
            next.terminate().expect("it leaves");
        }
    }
}
