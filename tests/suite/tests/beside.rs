//! Several halephant processes on one address: a cancel comes to any of them and reaches the right one.

use halephant_harness::{Binaries, Cluster, Proxy, ProxyConfig, command, wait_for};
use halephant_suite::message::error;
use halephant_suite::{Client, Message, Stage, encode};
use std::process::Command;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(20);
/// Each goes to one of two processes by chance; that all of them meet their own is as good as impossible.
const CANCELS: usize = 24;
const PASSED_ON: &str = "a cancel request was passed on";

fn stage() -> (Stage, Proxy) {
    let shared = |config: ProxyConfig| config.set("server.so_reuseport", true);
    let stage = Stage::with(Cluster::builder(), shared).expect("it starts");
    let config = shared(Stage::config(&stage.cluster));
    let beside = stage.proxy.start_beside(&config).expect("the address may be shared");
    (stage, beside)
}

fn passed_on(stage: &Stage, beside: &Proxy) -> usize {
    [&stage.proxy, beside].iter().map(|proxy| proxy.log().matches(PASSED_ON).count()).sum()
}

fn cancel_and_go_on(stage: &Stage, client: &mut Client, mark: &str) {
    client.send(&encode::query(&format!("SELECT '{mark}' FROM pg_sleep(600)"))).expect("it reads");
    let running = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT ''{mark}''%' AND state = 'active'"
    );
    stage.wait_until(&running, "1", LIMIT).expect("it runs");
    client.cancel().expect("the request is read");
    let answer = client.receive_until(b'Z').expect("the query ends");
    assert_eq!(error(&answer).and_then(Message::sqlstate).as_deref(), Some("57014"));
    assert_eq!(client.value("SELECT 1").expect("the session goes on"), "1");
}

#[test]
fn a_cancel_finds_the_process_of_its_session() {
    let (stage, beside) = stage();
    for minor in [0, 2] {
        let before = passed_on(&stage, &beside);
        let mut client = Client::connect_with(&stage.transaction(), minor, &[]).expect("it may log in");
        assert_eq!(client.secret_key.len() > 4, minor == 2);
        for number in 0..CANCELS {
            cancel_and_go_on(&stage, &mut client, &format!("{minor}/{number}"));
        }
        assert!(passed_on(&stage, &beside) > before, "protocol 3.{minor}");
    }
}

/// Without the setting, a second process is an error and not a rival.
#[test]
fn an_address_is_shared_only_on_purpose() {
    let stage = Stage::new().expect("it starts");
    let config = Stage::config(&stage.cluster);
    let error = stage.proxy.start_beside(&config).expect_err("the address is taken");
    assert!(format!("{error:#}").contains("could not listen"), "{error:#}");
}

/// A process that drains has closed its listeners; its clients cancel by the one that came after it.
#[test]
fn a_process_that_drains_still_gets_its_cancels() {
    let (stage, mut beside) = stage();
    let mut clients: Vec<Client> =
        (0..10).map(|_| Client::connect(&stage.transaction()).expect("it may log in")).collect();
    for client in &mut clients {
        client.query("BEGIN").expect("it answers");
    }
    beside.signal(nix::sys::signal::Signal::SIGTERM).expect("it runs");
    beside.wait_for_log("shutting down", 1, LIMIT).expect("it drains");
    for (number, client) in clients.iter_mut().enumerate() {
        client
            .send(&encode::query(&format!("SELECT 'drain {number}' FROM pg_sleep(600)")))
            .expect("it reads");
        let running = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%drain {number}''%' AND state = 'active'
             AND pid <> pg_backend_pid()"
        );
        stage.wait_until(&running, "1", LIMIT).expect("it runs");
        client.cancel().expect("the request is read");
        let answer = client.receive_until(b'Z').expect("the query ends");
        assert_eq!(error(&answer).and_then(Message::sqlstate).as_deref(), Some("57014"));
    }
    drop(clients);
    beside.wait(LIMIT).expect("nobody is left");
    // Its place is free again, and its keys are void.
    let mut next = stage.client().expect("it may log in");
    cancel_and_go_on(&stage, &mut next, "next");
}

/// A key whose random part is wrong does nothing in whichever process.
#[test]
fn a_wrong_key_does_nothing_in_either_process() {
    let (stage, beside) = stage();
    let mut client = Client::connect_with(&stage.transaction(), 2, &[]).expect("it may log in");
    client.send(&encode::query("SELECT 'slept' FROM pg_sleep(2)")).expect("it reads");
    let mut wrong = client.secret_key.clone();
    *wrong.last_mut().expect("it is long") ^= 1;
    for _ in 0..CANCELS {
        client.cancel_with(&wrong).expect("it is read, and nothing is said");
    }
    let answer = client.receive_until(b'Z').expect("the query ends");
    assert_eq!(halephant_suite::message::values(&answer), ["slept"]);
    assert!(passed_on(&stage, &beside) > 0);
}

#[test]
fn libpq_18_cancels_with_long_keys() {
    let library = match Binaries::major(18) {
        Ok(binaries) => binaries.directory().join("../lib/libpq.so.5"),
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "PostgreSQL 18 is missing: {error:#}");
            eprintln!("PostgreSQL 18 is missing, left out: {error:#}");
            return;
        }
    };
    let (stage, beside) = stage();
    let login = stage.transaction();
    let wanted = format!(
        "host={} port={} user={} password={} dbname={} sslmode=disable max_protocol_version=3.2",
        login.host, login.port, login.user, login.password, login.database
    );
    let mut python = Command::new("python3");
    python.args(["-c", include_str!("drivers/libpq_.py")]).arg(&library).arg(wanted).arg(CANCELS.to_string());
    let said = command::succeed(&mut python, Duration::from_secs(60)).expect("libpq cancels");
    assert_eq!(said.lines().next(), Some("protocol 30002"), "{said}");
    assert_eq!(said.matches("cancelled 57014").count(), CANCELS, "{said}");
    wait_for("some to be passed on", LIMIT, || Ok((passed_on(&stage, &beside) > 0).then_some(())))
        .expect("they met either process");
}
