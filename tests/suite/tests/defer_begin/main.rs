//! A transaction takes a server connection with its first statement, not with BEGIN.

mod same;

use halephant_harness::{Cluster, ProxyConfig, psql, wait_for};
use halephant_suite::message::error;
use halephant_suite::{Client, Message, Stage, encode, stage};
use nix::sys::signal::Signal;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

/// One server connection for everybody.
fn stage(change: impl FnOnce(ProxyConfig) -> ProxyConfig) -> Stage {
    let deferring = |config: ProxyConfig| {
        change(
            config
                .set("cluster.main.pool.app.max_connections.primary", 1)
                .set("server.checkout_timeout", "1s"),
        )
    };
    Stage::with(Cluster::builder(), deferring).expect("it starts")
}

/// The types of an answer's messages, with the command tags and the status.
fn shape(messages: &[Message]) -> String {
    let of = |message: &Message| match message.tag {
        b'D' => message.value().unwrap_or_default(),
        b'C' | b'Z' => String::from_utf8_lossy(&message.body).trim_end_matches('\0').to_owned(),
        b'E' | b'N' => message.sqlstate().unwrap_or_default(),
        tag => char::from(tag).to_string(),
    };
    messages.iter().map(of).collect::<Vec<_>>().join(" ")
}

fn order(stage: &Stage, sql: &str) -> String {
    let console = stage.transaction().database("halephant");
    psql::query(stage.cluster.binaries(), &console, sql).expect("it answers")
}

/// The rows of the clients that are not on the console.
fn clients(stage: &Stage) -> Vec<Vec<String>> {
    let rows = order(stage, "SHOW CLIENTS");
    let rows = rows.lines().map(|row| row.split('|').map(str::to_owned).collect::<Vec<_>>());
    rows.filter(|row| row[2] == stage::DATABASE).collect()
}

#[test]
fn begin_holds_no_server_connection() {
    let stage = stage(|config| config);
    let [mut one, mut other] = [(); 2].map(|()| stage.client().expect("it may log in"));
    for (begin, tag) in
        [("BEGIN", "BEGIN"), ("start transaction isolation level serializable; -- x", "START TRANSACTION")]
    {
        assert_eq!(shape(&one.query(begin).expect("it answers")), format!("{tag} T"));
        assert_eq!(other.value("SELECT 'free'").expect("it is free"), "free");
        let level = one.value("SHOW transaction_isolation").expect("the transaction begins");
        assert_eq!(level, if tag == "BEGIN" { "read committed" } else { "serializable" });
        assert_eq!(other.error("SELECT 1").expect("it is taken").sqlstate(), "53300");
        assert_eq!(shape(&one.query("COMMIT").expect("it answers")), "COMMIT I");
        assert_eq!(other.value("SELECT 'free'").expect("it is free"), "free");
    }
}

#[test]
fn an_empty_transaction_needs_no_server_at_all() {
    let stage = stage(|config| config);
    let [mut holder, mut client] = [(); 2].map(|()| stage.client().expect("it may log in"));
    holder.query("BEGIN").expect("it answers");
    holder.query("SELECT 1").expect("it answers");
    for (end, tag) in [
        ("COMMIT", "COMMIT I"),
        ("end work", "COMMIT I"),
        ("ROLLBACK", "ROLLBACK I"),
        ("abort;", "ROLLBACK I"),
    ] {
        assert_eq!(shape(&client.query("BEGIN").expect("it answers")), "BEGIN T");
        client.send(&encode::sync()).expect("it reads");
        assert_eq!(shape(&client.receive_until(b'Z').expect("it answers")), "T");
        assert_eq!(shape(&client.query(end).expect("it answers")), tag);
    }
    // All at once.
    client.send(&[encode::query("BEGIN"), encode::query("COMMIT")].concat()).expect("it reads");
    assert_eq!(shape(&client.receive_until(b'Z').expect("it answers")), "BEGIN T");
    assert_eq!(shape(&client.receive_until(b'Z').expect("it answers")), "COMMIT I");
}

