//! Where transactions and sessions go: to the primary or to a replica, and what is refused there.

use halephant_harness::{Cluster, Login, ProxyConfig, psql, wait_for};
use halephant_suite::{Client, Refused, Stage, encode, message};
use std::collections::BTreeMap;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);
const WHERE: &str = "SELECT pg_is_in_recovery()";
const PRIMARY: &str = "f";
const REPLICA: &str = "t";

/// A pool of the same database whose user's sessions begin read-only.
const READERS: &str = "readers";
/// One without connections to the primary.
const REPORTS: &str = "reports";

fn configure(config: ProxyConfig) -> ProxyConfig {
    let mut config = config
        .set("cluster.main.topology.interval", "1s")
        .set("server.checkout_timeout", "3s")
        .pool(READERS, "transaction", 10, &["app"])
        .set("cluster.main.pool.readers.user.app.parameters.options.default_transaction_read_only", "on")
        .pool(REPORTS, "transaction", 0, &["app"]);
    for pool in ["app", "app_session", READERS, REPORTS] {
        config = config.set(&format!("cluster.main.pool.{pool}.max_connections.replica"), 10);
    }
    for pool in [READERS, REPORTS] {
        config = config.set(&format!("cluster.main.pool.{pool}.database"), "app");
    }
    config
}

fn stage(replicas: usize) -> Stage {
    let stage = Stage::with(Cluster::builder().replicas(replicas), configure).expect("it starts");
    wait_for_nodes(&stage, replicas + 1);
    stage
}

/// Waits until halephant has found the role of `count` nodes.
fn wait_for_nodes(stage: &Stage, count: usize) {
    let found = || Ok((stage.proxy.log().matches(" node role ").count() >= count).then_some(()));
    wait_for("the nodes' roles", LIMIT, found).expect("they are found");
}

fn at(stage: &Stage, pool: &str) -> Login {
    stage.transaction().database(pool)
}

/// Where the transaction went that `begin` begins.
fn place(client: &mut Client, begin: &str) -> String {
    let begun = client.query(begin).expect("it answers");
    assert!(message::error(&begun).is_none(), "{begin}: {begun:?}");
    let place = client.value(WHERE).expect(begin);
    client.query("COMMIT").expect("it answers");
    place
}

#[test]
fn a_transaction_goes_where_it_asks_to() {
    let stage = stage(1);
    let mut client = stage.client().expect("it may log in");
    assert_eq!(client.value(WHERE).expect("it answers"), PRIMARY);
    for begin in [
        "BEGIN READ ONLY",
        "begin transaction isolation level repeatable read, read only",
        "/* a /* b */ */ START -- x\n TRANSACTION READ\tONLY ;",
        "BEGIN; SET TRANSACTION READ ONLY",
    ] {
        assert_eq!(place(&mut client, begin), REPLICA, "{begin}");
    }
    for begin in ["BEGIN", "BEGIN READ WRITE", "BEGIN /* READ ONLY */", "SELECT 'BEGIN READ ONLY'; BEGIN"] {
        assert_eq!(place(&mut client, begin), PRIMARY, "{begin}");
    }
    let whole = client.values(&format!("BEGIN READ ONLY; {WHERE}; COMMIT")).expect("it answers");
    assert_eq!(whole, [REPLICA]);
    // The extended protocol, one byte at a time.
    let pipeline = [
        encode::parse("", "BEGIN READ ONLY"),
        encode::bind("", "", &[]),
        encode::execute("", 0),
        encode::sync(),
    ];
    for byte in pipeline.concat() {
        client.send(&[byte]).expect("it is open");
    }
    client.receive_until(b'Z').expect("it answers");
    assert_eq!(client.value(WHERE).expect("it answers"), REPLICA);
    client.query("COMMIT").expect("it answers");
}

