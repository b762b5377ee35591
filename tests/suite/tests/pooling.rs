//! What a server connection carries from one client to the next (nothing), and when it is opened and closed.

use halephant_harness::{Cluster, wait_for};
use halephant_suite::encode::{bind, copy_data, copy_done, execute, flush, parse, query, sync, terminate};
use halephant_suite::{Client, Stage, stage};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(20);

/// One connection, so that the second client has what the first had.
fn narrow() -> Stage {
    let narrow = Stage::with(Cluster::builder(), |config| {
        config
            .set("cluster.main.pool.app.max_connections.primary", 1)
            .set("cluster.main.pool.app_session.max_connections.primary", 1)
    });
    narrow.expect("it starts")
}

/// SQL that leaves something in the session, and SQL that shows whether it is there.
const TRACES: [(&str, &str); 9] = [
    ("SET work_mem = '123kB'", "SELECT current_setting('work_mem') = '123kB'"),
    ("SET search_path = pg_catalog", "SELECT current_setting('search_path') = 'pg_catalog'"),
    ("SET application_name = 'mine'", "SELECT current_setting('application_name') = 'mine'"),
    (
        "SELECT set_config('my.secret', 'x', false)",
        "SELECT coalesce(current_setting('my.secret', true), '') = 'x'",
    ),
    ("CREATE TEMP TABLE mine (n int)", "SELECT to_regclass('pg_temp.mine') IS NOT NULL"),
    ("PREPARE mine AS SELECT 1", "SELECT EXISTS (SELECT FROM pg_prepared_statements WHERE name = 'mine')"),
    (
        "SELECT pg_advisory_lock(7)",
        "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid())",
    ),
    ("LISTEN mine", "SELECT EXISTS (SELECT FROM pg_listening_channels())"),
    (
        "DECLARE mine CURSOR WITH HOLD FOR SELECT 1",
        "SELECT EXISTS (SELECT FROM pg_cursors WHERE name = 'mine')",
    ),
];

/// The Sync that was read while the server took data ended nothing: the next one commits.
#[test]
fn a_copy_is_committed_by_the_sync_behind_it() {
    let stage = narrow();
    stage.prepare("CREATE TABLE copied (a int)").expect("it is made");
    let client = || stage.client().expect("it may log in");
    let (mut one, mut other) = (client(), client());
    let copy = [parse("", "COPY copied FROM STDIN"), bind("", "", &[]), execute("", 0), sync()];
    one.send(&copy.concat()).expect("it is read");
    one.receive_until(b'G').expect("it takes data");
    one.send(&[copy_data(b"1\n"), copy_done(), flush()].concat()).expect("it is read");
    one.receive_until(b'C').expect("it is done");
    other.send(&query("SELECT 1/0")).expect("it is read");
    one.send(&sync()).expect("it is read");
    one.receive_until(b'Z').expect("it is committed");
    other.receive_until(b'Z').expect("it is answered");
    assert_eq!(other.value("SELECT count(*) FROM copied").expect("it answers"), "1");
}

/// Whatever still waits for an answer: who has said goodbye is gone.
#[test]
fn the_statement_of_a_client_that_left_is_cancelled_in_a_transaction_too() {
    let stage = narrow();
    for begin in ["BEGIN", "BEGIN; SELECT 1"] {
        let mut client = stage.client().expect("it may log in");
        client.query(begin).expect("it begins");
        client.send(&query("SELECT pg_sleep(600)")).expect("it is read");
        let asleep =
            "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%pg_sleep(600)%'
            AND pid <> pg_backend_pid()";
        stage.wait_until(asleep, "1", LIMIT).expect("it runs");
        client.send(&terminate()).expect("it is read");
        drop(client);
        stage.wait_until(asleep, "0", LIMIT).expect("it is cancelled");
    }
}

#[test]
fn sessions_leave_no_trace() {
    let stage = narrow();
    for (leave, look) in TRACES {
        let mut first = Client::connect(&stage.session()).expect("it may log in");
        first.values(leave).expect("it may");
        assert_eq!(first.value(look).expect("it answers"), "t", "{leave}");
        first.terminate().expect("it leaves");
        let mut second = Client::connect(&stage.session()).expect("it may log in");
        assert_eq!(second.value(look).expect("it answers"), "f", "{leave}");
        second.terminate().expect("it leaves");
    }
}

/// The session of a client that broke off is reset, too.
#[test]
fn broken_sessions_leave_no_trace() {
    let stage = narrow();
    for (leave, look) in TRACES {
        let mut first = Client::connect(&stage.session()).expect("it may log in");
        first.values(leave).expect("it may");
        first.cut();
        let mut second = Client::connect(&stage.session()).expect("it may log in");
        assert_eq!(second.value(look).expect("it answers"), "f", "{leave}");
        second.terminate().expect("it leaves");
    }
}

/// A session keeps its server connection from the first statement to the end.
#[test]
fn a_session_has_one_server_connection() {
    let stage = Stage::new().expect("it starts");
    let pid = "SELECT pg_backend_pid()";
    let mut clients = [(); 3].map(|()| Client::connect(&stage.session()).expect("it may log in"));
    let first: Vec<String> =
        clients.iter_mut().map(|client| client.value(pid).expect("it answers")).collect();
    for _ in 0..3 {
        for (client, first) in clients.iter_mut().zip(&first) {
            assert_eq!(&client.value(pid).expect("it answers"), first);
        }
    }
    let mut distinct = first.clone();
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), 3, "{first:?}");
}