/// Nothing of a transaction runs by itself when there is no connection for its first statement.
#[test]
fn a_transaction_that_gets_no_connection_has_failed() {
    let stage = stage(|config| config);
    stage.prepare("CREATE TABLE t (a int)").expect("the owner may");
    let [mut holder, mut client] = [(); 2].map(|()| stage.client().expect("it may log in"));
    holder.query("BEGIN").expect("it answers");
    holder.query("SELECT 1").expect("it answers");
    client.query("BEGIN").expect("it answers");
    assert_eq!(shape(&client.query("INSERT INTO t VALUES (1)").expect("it answers")), "53300 E");
    holder.query("COMMIT").expect("it answers");
    assert_eq!(shape(&client.query("INSERT INTO t VALUES (2)").expect("it answers")), "25P02 E");
    let pipeline = [
        encode::parse("", "INSERT INTO t VALUES (3)"),
        encode::bind("", "", &[]),
        encode::execute("", 0),
        encode::sync(),
    ];
    client.send(&pipeline.concat()).expect("it reads");
    assert_eq!(shape(&client.receive_until(b'Z').expect("it answers")), "25P02 E");
    assert_eq!(shape(&client.query("COMMIT").expect("it answers")), "ROLLBACK I");
    assert_eq!(client.value("SELECT count(*) FROM t").expect("the session goes on"), "0");
}

/// The server refuses the BEGIN itself: on a standby there are no serializable transactions.
#[test]
fn a_refused_begin_is_the_first_statements_error() {
    let replica = Stage::with(Cluster::builder().replicas(1), |config| {
        config
            .set("cluster.main.pool.app.max_connections.primary", 0)
            .set("cluster.main.pool.app.max_connections.replica", 1)
    });
    let replica = replica.expect("it starts");
    let mut client = replica.client().expect("it may log in");
    assert_eq!(shape(&client.query("BEGIN ISOLATION LEVEL SERIALIZABLE").expect("it answers")), "BEGIN T");
    let connections = replica.server_connections().expect("it answers");
    let batch = |sql: &str| {
        [encode::parse("", sql), encode::bind("", "", &[]), encode::execute("", 0), encode::sync()].concat()
    };
    let firsts = [
        encode::query("SELECT 1"),
        encode::query("COPY nothing FROM STDIN"),
        encode::function_call(1397, &["-5"]),
        batch("SELECT 1"),
        [encode::parse("", "SELECT 1"), encode::flush(), encode::query("SELECT 2"), encode::sync()].concat(),
        [encode::parse("", "SET work_mem = '1MB'"), encode::sync()].concat(),
    ];
    for (number, first) in firsts.into_iter().enumerate() {
        if number > 0 {
            let begun = client.query("BEGIN ISOLATION LEVEL SERIALIZABLE").expect("it answers");
            assert_eq!(shape(&begun), "BEGIN T");
        }
        client.send(&first).expect("it reads");
        assert_eq!(shape(&client.receive_until(b'Z').expect("it answers")), "0A000 E", "{number}");
        assert_eq!(shape(&client.query("SELECT 1").expect("it answers")), "25P02 E");
        client.send(&batch("SELECT 2")).expect("it reads");
        assert_eq!(shape(&client.receive_until(b'Z').expect("it answers")), "25P02 E");
        assert_eq!(shape(&client.query("ROLLBACK").expect("it answers")), "ROLLBACK I");
    }
    // The server connection is none the worse for it.
    assert_eq!(client.value("SELECT 'after'").expect("the session goes on"), "after");
    assert_eq!(replica.server_connections().expect("it answers"), connections.max(1));
    // What the replica's client may not have is refused in halephant's words, at once.
    let answer = client.query("BEGIN READ WRITE").expect("it answers");
    assert_eq!(error(&answer).and_then(Message::sqlstate).as_deref(), Some("25006"));
    assert_eq!(client.value("SELECT 2").expect("the session goes on"), "2");
}

#[test]
fn an_idle_transaction_has_its_limit_before_its_first_statement() {
    let stage = stage(|config| config.set("cluster.main.pool.app.idle_transaction_timeout", "300ms"));
    let mut client = stage.client().expect("it may log in");
    client.query("BEGIN").expect("it answers");
    let rest = client.receive_rest().expect("it ends");
    assert_eq!(rest.last().and_then(Message::sqlstate).as_deref(), Some("25P03"), "{rest:?}");
}

