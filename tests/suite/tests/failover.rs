//! Nodes that die, freeze and are promoted, under clients that write and read all the while.

use halephant_harness::postgres::cluster::Builder;
use halephant_harness::{Cluster, Login, ProxyConfig, wait_for};
use halephant_suite::collector::Collector;
use halephant_suite::{Client, Refused, Stage, encode, message};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(90);
const INTERVAL: Duration = Duration::from_secs(1);

fn configure(config: ProxyConfig) -> ProxyConfig {
    config
        .set("cluster.main.topology.interval", "1s")
        .set("cluster.main.topology.timeout", "1s")
        .set("cluster.main.connect_timeout", "2s")
        .set("server.checkout_timeout", "20s")
        .set("cluster.main.pool.app.max_connections.replica", 10)
        .set("cluster.main.pool.app_session.max_connections.replica", 10)
}

fn stage() -> Stage {
    let builder: Builder = Cluster::builder().replicas(2).setting("hot_standby_feedback", "on");
    let stage = Stage::with(builder, configure).expect("it starts");
    let found = || Ok((stage.proxy.log().matches(" node role ").count() >= 3).then_some(()));
    wait_for("the nodes' roles", LIMIT, found).expect("they are found");
    stage.prepare("CREATE TABLE journal (writer int, n int, node int)").expect("the primary takes writes");
    stage.cluster.wait_for_replay().expect("the replicas follow");
    stage
}

/// What a client went through: what it was sure to have written, and the errors it saw.
#[derive(Debug, Default)]
struct Account {
    written: Vec<(u32, u16)>,
    read: u32,
    errors: Vec<String>,
}

/// Clients at work until they are told to stop.
struct Crowd {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Account>>,
    progress: Arc<Mutex<Vec<u32>>>,
}

impl Crowd {
    fn new(login: &Login, writers: u32, readers: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let progress = Arc::new(Mutex::new(vec![0; (writers + readers) as usize]));
        let threads = (0..writers + readers)
            .map(|number| {
                let (login, stop, progress) = (login.clone(), Arc::clone(&stop), Arc::clone(&progress));
                std::thread::spawn(move || {
                    let mut account = Account::default();
                    while !stop.load(Ordering::Relaxed) {
                        let worked = work(&login, number, number < writers, &stop, &progress, &mut account);
                        if let Err(error) = worked {
                            account.errors.push(match error.downcast_ref::<Refused>() {
                                Some(refused) => refused.sqlstate(),
                                None => format!("{error:#}"),
                            });
                        }
                    }
                    account
                })
            })
            .collect();
        Self { stop, threads, progress }
    }

    /// Waits until every client has done something more.
    fn wait_for_progress(&self) {
        let before = self.progress.lock().expect("nobody panicked").clone();
        let further = || {
            let now = self.progress.lock().expect("nobody panicked").clone();
            Ok(now.iter().zip(&before).all(|(now, before)| *now > before + 1).then_some(()))
        };
        wait_for("every client to go on", LIMIT, further).expect("it does");
    }

    fn stop(self) -> Vec<Account> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().map(|thread| thread.join().expect("it does not panic")).collect()
    }
}

/// Runs `sql`. An error that ends the session comes without a ReadyForQuery, and is an error here.
fn exchange(client: &mut Client, sql: &str) -> anyhow::Result<Vec<message::Message>> {
    client.send(&encode::query(sql))?;
    let mut messages = Vec::new();
    loop {
        let message = client.receive()?;
        match message.tag {
            b'Z' => return Ok(messages),
            b'E' if message.field(b'V').as_deref() == Some("FATAL") => return Err(Refused(message).into()),
            _ => messages.push(message),
        }
    }
}

/// One session, up to its first fatal error or the end.
fn work(
    login: &Login,
    number: u32,
    writes: bool,
    stop: &AtomicBool,
    progress: &Mutex<Vec<u32>>,
    account: &mut Account,
) -> anyhow::Result<()> {
    let mut client = Client::connect(login)?;
    while !stop.load(Ordering::Relaxed) {
        if writes {
            let n = account.written.last().map_or(0, |(n, _)| n + 1);
            let sql = format!(
                "INSERT INTO journal VALUES ({number}, {n}, inet_server_port()) RETURNING inet_server_port()"
            );
            let answer = exchange(&mut client, &sql)?;
            match message::error(&answer) {
                Some(error) => account.errors.push(error.sqlstate().unwrap_or_default()),
                None => account.written.push((n, message::values(&answer)[0].parse()?)),
            }
        } else {
            let begun = exchange(&mut client, "BEGIN READ ONLY")?;
            if let Some(error) = message::error(&begun) {
                account.errors.push(error.sqlstate().unwrap_or_default());
                continue;
            }
            let answer = exchange(&mut client, "SELECT count(*) FROM journal; COMMIT")?;
            match message::error(&answer) {
                Some(error) => account.errors.push(error.sqlstate().unwrap_or_default()),
                None => account.read += 1,
            }
        }
        progress.lock().expect("nobody panicked")[number as usize] += 1;
    }
    Ok(())
}

