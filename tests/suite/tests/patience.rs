//! What halephant itself sends to a server takes its time, or is not answered: nobody's statement is struck by it, and nobody
//! waits for ever.

use halephant_harness::Cluster;
use halephant_suite::message::{error, values};
use halephant_suite::{Client, Message, Midway, Stage, encode};

#[track_caller]
fn sqlstate(answer: &[Message]) -> Option<String> {
    error(answer).and_then(Message::sqlstate)
}

/// The query ends before its cancel arrives, which must not strike the next one.
#[test]
fn a_late_query_timeout_strikes_nothing() {
    let change = |config: halephant_harness::ProxyConfig| {
        ["app", "app_session"].iter().fold(config, |config, pool| {
            config.set(&format!("cluster.main.pool.{pool}.query_timeout"), "500ms")
        })
    };
    let (midway, stage) = Midway::stage(Cluster::builder(), change).expect("it starts");
    for login in [stage.transaction(), stage.session()] {
        let mut client = Client::connect(&login).expect("it may log in");
        for _ in 0..3 {
            // So that the next query may go through the kernel, where that is tested.
            assert_eq!(client.value("SELECT 1").expect("it answers"), "1");
        }
        midway.hold_cancels();
        client.query("BEGIN").expect("it answers");
        let slept = client.query("SELECT 'slept' FROM pg_sleep(1.5)").expect("it ends by itself");
        assert_eq!(values(&slept), ["slept"]);
        midway.wait_until_held().expect("it took too long");
        client.send(&encode::query("SELECT 'next' FROM pg_sleep(0.1)")).expect("it reads");
        client.send(&encode::query("COMMIT")).expect("it reads");
        client.set_limit(std::time::Duration::from_millis(400));
        client.receive().expect_err("it waits for the cancel");
        client.set_limit(halephant_suite::client::LIMIT);
        midway.release();
        let next = client.receive_until(b'Z').expect("it is answered");
        assert_eq!((values(&next), sqlstate(&next)), (vec!["next".to_owned()], None));
        let commit = client.receive_until(b'Z').expect("it is answered");
        assert_eq!(commit.last().map(|ready| ready.body.clone()), Some(b"I".to_vec()));
    }
}

/// With one server connection in transaction mode, for which a client waits a second.
fn narrow() -> (Midway, Stage) {
    let change = |config: halephant_harness::ProxyConfig| {
        config
            .set("cluster.main.pool.app.max_connections.primary", 1)
            .set("cluster.main.pool.app.defer_begin", true)
            .set("server.checkout_timeout", "1s")
    };
    Midway::stage(Cluster::builder(), change).expect("it starts")
}

#[test]
fn a_server_that_does_not_take_parameters_is_given_up() {
    let (midway, stage) = narrow();
    let mut first = stage.client().expect("it may log in");
    let mut second = stage.client().expect("it may log in");
    for begin in [false, true] {
        first.query("SET work_mem = '1MB'").expect("it answers");
        assert_eq!(first.value("SHOW work_mem").expect("what it has set is known by now"), "1MB");
        if begin {
            second.query("BEGIN").expect("it is answered");
        }
        // Is not sent before the parameters are as they should be.
        midway.hold_behind(b'1');
        let refused = second.query("SET my.name = 'x'").expect("the session goes on");
        assert_eq!(sqlstate(&refused).as_deref(), Some("08006"), "{refused:?}");
        assert_eq!(error(&refused).and_then(|it| it.field(b'S')).as_deref(), Some("ERROR"));
        midway.release();
        if begin {
            assert_eq!(sqlstate(&second.query("SELECT 1").expect("it answers")).as_deref(), Some("25P02"));
            second.query("ROLLBACK").expect("it answers");
        }
        assert_eq!(second.value("SELECT 'again'").expect("there is another connection"), "again");
        assert_eq!(first.value("SHOW work_mem").expect("it answers"), "1MB");
    }
}

/// What the client has set is not known then: going on without it would be wrong.
#[test]
fn a_server_that_does_not_say_what_is_set_is_given_up() {
    let (midway, stage) = narrow();
    let mut client = stage.client().expect("it may log in");
    let mut other = stage.client().expect("it may log in");
    assert_eq!(client.value("SELECT 1").expect("it answers"), "1");
    midway.hold_behind(b'Z');
    client.query("SET work_mem = '1MB'").expect("it has its answer");
    let rest = client.receive_rest().expect("it ends in good order");
    let last = rest.last().expect("it is told why");
    assert_eq!((last.sqlstate().as_deref(), last.field(b'S').as_deref()), (Some("08006"), Some("FATAL")));
    midway.release();
    assert_eq!(other.value("SHOW work_mem").expect("there is another connection"), "4MB");
}

