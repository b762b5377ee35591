//! Parameters in transaction mode, reported by PostgreSQL or not: each client has its own, on whichever connection.

use halephant_harness::{Cluster, psql};
use halephant_suite::message::{error, values};
use halephant_suite::{Client, Message, Stage, encode};

/// One server connection for everybody.
fn stage() -> Stage {
    let stage = Stage::with(Cluster::builder(), |config| {
        config.set("cluster.main.pool.app.max_connections.primary", 1).set("admin.users", vec!["app"])
    });
    let stage = stage.expect("it starts");
    stage.prepare("CREATE SCHEMA a; CREATE SCHEMA b").expect("the owner may");
    stage.cluster.query("postgres", "CREATE ROLE other; GRANT other TO app").expect("it may");
    stage
}

/// The clients that are pinned, and why.
fn pins(stage: &Stage) -> String {
    let console = stage.transaction().database("halephant");
    psql::query(stage.cluster.binaries(), &console, "SHOW PINS").expect("it answers")
}

fn extended(client: &mut Client, sql: &str) -> Vec<Message> {
    let all = [encode::parse("", sql), encode::bind("", "", &[]), encode::execute("", 0), encode::sync()];
    client.send(&all.concat()).expect("it reads");
    client.receive_until(b'Z').expect("it answers")
}

/// What is set, and what to ask for.
const SETTINGS: [(&str, &str, &str); 24] = [
    ("SET work_mem = '123kB'", "work_mem", "123kB"),
    ("SET SESSION statement_timeout TO 12345", "statement_timeout", "12345ms"),
    ("SET search_path = b, \"$user\", a", "search_path", "b, \"$user\", a"),
    ("SET SCHEMA 'b'", "search_path", "b"),
    ("SET TIME ZONE 'Asia/Tokyo'", "TimeZone", "Asia/Tokyo"),
    ("SET NAMES 'UTF8'", "client_encoding", "UTF8"),
    (
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "default_transaction_isolation",
        "serializable",
    ),
    ("SET my.name = 'me'", "my.name", "me"),
    ("SELECT set_config('my.other', 'it''s me', false)", "my.other", "it's me"),
    (
        "SELECT set_config('lock_timeout', '5s', false), set_config('my.name', 'two', false)",
        "lock_timeout",
        "5s",
    ),
    ("SET ROLE other", "role", "other"),
    ("SET extra_float_digits = 0", "extra_float_digits", "0"),
    ("SET enable_seqscan = off", "enable_seqscan", "off"),
    ("SET seq_page_cost = 2.5", "seq_page_cost", "2.5"),
    ("SET XML OPTION DOCUMENT", "xmloption", "document"),
    ("BEGIN; SET work_mem = '77kB'; COMMIT", "work_mem", "77kB"),
    ("BEGIN; SAVEPOINT s; SET work_mem = '66kB'; RELEASE s; COMMIT", "work_mem", "66kB"),
    (
        "BEGIN; SET work_mem = '99kB'; SAVEPOINT s; SET work_mem = '88kB'; ROLLBACK TO s; COMMIT",
        "work_mem",
        "99kB",
    ),
    ("BEGIN; SET work_mem = '99kB'; SET LOCAL work_mem = '88kB'; COMMIT", "work_mem", "99kB"),
    ("SET work_mem = '99kB'; SELECT 1; SET work_mem = '111kB'", "work_mem", "111kB"),
    (
        "BEGIN; DECLARE c CURSOR FOR SELECT set_config('work_mem', '222kB', false); FETCH ALL FROM c; COMMIT",
        "work_mem",
        "222kB",
    ),
    ("SELECT CASE WHEN true THEN set_config('work_mem', '333kB', false) END", "work_mem", "333kB"),
    ("SET my.empty = ''", "my.empty", ""),
    (
        "SET default_text_search_config = 'pg_catalog.german'",
        "default_text_search_config",
        "pg_catalog.german",
    ),
];

fn shown(client: &mut Client, name: &str) -> String {
    client.value(&format!("SELECT coalesce(current_setting('{name}', true), '')")).expect("it answers")
}

