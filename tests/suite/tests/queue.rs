//! When every server connection is taken: who waits, in what order, for how long, and what they are told.

use halephant_harness::{Cluster, Login, tcp, wait_for};
use halephant_suite::{Client, Refused, Stage, encode};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(20);

/// One server connection, and a wait of `timeout` for it.
fn narrow(timeout: &str) -> Stage {
    let narrow = Stage::with(Cluster::builder(), |config| {
        config
            .set("cluster.main.pool.app.max_connections.primary", 1)
            .set("cluster.main.pool.app_session.max_connections.primary", 1)
            .set("server.checkout_timeout", timeout)
    });
    narrow.expect("it starts")
}

/// Waits until halephant has read all that `client` sent.
fn wait_until_read(stage: &Stage, client: &Client) {
    let port = client.socket().and_then(|socket| Ok(socket.local_addr()?.port())).expect("it is open");
    let read = || Ok((tcp::unread_bytes(stage.proxy.port(), port)? == 0).then_some(()));
    wait_for("halephant to read", LIMIT, read).expect("it does");
}

#[test]
fn the_wait_ends_with_the_limits_name_and_value() {
    let stage = narrow("1s");
    for login in [stage.transaction(), stage.session()] {
        let mut holder = Client::connect(&login).expect("it may log in");
        holder.query("BEGIN; SELECT 1").expect("it answers");
        let start = Instant::now();
        let refused = match Client::connect(&login) {
            // In transaction mode, a statement waits; in session mode, the login or the first statement.
            Ok(mut waiter) => waiter.error("SELECT 1").expect("it is refused"),
            Err(error) => error.downcast::<Refused>().expect("by an ErrorResponse"),
        };
        assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
        assert_eq!(refused.sqlstate(), "53300");
        let told = format!("{} {}", refused.text(), refused.0.field(b'D').unwrap_or_default());
        assert!(told.contains("max_connections") && told.contains('1'), "{told}");
        holder.query("COMMIT").expect("the holder is not disturbed");
        holder.terminate().expect("it leaves");
        wait_for("the connection to be free", LIMIT, || {
            Ok(Client::connect(&login).and_then(|mut c| c.value("SELECT 1")).ok())
        })
        .expect("the next one gets it");
    }
}

#[test]
fn a_session_survives_a_wait_in_vain() {
    let stage = narrow("1s");
    let [mut holder, mut waiter] = [(); 2].map(|()| stage.client().expect("it may log in"));
    holder.query("BEGIN; SELECT 1").expect("it answers");
    assert_eq!(waiter.error("SELECT 1").expect("it is refused").sqlstate(), "53300");
    // Extended query: the error skips until Sync.
    let pipeline =
        [encode::parse("", "SELECT 2"), encode::bind("", "", &[]), encode::execute("", 0), encode::sync()];
    waiter.send(&pipeline.concat()).expect("it reads");
    let answer = waiter.receive_until(b'Z').expect("it is answered");
    let tags: Vec<u8> = answer.iter().map(|message| message.tag).collect();
    assert_eq!(tags, b"EZ", "{answer:?}");
    assert_eq!(answer[1].body, b"I");
    holder.query("COMMIT").expect("it answers");
    assert_eq!(waiter.value("SELECT 3").expect("its session goes on"), "3");
}

#[test]
fn the_pools_own_timeout_comes_first() {
    let stage = Stage::with(Cluster::builder(), |config| {
        config
            .set("cluster.main.pool.app.max_connections.primary", 1)
            .set("cluster.main.pool.app.checkout_timeout", "1s")
            .set("server.checkout_timeout", "10m")
    });
    let stage = stage.expect("it starts");
    let [mut holder, mut waiter] = [(); 2].map(|()| stage.client().expect("it may log in"));
    holder.query("BEGIN; SELECT 1").expect("it answers");
    assert_eq!(waiter.error("SELECT 1").expect("it is refused").sqlstate(), "53300");
}

#[test]
fn a_users_own_limit_is_named() {
    let stage = Stage::with(Cluster::builder(), |config| {
        config
            .set("cluster.main.pool.app.user.app.max_connections.primary", 2)
            .set("server.checkout_timeout", "1s")
    });
    let stage = stage.expect("it starts");
    let mut holders = [(); 2].map(|()| stage.client().expect("it may log in"));
    for holder in &mut holders {
        holder.query("BEGIN; SELECT 1").expect("it answers");
    }
    let mut waiter = stage.client().expect("it may log in");
    let refused = waiter.error("SELECT 1").expect("it is refused");
    assert_eq!(refused.sqlstate(), "53300");
    let told = format!("{} {}", refused.text(), refused.0.field(b'D').unwrap_or_default());
    assert!(told.contains("user") && told.contains("max_connections") && told.contains('2'), "{told}");
    assert_eq!(stage.server_connections().expect("the server answers"), 2);
}

/// Each waiter writes down its number when its turn comes.
#[test]
fn the_longest_waiter_comes_first() {
    const WAITERS: usize = 8;
    let stage = narrow("5m");
    stage
        .prepare("CREATE SEQUENCE turn; CREATE TABLE served (turn int DEFAULT nextval('turn'), waiter int)")
        .expect("the owner may");
    let mut holder = stage.client().expect("it may log in");
    holder.query("BEGIN; SELECT 1").expect("it answers");
    let mut waiters = Vec::new();
    for number in 0..WAITERS {
        let mut waiter = stage.client().expect("it may log in");
        waiter
            .send(&encode::query(&format!("INSERT INTO served (waiter) VALUES ({number})")))
            .expect("it reads");
        // Before the next one so much as logs in.
        wait_until_read(&stage, &waiter);
        waiters.push(waiter);
    }
    holder.query("COMMIT").expect("it answers");
    for mut waiter in waiters {
        waiter.receive_until(b'Z').expect("its turn comes");
    }
    let order =
        stage.prepare("SELECT string_agg(waiter::text, ' ' ORDER BY turn) FROM served").expect("it is there");
    assert_eq!(order, "0 1 2 3 4 5 6 7");
}

/// A client that leaves the queue by vanishing is not served, and does not hold up the next.
#[test]
fn a_waiter_that_vanishes_is_forgotten() {
    let stage = narrow("5m");
    stage.prepare("CREATE TABLE served (waiter text)").expect("the owner may");
    let [mut holder, mut ghost, mut next] = [(); 3].map(|()| stage.client().expect("it may log in"));
    holder.query("BEGIN; SELECT 1").expect("it answers");
    ghost.send(&encode::query("INSERT INTO served VALUES ('ghost')")).expect("it reads");
    wait_until_read(&stage, &ghost);
    ghost.cut();
    stage.proxy.wait_for_log("client disconnected", 1, LIMIT).expect("it is noticed");
    next.send(&encode::query("INSERT INTO served VALUES ('next')")).expect("it reads");
    wait_until_read(&stage, &next);
    holder.query("COMMIT").expect("it answers");
    next.receive_until(b'Z').expect("its turn comes");
    assert_eq!(stage.prepare("SELECT string_agg(waiter, ' ') FROM served").expect("it is there"), "next");
}

/// Two pools on one database do not take each other's connections.
#[test]
fn pools_do_not_share_their_limits() {
    let stage = narrow("1s");
    let mut holder = stage.client().expect("it may log in");
    holder.query("BEGIN; SELECT 1").expect("it answers");
    let other: Login = stage.session();
    let mut session = Client::connect(&other).expect("it has its own limit");
    assert_eq!(session.value("SELECT 1").expect("it answers"), "1");
}
