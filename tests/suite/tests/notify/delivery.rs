//! Who gets which notification, when, and never twice.

use super::{
    LIMIT, client, console, listener, next, notification, notifications, run, stage_of, stage_with, tags,
    take,
};
use halephant_harness::{process, psql};
use halephant_suite::encode::{bind, execute, parse, query, sync};
use halephant_suite::{Client, Stage, message};
use nix::sys::signal::Signal;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

fn direct(stage: &Stage) -> Client {
    Client::connect(&stage.direct()).expect("it may log in")
}

#[test]
fn listeners_hold_no_server_connection_and_are_not_pinned() {
    let stage = stage_of(1);
    let mut clients: Vec<Client> = (0..20).map(|_| client(&stage)).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        run(client, &format!("LISTEN everybody; LISTEN own{number}"));
    }
    assert_eq!(console(&stage, "SHOW PINS"), "");
    let mut sender = direct(&stage);
    let process_id = sender.value("SELECT pg_backend_pid()").expect("it answers");
    run(&mut sender, "NOTIFY everybody, 'hello'; NOTIFY own7, 'seven'");
    run(&mut sender, "NOTIFY everybody, 'bye'");
    for (number, client) in clients.iter_mut().enumerate() {
        let expected: &[&str] = if number == 7 { &["hello", "seven", "bye"] } else { &["hello", "bye"] };
        for payload in expected {
            let message = client.receive().expect("it comes");
            assert_eq!((message.tag, notification(&message).1), (b'A', (*payload).to_owned()));
            assert_eq!(message.body[..4], process_id.parse::<u32>().expect("a number").to_be_bytes());
        }
        assert_eq!(notifications(&run(client, "SELECT 1")), [], "nothing comes twice");
    }
    // One connection of the pool and the listener's.
    assert_eq!(stage.server_connections().expect("the server answers"), 3, "with the sender's own");
}

#[test]
fn nothing_comes_within_a_transaction_or_between_rows() {
    let stage = stage_of(2);
    let (mut client, mut sender) = (client(&stage), direct(&stage));
    run(&mut client, "LISTEN a");
    run(&mut client, "BEGIN");
    run(&mut sender, "NOTIFY a, 'one'");
    assert_eq!(tags(&run(&mut client, "SELECT 1")), "TDCZ");
    assert_eq!(tags(&run(&mut client, "SELECT pg_sleep(0.5)")), "TDCZ");
    // As PostgreSQL, before the ReadyForQuery that ends the transaction.
    assert_eq!(tags(&run(&mut client, "NOTIFY b; COMMIT")), "CCAZ");
    let rows = "SELECT repeat('x', 1000) FROM generate_series(1, 50000)";
    client.send(&query(rows)).expect("it is read");
    // From here on it is not idle.
    assert_eq!(client.receive().expect("it begins").tag, b'T');
    let mut seen = 0;
    for round in 0..50 {
        run(&mut sender, &format!("NOTIFY a, '{round}'"));
        for _ in 0..500 {
            assert_eq!(client.receive().expect("it goes on").tag, b'D');
            seen += 1;
        }
    }
    let rest = client.receive_until(b'Z').expect("it ends");
    let found: Vec<String> = notifications(&rest).into_iter().map(|(_, payload)| payload).collect();
    seen += rest.iter().filter(|message| message.tag == b'D').count();
    assert_eq!(seen, 50_000);
    // What did not come with the end of the statement comes right after it.
    let late = take(&mut client, 50 - found.len());
    let all: Vec<String> = found.into_iter().chain(late).collect();
    assert_eq!(all, (0..50).map(|round| round.to_string()).collect::<Vec<_>>());
}

#[test]
fn what_was_committed_after_listen_was_answered_always_comes() {
    let stage = stage_of(2);
    let mut sender = client(&stage);
    for round in 0..200 {
        let mut client = client(&stage);
        let channel = format!("c{}", round % 3);
        run(&mut client, &format!("LISTEN {channel}"));
        run(&mut sender, &format!("NOTIFY {channel}, '{round}'"));
        assert_eq!(next(&mut client), round.to_string());
        run(&mut client, "UNLISTEN *");
        run(&mut sender, &format!("NOTIFY {channel}, 'too late'"));
        assert_eq!(tags(&run(&mut client, "SELECT 1")), "TDCZ");
    }
}

