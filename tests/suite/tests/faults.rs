//! When one side vanishes: what the other notices, and what becomes of the connection between them.

use halephant_harness::postgres::Shutdown;
use halephant_harness::{Cluster, wait_for};
use halephant_suite::message::{error, values};
use halephant_suite::{Client, Refused, Stage, encode};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(20);

/// How many sleep.
const RUNNING: &str = "SELECT count(*) FROM pg_stat_activity
    WHERE query LIKE '%pg_sleep%' AND state = 'active' AND pid <> pg_backend_pid()";

fn narrow() -> Stage {
    let narrow = Stage::with(Cluster::builder(), |config| {
        config.set("cluster.main.pool.app.max_connections.primary", 1)
    });
    narrow.expect("it starts")
}

/// Between transactions, clients do not notice that the server ended their connections.
#[test]
fn dead_idle_connections_are_replaced() {
    let stage = Stage::new().expect("it starts");
    let mut clients = [(); 4].map(|()| stage.client().expect("it may log in"));
    for _ in 0..5 {
        for client in &mut clients {
            client.query("BEGIN; SELECT 1").expect("it answers");
        }
        for client in &mut clients {
            client.query("COMMIT").expect("it answers");
        }
        stage.end_server_connections().expect("the superuser may");
        for client in &mut clients {
            assert_eq!(client.value("SELECT 1").expect("it does not notice"), "1");
        }
    }
}

#[test]
fn a_server_that_restarts_is_found_again() {
    let mut stage = Stage::new().expect("it starts");
    let mut client = stage.client().expect("it may log in");
    assert_eq!(client.value("SELECT 1").expect("it answers"), "1");
    stage.cluster.node_mut(0).restart().expect("it runs");
    assert_eq!(client.value("SELECT 2").expect("between transactions, the client does not notice"), "2");
}

#[test]
fn a_server_that_is_down_is_an_error_with_a_sqlstate() {
    let mut stage = Stage::with(Cluster::builder(), |config| config.set("server.checkout_timeout", "2s"));
    let stage = stage.as_mut().expect("it starts");
    let mut client = stage.client().expect("it may log in");
    assert_eq!(client.value("SELECT 1").expect("it answers"), "1");
    stage.cluster.node_mut(0).stop(Shutdown::Fast).expect("it runs");
    let refused = client.error("SELECT 1").expect("it is refused");
    let class = ["08", "53", "57"].into_iter().find(|class| refused.sqlstate().starts_with(class));
    assert!(class.is_some(), "{refused}");
    stage.cluster.node_mut(0).start().expect("it starts again");
    let login = stage.transaction();
    wait_for("an answer", LIMIT, || {
        Ok(Client::connect(&login).and_then(|mut client| client.value("SELECT 1")).ok())
    })
    .expect("halephant finds it again");
}

/// In a transaction the client must be told: what it did is lost.
#[test]
fn a_backend_that_dies_in_a_transaction_is_an_error() {
    let stage = Stage::new().expect("it starts");
    for login in [stage.transaction(), stage.session()] {
        let mut client = Client::connect(&login).expect("it may log in");
        client.query("BEGIN; SELECT 1").expect("it answers");
        stage.end_server_connections().expect("the superuser may");
        let refused = client.error("SELECT 1").expect("it is told");
        assert!(["57P01", "08006"].contains(&refused.sqlstate().as_str()), "{refused}");
        let mut next = Client::connect(&login).expect("others may log in");
        assert_eq!(next.value("SELECT 1").expect("it answers"), "1");
    }
}

#[test]
fn a_backend_that_dies_in_a_query_is_an_error() {
    let stage = Stage::new().expect("it starts");
    let mut client = stage.client().expect("it may log in");
    client.send(&encode::query("SELECT pg_sleep(600)")).expect("it reads");
    stage.wait_until(RUNNING, "1", LIMIT).expect("it runs");
    stage.end_server_connections().expect("the superuser may");
    let mut rest = Vec::new();
    while let Ok(Some(message)) = client.receive_or_end() {
        let last = message.tag == b'Z';
        rest.push(message);
        if last {
            break;
        }
    }
    let sqlstate = error(&rest).and_then(halephant_suite::Message::sqlstate);
    assert_eq!(sqlstate.as_deref(), Some("57P01"), "{rest:?}");
}