#[test]
fn each_client_has_its_own_parameters_and_is_not_pinned() {
    let stage = stage();
    let mut direct = Client::connect(&stage.direct()).expect("it may log in");
    let mut other = stage.client().expect("it may log in");
    for (sql, name, value) in SETTINGS {
        for by_query in [true, false] {
            if !by_query && sql.contains("; ") {
                continue;
            }
            let mut client = stage.client().expect("it may log in");
            let default = shown(&mut direct, name);
            let set = match by_query {
                true => client.query(sql).expect("it answers"),
                false => extended(&mut client, sql),
            };
            assert!(error(&set).is_none(), "{sql}: {set:?}");
            for _ in 0..2 {
                assert_eq!(shown(&mut other, name), default, "{sql}");
                assert_eq!(
                    shown(&mut client, name).trim_end_matches("ms"),
                    value.trim_end_matches("ms"),
                    "{sql}"
                );
            }
            assert_eq!(pins(&stage), "", "{sql}");
            let reset = client.query(&format!("RESET {name}")).expect("it answers");
            assert!(error(&reset).is_none(), "{reset:?}");
            assert_eq!(shown(&mut other, name), default, "{sql}");
            assert_eq!(shown(&mut client, name), default, "{sql}");
            client.terminate().expect("it leaves");
        }
    }
}

/// Statements behind a change of the rules by which they are read.
#[test]
fn a_change_of_the_rules_holds_for_what_comes_behind_it() {
    let stage = stage();
    let mut client = stage.client().expect("it may log in");
    let mut other = stage.client().expect("it may log in");
    let behind = r"SELECT 'a'; SET my.name = $$set$$; --'";
    let all = [
        encode::query("SET standard_conforming_strings = off"),
        encode::query(behind),
        encode::query("SET standard_conforming_strings = on"),
        encode::query(r"SELECT 'a'; SET my.name = $$set$$; --'"),
        encode::query("SET client_encoding = 'SJIS'"),
        encode::query("SELECT 1"),
        encode::query("RESET client_encoding"),
        encode::query("SELECT 2"),
    ];
    client.send(&all.concat()).expect("it reads");
    for _ in &all {
        let answer = client.receive_until(b'Z').expect("it answers");
        assert!(error(&answer).is_none(), "{answer:?}");
    }
    assert_eq!(shown(&mut other, "my.name"), "");
    assert_eq!(shown(&mut client, "my.name"), "set");
    assert_eq!(pins(&stage), "");
}

/// A statement that fails or is taken back leaves everything as it was.
#[test]
fn what_is_taken_back_does_not_stick() {
    let stage = stage();
    let mut client = stage.client().expect("it may log in");
    let mut other = stage.client().expect("it may log in");
    client.query("SET work_mem = '123kB'").expect("it answers");
    for sql in [
        "SET work_mem = 'garbage'",
        "SET work_mem = '9kB'",
        "SET no_such_parameter = 1",
        "SET ROLE nobody",
        "BEGIN; SET work_mem = '99kB'; ROLLBACK",
        "BEGIN; SET LOCAL work_mem = '99kB'; COMMIT",
        "SET LOCAL work_mem = '99kB'",
        "SET work_mem = '99kB'; SELECT 1/0",
        "BEGIN; SAVEPOINT s; SET work_mem = '99kB'; ROLLBACK TO s; COMMIT",
        "BEGIN; SET work_mem = '99kB'; SELECT 1/0; COMMIT",
        "SELECT set_config('work_mem', '99kB', true)",
        "SELECT set_config('work_mem', '99kB', false) WHERE false",
    ] {
        client.query(sql).expect("it answers");
        client.query("ROLLBACK").expect("it answers");
        assert_eq!(shown(&mut other, "work_mem"), "4MB", "{sql}");
        assert_eq!(shown(&mut client, "work_mem"), "123kB", "{sql}");
    }
    let unknown = client.query("SET no_such_parameter = 1").expect("it answers");
    assert_eq!(error(&unknown).and_then(Message::sqlstate).as_deref(), Some("42704"));
    assert_eq!(pins(&stage), "");
}

/// RESET leads back to what the client asked for when it came.
#[test]
fn reset_leads_back_to_the_startup_packet() {
    let stage = stage();
    let options = [("options", "-c work_mem=1MB -c my.name=start"), ("application_name", "here")];
    let mut client = Client::connect_with(&stage.transaction(), 0, &options).expect("it may log in");
    let mut other = stage.client().expect("it may log in");
    for reset in ["RESET ALL", "RESET work_mem; RESET my.name; RESET application_name", "DISCARD ALL"] {
        client
            .query("SET work_mem = '2MB'; SET my.name = 'later'; SET application_name = 'there'")
            .expect("it may");
        assert_eq!(shown(&mut client, "work_mem"), "2MB");
        client.query(reset).expect("it answers");
        assert_eq!(shown(&mut other, "work_mem"), "4MB", "{reset}");
        assert_eq!(shown(&mut client, "work_mem"), "1MB", "{reset}");
        assert_eq!(shown(&mut client, "my.name"), "start", "{reset}");
        assert_eq!(shown(&mut client, "application_name"), "here", "{reset}");
    }
    client.query("BEGIN; SET work_mem = '2MB'; RESET ALL; ROLLBACK").expect("it answers");
    assert_eq!(shown(&mut client, "work_mem"), "1MB");
    assert_eq!(pins(&stage), "");
}