/// The listener's connection knows the channel already, and has yet to bring what was sent on it.
#[test]
fn what_was_committed_before_a_listen_never_comes() {
    let stage = stage_of(3);
    let (mut keeper, mut sender) = (client(&stage), client(&stage));
    run(&mut keeper, "LISTEN a");
    let process: u32 = listener(&stage, "").parse().expect("a process ID");
    let portal = [parse("", "LISTEN a"), bind("", "", &[])].concat();
    let cases = [
        ("SELECT 1", query("LISTEN a")),
        ("BEGIN; LISTEN a", query("COMMIT")),
        ("BEGIN; LISTEN b; SAVEPOINT s; LISTEN a; RELEASE s", query("SELECT 1; COMMIT")),
        ("SELECT 1", [portal.clone(), execute("", 0), sync()].concat()),
        ("BEGIN", [portal, execute("", 0), query("COMMIT")].concat()),
    ];
    for (first, last) in cases {
        let mut client = client(&stage);
        run(&mut client, first);
        process::signal(process, Signal::SIGSTOP).expect("it stops");
        run(&mut sender, "NOTIFY a, 'too early'");
        client.send(&last).expect("it is read");
        answered_once_it_goes_on(&mut client, process);
        run(&mut sender, "NOTIFY a, 'in time'");
        assert_eq!(next(&mut client), "in time");
        assert_eq!(take(&mut keeper, 2), ["too early", "in time"]);
    }
}

/// What the client waits for is not answered before the listener's `process`, which is stopped, goes on, and brings nothing.
fn answered_once_it_goes_on(client: &mut Client, process: u32) {
    client.set_limit(Duration::from_millis(200));
    let early = client.receive_until(b'Z');
    process::signal(process, Signal::SIGCONT).expect("it goes on");
    early.expect_err("it is answered before it is known what was committed before");
    client.set_limit(LIMIT);
    assert_eq!(notifications(&client.receive_until(b'Z').expect("it is answered")), []);
}

#[test]
fn what_was_committed_while_the_statement_before_a_listen_ran_never_comes() {
    let stage = stage_of(3);
    let (mut keeper, mut sender, mut blocker) = (client(&stage), client(&stage), client(&stage));
    let mut client = client(&stage);
    run(&mut keeper, "LISTEN a");
    let process: u32 = listener(&stage, "").parse().expect("a process ID");
    run(&mut blocker, "BEGIN; SELECT pg_advisory_xact_lock(1)");
    client.send(&query("SELECT pg_advisory_xact_lock(1)")).expect("it is read");
    let waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
    stage.wait_until(waits, "1", LIMIT).expect("it waits for the lock");
    process::signal(process, Signal::SIGSTOP).expect("it stops");
    run(&mut sender, "NOTIFY a, 'too early'");
    client.send(&query("LISTEN a")).expect("it is read");
    run(&mut blocker, "COMMIT");
    client.receive_until(b'Z').expect("it has the lock");
    answered_once_it_goes_on(&mut client, process);
    run(&mut sender, "NOTIFY a, 'in time'");
    assert_eq!(next(&mut client), "in time");
}

/// Whoever listens and then reads, in one packet, sees every change: in what it read, or by a notification.
#[test]
fn what_was_committed_behind_the_listen_of_a_pipeline_comes() {
    let stage = stage_of(3);
    stage.prepare("CREATE TABLE state (n int)").expect("it is made");
    stage.prepare("INSERT INTO state VALUES (0)").expect("it takes it");
    let (login, stop) = (stage.transaction(), Arc::new(AtomicBool::new(false)));
    let stopped = Arc::clone(&stop);
    let sender = std::thread::spawn(move || {
        let mut sender = Client::connect(&login).expect("it may log in");
        while !stopped.load(Ordering::Relaxed) {
            run(&mut sender, "UPDATE state SET n = n + 1; SELECT pg_notify('a', n::text) FROM state");
        }
    });
    let read = "SELECT n FROM state";
    let extended = [parse("", "LISTEN a"), bind("", "", &[]), execute("", 0), sync()].concat();
    for (round, listen) in
        [query("LISTEN a"), query("BEGIN; LISTEN a; COMMIT"), extended].iter().cycle().take(300).enumerate()
    {
        let mut client = client(&stage);
        client.send(&[listen.clone(), query(read)].concat()).expect("it is read");
        let mut early = notifications(&client.receive_until(b'Z').expect("it is answered"));
        let answer = client.receive_until(b'Z').expect("it is answered");
        early.extend(notifications(&answer));
        let seen: u32 = message::values(&answer)[0].parse().expect("a number");
        let number = |payload: &str| payload.parse::<u32>().expect("a number");
        let mut found: Vec<u32> = early.iter().map(|(_, payload)| number(payload)).collect();
        found.extend(take(&mut client, 3).iter().map(|payload| number(payload)));
        assert!(found[0] <= seen + 1, "round {round}: {found:?} after {seen}");
        assert!(found.windows(2).all(|pair| pair[1] == pair[0] + 1), "round {round}: {found:?}");
    }
    stop.store(true, Ordering::Relaxed);
    sender.join().expect("it does not panic");
}