/// The server need not finish what nobody waits for, and the one connection serves the next client.
#[test]
fn a_client_that_vanishes_gives_its_connection_back() {
    let stage = narrow();
    stage.prepare("CREATE TABLE kept (n int)").expect("the owner may");
    let mut next = stage.client().expect("it may log in");
    let starts: [(&str, Vec<u8>); 7] = [
        ("in a query", encode::query("SELECT pg_sleep(600)")),
        ("in a result", encode::query("SELECT repeat('x', 1000) FROM generate_series(1, 10000000)")),
        ("in a transaction", encode::query("BEGIN; INSERT INTO kept VALUES (1)")),
        ("in a failed transaction", encode::query("BEGIN; SELECT 1/0")),
        ("in COPY FROM", encode::query("COPY kept FROM STDIN")),
        ("without Sync", {
            let insert = encode::parse("", "INSERT INTO kept VALUES (2)");
            [insert, encode::bind("", "", &[]), encode::execute("", 0), encode::flush()].concat()
        }),
        (
            "within a message",
            [encode::query("BEGIN"), encode::query("INSERT INTO kept VALUES (3)")[..9].to_vec()].concat(),
        ),
    ];
    for (name, bytes) in starts {
        let mut ghost = stage.client().expect("it may log in");
        ghost.send(&bytes).expect("it reads");
        if name == "in a query" {
            stage.wait_until(RUNNING, "1", LIMIT).expect("it runs");
        } else {
            ghost.receive().unwrap_or_else(|error| panic!("{name}: {error:#}"));
        }
        ghost.cut();
        let value =
            next.value("SELECT count(*) FROM kept").unwrap_or_else(|error| panic!("{name}: {error:#}"));
        assert_eq!(value, "0", "{name}");
    }
    stage.wait_until_idle(LIMIT).expect("nothing goes on");
    assert!(stage.server_connections().expect("the server answers") <= 1);
}

/// The query is cancelled on the server, though the client said nothing.
#[test]
fn a_query_nobody_waits_for_is_cancelled() {
    let stage = Stage::new().expect("it starts");
    for login in [stage.transaction(), stage.session()] {
        let mut ghost = Client::connect(&login).expect("it may log in");
        ghost.send(&encode::query("SELECT pg_sleep(600)")).expect("it reads");
        stage.wait_until(RUNNING, "1", LIMIT).expect("it runs");
        ghost.cut();
        stage.wait_until(RUNNING, "0", LIMIT).expect("it is cancelled");
    }
}

/// A server that accepts and never answers must not hold a client for ever.
#[test]
fn a_frozen_server_is_given_up() {
    let stage = Stage::with(Cluster::builder(), |config| {
        config.set("cluster.main.connect_timeout", "1s").set("server.checkout_timeout", "3s")
    });
    let stage = stage.expect("it starts");
    let mut client = stage.client().expect("it may log in");
    assert_eq!(client.value("SELECT 1").expect("it answers"), "1");
    let mut holder = stage.client().expect("it may log in");
    holder.query("BEGIN; SELECT 1").expect("it answers");
    client.query("BEGIN; SELECT 1").expect("it answers");
    stage.cluster.primary().freeze().expect("it runs");
    // Both server connections are taken, so a new one is needed.
    let mut third = stage.client();
    let refused = match &mut third {
        Ok(client) => client.error("SELECT 1").expect("it is refused"),
        Err(_) => third.expect_err("seen").downcast::<Refused>().expect("by an ErrorResponse"),
    };
    let known = ["08", "53", "57"].iter().any(|class| refused.sqlstate().starts_with(class));
    assert!(known, "{refused}");
    stage.cluster.primary().thaw().expect("it is there");
    assert_eq!(values(&client.query("SELECT 2").expect("it goes on")), ["2"]);
}
