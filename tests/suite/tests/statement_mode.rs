//! Pools in statement mode: a server connection for each statement, and no transaction blocks.

use halephant_harness::{Cluster, Login, tcp, wait_for};
use halephant_suite::message::{error, values};
use halephant_suite::{Client, Message, Refused, Stage, encode};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(20);

/// One server connection for everybody.
fn stage() -> (Stage, Login) {
    let stage = Stage::with(Cluster::builder(), |config| {
        config
            .pool("statements", "statement", 1, &["app"])
            .set("cluster.main.pool.statements.database", "app")
            .set("server.checkout_timeout", "5m")
    });
    let stage = stage.expect("it starts");
    let login = stage.transaction().database("statements");
    (stage, login)
}

fn tags(messages: &[Message]) -> String {
    messages.iter().map(|message| char::from(message.tag)).collect()
}

#[track_caller]
fn is_refused(answer: &[Message]) {
    let refused = error(answer).unwrap_or_else(|| panic!("{answer:?}"));
    assert_eq!(refused.sqlstate().as_deref(), Some("0A000"), "{answer:?}");
    assert!(refused.field(b'H').is_some_and(|hint| hint.contains("transaction")), "{refused:?}");
    assert_eq!(answer.last().map(|ready| (ready.tag, ready.body.as_slice())), Some((b'Z', &b"I"[..])));
}

#[test]
fn transaction_blocks_are_refused() {
    let (stage, login) = stage();
    stage.prepare("CREATE TABLE t (a int)").expect("the owner may");
    let mut client = Client::connect(&login).expect("it may log in");
    for sql in [
        "BEGIN",
        "start transaction read only",
        "/* here */ begin; insert into t values (1); commit",
        "INSERT INTO t VALUES (2); BEGIN",
    ] {
        is_refused(&client.query(sql).expect("it answers"));
    }
    // By the extended protocol; what comes up to Sync is skipped.
    let pipeline = [
        encode::parse("", "BEGIN"),
        encode::bind("", "", &[]),
        encode::execute("", 0),
        encode::parse("", "INSERT INTO t VALUES (3)"),
        encode::bind("", "", &[]),
        encode::execute("", 0),
        encode::sync(),
    ];
    client.send(&pipeline.concat()).expect("it reads");
    is_refused(&client.receive_until(b'Z').expect("it answers"));
    // Behind something in the same batch.
    let pipeline = [
        encode::parse("", "INSERT INTO t VALUES (4)"),
        encode::bind("", "", &[]),
        encode::execute("", 0),
        encode::parse("", "BEGIN"),
        encode::sync(),
    ];
    client.send(&pipeline.concat()).expect("it reads");
    is_refused(&client.receive_until(b'Z').expect("it answers"));
    // While pinned.
    client.query("CREATE TEMP TABLE mine (a int)").expect("it answers");
    is_refused(&client.query("BEGIN").expect("it answers"));
    client.query("DISCARD ALL").expect("it answers");
    assert_eq!(client.value("SELECT count(*) FROM t").expect("the session goes on"), "0");
}

#[test]
fn a_block_that_is_too_long_to_be_seen_is_rolled_back() {
    let (stage, login) = stage();
    stage.prepare("CREATE TABLE t (a int)").expect("the owner may");
    let mut client = Client::connect(&login).expect("it may log in");
    let long = format!("BEGIN; INSERT INTO t VALUES (1) /* {} */", "x".repeat(2 << 20));
    client.send(&encode::query(&long)).expect("it reads");
    let rest = client.receive_rest().expect("it ends");
    let last = rest.last().expect("it is told why");
    assert_eq!((last.sqlstate().as_deref(), last.field(b'S').as_deref()), (Some("0A000"), Some("FATAL")));
    let mut next = Client::connect(&login).expect("it may log in");
    assert_eq!(next.value("SELECT count(*) FROM t").expect("it answers"), "0");
}

/// Waits until halephant has read all that `client` sent.
fn wait_until_read(stage: &Stage, client: &Client) {
    let port = client.socket().and_then(|socket| Ok(socket.local_addr()?.port())).expect("it is open");
    let read = || Ok((tcp::unread_bytes(stage.proxy.port(), port)? == 0).then_some(()));
    wait_for("halephant to read", LIMIT, read).expect("it does");
}