/// Parameters are applied ahead of the BEGIN.
#[test]
fn parameters_come_first() {
    let stage = stage(|config| config);
    let [mut one, mut other] = [(); 2].map(|()| stage.client().expect("it may log in"));
    one.query("SET TimeZone = 'Asia/Tokyo'").expect("it answers");
    other.query("SET DateStyle = 'German'").expect("it answers");
    for client in [&mut one, &mut other] {
        client.query("BEGIN").expect("it answers");
        let both = client.value("SELECT current_setting('TimeZone') || ' ' || current_setting('DateStyle')");
        let both = both.expect("it answers");
        assert!(both == "Asia/Tokyo ISO, MDY" || both == "UTC German, DMY", "{both}");
        client.query("ROLLBACK").expect("it answers");
    }
    assert_eq!(one.value("SHOW TimeZone").expect("it answers"), "Asia/Tokyo");
}

/// As many transactions as there are clients, on one server connection.
#[test]
fn who_thinks_holds_nobody_up() {
    let stage = stage(|config| config);
    let mut thinking: Vec<Client> = (0..20).map(|_| stage.client().expect("it may log in")).collect();
    for client in &mut thinking {
        client.query("BEGIN").expect("it answers");
    }
    let mut busy = stage.client().expect("it may log in");
    for number in 0..20 {
        assert_eq!(busy.value(&format!("SELECT {number}")).expect("it is free"), number.to_string());
    }
    for client in &mut thinking {
        assert_eq!(shape(&client.query("SELECT 1").expect("it answers")), "T 1 SELECT 1 T");
        client.query("COMMIT").expect("it answers");
    }
    assert_eq!(stage.server_connections().expect("it answers"), 1);
}

#[test]
fn it_can_be_turned_off_while_a_transaction_is_open() {
    let stage = stage(|config| config);
    let mut one = stage.client().expect("it may log in");
    one.query("BEGIN").expect("it answers");
    let config = Stage::config(&stage.cluster)
        .set("cluster.main.pool.app.defer_begin", false)
        .set("cluster.main.pool.app.max_connections.primary", 1)
        .set("server.checkout_timeout", "1s");
    stage.proxy.write_config(&config).expect("it is ours");
    stage.proxy.signal(Signal::SIGHUP).expect("it runs");
    // The transactions of new clients are not deferred any more: one holds the one connection.
    wait_for("the reload", LIMIT, || {
        let mut other = stage.client()?;
        other.query("BEGIN")?;
        let held = stage.client()?.query("SELECT 1")?;
        other.query("COMMIT")?;
        Ok(error(&held).map(|_| ()))
    })
    .expect("it is carried out");
    assert_eq!(shape(&one.query("SELECT 1").expect("it answers")), "T 1 SELECT 1 T");
    assert_eq!(shape(&one.query("COMMIT").expect("it answers")), "COMMIT I");
}

#[test]
fn the_console_shows_and_ends_a_transaction_without_a_server() {
    let stage = stage(|config| config.set("admin.users", vec![stage::ROLE]));
    let mut client = stage.client().expect("it may log in");
    client.query("BEGIN").expect("it answers");
    let row = || clients(&stage).remove(0);
    let found = row();
    assert_eq!((found[3].as_str(), found[9].as_str()), ("idle_in_transaction", ""), "{found:?}");
    // What is paused are server connections.
    order(&stage, "PAUSE app");
    client.send(&encode::query("SELECT 1")).expect("it reads");
    wait_for("the first statement to wait", LIMIT, || Ok((row()[3] == "waiting").then_some(())))
        .expect("it does");
    order(&stage, "RESUME app");
    assert_eq!(shape(&client.receive_until(b'Z').expect("it answers")), "T 1 SELECT 1 T");
    assert_eq!(shape(&client.query("COMMIT").expect("it answers")), "COMMIT I");
    client.query("BEGIN").expect("it answers");
    order(&stage, &format!("KILL CLIENT {}", found[8]));
    let rest = client.receive_rest().expect("it ends");
    assert_eq!(rest.last().and_then(Message::sqlstate).as_deref(), Some("57P01"), "{rest:?}");
}

