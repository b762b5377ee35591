//! A CancelRequest reaches the query of the client that owns the key, and no other.

use halephant_harness::{Cluster, wait_for};
use halephant_suite::message::{error, values};
use halephant_suite::midway::Midway;
use halephant_suite::{Client, Stage, encode};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(20);

/// How many sleep.
const RUNNING: &str = "SELECT count(*) FROM pg_stat_activity
    WHERE query LIKE '%pg_sleep%' AND state = 'active' AND pid <> pg_backend_pid()";

fn sleep(client: &mut Client, seconds: u32, mark: &str) {
    client.send(&encode::query(&format!("SELECT '{mark}' FROM pg_sleep({seconds})"))).expect("it reads");
}

#[test]
fn reaches_the_owners_query_alone() {
    let stage = Stage::new().expect("it starts");
    for login in [stage.transaction(), stage.session()] {
        let [mut one, mut other] = [(); 2].map(|()| Client::connect(&login).expect("it may log in"));
        sleep(&mut one, 600, "one");
        sleep(&mut other, 3, "other");
        stage.wait_until(RUNNING, "2", LIMIT).expect("it runs");
        one.cancel().expect("the request is read");
        let answer = one.receive_until(b'Z').expect("the query ends");
        assert_eq!(error(&answer).and_then(|error| error.sqlstate()).as_deref(), Some("57014"));
        let answer = other.receive_until(b'Z').expect("the query ends by itself");
        assert_eq!(values(&answer), ["other"]);
        assert_eq!(one.value("SELECT 1").expect("the session goes on"), "1");
    }
}

#[test]
fn a_wrong_key_does_nothing() {
    let stage = Stage::new().expect("it starts");
    let mut client = stage.client().expect("it may log in");
    sleep(&mut client, 2, "slept");
    stage.wait_until(RUNNING, "1", LIMIT).expect("it runs");
    let mut wrong = client.secret_key.clone();
    wrong[0] ^= 1;
    client.cancel_with(&wrong).expect("it is read, and nothing is said");
    for malformed in [&client.secret_key[..3], &[0; 300]] {
        // It may be told so.
        let _ = client.cancel_with(malformed);
    }
    let answer = client.receive_until(b'Z').expect("the query ends");
    assert_eq!(values(&answer), ["slept"]);
}

/// What was the client's server connection serves somebody else when the request comes.
#[test]
fn comes_too_late_without_harm() {
    let stage = Stage::with(Cluster::builder(), |config| {
        config.set("cluster.main.pool.app.max_connections.primary", 1)
    });
    let stage = stage.expect("it starts");
    let [mut early, mut late] = [(); 2].map(|()| stage.client().expect("it may log in"));
    for round in 0..20 {
        assert_eq!(early.value("SELECT 1").expect("it answers"), "1");
        late.send(&encode::query(&format!("SELECT 'round {round}' FROM pg_sleep(0.05)"))).expect("it reads");
        early.cancel().expect("the request is read");
        let answer = late.receive_until(b'Z').expect("the query ends");
        assert_eq!(values(&answer), [format!("round {round}")]);
    }
    // Nor does it hit the owner's own next query.
    early.cancel().expect("the request is read");
    assert_eq!(early.value("SELECT 2").expect("it answers"), "2");
}

#[test]
fn drops_a_client_from_the_queue() {
    let stage = Stage::with(Cluster::builder(), |config| {
        config.set("cluster.main.pool.app.max_connections.primary", 1).set("server.checkout_timeout", "5m")
    });
    let stage = stage.expect("it starts");
    let [mut holder, mut waiter, mut next] = [(); 3].map(|()| stage.client().expect("it may log in"));
    holder.query("BEGIN; SELECT 1").expect("it answers");
    waiter.send(&encode::query("SELECT 'waiter'")).expect("it reads");
    // There is no telling from outside when it waits; a request that is too early does nothing, and is sent again.
    waiter.set_limit(Duration::from_millis(200));
    let answer = wait_for("the cancelled wait", LIMIT, || {
        waiter.cancel()?;
        Ok(waiter.receive_until(b'Z').ok())
    });
    let answer = answer.expect("it ends, though the holder still holds");
    let refused = error(&answer).expect("with an ErrorResponse");
    assert_eq!(refused.sqlstate().as_deref(), Some("57014"));
    assert_eq!(refused.field(b'S').as_deref(), Some("ERROR"));
    waiter.set_limit(LIMIT);

    next.send(&encode::query("SELECT 'next'")).expect("it reads");
    assert_eq!(holder.value("SELECT 'holder'").expect("it was not disturbed"), "holder");
    holder.query("COMMIT").expect("it answers");
    assert_eq!(values(&next.receive_until(b'Z').expect("its turn comes")), ["next"]);
    assert_eq!(waiter.value("SELECT 'again'").expect("the session goes on"), "again");
}

/// As pressing Ctrl-C in psql does.
#[test]
fn psql_cancels() {
    let stage = Stage::new().expect("it starts");
    let mut psql = halephant_harness::psql::command(stage.cluster.binaries(), &stage.transaction())
        .expect("psql is there");
    psql.args(["--command", "SELECT pg_sleep(600)"]).stderr(std::process::Stdio::piped());
    let psql = psql.spawn().expect("it starts");
    stage.wait_until(RUNNING, "1", LIMIT).expect("it runs");
    halephant_harness::process::signal(psql.id(), nix::sys::signal::Signal::SIGINT).expect("it is ours");
    let output = psql.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("canceling statement due to user request"), "{said}");
}

/// A server that is slow to take a cancel: who asked has given up, and the request is still on its way.
#[test]
fn one_that_was_given_up_hits_nobody_else() {
    let (midway, stage) = Midway::stage(Cluster::builder(), |config| {
        config
            .set("cluster.main.pool.app.max_connections.primary", 1)
            .set("server.client_login_timeout", "1s")
    })
    .expect("it starts");
    let [mut owner, mut other] = [(); 2].map(|()| stage.client().expect("it may log in"));
    sleep(&mut owner, 1, "owner");
    stage.wait_until(RUNNING, "1", LIMIT).expect("it runs");
    midway.hold_cancels();
    // It is told that it took too long.
    assert!(owner.cancel().is_err());
    midway.wait_until_held().expect("it is on its way");
    assert_eq!(values(&owner.receive_until(b'Z').expect("the query ends by itself")), ["owner"]);
    sleep(&mut other, 3, "other");
    stage.wait_until(RUNNING, "1", LIMIT).expect("it runs");
    midway.release();
    assert_eq!(values(&other.receive_until(b'Z').expect("the query ends")), ["other"]);
}