/// Every error is one that says what happened; a few per client, not a storm.
fn assert_clear_errors(accounts: &[Account]) {
    let clear = ["57P01", "57P02", "57P03", "08006", "25006"];
    for account in accounts {
        assert!(account.errors.iter().all(|error| clear.contains(&error.as_str())), "{:?}", account.errors);
        assert!(account.errors.len() <= 5, "{:?}", account.errors);
    }
}

/// From now to the first write that a new client gets through.
fn first_write(login: &Login) -> Duration {
    let start = Instant::now();
    let write = || {
        let attempt = || {
            let mut client = Client::connect(login)?;
            client.values("INSERT INTO journal VALUES (-1, 0, inet_server_port())")
        };
        Ok(attempt().ok())
    };
    wait_for("a write", LIMIT, write).expect("it gets through");
    start.elapsed()
}

fn report(what: &str, elapsed: Duration) {
    let within = if elapsed <= INTERVAL + Duration::from_secs(1) { "within" } else { "NOT within" };
    eprintln!("{what}: first write after {elapsed:?}, {within} one interval + 1 s");
}

#[test]
fn a_killed_primary_is_left_and_a_promoted_replica_is_followed() {
    let mut stage = stage();
    let crowd = Crowd::new(&stage.transaction(), 4, 4);
    crowd.wait_for_progress();
    stage.cluster.node_mut(0).kill().expect("it runs");
    stage.proxy.wait_for_log("role=\"none\"", 1, LIMIT).expect("the primary is left");
    stage.cluster.nodes()[1].promote().expect("it is a replica");
    report("killed and promoted", first_write(&stage.transaction()));
    crowd.wait_for_progress();
    let accounts = crowd.stop();
    assert_clear_errors(&accounts);
    // Nothing that was confirmed after the promotion is missing on the new primary.
    let port = stage.cluster.nodes()[1].port();
    let rows =
        stage.cluster.nodes()[1].query("app", "SELECT writer || ' ' || n FROM journal").expect("it answers");
    let rows: std::collections::BTreeSet<&str> = rows.lines().collect();
    for (writer, account) in accounts.iter().enumerate() {
        for (n, node) in account.written.iter().filter(|(_, node)| *node == port) {
            assert!(rows.contains(format!("{writer} {n}").as_str()), "{writer} {n} on {node}");
        }
    }
}

#[test]
fn a_frozen_primary_is_replaced_and_not_used_when_it_thaws() {
    let stage = stage();
    let mut session = Client::connect(&stage.session()).expect("it may log in");
    session.query("INSERT INTO journal VALUES (-2, 0, 0)").expect("it answers");
    let mut held = stage.client().expect("it may log in");
    held.query("BEGIN; INSERT INTO journal VALUES (-3, 0, 0)").expect("it answers");
    let crowd = Crowd::new(&stage.transaction(), 4, 4);
    crowd.wait_for_progress();

    stage.cluster.nodes()[0].freeze().expect("it runs");
    let new = &stage.cluster.nodes()[1];
    new.promote().expect("it is a replica");
    report("frozen and promoted", first_write(&stage.transaction()));
    crowd.wait_for_progress();
    // Who was on the frozen node is told: between transactions that the node is left, in one that it is lost.
    for (mut client, expected) in [(session, "57P01"), (held, "08006")] {
        client.set_limit(LIMIT);
        let told = client.receive_rest().expect("it is told and closed");
        let error = message::error(&told).expect("an error");
        assert_eq!(error.sqlstate().as_deref(), Some(expected), "{error:?}");
    }

    let two = "two nodes take writes";
    let noticed = stage.proxy.log().matches(two).count();
    stage.cluster.nodes()[0].thaw().expect("it is there");
    stage.proxy.wait_for_log(two, noticed + 1, LIMIT).expect("two primaries are noticed");
    let old = || stage.cluster.nodes()[0].query("app", "SELECT count(*) FROM journal").expect("it answers");
    let before = old();
    crowd.wait_for_progress();
    crowd.wait_for_progress();
    assert_eq!(old(), before, "nothing is written to the old primary");
    assert_clear_errors(&crowd.stop());
}