/// Every message takes longer to come than the statement may take.
#[test]
fn a_statement_timeout_does_not_strike_what_is_ours() {
    let (midway, stage) = narrow();
    let hasty = [("options", "-c statement_timeout=5ms -c work_mem=1MB")];
    let mut hasty = Client::connect_with(&stage.transaction(), 0, &hasty).expect("it may log in");
    let mut other = stage.client().expect("it may log in");
    assert_eq!(other.value("SELECT 1").expect("it answers"), "1");
    for _ in 0..3 {
        midway.slow_down();
        let answer = hasty.query("SELECT 1").expect("the session goes on");
        assert!([None, Some("57014".to_owned())].contains(&sqlstate(&answer)), "{answer:?}");
        // Its own statement is struck, all the same.
        let struck = hasty.query("SELECT pg_sleep(10)").expect("the session goes on");
        assert_eq!(sqlstate(&struck).as_deref(), Some("57014"));
        assert_eq!(error(&struck).and_then(|it| it.field(b'S')).as_deref(), Some("ERROR"));
        assert_eq!(other.value("SHOW statement_timeout").expect("it answers"), "0");
        midway.release();
    }
}

/// A client whose LISTEN waits for the listener is not idle, and holds up nobody where its transaction has not begun.
#[test]
fn a_listen_waits_for_its_listener_at_nobodys_expense() {
    let change = |config: halephant_harness::ProxyConfig| {
        config
            .set("cluster.main.pool.app.max_connections.primary", 1)
            .set("cluster.main.pool.app.listen_mode", "multiplex")
            .set("cluster.main.pool.app.idle_transaction_timeout", "500ms")
            .set("cluster.main.pool.app.client_idle_timeout", "1s")
    };
    let (midway, stage) = Midway::stage(Cluster::builder(), change).expect("it starts");
    // Each encoding has a listener of its own.
    for (begin, encoding) in [(false, "UTF8"), (true, "LATIN1")] {
        let encoding = [("client_encoding", encoding)];
        let mut waits = Client::connect_with(&stage.transaction(), 0, &encoding).expect("it may log in");
        if begin {
            waits.query("BEGIN; SELECT 1").expect("it answers");
        } else {
            assert_eq!(waits.value("SELECT 1").expect("it answers"), "1");
        }
        midway.hold_behind(b'R');
        waits.send(&encode::query(&format!("LISTEN c_{begin}; COMMIT"))).expect("it reads");
        midway.wait_until_held().expect("the listener is being connected");
        if !begin {
            let mut other = stage.client().expect("it may log in");
            assert_eq!(other.value("SELECT 'other'").expect("the connection is free"), "other");
        }
        waits.set_limit(std::time::Duration::from_millis(1500));
        waits.receive_or_end().expect_err("it waits, for longer than it might be idle");
        waits.set_limit(halephant_suite::client::LIMIT);
        midway.release();
        let answer = waits.receive_until(b'Z').expect("it is answered");
        assert_eq!(sqlstate(&answer), None, "{answer:?}");
        stage.prepare(&format!("NOTIFY c_{begin}, 'here'")).expect("anybody may");
        assert_eq!(waits.receive().expect("it listens").tag, b'A');
    }
}

/// To put a client's statement on the server, PostgreSQL may have to wait for a lock, as it would for the client.
#[test]
fn a_lock_may_be_waited_for_where_a_text_names_a_prepared_statement() {
    let change = |config: halephant_harness::ProxyConfig| {
        config
            .set("server.checkout_timeout", "500ms")
            .set("cluster.main.pool.app.client_idle_timeout", "500ms")
            .set("cluster.main.pool.app.idle_transaction_timeout", "500ms")
    };
    let stage = Stage::with(Cluster::builder(), change).expect("it starts");
    stage.prepare("CREATE TABLE t (a int); INSERT INTO t VALUES (1)").expect("the owner may");
    let mut locker = Client::connect(&stage.direct()).expect("it may log in");
    for begin in [false, true] {
        let mut client = stage.client().expect("it may log in");
        let parse = [encode::parse("s", "SELECT a FROM t"), encode::sync()].concat();
        client.send(&parse).expect("it reads");
        client.receive_until(b'Z').expect("it is prepared");
        if begin {
            client.query("BEGIN; SELECT 1").expect("it answers");
        }
        locker.query("BEGIN; LOCK TABLE t").expect("the owner may");
        client.send(&encode::query("EXECUTE s")).expect("it reads");
        let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted";
        stage.wait_until(waiting, "1", halephant_suite::client::LIMIT).expect("it waits for the lock");
        client.set_limit(std::time::Duration::from_millis(1200));
        client.receive_or_end().expect_err("it goes on waiting");
        client.set_limit(halephant_suite::client::LIMIT);
        locker.query("COMMIT").expect("it answers");
        assert_eq!(values(&client.receive_until(b'Z').expect("it is answered")), ["1"]);
    }
}