/// What is set goes to the next connection as who logged in would set it, and the role comes last.
#[test]
fn a_role_does_not_stand_in_the_way_of_other_parameters() {
    let stage = stage();
    stage.cluster.query("postgres", "GRANT SELECT ON pg_settings TO other").expect("it may");
    let mut client = stage.client().expect("it may log in");
    let mut other = stage.client().expect("it may log in");
    let who = "SELECT session_user || ' ' || current_user || ' ' || current_setting('work_mem')";
    client.query("SET ROLE other").expect("it may");
    client.query("SET work_mem = '1MB'").expect("it may");
    assert_eq!(other.value(who).expect("it answers"), "app app 4MB");
    assert_eq!(client.value(who).expect("it answers"), "app other 1MB");
    client.query("BEGIN; SET ROLE NONE; ROLLBACK").expect("it may");
    assert_eq!(client.value(who).expect("it answers"), "app other 1MB");
    client.query("SET ROLE NONE").expect("it may");
    assert_eq!(other.value(who).expect("it answers"), "app app 4MB");
    assert_eq!(client.value(who).expect("it answers"), "app app 1MB");
    assert_eq!(pins(&stage), "");
}

/// Statements that were prepared under another search_path mean something else.
#[test]
fn prepared_statements_follow_the_search_path() {
    let stage = stage();
    for schema in ["a", "b"] {
        stage
            .prepare(&format!("CREATE TABLE {schema}.t (n text); INSERT INTO {schema}.t VALUES ('{schema}')"))
            .expect("it may");
    }
    let mut clients = [(); 2].map(|()| stage.client().expect("it may log in"));
    let run = |client: &mut Client, messages: &[Vec<u8>]| {
        client.send(&messages.concat()).expect("it reads");
        let answer = client.receive_until(b'Z').expect("it answers");
        assert!(error(&answer).is_none(), "{answer:?}");
        values(&answer)
    };
    let execute = [encode::bind("", "s", &[]), encode::execute("", 0), encode::sync()];
    for (client, schema) in clients.iter_mut().zip(["a", "b"]) {
        client.query("BEGIN").expect("it answers");
        client.query(&format!("SET search_path = {schema}")).expect("it may");
        run(client, &[encode::parse("s", "SELECT n FROM t"), encode::sync()]);
        assert_eq!(run(client, &execute), [schema]);
        client.query("COMMIT").expect("it answers");
    }
    for _ in 0..2 {
        for (client, schema) in clients.iter_mut().zip(["a", "b"]) {
            assert_eq!(run(client, &execute), [schema]);
        }
    }
    let [first, _] = &mut clients;
    first.query("SET search_path = b").expect("it may");
    assert_eq!(run(first, &execute), ["b"]);
    assert_eq!(pins(&stage), "");
}

/// What cannot be read, or not be given to another connection, pins as before.
#[test]
fn what_cannot_be_carried_pins() {
    let stage = stage();
    for sql in [
        "SET temp_buffers = 200",
        "SET idle_in_transaction_session_timeout = 0; SET SEED TO 0.5",
        "SET my.name = 'J\u{f6}rg'",
        "SELECT set_config('my.name', repeat('x', 5000), false)",
        "SELECT set_config('my.' || 'name', 'x', false)",
    ] {
        let mut client = stage.client().expect("it may log in");
        let answer = client.query(sql).expect("it answers");
        assert!(error(&answer).is_none(), "{answer:?}");
        let mut other = None;
        if sql.contains("repeat") || sql.contains("my.name = ") {
            // It is known when the server was asked, behind the answer.
            assert_eq!(client.value("SELECT 1").expect("it answers"), "1");
        }
        assert!(pins(&stage).contains("parameter"), "{sql}");
        client.query("DISCARD ALL").expect("it answers");
        let other = other.get_or_insert_with(|| stage.client().expect("it may log in"));
        assert_eq!(shown(other, "my.name"), "", "{sql}");
        assert_eq!(shown(&mut client, "my.name"), "", "{sql}");
    }
}

