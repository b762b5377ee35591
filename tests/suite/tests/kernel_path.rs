//! Co-located sessions on the kernel path: what the kernel moves, what comes back to userspace, and how such a session ends.

use halephant_harness::proxy::KernelPath;
use halephant_harness::{Cluster, wait_for};
use halephant_suite::message::{error, values};
use halephant_suite::{Client, Stage, encode};
use nix::sys::signal::Signal;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(30);

fn stage() -> Stage {
    let one = |config: halephant_harness::ProxyConfig| {
        config
            .kernel_path(KernelPath::Colocated)
            .set("cluster.main.pool.app.max_connections.primary", 1)
            .set("cluster.main.pool.app_session.max_connections.primary", 8)
    };
    Stage::with(Cluster::builder(), one).expect("it starts: root, kernel 5.10 and cgroup2 are there")
}

/// A session with both directions in the kernel.
fn spliced(stage: &Stage) -> Client {
    let directions = || {
        let log = stage.proxy.log();
        log.lines().filter(|line| line.contains("events: spliced flow=")).count()
    };
    let before = directions();
    let mut client = Client::connect(&stage.session()).expect("it may log in");
    wait_for("the session to be spliced", LIMIT, || {
        client.value("SELECT 1")?;
        Ok((directions() >= before + 2).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", stage.proxy.log()));
    for _ in 0..20 {
        assert_eq!(client.value("SELECT 1").expect("it answers"), "1");
    }
    client
}

fn backend(client: &mut Client) -> String {
    client.value("SELECT pg_backend_pid()").expect("it answers")
}

/// Bytes of the server that the kernel moved, of sessions that are over.
fn moved(stage: &Stage) -> u64 {
    let log = stage.proxy.log();
    let of = |line: &str| line.split("sent_bytes=").nth(1)?.split_whitespace().next()?.parse::<u64>().ok();
    log.lines().filter(|line| line.contains("leaves the kernel path")).filter_map(of).sum()
}

#[test]
fn short_exchanges_go_through_the_kernel_and_the_connection_is_used_again() {
    let stage = stage();
    let mut client = spliced(&stage);
    let first = backend(&mut client);
    for number in 0..2000 {
        assert_eq!(client.value(&format!("SELECT {number}")).expect("it answers"), number.to_string());
    }
    assert!(client.terminate().expect("it is read").is_empty());
    stage.proxy.wait_for_log("leaves the kernel path", 1, LIMIT).expect("it ends");
    assert!(moved(&stage) > 2000 * 30, "{} bytes went through the kernel", moved(&stage));
    let mut next = spliced(&stage);
    assert_eq!(backend(&mut next), first);
}

#[test]
fn nothing_of_a_session_is_left_for_the_next() {
    let stage = stage();
    let mut client = spliced(&stage);
    let first = backend(&mut client);
    client.value("SELECT set_config('work_mem', '77MB', false)").expect("it is set");
    client.query("SET TimeZone = 'Asia/Tokyo'").expect("it is set");
    client.query("CREATE TEMP TABLE mine (a int)").expect("it is made");
    client.query("PREPARE mine AS SELECT 1").expect("it is prepared");
    client.query("BEGIN").expect("it begins");
    client.terminate().expect("it is read");
    stage.wait_until_idle(LIMIT).expect("it is rolled back");
    let mut next = spliced(&stage);
    assert_eq!(backend(&mut next), first);
    assert_ne!(next.value("SHOW work_mem").expect("it answers"), "77MB");
    assert_ne!(next.value("SHOW TimeZone").expect("it answers"), "Asia/Tokyo");
    assert_eq!(next.value("SELECT count(*) FROM pg_prepared_statements").expect("it answers"), "0");
    let table = next.error("SELECT * FROM mine").expect("it is refused");
    assert_eq!(table.sqlstate(), "42P01");
}

#[test]
fn large_results_and_copies_arrive_whole() {
    const ROWS: &str = "SELECT n, repeat(md5(n::text), n % 90) FROM generate_series(1, 4000) AS n";
    let stage = stage();
    stage.prepare("CREATE TABLE copied (n int, text text)").expect("it is made");
    let mut direct = Client::connect(&stage.direct()).expect("it may log in");
    let mut client = spliced(&stage);
    for sql in [ROWS, &format!("COPY ({ROWS}) TO STDOUT")] {
        let expected = direct.query(sql).expect("it answers");
        for _ in 0..3 {
            let answer = client.query(sql).unwrap_or_else(|error| panic!("{error:#}\n{}", stage.proxy.log()));
            assert!(answer == expected, "other bytes");
            assert_eq!(client.value("SELECT 2").expect("it answers"), "2");
        }
    }
    let lines = direct.query(&format!("COPY ({ROWS}) TO STDOUT")).expect("it answers");
    client.send(&encode::query("COPY copied FROM STDIN")).expect("it is read");
    client.receive_until(b'G').expect("it takes data");
    for line in lines.iter().filter(|message| message.tag == b'd') {
        client.send(&encode::copy_data(&line.body)).expect("it is read");
    }
    client.send(&encode::copy_done()).expect("it is read");
    client.receive_until(b'Z').expect("it ends");
    let count = format!("SELECT count(*) FROM (TABLE copied EXCEPT ({ROWS})) AS other");
    assert_eq!(client.value(&count).expect("it answers"), "0");
    assert_eq!(client.value("SELECT count(*) FROM copied").expect("it answers"), "4000");
}

#[test]
fn pipelines_keep_their_order() {
    let stage = stage();
    let mut client = spliced(&stage);
    let pipeline: Vec<u8> = (0..10_000)
        .flat_map(|number| {
            [
                encode::parse("", &format!("SELECT {number}")),
                encode::bind("", "", &[]),
                encode::execute("", 0),
                encode::sync(),
            ]
            .concat()
        })
        .collect();
    let mut socket = client.socket().expect("it is open");
    let writer = std::thread::spawn(move || std::io::Write::write_all(&mut socket, &pipeline));
    for number in 0..10_000 {
        let answer = client.receive_until(b'Z').expect("it answers");
        assert_eq!(values(&answer), [number.to_string()]);
    }
    writer.join().expect("no panic").expect("it is read");
    assert_eq!(client.value("SELECT 1").expect("it answers"), "1");
}

#[test]
fn errors_are_told_and_the_session_goes_on() {
    let stage = stage();
    let mut client = spliced(&stage);
    for _ in 0..5 {
        assert_eq!(client.error("SELECT 1 / 0").expect("it is told").sqlstate(), "22012");
        client.send(&[encode::parse("", "SELECT nothing"), encode::flush()].concat()).expect("it is read");
        assert_eq!(client.receive().expect("it is told").sqlstate().as_deref(), Some("42703"));
        client.send(&encode::query("SELECT 'skipped'")).expect("it is read");
        client.send(&encode::sync()).expect("it is read");
        let answer = client.receive_until(b'Z').expect("it ends");
        assert_eq!(values(&answer), [""; 0]);
        for number in 0..200 {
            assert_eq!(client.value(&format!("SELECT {number}")).expect("it answers"), number.to_string());
        }
    }
}

#[test]
fn a_cancel_reaches_a_spliced_session() {
    let stage = stage();
    let mut client = spliced(&stage);
    client.send(&encode::query("SELECT pg_sleep(600)")).expect("it is read");
    let running = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep%' AND state = 'active' \
                       AND pid <> pg_backend_pid()";
    stage.wait_until(running, "1", LIMIT).expect("it runs");
    client.cancel().expect("the request is read");
    let answer = client.receive_until(b'Z').expect("it ends");
    assert_eq!(error(&answer).and_then(|error| error.sqlstate()).as_deref(), Some("57014"));
    assert_eq!(client.value("SELECT 1").expect("the session goes on"), "1");
}

#[test]
fn a_server_that_ends_says_why_once() {
    let stage = stage();
    let mut client = spliced(&stage);
    stage.end_server_connections().expect("they end");
    let rest = client.receive_rest().expect("it ends");
    let told: Vec<_> = rest.iter().filter_map(|message| message.sqlstate()).collect();
    assert_eq!(told, ["57P01"]);
    let mut next = spliced(&stage);
    assert_eq!(next.value("SELECT 1").expect("it answers"), "1");
}

#[test]
fn a_client_that_vanishes_leaves_a_connection_in_order() {
    let stage = stage();
    stage.prepare("CREATE TABLE held (a int); INSERT INTO held VALUES (1)").expect("it is made");
    for _ in 0..3 {
        let mut client = spliced(&stage);
        client.query("BEGIN").expect("it begins");
        client.query("UPDATE held SET a = a + 1").expect("it is updated");
        client.cut();
        let mut running = spliced(&stage);
        running
            .send(&encode::query("SELECT repeat('x', 1000) FROM generate_series(1, 1000000)"))
            .expect("it is read");
        running.receive_until(b'T').expect("it begins");
        running.cut();
    }
    stage.wait_until_idle(LIMIT).expect("what they left is ended");
    let mut next = spliced(&stage);
    assert_eq!(next.value("UPDATE held SET a = a RETURNING a").expect("nobody holds it"), "1");
}

/// 100 MB for a client that reads nothing for a while: the kernel does not take them all.
#[test]
fn a_reader_that_stops_is_not_buffered_for() {
    let stage = stage();
    let mut client = spliced(&stage);
    let mut other = spliced(&stage);
    let before = tcp_memory_bytes();
    client
        .send(&encode::query("SELECT repeat('x', 10000) FROM generate_series(1, 10000)"))
        .expect("it is read");
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'ClientWrite'";
    stage.wait_until(waits, "1", LIMIT).expect("the server has to wait");
    for _ in 0..1000 {
        other.value("SELECT 1").expect("others go on");
    }
    let held = tcp_memory_bytes().saturating_sub(before);
    assert!(held < 32 << 20, "the kernel holds {held} bytes");
    let answer = client.receive_until(b'Z').expect("it ends");
    let rows = values(&answer);
    assert_eq!(rows.len(), 10_000);
    assert!(rows.iter().all(|row| row.len() == 10_000 && row.bytes().all(|byte| byte == b'x')));
}

/// What all TCP sockets of this host hold.
fn tcp_memory_bytes() -> u64 {
    let figures = std::fs::read_to_string("/proc/net/sockstat").expect("it is there");
    let pages =
        figures.lines().find_map(|line| line.strip_prefix("TCP:")?.split("mem ").nth(1)?.trim().parse().ok());
    pages.map(|pages: u64| pages * 4096).expect("it has a figure for TCP")
}

#[test]
fn the_kill_switch_under_load_breaks_no_session() {
    let stage = stage();
    let (stop, rounds) = (AtomicBool::new(false), AtomicU64::new(0));
    let clients: Vec<_> = (0..6).map(|_| spliced(&stage)).collect();
    std::thread::scope(|scope| {
        let work: Vec<_> = clients
            .into_iter()
            .map(|mut client| {
                scope.spawn(|| {
                    let mut client = {
                        client.set_limit(LIMIT);
                        client
                    };
                    let mut number = 0_u64;
                    while !stop.load(Ordering::Relaxed) {
                        number += 1;
                        let sql = format!("SELECT {number}, repeat('y', {})", number % 3000);
                        let answer = client.query(&sql).expect("it answers");
                        let row = answer.iter().find(|message| message.tag == b'D').expect("one row");
                        let columns = row.columns();
                        assert_eq!(columns[0].as_deref(), Some(number.to_string().as_bytes()));
                        assert_eq!(columns[1].as_ref().map(Vec::len), Some((number % 3000) as usize));
                        rounds.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        let more = |wanted: u64| {
            let from = rounds.load(Ordering::Relaxed);
            wait_for("the clients to go on", LIMIT, || {
                Ok((rounds.load(Ordering::Relaxed) > from + wanted).then_some(()))
            })
        };
        more(500).expect("they run");
        stage.proxy.signal(Signal::SIGUSR1).expect("it runs");
        stage.proxy.wait_for_log("the kernel path is switched off", 1, LIMIT).expect("it hears");
        more(500).expect("they go on in userspace");
        stop.store(true, Ordering::Relaxed);
        for client in work {
            client.join().expect("every answer was right");
        }
    });
    stage.wait_until_idle(LIMIT).expect("all is in order");
}

#[test]
fn a_shutdown_lets_a_spliced_transaction_finish() {
    let mut stage = stage();
    let mut idle = spliced(&stage);
    let mut busy = spliced(&stage);
    busy.query("BEGIN").expect("it begins");
    stage.proxy.signal(Signal::SIGTERM).expect("it runs");
    let rest = idle.receive_rest().expect("it ends");
    assert_eq!(error(&rest).and_then(|error| error.sqlstate()).as_deref(), Some("57P01"));
    assert_eq!(busy.value("SELECT 1").expect("its transaction goes on"), "1");
    let end = busy.query("COMMIT").expect("it commits");
    assert!(error(&end).is_none());
    let rest = busy.receive_rest().expect("it ends");
    assert_eq!(error(&rest).and_then(|error| error.sqlstate()).as_deref(), Some("57P01"));
    assert!(stage.proxy.wait(LIMIT).expect("it ends").success());
}

/// In transaction mode, with one server connection for all.
#[test]
fn a_listener_gets_its_notifications_from_the_kernel_until_it_stops_listening() {
    let stage = stage();
    let mut listener = stage.client().expect("it may log in");
    listener.query("LISTEN news").expect("it listens");
    let spliced = || stage.proxy.log().matches("direction=1").count();
    let before = spliced();
    wait_for("the answers to be spliced", LIMIT, || {
        listener.value("SELECT 1")?;
        Ok((spliced() > before).then_some(()))
    })
    .expect("they are");
    for number in 0..100 {
        stage.prepare(&format!("NOTIFY news, '{number}'")).expect("it notifies");
        let message = listener.receive().expect("it is told");
        assert_eq!(message.tag, b'A');
        assert!(message.body.ends_with(format!("news\0{number}\0").as_bytes()));
        assert_eq!(listener.value(&format!("SELECT {number}")).expect("it answers"), number.to_string());
    }
    let answer = listener.query("UNLISTEN *").expect("it answers");
    assert!(error(&answer).is_none());
    let mut other = stage.client().expect("it may log in");
    assert_eq!(other.value("SELECT 1").expect("the connection is free"), "1");
    assert_eq!(listener.value("SELECT 2").expect("it goes on"), "2");
}

/// What the kernel moves is counted: a session with something to do is not idle, one without is.
#[test]
fn time_limits_hold_for_spliced_sessions() {
    let limits = |config: halephant_harness::ProxyConfig| {
        config
            .kernel_path(KernelPath::Colocated)
            .set("cluster.main.pool.app_session.client_idle_timeout", "2s")
            .set("cluster.main.pool.app_session.idle_transaction_timeout", "1s")
            .set("cluster.main.pool.app_session.query_timeout", "3s")
    };
    let stage = Stage::with(Cluster::builder(), limits).expect("it starts");
    let told = |client: &mut Client, sqlstate: &str| {
        let rest = client.receive_rest().expect("it ends in good order");
        assert_eq!(
            rest.last().and_then(halephant_suite::Message::sqlstate).as_deref(),
            Some(sqlstate),
            "{rest:?}"
        );
    };
    let mut idle = spliced(&stage);
    told(&mut idle, "57P05");
    let mut in_transaction = spliced(&stage);
    in_transaction.query("BEGIN").expect("it begins");
    told(&mut in_transaction, "25P03");
    let mut slow = spliced(&stage);
    let answer = slow.query("SELECT pg_sleep(600)").expect("it ends");
    assert_eq!(error(&answer).and_then(halephant_suite::Message::sqlstate).as_deref(), Some("57014"));
    assert_eq!(slow.value("SELECT 'on'").expect("the session goes on"), "on");
    // Longer than any of the limits, and never idle for as long.
    for _ in 0..8 {
        assert_eq!(slow.value("SELECT 'slept' FROM pg_sleep(0.5)").expect("it is not idle"), "slept");
    }
}