#[test]
fn a_client_that_keeps_its_connection_gets_each_notification_once() {
    let stage = stage_of(2);
    let (mut client, mut sender) = (client(&stage), direct(&stage));
    run(&mut client, "LISTEN a");
    run(&mut client, "CREATE TEMP TABLE t (a int)");
    // On the server connection that it keeps, too.
    run(&mut client, "LISTEN b");
    run(&mut sender, "NOTIFY a, '1'; NOTIFY b, '2'");
    assert_eq!(take(&mut client, 2), ["1", "2"]);
    let own = run(&mut client, "NOTIFY a, '3'; NOTIFY b, '4'");
    assert_eq!(tags(&own), "CCAAZ");
    assert_eq!(tags(&run(&mut client, "SELECT 1")), "TDCZ");
    run(&mut client, "DISCARD ALL");
    run(&mut sender, "NOTIFY a, '5'; NOTIFY b, '6'");
    assert_eq!(tags(&run(&mut client, "NOTIFY a")), "CZ");
}

/// A name that the listener could take for another one: the client's own connection listens.
#[test]
fn a_name_that_cannot_be_read_pins() {
    let stage = stage_of(2);
    let (mut client, mut sender) = (client(&stage), direct(&stage));
    let long = "é".repeat(40);
    run(&mut client, &format!("LISTEN \"{long}\""));
    assert!(console(&stage, "SHOW PINS").contains("listen"));
    run(&mut client, "LISTEN a");
    run(&mut sender, &format!("NOTIFY \"{long}\", '1'"));
    run(&mut sender, "NOTIFY a, '2'");
    let mut found = take(&mut client, 2);
    found.sort();
    assert_eq!(found, ["1", "2"]);
    run(&mut client, "UNLISTEN *");
    assert_eq!(console(&stage, "SHOW PINS"), "");
}

#[test]
fn nothing_is_left_for_whoever_gets_the_connection() {
    let stage = stage_of(1);
    let (mut one, mut other) = (client(&stage), client(&stage));
    for sql in ["LISTEN a", "BEGIN; LISTEN b; COMMIT", "BEGIN; LISTEN c", "LISTEN d; SELECT pg_sleep(60)"] {
        if sql.ends_with("(60)") {
            one.send(&query(sql)).expect("it is read");
        } else {
            run(&mut one, sql);
        }
        if !sql.ends_with("COMMIT") && sql != "LISTEN a" {
            one.cut();
            one = client(&stage);
        }
        let found = other.values("SELECT pg_listening_channels()").expect("it answers");
        assert_eq!(found, [""; 0], "{sql}");
    }
    run(&mut other, "NOTIFY a; NOTIFY b; NOTIFY c; NOTIFY d");
    assert_eq!(tags(&run(&mut other, "SELECT 1")), "TDCZ");
}

#[test]
fn encodings_are_the_clients() {
    let stage = stage_of(2);
    let latin = [("client_encoding", "LATIN1")];
    let mut latin = Client::connect_with(&stage.transaction(), 0, &latin).expect("it may log in");
    let (mut utf8, mut sender) = (client(&stage), direct(&stage));
    run(&mut utf8, "LISTEN \"Ä\"");
    latin.send(&halephant_suite::encode::message(b'Q', b"LISTEN \"\xc4\"\0")).expect("it is read");
    latin.receive_until(b'Z').expect("it is answered");
    run(&mut sender, "NOTIFY \"Ä\", 'é'");
    assert_eq!(utf8.receive().expect("it comes").body[4..], *"Ä\0é\0".as_bytes());
    assert_eq!(latin.receive().expect("it comes").body[4..], *b"\xc4\0\xe9\0");
    // A listener is not opened anew for a client that changes its mind.
    run(&mut utf8, "LISTEN a; SET client_encoding = 'LATIN1'");
    run(&mut sender, "NOTIFY a, 'plain'; NOTIFY a, 'é'");
    assert_eq!(take(&mut utf8, 2), ["plain", "!notifications on channel \"a\" may have been lost"]);
    let listeners = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'halephant listener'";
    stage.wait_until(listeners, "2", LIMIT).expect("one for each encoding");
}