#[test]
fn a_session_on_a_node_with_another_role_ends_between_transactions() {
    let stage = stage();
    let reader = [("options", "-c default_transaction_read_only=on")];
    let mut sessions: Vec<_> =
        (0..4).map(|_| Client::connect_with(&stage.session(), 0, &reader).expect("it may log in")).collect();
    let mut ports = Vec::new();
    for session in &mut sessions {
        session.query("BEGIN").expect("it answers");
        ports.push(session.value("SELECT inet_server_port()").expect("it answers"));
    }
    stage.cluster.nodes()[1].promote().expect("it is a replica");
    stage.proxy.wait_for_log("from=\"replica\" role=\"primary\"", 1, LIMIT).expect("it is noticed");
    let promoted = stage.cluster.nodes()[1].port().to_string();
    assert!(ports.contains(&promoted));
    for (mut session, port) in sessions.into_iter().zip(ports) {
        // Its transaction goes on to its end.
        assert_eq!(session.value("SELECT 1").expect("it goes on"), "1");
        session.query("COMMIT").expect("it answers");
        if port == promoted {
            let told = session.receive_rest().expect("it is told and closed");
            assert_eq!(message::error(&told).and_then(message::Message::sqlstate).as_deref(), Some("57P01"));
        } else {
            assert_eq!(session.value("SELECT 2").expect("it goes on"), "2");
        }
    }
}

#[test]
fn without_a_primary_writes_wait_and_are_told_so() {
    let builder = Cluster::builder().replicas(1);
    let stage = Stage::with(builder, |config| configure(config).set("server.checkout_timeout", "2s"));
    let mut stage = stage.expect("it starts");
    let mut client = stage.client().expect("it may log in");
    client.query("CREATE TABLE journal (writer int, n int, node int)").expect("it answers");
    stage.cluster.node_mut(0).kill().expect("it runs");
    stage.proxy.wait_for_log("role=\"none\"", 1, LIMIT).expect("the primary is left");
    let refused = client.error("INSERT INTO journal VALUES (0, 0, 0)").expect("it is refused");
    assert_eq!(refused.sqlstate(), "57P03");
    assert!(refused.text().contains("no primary"), "{refused:?}");
    stage.cluster.node_mut(0).start().expect("it recovers");
    let write = || Ok(client.values("INSERT INTO journal VALUES (0, 0, 0)").ok());
    wait_for("a write", LIMIT, write).expect("the same client goes on");
}

/// Far longer than a test takes: nodes are asked only where there is a reason.
const NEVER: &str = "1h";

#[test]
fn bad_news_from_a_node_has_it_asked_at_once() {
    let collector = Collector::start().expect("there is a port");
    let stage = Stage::with(Cluster::builder(), |config| {
        configure(config)
            .set("cluster.main.topology.interval", NEVER)
            .set("otel.endpoint", collector.endpoint())
    });
    let stage = stage.expect("it starts");
    let asked = || collector.received().spans_named("topology.refresh").len();
    let mut client = stage.client().expect("it may log in");
    let read_only = |client: &mut Client| {
        client.query("BEGIN READ ONLY").expect("it answers");
        let refused = client.error("CREATE TABLE t ()").expect("it is refused");
        assert_eq!(refused.sqlstate(), "25006");
        client.query("ROLLBACK").expect("it answers");
    };
    let end_own = |client: &mut Client| {
        let pid = client.value("SELECT pg_backend_pid()").expect("it answers");
        client.query("BEGIN; SELECT 1").expect("it answers");
        stage.cluster.query("postgres", &format!("SELECT pg_terminate_backend({pid})")).expect("it is there");
        client.receive_rest().expect("it is told and closed");
    };
    for bad_news in [&read_only as &dyn Fn(&mut Client), &end_own] {
        let before = asked();
        bad_news(&mut client);
        wait_for("the node to be asked", LIMIT, || Ok((asked() > before).then_some(()))).expect("it is");
    }
}

#[test]
fn clients_in_vain_have_nodes_asked_without_the_clock() {
    let stage = Stage::with(Cluster::builder().replicas(1), |config| {
        configure(config).set("cluster.main.topology.interval", NEVER).set("server.checkout_timeout", "1s")
    });
    let mut stage = stage.expect("it starts");
    let mut client = stage.client().expect("it may log in");
    client.query("CREATE TABLE journal (writer int, n int, node int)").expect("it answers");
    stage.cluster.wait_for_replay().expect("the replica follows");
    stage.cluster.node_mut(0).kill().expect("it runs");
    stage.cluster.nodes()[1].promote().expect("it is a replica");
    // Its own connection is dead; then there is no primary, until somebody has waited for one in vain.
    let write = || Ok(client.values("INSERT INTO journal VALUES (0, 0, 0)").ok());
    wait_for("a write", LIMIT, write).expect("the new primary is found");
}