/// A cancel that comes meanwhile, or a limit that is up, is told as PostgreSQL tells it of the client's own text.
#[test]
fn what_strikes_while_names_are_put_on_the_server_is_the_answer() {
    let stage = Stage::with(Cluster::builder(), |config| config).expect("it starts");
    stage.prepare("CREATE TABLE t (a int); INSERT INTO t VALUES (1)").expect("the owner may");
    let mut locker = Client::connect(&stage.direct()).expect("it may log in");
    let by_query = encode::query("EXECUTE s");
    let extended =
        [encode::parse("", "EXECUTE s"), encode::bind("", "", &[]), encode::execute("", 0), encode::sync()]
            .concat();
    for (begin, messages) in [(false, &by_query), (true, &by_query), (false, &extended), (true, &extended)] {
        let mut client = stage.client().expect("it may log in");
        let parse = [encode::parse("s", "SELECT a FROM t"), encode::sync()].concat();
        client.send(&parse).expect("it reads");
        client.receive_until(b'Z').expect("it is prepared");
        for limit in [false, true] {
            if begin {
                client.query("BEGIN; SAVEPOINT a").expect("it answers");
            }
            if limit {
                client.query("SET lock_timeout = '100ms'").expect("it answers");
            }
            locker.query("BEGIN; LOCK TABLE t").expect("the owner may");
            client.send(messages).expect("it reads");
            if !limit {
                let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted";
                stage
                    .wait_until(waiting, "1", halephant_suite::client::LIMIT)
                    .expect("it waits for the lock");
                client.cancel().expect("it is taken");
            }
            let answer = client.receive_until(b'Z').expect("it is answered");
            let tags: String = answer.iter().map(|message| char::from(message.tag)).collect();
            assert_eq!(tags, "EZ");
            let error = sqlstate(&answer);
            assert_eq!(error.as_deref(), Some(if limit { "55P03" } else { "57014" }), "{begin}");
            locker.query("COMMIT").expect("it answers");
            if begin {
                assert_eq!(answer.last().map(|ready| ready.body.as_slice()), Some(&b"E"[..]));
                client.query("ROLLBACK TO a").expect("it goes on");
            }
            client.send(messages).expect("it reads");
            assert_eq!(values(&client.receive_until(b'Z').expect("it is answered")), ["1"]);
            client.query("DEALLOCATE s; COMMIT").expect("it answers");
            client.send(&parse).expect("it reads");
            client.receive_until(b'Z').expect("it is prepared");
        }
    }
}

/// What it has sent ahead waits for the answer to its first statement, behind a BEGIN that goes with that one.
#[test]
fn a_client_that_vanishes_while_what_it_sent_ahead_waits_is_noticed() {
    let stage = Stage::with(Cluster::builder(), |config| config).expect("it starts");
    let mut client = stage.client().expect("it may log in");
    let ahead = ["BEGIN", "SELECT pg_sleep(600)", "SELECT 1"].map(encode::query).concat();
    client.send(&ahead).expect("it is read");
    let sleeping =
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'";
    stage.wait_until(sleeping, "1", halephant_suite::client::LIMIT).expect("it runs");
    client.cut();
    stage.wait_until(sleeping, "0", halephant_suite::client::LIMIT).expect("it is cancelled");
}

/// A client that has only closed its sending side gets every answer.
#[test]
fn what_waits_is_answered_after_the_end_of_the_clients_stream() {
    let stage = Stage::with(Cluster::builder(), |config| config).expect("it starts");
    let mut client = stage.client().expect("it may log in");
    let ahead = ["BEGIN", "SELECT 1 FROM pg_sleep(1)", "SELECT 2", "COMMIT"].map(encode::query).concat();
    client.send(&ahead).expect("it is read");
    client.socket().expect("it is open").shutdown(std::net::Shutdown::Write).expect("it may");
    assert_eq!(values(&client.receive_rest().expect("it is answered")), ["1", "2"]);
}