#[test]
fn a_session_goes_where_it_has_set_itself_to() {
    let stage = stage(1);
    let mut client = stage.client().expect("it may log in");
    for (set, expected) in [
        ("SET default_transaction_read_only = on", REPLICA),
        ("SET default_transaction_read_only TO 'off'", PRIMARY),
        ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", REPLICA),
        ("SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE", PRIMARY),
        ("SET SESSION \"default_transaction_read_only\" = 1", REPLICA),
        ("RESET default_transaction_read_only", PRIMARY),
    ] {
        let answer = client.query(set).expect("it answers");
        assert!(message::error(&answer).is_none(), "{set}: {answer:?}");
        assert_eq!(client.value(WHERE).expect("it answers"), expected, "{set}");
    }
    client.query("SET default_transaction_read_only = on").expect("it answers");
    assert_eq!(place(&mut client, "BEGIN READ WRITE"), PRIMARY);
    client.query("RESET default_transaction_read_only").expect("it answers");
    let set = "SET default_transaction_read_only = on";
    let pipeline =
        [encode::parse("", set), encode::bind("", "", &[]), encode::execute("", 0), encode::sync()];
    client.send(&pipeline.concat()).expect("it is open");
    client.receive_until(b'Z').expect("it answers");
    assert_eq!(client.value(WHERE).expect("it answers"), REPLICA);

    for login in [stage.transaction(), stage.session()] {
        let options = [("options", "-c default_transaction_read_only=on")];
        let mut client = Client::connect_with(&login, 0, &options).expect("it may log in");
        assert_eq!(client.value(WHERE).expect("it answers"), REPLICA);
    }
}

#[test]
fn parameters_of_the_configuration_reach_the_server() {
    let stage = Stage::with(Cluster::builder(), |config| {
        let path = "cluster.main.pool.app.user.app.parameters";
        config
            .set(&format!("{path}.application_name"), "billing")
            .set(&format!("{path}.options.statement_timeout"), "7s")
            .set(&format!("{path}.options.search_path"), "\"a b\", public")
    });
    let stage = stage.expect("it starts");
    let mut client = stage.client().expect("it may log in");
    assert_eq!(client.value("SHOW application_name").expect("it answers"), "billing");
    assert_eq!(client.value("SHOW statement_timeout").expect("it answers"), "7s");
    let in_view = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'billing'";
    assert_eq!(client.value(in_view).expect("it answers"), "1");
    // What the client asks for itself comes on top, for itself alone.
    let own = [("application_name", "mine"), ("options", "-c work_mem=5MB")];
    let mut other = Client::connect_with(&stage.transaction(), 0, &own).expect("it may log in");
    assert_eq!(other.value("SHOW application_name").expect("it answers"), "mine");
    assert_eq!(other.value("SHOW work_mem").expect("it answers"), "5MB");
    assert_eq!(client.value("SHOW application_name").expect("it answers"), "billing");
    for (name, value, told) in [("options", "-B 5", "-B"), ("no_such_parameter", "1", "no_such_parameter")] {
        let refused =
            Client::connect_with(&stage.transaction(), 0, &[(name, value)]).expect_err("it is refused");
        assert!(refused.to_string().contains(told), "{refused}");
    }
}

/// The ErrorResponse to what was sent, and the transaction status behind it.
fn refused(client: &mut Client, bytes: &[u8]) -> (Refused, u8) {
    client.send(bytes).expect("it is open");
    let answer = client.receive_until(b'Z').expect("it answers");
    let error = message::error(&answer).unwrap_or_else(|| panic!("no error in {answer:?}")).clone();
    (Refused(error), answer.last().map_or(0, |ready| ready.body[0]))
}

