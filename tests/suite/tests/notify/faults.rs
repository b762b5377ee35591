//! What is lost is told: connections that end, nodes that are replaced, clients that do not read.

use super::{LIMIT, client, console, listener, next, notifications, run, stage_of, stage_with, tags, take};
use halephant_harness::{Cluster, wait_for};
use halephant_suite::encode::{bind, execute, parse, query, sync};
use halephant_suite::{Client, Stage, message};

fn lost(channel: &str) -> String {
    format!("!notifications on channel \"{channel}\" may have been lost")
}

fn gaps(stage: &Stage) -> u64 {
    let shown = console(stage, "SHOW LISTENERS");
    shown.split('|').nth(11).expect("a column").parse().expect("a number")
}

#[test]
fn a_listener_that_is_terminated_comes_back_and_the_gap_is_told() {
    let stage = stage_of(2);
    let (mut one, mut other, mut sender) = (client(&stage), client(&stage), client(&stage));
    run(&mut one, "LISTEN a; LISTEN b");
    run(&mut other, "LISTEN b");
    let mut before = String::new();
    for round in 1..=3 {
        run(&mut sender, &format!("NOTIFY b, 'before {round}'"));
        assert_eq!([next(&mut one), next(&mut other)], [(); 2].map(|()| format!("before {round}")));
        before = listener(&stage, &before);
        // One of them is in a transaction: it is told at its end, as of notifications.
        run(&mut other, "BEGIN");
        stage.cluster.query("postgres", &format!("SELECT pg_terminate_backend({before})")).expect("it ends");
        let mut told = take(&mut one, 2);
        told.sort();
        assert_eq!(told, [lost("a"), lost("b")]);
        run(&mut sender, &format!("NOTIFY b, 'after {round}'"));
        assert_eq!(next(&mut one), format!("after {round}"));
        assert_eq!(tags(&run(&mut other, "SELECT 1")), "TDCZ");
        let end = run(&mut other, "NOTIFY nobody; COMMIT");
        assert_eq!(tags(&end), "CCNAZ");
        assert_eq!(gaps(&stage), 3 * round);
    }
    // Nobody who came later is told of what was before.
    let mut late = client(&stage);
    run(&mut late, "LISTEN b");
    run(&mut sender, "NOTIFY b, 'late'");
    assert_eq!(next(&mut late), "late");
}

#[test]
fn a_client_that_does_not_read_is_told_how_far_it_got() {
    let stage = stage_of(2);
    let (mut slow, mut fast, mut sender) = (client(&stage), client(&stage), client(&stage));
    run(&mut slow, "LISTEN a; LISTEN b");
    run(&mut fast, "LISTEN a");
    let payload = "x".repeat(7_000);
    let mut sent = 0;
    // More than a socket's buffers and the queue hold.
    while gaps_of_overflow(&stage) == 0 {
        let sql =
            format!("SELECT pg_notify('a', g || '{payload}') FROM generate_series({sent}, {}) g", sent + 99);
        run(&mut sender, &sql);
        take(&mut fast, 100);
        sent += 100;
        assert!(sent < 100_000, "nothing is bounded");
    }
    run(&mut sender, "NOTIFY b, 'b'");
    let mut seen = 0;
    let told = loop {
        let text = next(&mut slow);
        if text.starts_with('!') {
            break text;
        }
        let number: String = text.chars().take_while(char::is_ascii_digit).collect();
        assert_eq!(number, seen.to_string());
        seen += 1;
    };
    assert!(told == lost("a") && seen < sent, "{seen} of {sent}");
    // Of b, either the notification or a warning.
    let b = next(&mut slow);
    assert!(b == "b" || b == lost("b"), "{b}");
    run(&mut sender, "NOTIFY a, 'again'");
    assert_eq!(next(&mut slow), "again");
    assert!(gaps(&stage) >= 1);
}

/// Notifications that were dropped.
fn gaps_of_overflow(stage: &Stage) -> u64 {
    let shown = console(stage, "SHOW LISTENERS");
    shown.split('|').nth(10).expect("a column").parse().expect("a number")
}

#[test]
fn without_a_listener_listen_fails_and_works_again() {
    let stage = stage_with(1, |config| {
        config
            .set("cluster.main.pool.app.checkout_timeout", "1s")
            .set("cluster.main.pool.app_session.max_connections.primary", 1)
    });
    let mut client = client(&stage);
    run(&mut client, "SELECT 1");
    let limit = |count: i32| {
        stage
            .cluster
            .query("postgres", &format!("ALTER ROLE app CONNECTION LIMIT {count}"))
            .expect("it is set")
    };
    limit(1);
    let refused = |client: &mut Client, sent: &[u8], tags_expected: &str| {
        client.send(sent).expect("it is read");
        let messages = client.receive_until(b'Z').expect("it is answered");
        assert_eq!(tags(&messages), tags_expected, "{messages:?}");
        let error = message::error(&messages).expect("an error");
        assert_eq!(error.sqlstate().as_deref(), Some("57P03"), "{error:?}");
        messages.last().expect("one").body.clone()
    };
    assert_eq!(refused(&mut client, &query("LISTEN a"), "EZ"), b"I");
    assert_eq!(refused(&mut client, &query("SELECT 1; LISTEN a"), "EZ"), b"I");
    let extended = [parse("", "LISTEN a"), bind("", "", &[]), execute("", 0), sync()].concat();
    assert_eq!(refused(&mut client, &extended, "12EZ"), b"I");
    run(&mut client, "BEGIN");
    assert_eq!(refused(&mut client, &query("LISTEN a"), "EZ"), b"E");
    assert_eq!(tags(&run(&mut client, "COMMIT")), "CZ");
    limit(-1);
    let listens = || Ok(message::error(&client.query("LISTEN b")?).is_none().then_some(()));
    wait_for("a listener", LIMIT, listens).expect("there is one");
    run(&mut client, "NOTIFY a");
    assert_eq!(notifications(&run(&mut client, "NOTIFY b, 'x'")), [("b".into(), "x".into())]);
}

#[test]
fn the_listener_follows_the_primary() {
    let mut stage = Stage::with(Cluster::builder().replicas(1), |config| {
        config
            .set("cluster.main.topology.interval", "1s")
            .set("cluster.main.topology.timeout", "1s")
            .set("cluster.main.connect_timeout", "2s")
            .set("server.checkout_timeout", "60s")
            .set("admin.users", vec![halephant_suite::stage::ROLE])
            .set("cluster.main.pool.app.listen_mode", "multiplex")
    })
    .expect("it starts");
    let (mut client, mut sender) = (client(&stage), client(&stage));
    run(&mut client, "LISTEN a");
    run(&mut sender, "NOTIFY a, 'before'");
    assert_eq!(next(&mut client), "before");
    stage.cluster.wait_for_replay().expect("the replica follows");
    stage.cluster.node_mut(0).kill().expect("it dies");
    stage.cluster.nodes()[1].promote().expect("it is promoted");
    client.set_limit(LIMIT);
    assert_eq!(next(&mut client), lost("a"));
    let sent =
        || Ok(sender.query("NOTIFY a, 'after'")?.iter().all(|message| message.tag != b'E').then_some(()));
    wait_for("a primary", LIMIT, sent).expect("it takes notifications");
    assert_eq!(next(&mut client), "after");
    // And what it listens on from now on is there, too.
    run(&mut client, "LISTEN b");
    assert_eq!(notifications(&run(&mut client, "NOTIFY b, 'own'")), [("b".into(), "own".into())]);
}
