//! SIGTERM: no new clients, transactions may end, the rest is told, exit code 0.

use anyhow::Result;
use halephant_harness::{Cluster, wait_for};
use halephant_suite::{Client, Message, Stage, encode};
use nix::sys::signal::Signal;
use std::net::TcpStream;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(30);

fn farewell(messages: &[Message]) -> Option<String> {
    messages.iter().find(|message| message.tag == b'E').and_then(Message::sqlstate)
}

fn wait_until_refusing(stage: &Stage) -> Result<()> {
    wait_for("new clients to be refused", LIMIT, || {
        Ok(TcpStream::connect(("127.0.0.1", stage.proxy.port())).is_err().then_some(()))
    })
}

#[test]
fn idle_clients_are_told_and_transactions_end() {
    let mut stage = Stage::new().expect("it starts");
    let mut idle = stage.client().expect("it may log in");
    idle.query("SELECT 1").expect("it answers");
    let mut busy = stage.client().expect("it may log in");
    busy.query("BEGIN; CREATE TABLE kept (n int)").expect("it answers");

    stage.proxy.signal(Signal::SIGTERM).expect("it runs");
    wait_until_refusing(&stage).expect("they are");
    assert_eq!(farewell(&idle.receive_rest().expect("it ends")).as_deref(), Some("57P01"));
    busy.query("INSERT INTO kept VALUES (1)").expect("the transaction goes on");
    let committed = busy.query("COMMIT").expect("and ends");
    assert!(committed.iter().any(|message| message.tag == b'C'), "{committed:?}");
    assert_eq!(farewell(&busy.receive_rest().expect("then the session ends")).as_deref(), Some("57P01"));

    let status = stage.proxy.wait(LIMIT).expect("it ends by itself");
    assert_eq!(status.code(), Some(0), "{}", stage.proxy.log_tail());
    assert_eq!(stage.prepare("SELECT count(*) FROM kept").expect("it was committed"), "1");
    stage.wait_until_gone(LIMIT).expect("no server connection is left");
}

#[test]
fn what_takes_too_long_is_cut() {
    let builder = Cluster::builder();
    let mut stage =
        Stage::with(builder, |config| config.set("server.shutdown_timeout", "1s")).expect("it starts");
    let mut open = stage.client().expect("it may log in");
    open.query("BEGIN; SELECT 1").expect("it answers");
    let mut running = stage.client().expect("it may log in");
    running.send(&encode::query("SELECT pg_sleep(600)")).expect("it reads");
    let mut session = Client::connect(&stage.session()).expect("it may log in");
    session.query("SELECT 1").expect("it answers");

    let start = Instant::now();
    let status = stage.proxy.stop(LIMIT).expect("it ends within its time");
    assert_eq!(status.code(), Some(0), "{}", stage.proxy.log_tail());
    assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
    for client in [&mut open, &mut running, &mut session] {
        assert_eq!(farewell(&client.receive_rest().expect("it ends")).as_deref(), Some("57P01"));
    }
    // The query that ran is cancelled on the server, too.
    stage.wait_until_gone(LIMIT).expect("no server connection is left");
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let mut stage = Stage::with(Cluster::builder(), |config| config.set("server.shutdown_timeout", "10m"));
    let stage = stage.as_mut().expect("it starts");
    let mut open = stage.client().expect("it may log in");
    open.query("BEGIN").expect("it answers");
    stage.proxy.signal(Signal::SIGTERM).expect("it runs");
    wait_until_refusing(stage).expect("they are");
    assert!(stage.proxy.pid().is_ok_and(halephant_harness::process::is_running));
    let status = stage.proxy.stop(LIMIT).expect("it does not wait for the transaction");
    assert_eq!(status.code(), Some(0), "{}", stage.proxy.log_tail());
    open.receive_rest().expect("its connection is closed");
    stage.wait_until_gone(LIMIT).expect("no server connection is left");
}

#[test]
fn without_clients_it_ends_at_once() {
    let mut stage = Stage::new().expect("it starts");
    let status = stage.proxy.stop(LIMIT).expect("nothing keeps it");
    assert_eq!(status.code(), Some(0), "{}", stage.proxy.log_tail());
}

/// Clients see their connections end, and the server loses its own.
#[test]
fn sigkill_leaves_nothing_behind() {
    let mut stage = Stage::new().expect("it starts");
    let mut client = stage.client().expect("it may log in");
    client.query("BEGIN; SELECT 1").expect("it answers");
    stage.proxy.kill().expect("it runs");
    client.receive_rest().expect("its connection is closed");
    stage.wait_until_gone(LIMIT).expect("no server connection is left");
}