#[test]
fn a_thousand_listeners_get_a_storm_in_order_and_once() {
    let stage = stage_of(4);
    let mut clients: Vec<Client> = (0..1000).map(|_| client(&stage)).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        run(client, &format!("LISTEN everybody; LISTEN c{}", number % 10));
    }
    let mut sender = client(&stage);
    for round in 0..20 {
        run(
            &mut sender,
            &format!("SELECT pg_notify('everybody', ({round} * 10 + i)::text) FROM generate_series(0, 9) i"),
        );
        run(&mut sender, &format!("NOTIFY c{}, 'own{round}'", round % 10));
    }
    for (number, client) in clients.iter_mut().enumerate() {
        let found = take(client, 202);
        let (own, all): (Vec<String>, Vec<String>) = found.into_iter().partition(|it| it.starts_with("own"));
        assert_eq!(all, (0..200).map(|it| it.to_string()).collect::<Vec<_>>());
        assert_eq!(own, [format!("own{}", number % 10), format!("own{}", number % 10 + 10)]);
    }
    let shown = console(&stage, "SHOW LISTENERS");
    assert!(shown.contains("2000"), "{shown}");
    drop(clients);
    super::wait_for("the channels to go", LIMIT, || {
        Ok((console(&stage, "SHOW LISTENERS").split('|').nth(6) == Some("0")).then_some(()))
    })
    .expect("they do");
}

#[test]
fn many_senders_many_workers_and_nothing_twice() {
    let stage = stage_with(6, |config| config.set("server.workers", 4));
    let mut listeners: Vec<Client> = (0..8).map(|_| client(&stage)).collect();
    listeners.iter_mut().for_each(|client| drop(run(client, "LISTEN a")));
    let login = stage.transaction();
    let senders: Vec<_> = (0..6)
        .map(|sender| {
            let login = login.clone();
            std::thread::spawn(move || {
                let mut client = Client::connect(&login).expect("it may log in");
                run(&mut client, "LISTEN a");
                for round in 0..100 {
                    // Its own comes before its answer, and whatever others sent.
                    let payload = format!("{sender}-{round}");
                    let found = notifications(&run(&mut client, &format!("NOTIFY a, '{payload}'")));
                    assert_eq!(found.iter().filter(|(_, it)| *it == payload).count(), 1, "{found:?}");
                }
            })
        })
        .collect();
    for sender in senders {
        sender.join().expect("it does not panic");
    }
    for client in &mut listeners {
        let found = take(client, 600);
        assert_eq!(found.iter().collect::<HashSet<_>>().len(), 600);
        for sender in 0..6 {
            let begins = format!("{sender}-");
            let own = found.iter().filter_map(|payload| payload.strip_prefix(&begins));
            assert!(own.eq((0..100).map(|round| round.to_string()).collect::<Vec<_>>().iter()));
        }
    }
}

#[test]
fn in_statement_mode_listeners_hold_no_connection_either() {
    let stage = stage_with(1, |config| config.set("cluster.main.pool.app.mode", "statement"));
    let (mut client, mut sender) = (client(&stage), client(&stage));
    run(&mut client, "LISTEN a");
    run(&mut sender, "NOTIFY a, '1'");
    assert_eq!(next(&mut client), "1");
    assert_eq!(console(&stage, "SHOW PINS"), "");
}

#[test]
fn psql_shows_notifications() {
    let stage = stage_of(1);
    let login = stage.transaction();
    let statements = ["LISTEN a", "NOTIFY a, 'by psql'", "SELECT 1"].map(str::to_owned);
    let shown = psql::script(stage.cluster.binaries(), &login, &statements).expect("it runs");
    assert!(shown.contains("Asynchronous notification \"a\" with payload \"by psql\""), "{shown}");
}