#[test]
fn a_cancel_of_nothing_cancels_nothing() {
    let stage =
        stage(|config| config.set("admin.users", vec![stage::ROLE]).set("server.checkout_timeout", "60s"));
    let mut client = stage.client().expect("it may log in");
    client.query("BEGIN").expect("it answers");
    client.cancel().expect("it is taken");
    assert_eq!(shape(&client.query("SELECT 1").expect("it answers")), "T 1 SELECT 1 T");
    client.query("COMMIT").expect("it answers");
    // One that meets the wait for a connection fails the transaction.
    let mut holder = stage.client().expect("it may log in");
    holder.query("BEGIN; SELECT 1").expect("it answers");
    client.query("BEGIN").expect("it answers");
    client.send(&encode::query("SELECT 1")).expect("it reads");
    let waits = || Ok((clients(&stage).iter().any(|row| row[3] == "waiting")).then_some(()));
    wait_for("it to wait", LIMIT, waits).expect("it does");
    client.cancel().expect("it is taken");
    let answer = client.receive_until(b'Z').expect("it answers");
    assert_eq!(shape(&answer), "57014 E");
    assert_eq!(shape(&client.query("COMMIT").expect("it answers")), "ROLLBACK I");
}

#[test]
fn sigterm_lets_it_end() {
    let mut stage = stage(|config| config.set("server.shutdown_timeout", "10m"));
    let mut client = stage.client().expect("it may log in");
    client.query("CREATE TABLE kept (a int)").expect("it answers");
    let mut idle = stage.client().expect("it may log in");
    client.query("BEGIN").expect("it answers");
    stage.proxy.signal(Signal::SIGTERM).expect("it runs");
    let told = idle.receive_rest().expect("it ends");
    assert_eq!(told.last().and_then(Message::sqlstate).as_deref(), Some("57P01"), "{told:?}");
    assert_eq!(shape(&client.query("INSERT INTO kept VALUES (1)").expect("it answers")), "INSERT 0 1 T");
    assert_eq!(shape(&client.query("COMMIT").expect("it answers")), "COMMIT I");
    let told = client.receive_rest().expect("then the session ends");
    assert_eq!(told.last().and_then(Message::sqlstate).as_deref(), Some("57P01"), "{told:?}");
    assert_eq!(stage.proxy.wait(LIMIT).expect("it ends by itself").code(), Some(0));
    assert_eq!(stage.prepare("SELECT count(*) FROM kept").expect("it was committed"), "1");
}

#[test]
fn listening_follows_a_transaction_without_a_server() {
    let stage = stage(|config| {
        config
            .set("cluster.main.pool.app.listen_mode", "multiplex")
            .set("cluster.main.pool.app.max_connections.primary", 2)
    });
    let [mut one, mut other] = [(); 2].map(|()| stage.client().expect("it may log in"));
    let texts = |messages: &[Message]| {
        let of = |message: &Message| String::from_utf8_lossy(&message.body[4..]).replace('\0', " ");
        messages.iter().filter(|message| message.tag == b'A').map(of).collect::<Vec<_>>()
    };
    // The notifications that come to somebody in a transaction, and behind it.
    let mut transaction = |one: &mut Client, statement: &str, end: &str, count: usize| {
        one.query("BEGIN").expect("it answers");
        assert_eq!(other.value("SELECT 'free'").expect("it is free"), "free");
        other.query("NOTIFY kept; NOTIFY dropped").expect("it answers");
        if !statement.is_empty() {
            let answer = one.query(statement).expect("it answers");
            assert_eq!(texts(&answer), [""; 0], "{answer:?}");
        }
        let mut told = texts(&one.query(end).expect("it answers"));
        other.query("NOTIFY kept, 'after'; NOTIFY dropped, 'after'").expect("it answers");
        while told.len() < count {
            told.extend(texts(&one.receive_until(b'A').expect("it is notified")));
        }
        told
    };
    assert_eq!(transaction(&mut one, "LISTEN kept", "COMMIT", 1), ["kept after "]);
    let both = ["kept  ", "kept after "];
    assert_eq!(transaction(&mut one, "LISTEN dropped", "ROLLBACK", 2), both);
    // Also where no server ever knew of it.
    assert_eq!(transaction(&mut one, "", "COMMIT", 2), both);
    assert_eq!(transaction(&mut one, "SELECT 1/0", "COMMIT", 2), both);
    one.query("LISTEN last").expect("it answers");
    one.query("BEGIN").expect("it answers");
    one.query("UNLISTEN kept; NOTIFY last").expect("it answers");
    assert_eq!(texts(&one.query("COMMIT").expect("it answers")), ["last  "]);
}
