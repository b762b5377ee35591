//! `currval()` and `lastval()` in a later transaction than their `nextval()`: a client's own number or PostgreSQL's own error, never
//! what another client has drawn.

use halephant_harness::Cluster;
use halephant_suite::encode::{bind, execute, parse, query, sync};
use halephant_suite::{Client, Message, Stage, message};

/// One server connection, on which everybody follows everybody.
fn stage() -> Stage {
    let stage = Stage::with(Cluster::builder(), |config| {
        config.set("cluster.main.pool.app.max_connections.primary", 1)
    });
    let stage = stage.expect("it starts");
    stage.prepare("CREATE SEQUENCE drawn; CREATE TABLE rows (id serial, a int)").expect("they are made");
    stage
}

fn client(stage: &Stage) -> Client {
    stage.client().expect("it may log in")
}

fn exchange(client: &mut Client, parts: &[Vec<u8>]) -> Vec<Message> {
    client.send(&parts.concat()).expect("it is read");
    client.receive_until(b'Z').expect("it is answered")
}

/// The values, or the SQLSTATE.
fn answer(messages: &[Message]) -> String {
    match message::error(messages) {
        Some(error) => error.sqlstate().unwrap_or_default(),
        None => message::values(messages).join(" "),
    }
}

fn asked(client: &mut Client, sql: &str) -> String {
    answer(&exchange(client, &[query(sql)]))
}

#[test]
fn what_another_client_has_drawn_is_not_told() {
    let texts = ["SELECT lastval()", "SELECT currval('drawn')", "BEGIN; SELECT pg_catalog.lastval()"];
    for text in texts {
        let stage = stage();
        let (mut one, mut other) = (client(&stage), client(&stage));
        for _ in 0..2 {
            asked(&mut one, "SELECT nextval('drawn')");
            // By a Query, the unnamed statement and a named one, and the first time that anybody asks at all.
            assert_eq!(asked(&mut other, text), "55000", "{text}");
            asked(&mut other, "ROLLBACK");
        }
    }
    for name in ["", "s"] {
        let stage = stage();
        let (mut one, mut other) = (client(&stage), client(&stage));
        exchange(&mut other, &[parse(name, "SELECT lastval()"), sync()]);
        for _ in 0..2 {
            asked(&mut one, "SELECT nextval('drawn')");
            let run = [bind("", name, &[]), execute("", 0), sync()];
            assert_eq!(answer(&exchange(&mut other, &run)), "55000", "{name:?}");
        }
    }
}

/// The first statement of a transaction does not tell what comes: nobody's numbers are there by then.
#[test]
fn once_a_pool_is_known_to_ask_transactions_begin_without_numbers() {
    let stage = stage();
    let (mut one, mut other) = (client(&stage), client(&stage));
    asked(&mut other, "SELECT lastval()");
    asked(&mut one, "SELECT nextval('drawn')");
    asked(&mut other, "BEGIN");
    asked(&mut other, "SELECT 1");
    assert_eq!(asked(&mut other, "SELECT lastval()"), "55000");
    asked(&mut other, "ROLLBACK");
    // With parameters that go along.
    asked(&mut one, "SET TimeZone = 'Asia/Tokyo'; SELECT nextval('drawn')");
    asked(&mut other, "BEGIN");
    assert_eq!(asked(&mut other, "SELECT current_setting('TimeZone') = 'Asia/Tokyo'"), "f");
    assert_eq!(asked(&mut other, "SELECT lastval()"), "55000");
}

#[test]
fn a_client_gets_its_own_as_long_as_the_connection_was_its_own() {
    let stage = stage();
    let (mut one, mut other) = (client(&stage), client(&stage));
    for turn in 0..3 {
        // In later statements than the one that drew it.
        let drawn = asked(&mut one, "SELECT nextval('drawn')");
        assert_eq!(asked(&mut one, "SELECT currval('drawn')"), drawn, "{turn}");
        let id = asked(&mut one, "INSERT INTO rows (a) VALUES (1) RETURNING id");
        assert_eq!(asked(&mut one, "SELECT lastval()"), id, "{turn}");
        assert_eq!(asked(&mut one, "SELECT currval('rows_id_seq')"), id, "{turn}");
        // In the transaction that drew it, behind what another one has drawn.
        asked(&mut other, "SELECT nextval('drawn')");
        asked(&mut one, "BEGIN");
        let id = asked(&mut one, "INSERT INTO rows (a) VALUES (1) RETURNING id");
        asked(&mut one, "SELECT 1");
        assert_eq!(asked(&mut one, "SELECT lastval()"), id, "{turn}");
        asked(&mut one, "COMMIT");
        asked(&mut other, "SELECT nextval('drawn')");
    }
    // A client that is pinned has its connection for itself.
    asked(&mut one, "CREATE TEMP TABLE pins (a int)");
    let drawn = asked(&mut one, "SELECT nextval('drawn')");
    asked(&mut one, "SELECT 1");
    assert_eq!(asked(&mut one, "SELECT lastval()"), drawn);
}
