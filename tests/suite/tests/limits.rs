//! Limits on clients: how long one may do nothing or wait for an answer, and how many there may be.

use halephant_harness::{Cluster, Login, ProxyConfig, wait_for};
use halephant_suite::message::{error, values};
use halephant_suite::{Client, Message, Refused, Stage, encode};
use nix::sys::signal::Signal;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(20);

/// Both pools with a limit.
fn limited(key: &str, value: &str) -> Stage {
    let change = |config: ProxyConfig| {
        ["app", "app_session"]
            .iter()
            .fold(config, |config, pool| config.set(&format!("cluster.main.pool.{pool}.{key}"), value))
    };
    Stage::with(Cluster::builder(), change).expect("it starts")
}

/// The last words to a client that is disconnected.
#[track_caller]
fn last_words(client: &mut Client) -> Message {
    let rest = client.receive_rest().expect("it ends in good order");
    let last = rest.last().expect("it is told why");
    assert_eq!((last.tag, last.field(b'S').as_deref()), (b'E', Some("FATAL")), "{rest:?}");
    last.clone()
}

#[track_caller]
fn told(message: &Message, sqlstate: &str, key: &str) {
    assert_eq!(message.sqlstate().as_deref(), Some(sqlstate), "{message:?}");
    assert!(message.field(b'D').is_some_and(|detail| detail.contains(key)), "{message:?}");
}

#[test]
fn an_idle_client_is_disconnected() {
    let stage = limited("client_idle_timeout", "300ms");
    for login in [stage.transaction(), stage.session()] {
        // One that never said anything, one after a transaction, one that is pinned.
        let mut silent = Client::connect(&login).expect("it may log in");
        let mut spoken = Client::connect(&login).expect("it may log in");
        assert_eq!(spoken.value("SELECT 1").expect("it answers"), "1");
        let mut pinned = Client::connect(&login).expect("it may log in");
        pinned.query("LISTEN here").expect("it answers");
        for client in [&mut silent, &mut spoken, &mut pinned] {
            told(&last_words(client), "57P05", "client_idle_timeout");
        }
        // In a transaction, and in a query, another limit counts.
        let mut busy = Client::connect(&login).expect("it may log in");
        busy.query("BEGIN").expect("it answers");
        assert_eq!(busy.value("SELECT 'slept' FROM pg_sleep(1)").expect("it is not idle"), "slept");
    }
}

#[test]
fn an_idle_transaction_is_rolled_back() {
    let stage = limited("idle_transaction_timeout", "300ms");
    stage.prepare("CREATE TABLE t (a int)").expect("the owner may");
    for login in [stage.transaction(), stage.session()] {
        let mut client = Client::connect(&login).expect("it may log in");
        client.query("BEGIN; INSERT INTO t VALUES (1)").expect("it answers");
        told(&last_words(&mut client), "25P03", "idle_transaction_timeout");
        stage.wait_until_idle(LIMIT).expect("it is rolled back");
        assert_eq!(stage.prepare("SELECT count(*) FROM t").expect("it is there"), "0");
        // A pipeline without its Sync holds a transaction, too.
        let mut client = Client::connect(&login).expect("it may log in");
        let parts = [encode::parse("", "INSERT INTO t VALUES (2)"), encode::bind("", "", &[])];
        let rest = [encode::execute("", 0), encode::flush()];
        client.send(&[parts.concat(), rest.concat()].concat()).expect("it reads");
        told(&last_words(&mut client), "25P03", "idle_transaction_timeout");
        // A session that is idle, and one that waits for its answer, are left alone.
        let mut client = Client::connect(&login).expect("it may log in");
        assert_eq!(client.value("SELECT 'slept' FROM pg_sleep(1)").expect("it is not idle"), "slept");
        assert_eq!(stage.prepare("SELECT count(*) FROM t").expect("it is there"), "0");
    }
}

#[test]
fn a_long_query_is_cancelled_and_the_session_goes_on() {
    let stage = limited("query_timeout", "500ms");
    for login in [stage.transaction(), stage.session()] {
        let mut client = Client::connect(&login).expect("it may log in");
        let answer = client.query("SELECT pg_sleep(600)").expect("it ends");
        let failed = error(&answer).expect("with an error");
        assert_eq!(failed.sqlstate().as_deref(), Some("57014"));
        assert_eq!(failed.field(b'S').as_deref(), Some("ERROR"));
        let warned = answer.iter().find(|message| message.tag == b'N').expect("it is told which limit");
        assert!(warned.field(b'M').is_some_and(|text| text.contains("query_timeout")), "{warned:?}");
        assert_eq!(client.value("SELECT 2").expect("the session goes on"), "2");
        // Its transaction failed as it does with any error.
        client.query("BEGIN").expect("it answers");
        let answer = client.query("SELECT pg_sleep(600)").expect("it ends");
        assert_eq!(answer.last().map(|ready| ready.body.clone()), Some(b"E".to_vec()));
        client.query("ROLLBACK").expect("it answers");
        // Each statement of a pipeline has its own time.
        let many = encode::query("SELECT 'x' FROM pg_sleep(0.3)").repeat(4);
        client.send(&many).expect("it reads");
        for _ in 0..4 {
            assert_eq!(values(&client.receive_until(b'Z').expect("in time")), ["x"]);
        }
    }
}