#[test]
fn a_replicas_session_cannot_be_made_writable() {
    let stage = stage(1);
    for pool in [READERS, REPORTS] {
        let mut client = Client::connect(&at(&stage, pool)).expect("it may log in");
        assert_eq!(client.value(WHERE).expect("it answers"), REPLICA);
        for text in [
            "BEGIN READ WRITE",
            "SET default_transaction_read_only = off",
            "SELECT 1; SET SESSION CHARACTERISTICS AS TRANSACTION READ /* x */ WRITE",
            "SELECT set_config('default_transaction_read_only', 'off', false)",
        ] {
            let (error, status) = refused(&mut client, &encode::query(text));
            assert_eq!((error.sqlstate().as_str(), status), ("25006", b'I'), "{text}");
            assert!(error.0.field(b'H').is_some_and(|hint| hint.contains("primary")), "{error:?}");
        }
        // In a transaction, it fails the transaction.
        client.query("BEGIN").expect("it answers");
        let (error, status) = refused(&mut client, &encode::query("SET TRANSACTION READ WRITE"));
        assert_eq!((error.sqlstate().as_str(), status), ("25006", b'E'));
        let (error, _) = refused(&mut client, &encode::query("SET TRANSACTION READ WRITE"));
        assert_eq!(error.sqlstate(), "25P02");
        client.query("ROLLBACK").expect("it answers");
        // In a pipeline, what comes before it is answered and what comes behind it is skipped.
        let execute =
            |sql: &str| [encode::parse("", sql), encode::bind("", "", &[]), encode::execute("", 0)].concat();
        let bytes = [
            execute("SELECT 41"),
            execute("BEGIN READ WRITE"),
            execute("SELECT 42"),
            encode::sync(),
            encode::query("SELECT 43"),
        ];
        let (error, status) = refused(&mut client, &bytes.concat());
        assert_eq!((error.sqlstate().as_str(), status), ("25006", b'I'));
        let next = client.receive_until(b'Z').expect("it answers");
        assert_eq!(message::values(&next), ["43"]);
        assert_eq!(client.value("SELECT 'BEGIN READ WRITE'").expect("it answers"), "BEGIN READ WRITE");
    }
    let options = [("options", "-c default_transaction_read_only=off")];
    let error = Client::connect_with(&at(&stage, REPORTS), 0, &options).expect_err("it is refused");
    let error = error.downcast::<Refused>().expect("by an ErrorResponse");
    assert_eq!(error.sqlstate(), "25006");
}

#[test]
fn replicas_share_the_work_and_the_primary_steps_in() {
    let mut stage = stage(2);
    let mut clients: Vec<_> =
        (0..10).map(|_| Client::connect(&at(&stage, REPORTS)).expect("it may log in")).collect();
    let mut ports = BTreeMap::<String, usize>::new();
    for client in &mut clients {
        client.query("BEGIN").expect("it answers");
        let port = client.value("SELECT inet_server_port()").expect("it answers");
        *ports.entry(port).or_default() += 1;
    }
    assert_eq!(ports.values().copied().collect::<Vec<_>>(), [5, 5], "{ports:?}");
    clients.into_iter().for_each(Client::cut);

    let one = stage.cluster.nodes()[1].port().to_string();
    stage.cluster.node_mut(2).kill().expect("it runs");
    let mut client = Client::connect(&at(&stage, REPORTS)).expect("it may log in");
    for _ in 0..20 {
        // A connection that was idle is noticed to be dead; nobody sees that.
        assert_eq!(client.value("SELECT inet_server_port()").expect("the other goes on"), one);
    }
    let mut reader = Client::connect(&at(&stage, READERS)).expect("it may log in");
    assert_eq!(reader.value(WHERE).expect("it answers"), REPLICA);
    stage.cluster.node_mut(1).kill().expect("it runs");
    assert_eq!(reader.value(WHERE).expect("the primary steps in"), PRIMARY);
    let refused = client.error("SELECT 1").expect("it is refused");
    assert_eq!(refused.sqlstate(), "57P03");
    assert!(refused.text().contains("no replica"), "{refused:?}");
    let login = stage.direct();
    psql::query(stage.cluster.binaries(), &login, "SELECT 1").expect("the primary is well");
}
