//! What a collector is sent: every instrument, and the spans of clients, with their attributes.

use anyhow::Result;
use halephant_harness::{Cluster, wait_for};
use halephant_suite::collector::{Collector, Received, attributes};
use halephant_suite::{Stage, encode, stage};
use opentelemetry_proto::tonic::trace::v1::Span;
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(30);
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

fn stage(endpoint: String) -> Result<Stage> {
    Stage::with(Cluster::builder().replicas(1), |config| {
        config
            .set("otel.endpoint", endpoint)
            .set("otel.service_name", "pooler")
            .set("otel.query_text", "sanitized")
            .set("cluster.main.topology.interval", "1s")
            .set(&format!("cluster.main.pool.{}.max_connections.primary", stage::DATABASE), 2)
            .set(
                &format!(
                    "cluster.main.pool.{}.user.{}.min_connections.primary",
                    stage::DATABASE,
                    stage::ROLE
                ),
                1,
            )
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Works, leaves and gives what the collector has at the end.
fn received_of(work: impl FnOnce(&mut Stage)) -> Received {
    let collector = Collector::start().expect("there is a port");
    let mut stage = stage(collector.endpoint()).expect("it starts");
    work(&mut stage);
    assert!(stage.proxy.stop(LIMIT).expect("it ends").success());
    collector.received()
}

fn find<'a>(spans: &[&'a Span], key: &str, value: &str) -> (&'a Span, BTreeMap<String, String>) {
    let described = |span: &&'a Span| (*span, attributes(&span.attributes));
    let found =
        spans.iter().map(described).find(|(_, attributes)| attributes.get(key).is_some_and(|v| v == value));
    found.unwrap_or_else(|| panic!("no {key} = {value} in {spans:#?}"))
}

#[test]
fn every_instrument_arrives_with_its_attributes() {
    let received = received_of(|stage| {
        let mut client = stage.client().expect("it logs in");
        client.values("LISTEN news; SELECT 1").expect("it works");
        client.terminate().expect("it leaves");
    });
    let pool = ["halephant.cluster", "db.client.connection.pool.name"];
    let node = ["server.address", "server.port"];
    let expected: [(&str, &[&[&str]]); 15] = [
        ("db.client.connection.count", &[&pool, &node, &["halephant.user", "db.client.connection.state"]]),
        ("db.client.connection.max", &[&pool, &node]),
        ("db.client.connection.wait_time", &[&pool]),
        ("db.client.connection.create_time", &[&pool]),
        ("db.server.healthy", &[&node, &["halephant.cluster", "halephant.role"]]),
        ("halephant.replication.lag", &[&node, &["halephant.cluster"]]),
        ("halephant.client.connections", &[&pool, &["state"]]),
        ("halephant.client.accepted", &[]),
        ("halephant.client.queue_depth", &[&pool, &["halephant.user", "halephant.role"]]),
        ("halephant.client.wait_duration", &[&pool]),
        ("halephant.config.reloads", &[&["outcome"]]),
        ("halephant.transaction.duration", &[&pool]),
        ("halephant.statement.duration", &[&pool]),
        ("halephant.pins", &[&pool, &["reason"]]),
        ("halephant.relay.bytes", &[&pool, &["direction"]]),
    ];
    for (name, keys) in expected {
        let points = received.points(name);
        assert!(!points.is_empty(), "{name} is not in {:?}", received.metrics.keys());
        for point in points {
            assert!(
                keys.iter().flat_map(|keys| keys.iter()).all(|key| point.contains_key(*key)),
                "{name}: {point:?}"
            );
        }
    }
    assert_eq!(received.resource.get("service.name").map(String::as_str), Some("pooler"));
}

#[test]
fn spans_tell_a_clients_story() {
    let received = received_of(|stage| {
        let mut client = stage.client().expect("it logs in");
        client.values("SELECT 'a secret', 17").expect("it works");
        client.values(&format!("SELECT 1 /*traceparent='00-{TRACE}-{PARENT}-01'*/")).expect("it works");
        client.query("SELECT * FROM nowhere").expect("an error is an answer");
        let mut extended = encode::parse("named", "SELECT $1::int + 41");
        extended.extend(encode::bind("", "named", &[Some("1")]));
        extended.extend(encode::execute("", 0));
        extended.extend(encode::sync());
        client.send(&extended).expect("it is open");
        client.receive_until(b'Z').expect("an answer");
        client.terminate().expect("it leaves");
    });
    for name in ["proxy.setup", "auth", "pool.checkout", "pool.connect", "pool.warmup", "topology.refresh"] {
        assert!(!received.spans_named(name).is_empty(), "{name} is missing");
    }
    let sessions = received.spans_named("proxy.session");
    let (session, of_session) = find(&sessions, "halephant.session.end_reason", "terminated");
    for (key, value) in
        [("db.system.name", "postgresql"), ("db.namespace", stage::DATABASE), ("db.user", stage::ROLE)]
    {
        assert_eq!(of_session.get(key).map(String::as_str), Some(value), "{key}");
    }
    let setup = received.spans_named("proxy.setup");
    let setup =
        setup.iter().find(|setup| setup.parent_span_id == session.span_id).expect("it is the session's");
    assert!(received.spans_named("auth").iter().any(|auth| auth.parent_span_id == setup.span_id));

    let statements = received.spans_named("proxy.statement");
    let (statement, of_statement) = find(&statements, "db.query.text", "SELECT ?, ?");
    assert_eq!(of_statement.get("db.query.summary").map(String::as_str), Some("SELECT"));
    assert!(of_statement.contains_key("server.port"), "{of_statement:?}");
    let transactions = received.spans_named("proxy.transaction");
    let of = |statement: &Span| {
        *transactions
            .iter()
            .find(|span| span.span_id == statement.parent_span_id)
            .expect("it has a transaction")
    };
    let transaction = of(statement);
    assert_eq!(transaction.links.first().map(|link| &link.span_id), Some(&session.span_id));
    let checkouts = received.spans_named("pool.checkout");
    assert!(checkouts.iter().any(|checkout| checkout.parent_span_id == transaction.span_id));

    let continued = transactions.iter().find(|span| hex(&span.trace_id) == TRACE).expect("the trace goes on");
    assert_eq!(hex(&continued.parent_span_id), PARENT);
    let (failed, _) = find(&statements, "db.response.status_code", "42P01");
    assert_eq!(failed.status.as_ref().map(|status| status.code), Some(2));
    find(&statements, "db.query.text", "SELECT $1::int + ?");
    let everything = format!("{received:?}");
    assert!(!everything.contains("a secret") && !everything.contains(stage::PASSWORD));
}

#[test]
fn a_collector_that_hangs_or_is_gone_holds_up_nobody() {
    // It accepts, by the kernel's backlog, and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").expect("there is a port");
    let hanging = format!("http://{}", silent.local_addr().expect("it is bound"));
    let gone = {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a port");
        format!("http://{}", listener.local_addr().expect("it is bound"))
    };
    for endpoint in [hanging, gone] {
        let mut stage = stage(endpoint).expect("it starts");
        let mut client = stage.client().expect("it logs in");
        // More spans than the queue holds.
        for _ in 0..200 {
            let queries: Vec<u8> = (0..50).flat_map(|_| encode::query("SELECT 1")).collect();
            client.send(&queries).expect("it is open");
            for _ in 0..50 {
                client.receive_until(b'Z').expect("an answer");
            }
        }
        client.terminate().expect("it leaves");
        wait_for("the end", LIMIT, || Ok(Some(stage.proxy.stop(LIMIT)?.success())))
            .expect("it ends by itself");
    }
}