#[test]
fn who_does_not_log_in_is_disconnected() {
    let stage = Stage::with(Cluster::builder(), |config| {
        config
            .set("server.client_login_timeout", "300ms")
            .set("cluster.main.pool.app_session.client_login_timeout", "5m")
    });
    let stage = stage.expect("it starts");
    let silent = |login: &Login, says: &[u8]| {
        let mut client = Client::open(login).expect("it accepts");
        client.send(says).expect("it reads");
        client
    };
    let startup = |login: &Login| encode::startup(3, 0, &[("user", "app"), ("database", &login.database)]);
    for mut client in [
        silent(&stage.transaction(), b""),
        silent(&stage.transaction(), &[0, 0]),
        silent(&stage.transaction(), &startup(&stage.transaction())),
    ] {
        let last = last_words(&mut client);
        assert_eq!(last.sqlstate().as_deref(), Some("28000"), "{last:?}");
        assert!(last.field(b'M').is_some_and(|text| text.contains("timeout")), "{last:?}");
    }
    // The other pool's own limit holds once it is known that it is meant; this client came first.
    let mut patient = silent(&stage.session(), &startup(&stage.session()));
    let mut hasty = silent(&stage.transaction(), b"");
    last_words(&mut hasty);
    patient.authenticate("app-password").expect("there is time left");
}

/// The error of a login that is refused.
#[track_caller]
fn refused(login: &Login) -> Refused {
    let error = Client::connect(login).expect_err("it is one too many");
    error.downcast::<Refused>().expect("by an ErrorResponse")
}

#[track_caller]
fn too_many(login: &Login, words: &[&str]) {
    let refused = refused(login);
    assert_eq!(refused.sqlstate(), "53300", "{refused}");
    assert_eq!(refused.0.field(b'S').as_deref(), Some("FATAL"));
    for word in words {
        assert!(refused.text().contains(word), "{refused}");
    }
}

fn let_in_again(login: &Login) {
    wait_for("the place to be free", LIMIT, || Ok(Client::connect(login).ok()))
        .expect("the next one gets it");
}

#[test]
fn the_limits_on_clients_are_named() {
    for (key, login, words) in [
        (
            "server.max_client_connections",
            Stage::transaction as fn(&Stage) -> Login,
            &["server.max_client_connections is 2"][..],
        ),
        ("server.max_client_connections_per_address", Stage::transaction, &["per_address is 2", "127.0.0.1"]),
        ("cluster.main.pool.app.max_client_connections", Stage::transaction, &["pool \"app\"", "is 2"]),
        (
            "cluster.main.pool.app.user.app.max_client_connections",
            Stage::transaction,
            &["user \"app\"", "is 2"],
        ),
        (
            "cluster.main.pool.app_session.max_client_connections",
            Stage::session,
            &["\"app_session\"", "is 2"],
        ),
    ] {
        let stage = Stage::with(Cluster::builder(), |config| config.set(key, 2)).expect("it starts");
        let login = login(&stage);
        let [mut one, two] = [(); 2].map(|()| Client::connect(&login).expect("there is room"));
        too_many(&login, words);
        assert_eq!(one.value("SELECT 1").expect("who is in is not disturbed"), "1");
        // A cancel is let in.
        one.send(&encode::query("SELECT pg_sleep(600)")).expect("it reads");
        let running =
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'";
        stage.wait_until(running, "1", LIMIT).expect("it runs");
        one.cancel().expect("it is read");
        assert_eq!(
            error(&one.receive_until(b'Z').expect("it ends")).and_then(Message::sqlstate).as_deref(),
            Some("57014")
        );
        two.cut();
        let_in_again(&login);
    }
}

/// Who gives a wrong password learns nothing about the pool, and takes no place in it.
#[test]
fn a_failed_login_takes_no_place() {
    let stage = Stage::with(Cluster::builder(), |config| {
        config
            .set("server.max_client_connections", 2)
            .set("server.throttle.failures", 0)
            .set("cluster.main.pool.app.max_client_connections", 1)
    });
    let stage = stage.expect("it starts");
    let first = stage.client().expect("there is room");
    let mut wrong = stage.transaction();
    wrong.password = "wrong".into();
    for _ in 0..5 {
        assert_eq!(refused(&wrong).sqlstate(), "28P01");
    }
    too_many(&stage.transaction(), &["pool \"app\""]);
    first.cut();
    let_in_again(&stage.transaction());
}

#[test]
fn a_reload_brings_limits_that_count_who_is_there() {
    let stage = Stage::new().expect("it starts");
    let [mut one, two, three] = [(); 3].map(|()| stage.client().expect("there is room"));
    let config = Stage::config(&stage.cluster)
        .set("server.max_client_connections", 2)
        .set("cluster.main.pool.app.client_idle_timeout", "300ms");
    stage.proxy.write_config(&config).expect("it is ours");
    stage.proxy.signal(Signal::SIGHUP).expect("it runs");
    stage.proxy.wait_for_log("the configuration was reloaded", 1, LIMIT).expect("it is valid");
    too_many(&stage.transaction(), &["is 2"]);
    two.cut();
    three.cut();
    let mut late = None;
    wait_for("the place to be free", LIMIT, || {
        late = stage.client().ok();
        Ok(late.is_some().then_some(()))
    })
    .expect("the next one gets it");
    // Time limits are those that a client came in with.
    told(&last_words(late.as_mut().expect("it is in")), "57P05", "client_idle_timeout");
    assert_eq!(one.value("SELECT 1").expect("it came before there was a limit"), "1");
}