/// A client sends several statements at once: others get their turn between them.
#[test]
fn statements_that_are_sent_ahead_take_turns() {
    let (stage, login) = stage();
    stage.prepare("CREATE TABLE served (turn serial, who text)").expect("the owner may");
    let [mut one, mut other] = [(); 2].map(|()| Client::connect(&login).expect("it may log in"));
    let served = |who: &str| format!("INSERT INTO served (who) VALUES ('{who}')");
    let extended = |sql: &str| {
        [encode::parse("", sql), encode::bind("", "", &[]), encode::execute("", 0), encode::sync()].concat()
    };
    for second in [encode::query(&served("second")), extended(&served("second"))] {
        stage.prepare("TRUNCATE served").expect("the owner may");
        let mut blocker = Client::connect(&stage.direct()).expect("it may log in");
        blocker.query("SELECT pg_advisory_lock(7)").expect("it is free");
        let first = "SELECT 'first' FROM pg_advisory_xact_lock(7)";
        one.send(&[encode::query(first), second].concat()).expect("it reads");
        let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
        stage.wait_until(waiting, "1", LIMIT).expect("its first statement runs");
        other.send(&encode::query(&served("other"))).expect("it reads");
        wait_until_read(&stage, &other);
        blocker.terminate().expect("it leaves");
        assert_eq!(values(&one.receive_until(b'Z').expect("it answers")), ["first"]);
        for client in [&mut other, &mut one] {
            assert!(error(&client.receive_until(b'Z').expect("it answers")).is_none());
        }
        let order = stage.prepare("SELECT string_agg(who, ' ' ORDER BY turn) FROM served");
        assert_eq!(order.expect("it is there"), "other second");
    }
}

#[test]
fn what_one_message_asks_for_runs_as_one() {
    let (stage, login) = stage();
    stage.prepare("CREATE TABLE t (a int)").expect("the owner may");
    let mut client = Client::connect(&login).expect("it may log in");
    // Several statements of one Query are one transaction.
    let answer = client.query("INSERT INTO t VALUES (1); SELECT 1/0").expect("it answers");
    assert_eq!(error(&answer).and_then(Message::sqlstate).as_deref(), Some("22012"));
    assert_eq!(client.value("SELECT count(*) FROM t").expect("it answers"), "0");
    assert_eq!(tags(&client.query("SELECT 1; SELECT 2").expect("it answers")), "TDCTDCZ");
    // So is a pipeline up to its Sync.
    let insert =
        [encode::parse("", "INSERT INTO t VALUES (2)"), encode::bind("", "", &[]), encode::execute("", 0)];
    let fail =
        [encode::parse("", "SELECT 1/0"), encode::bind("", "", &[]), encode::execute("", 0), encode::sync()];
    client.send(&[insert.concat(), fail.concat()].concat()).expect("it reads");
    client.receive_until(b'Z').expect("it answers");
    assert_eq!(client.value("SELECT count(*) FROM t").expect("it answers"), "0");
    // A COPY goes with its data, sent ahead or not, by either protocol.
    let copy = [encode::query("COPY t FROM STDIN"), encode::copy_data(b"3\n"), encode::copy_done()];
    client.send(&[copy.concat(), encode::query("SELECT a FROM t")].concat()).expect("it reads");
    assert_eq!(tags(&client.receive_until(b'Z').expect("it answers")), "GCZ");
    assert_eq!(values(&client.receive_until(b'Z').expect("it answers")), ["3"]);
    let copy = [
        encode::parse("", "COPY t FROM STDIN"),
        encode::bind("", "", &[]),
        encode::execute("", 0),
        encode::sync(),
    ];
    client.send(&copy.concat()).expect("it reads");
    client.receive_until(b'G').expect("it waits for data");
    client
        .send(&[encode::copy_data(b"4\n"), encode::copy_done(), encode::sync()].concat())
        .expect("it reads");
    client.receive_until(b'Z').expect("it answers");
    assert_eq!(client.values("SELECT a FROM t ORDER BY a").expect("it answers"), ["3", "4"]);
}

#[test]
fn session_state_follows_or_pins_as_in_transaction_mode() {
    let (_stage, login) = stage();
    let [mut one, mut other] = [(); 2].map(|()| Client::connect(&login).expect("it may log in"));
    one.query("SET TimeZone = 'Asia/Tokyo'").expect("it answers");
    assert_eq!(other.value("SHOW TimeZone").expect("it answers"), "UTC");
    assert_eq!(one.value("SHOW TimeZone").expect("it answers"), "Asia/Tokyo");
    let prepare = [encode::parse("mine", "SELECT 'mine'"), encode::sync()].concat();
    one.send(&prepare).expect("it reads");
    one.receive_until(b'Z').expect("it answers");
    assert_eq!(other.value("SELECT 1").expect("it answers"), "1");
    let run = [encode::bind("", "mine", &[]), encode::execute("", 0), encode::sync()].concat();
    one.send(&run).expect("it reads");
    assert_eq!(values(&one.receive_until(b'Z').expect("it answers")), ["mine"]);
    let refused =
        Client::connect_with(&login, 0, &[("no_such_parameter", "x")]).expect_err("as by PostgreSQL");
    assert_eq!(refused.downcast::<Refused>().expect("by an ErrorResponse").sqlstate(), "42704");
}