/// A client that goes away while it is asked what it has set.
#[test]
fn a_client_that_sets_and_leaves_leaves_nothing() {
    let stage = stage();
    for _ in 0..20 {
        let mut client = stage.client().expect("it may log in");
        client
            .send(&[encode::query("SET my.name = 'gone'"), encode::terminate()].concat())
            .expect("it reads");
        client.receive_rest().expect("it ends");
        let mut client = stage.client().expect("it may log in");
        client.query("SET my.name = 'gone'").expect("it answers");
        client.cut();
        let mut other = stage.client().expect("it may log in");
        assert_eq!(shown(&mut other, "my.name"), "");
        other.terminate().expect("it leaves");
    }
}

/// Parameters go with the first statement, whatever that is, and are no part of its transaction.
#[test]
fn the_first_statement_may_be_anything() {
    let stage = stage();
    stage.prepare("CREATE TABLE t (n int)").expect("it may");
    let mut client = stage.client().expect("it may log in");
    let mut other = stage.client().expect("it may log in");
    client.query("SET work_mem = '1MB'; SET DateStyle = 'German'").expect("it may");
    for (sql, sqlstate) in [
        ("VACUUM t", None),
        ("BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT 1; COMMIT", None),
        ("BEGIN; SET TRANSACTION ISOLATION LEVEL SERIALIZABLE; COMMIT", None),
        ("SELECT 1/0", Some("22012")),
        ("BEGIN; SELECT 1; ROLLBACK", None),
        ("COMMIT", None),
        ("", None),
    ] {
        for by_query in [true, false] {
            if !by_query && sql.contains("; ") {
                continue;
            }
            // The connection has the other one's parameters.
            assert_eq!(shown(&mut other, "work_mem"), "4MB");
            assert_eq!(shown(&mut other, "datestyle"), "ISO, MDY");
            let answer = match by_query {
                true => client.query(sql).expect("it answers"),
                false => extended(&mut client, sql),
            };
            assert_eq!(error(&answer).and_then(Message::sqlstate).as_deref(), sqlstate, "{sql}: {answer:?}");
            assert_eq!(client.value("SELECT DATE '2026-01-02'").expect("it answers"), "02.01.2026", "{sql}");
            assert_eq!(shown(&mut client, "work_mem"), "1MB", "{sql}");
        }
    }
    assert_eq!(pins(&stage), "");
}

/// The transaction begins with the first statement's snapshot and ends with its own end.
#[test]
fn a_transaction_block_behind_its_parameters_is_the_clients() {
    let stage = stage();
    let mut client = stage.client().expect("it may log in");
    let mut other = stage.client().expect("it may log in");
    client.query("SET my.name = 'mine'").expect("it may");
    assert_eq!(shown(&mut other, "my.name"), "");
    client.query("BEGIN").expect("it answers");
    assert_eq!(shown(&mut client, "my.name"), "mine");
    client.query("ROLLBACK").expect("it answers");
    assert_eq!(shown(&mut client, "my.name"), "mine");
    assert_eq!(shown(&mut other, "my.name"), "");
    assert_eq!(shown(&mut client, "my.name"), "mine");
}

/// What cannot be set ends the session, and nothing that came with it runs.
#[test]
fn no_statement_runs_without_its_parameters() {
    let stage = stage();
    stage.prepare("CREATE TABLE t (n int); GRANT ALL ON t TO PUBLIC").expect("it may");
    let insert = |n: u32| {
        let sql = format!("INSERT INTO t VALUES ({n})");
        [encode::parse("", &sql), encode::bind("", "", &[]), encode::execute("", 0), encode::sync()].concat()
    };
    let batches = [
        [encode::query("INSERT INTO t VALUES (1)"), insert(2)],
        [insert(3), encode::query("INSERT INTO t VALUES (4)")],
        [encode::query("COMMIT; INSERT INTO t VALUES (5)"), encode::query("INSERT INTO t VALUES (6)")],
    ];
    for batch in batches {
        stage.cluster.query("postgres", "CREATE ROLE fleeting; GRANT fleeting TO app").expect("it may");
        let mut client = stage.client().expect("it may log in");
        client.query("SET ROLE fleeting").expect("it may");
        let mut other = stage.client().expect("it may log in");
        assert_eq!(other.value("SELECT count(*) FROM t").expect("it answers"), "0");
        stage.cluster.query("postgres", "DROP ROLE fleeting").expect("it may");
        client.send(&batch.concat()).expect("it reads");
        let answer = client.receive_rest().expect("it ends");
        let refused = error(&answer).expect("it is told");
        assert_eq!(refused.field(b'S').as_deref(), Some("FATAL"), "{answer:?}");
        assert_eq!(other.value("SELECT count(*) FROM t").expect("it answers"), "0");
    }
}