/// In transaction mode one server connection serves many clients, and a transaction stays on one.
#[test]
fn transactions_share_a_server_connection() {
    let stage = narrow();
    let pid = "SELECT pg_backend_pid()";
    let mut clients = [(); 5].map(|()| stage.client().expect("it may log in"));
    let mut pids: Vec<String> =
        clients.iter_mut().map(|client| client.value(pid).expect("it answers")).collect();
    pids.dedup();
    assert_eq!(pids.len(), 1, "{pids:?}");

    let wide = Stage::new().expect("it starts");
    let mut one = wide.client().expect("it may log in");
    let mut others = [(); 5].map(|()| wide.client().expect("it may log in"));
    one.query("BEGIN").expect("it answers");
    let first = one.value(pid).expect("it answers");
    for other in &mut others {
        assert_ne!(other.value(pid).expect("it answers"), first);
        assert_eq!(one.value(pid).expect("it answers"), first);
    }
}

#[test]
fn idle_connections_are_closed_down_to_the_minimum() {
    let stage = Stage::with(Cluster::builder(), |config| {
        config
            .set("cluster.main.pool.app.idle_timeout", "1s")
            .set("cluster.main.pool.app.user.app.min_connections.primary", 2)
    });
    let stage = stage.expect("it starts");
    // Once somebody's key is known; there is no password to open them with before.
    let mut clients = [(); 6].map(|()| stage.client().expect("it may log in"));
    for client in &mut clients {
        client.query("BEGIN; SELECT 1").expect("it answers");
    }
    assert!(stage.server_connections().expect("the server answers") >= 6);
    for client in &mut clients {
        client.query("COMMIT").expect("it answers");
    }
    let down = || Ok((stage.server_connections()? == 2).then_some(()));
    wait_for("idle connections to be closed", LIMIT, down).expect("down to two");
}

/// Nobody asks for a connection, and those that are too old are replaced all the same.
#[test]
fn the_minimum_is_filled_again() {
    let stage = Stage::with(Cluster::builder(), |config| {
        config
            .set("cluster.main.pool.app.max_lifetime", "1s")
            .set("cluster.main.pool.app.user.app.min_connections.primary", 2)
    });
    let stage = stage.expect("it starts");
    let mut client = stage.client().expect("it may log in");
    let first = client.value("SELECT pg_backend_pid()").expect("it answers");
    let others = format!("SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND pid <> {first}");
    stage.wait_until(&others, "2", LIMIT).expect("two others");
}

#[test]
fn the_minimum_is_opened_at_the_start_with_a_password() {
    let cluster =
        Cluster::builder().role(stage::ROLE, stage::PASSWORD).database(stage::DATABASE, stage::ROLE).start();
    let cluster = cluster.expect("it starts");
    let config = Stage::config(&cluster)
        .pgpass(&format!("*:*:{}:{}:{}", stage::DATABASE, stage::ROLE, stage::PASSWORD))
        .set("cluster.main.pool.app.user.app.min_connections.primary", 3);
    let proxy = halephant_harness::Proxy::start(&config).expect("it starts");
    let stage = Stage { proxy, cluster };
    let filled = || Ok((stage.server_connections()? == 3).then_some(()));
    wait_for("the minimum to be opened", LIMIT, filled).expect("three, with no client");
}

#[test]
fn connections_are_closed_at_the_end_of_their_life() {
    let stage = Stage::with(Cluster::builder(), |config| {
        config
            .set("cluster.main.pool.app.max_lifetime", "1s")
            .set("cluster.main.pool.app.max_connections.primary", 1)
    });
    let stage = stage.expect("it starts");
    let mut client = stage.client().expect("it may log in");
    let pid = "SELECT pg_backend_pid()";
    let first = client.value(pid).expect("it answers");
    // One error in between, and the client would have noticed.
    let other = || Ok((client.value(pid)? != first).then_some(()));
    wait_for("another server connection", LIMIT, other).expect("the first one's time is over");
}

/// A transaction is not cut for its connection's age.
#[test]
fn a_transaction_outlives_its_connections_time() {
    let stage =
        Stage::with(Cluster::builder(), |config| config.set("cluster.main.pool.app.max_lifetime", "1s"));
    let stage = stage.expect("it starts");
    let mut client = stage.client().expect("it may log in");
    client.query("BEGIN; CREATE TABLE kept (n int)").expect("it answers");
    client.query("SELECT pg_sleep(3)").expect("it answers");
    assert_eq!(client.value("SELECT count(*) FROM kept").expect("it goes on"), "0");
    client.query("COMMIT").expect("it ends");
    assert_eq!(stage.prepare("SELECT count(*) FROM kept").expect("it was committed"), "0");
}

#[test]
fn settings_of_a_user_reach_the_server() {
    let parameters = "cluster.main.pool.app.user.app.parameters";
    let stage = Stage::with(Cluster::builder(), |config| {
        config
            .set(&format!("{parameters}.application_name"), "from halephant")
            .set(&format!("{parameters}.options.search_path"), "pg_catalog, public")
            .set(&format!("{parameters}.options.statement_timeout"), "123s")
            .set(&format!("{parameters}.options.work_mem"), "4321kB")
    });
    let stage = stage.expect("it starts");
    let mut client = stage.client().expect("it may log in");
    for (name, value) in [
        ("application_name", "from halephant"),
        ("search_path", "pg_catalog, public"),
        ("statement_timeout", "123s"),
        ("work_mem", "4321kB"),
    ] {
        assert_eq!(client.value(&format!("SHOW {name}")).expect("it answers"), value);
    }
}
