//! `defer_begin`: a transaction takes a server connection with its first statement, not with BEGIN.

use halephant_harness::{Cluster, ProxyConfig};
use halephant_suite::message::error;
use halephant_suite::{Client, Message, Stage, encode};

/// One server connection for everybody.
fn stage(change: impl FnOnce(ProxyConfig) -> ProxyConfig) -> Stage {
    let deferring = |config: ProxyConfig| {
        change(
            config
                .set("cluster.main.pool.app.defer_begin", true)
                .set("cluster.main.pool.app.max_connections.primary", 1)
                .set("server.checkout_timeout", "1s"),
        )
    };
    Stage::with(Cluster::builder(), deferring).expect("it starts")
}

/// The types of an answer's messages, with the command tags and the status.
fn shape(messages: &[Message]) -> String {
    let of = |message: &Message| match message.tag {
        b'C' | b'Z' => String::from_utf8_lossy(&message.body).trim_end_matches('\0').to_owned(),
        b'E' | b'N' => message.sqlstate().unwrap_or_default(),
        tag => char::from(tag).to_string(),
    };
    messages.iter().map(of).collect::<Vec<_>>().join(" ")
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

/// Answers are those that PostgreSQL gives itself.
#[test]
fn transactions_are_what_they_are_without_it() {
    let stage = stage(|config| config);
    stage.prepare("CREATE TABLE t (a int)").expect("the owner may");
    let extended = |sql: &str| {
        [encode::parse("", sql), encode::bind("", "", &[]), encode::execute("", 0), encode::sync()].concat()
    };
    let q = encode::query;
    let scripts: [&[Vec<u8>]; 9] = [
        &[q("BEGIN"), q("INSERT INTO t VALUES (1)"), q("ROLLBACK"), q("SELECT count(*) FROM t")],
        &[q("BEGIN"), q("BEGIN"), q("COMMIT"), q("COMMIT")],
        &[q("BEGIN"), q("nonsense"), q("SELECT 1"), q("COMMIT"), q("SELECT 2")],
        &[
            q("BEGIN"),
            extended("INSERT INTO t VALUES (1)"),
            extended("ROLLBACK"),
            q("SELECT count(*) FROM t"),
        ],
        &[q("BEGIN READ ONLY"), q("INSERT INTO t VALUES (1)"), q("ROLLBACK")],
        &[q("BEGIN"), q("COMMIT AND CHAIN"), q("SELECT 1"), q("COMMIT")],
        &[q("BEGIN"), q("SAVEPOINT a"), q("SELECT 1/0"), q("ROLLBACK TO a"), q("SELECT 3"), q("COMMIT")],
        &[q("BEGIN"), q(""), q("VACUUM t"), q("ROLLBACK")],
        &[
            q("BEGIN"),
            q("SET LOCAL TimeZone = 'Asia/Tokyo'"),
            q("SHOW TimeZone"),
            q("COMMIT"),
            q("SHOW TimeZone"),
        ],
    ];
    for script in scripts {
        let play = |mut client: Client, at_once: bool| -> Vec<String> {
            if at_once {
                client.send(&script.concat()).expect("it reads");
            }
            script
                .iter()
                .map(|message| {
                    if !at_once {
                        client.send(message).expect("it reads");
                    }
                    shape(&client.receive_until(b'Z').expect("it answers"))
                })
                .collect()
        };
        for at_once in [false, true] {
            let direct = play(Client::connect(&stage.direct()).expect("it may log in"), at_once);
            assert_eq!(
                play(stage.client().expect("it may log in"), at_once),
                direct,
                "{at_once}: {script:?}"
            );
        }
    }
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
            .set("cluster.main.pool.app.defer_begin", true)
            .set("cluster.main.pool.app.max_connections.primary", 0)
            .set("cluster.main.pool.app.max_connections.replica", 1)
    });
    let replica = replica.expect("it starts");
    let mut client = replica.client().expect("it may log in");
    assert_eq!(shape(&client.query("BEGIN ISOLATION LEVEL SERIALIZABLE").expect("it answers")), "BEGIN T");
    assert_eq!(shape(&client.query("SELECT 1").expect("it answers")), "0A000 E");
    assert_eq!(shape(&client.query("SELECT 1").expect("it answers")), "25P02 E");
    assert_eq!(shape(&client.query("ROLLBACK").expect("it answers")), "ROLLBACK I");
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
