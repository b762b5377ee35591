//! What a collector is sent: every instrument, and the spans of clients, with their attributes.

use anyhow::Result;
use halephant::overview::instruments::ALL;
use halephant_harness::proxy::KernelPath;
use halephant_harness::{Cluster, ProxyConfig, process, wait_for};
use halephant_suite::collector::{Collector, Received, attributes};
use halephant_suite::{Client, Stage, encode, stage};
use opentelemetry_proto::tonic::trace::v1::Span;
use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(30);
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

fn stage(endpoint: String) -> Result<Stage> {
    Stage::with(Cluster::builder().replicas(1), |config| configure(config, endpoint))
}

/// A pool of a database that is not there: nothing can be opened for it.
const NOWHERE: &str = "nowhere";
/// A pool whose clients listen without a connection of their own.
const MULTIPLEX: &str = "multiplex";
/// A pool whose clients may not keep a connection.
const STRICT: &str = "strict";

fn configure(config: ProxyConfig, endpoint: String) -> ProxyConfig {
    config
        .kernel_path(KernelPath::Colocated)
        .pool(NOWHERE, "transaction", 1, &[stage::ROLE])
        .pool(MULTIPLEX, "transaction", 1, &[stage::ROLE])
        .set(&format!("cluster.main.pool.{MULTIPLEX}.database"), stage::DATABASE)
        .set(&format!("cluster.main.pool.{MULTIPLEX}.listen_mode"), "multiplex")
        .pool(STRICT, "transaction", 1, &[stage::ROLE])
        .set(&format!("cluster.main.pool.{STRICT}.database"), stage::DATABASE)
        .set(&format!("cluster.main.pool.{STRICT}.pin"), "deny")
        .set("otel.endpoint", endpoint)
        .set("otel.service_name", "pooler")
        .set("otel.query_text", "sanitized")
        .set("cluster.main.topology.interval", "1s")
        .set(&format!("cluster.main.pool.{}.max_connections.primary", stage::DATABASE), 2)
        .set(
            &format!("cluster.main.pool.{}.user.{}.min_connections.primary", stage::DATABASE, stage::ROLE),
            1,
        )
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Works, leaves and gives what the collector has at the end.
fn received_of(work: impl FnOnce(&mut Stage)) -> Received {
    received_with(|config| config, work)
}

fn received_with(change: impl FnOnce(ProxyConfig) -> ProxyConfig, work: impl FnOnce(&mut Stage)) -> Received {
    let collector = Collector::start().expect("there is a port");
    let with = |config| change(configure(config, collector.endpoint()));
    let mut stage = Stage::with(Cluster::builder().replicas(1), with).expect("it starts");
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
        let mut client = Client::connect(&stage.transaction().database(MULTIPLEX)).expect("it logs in");
        client.values("LISTEN news").expect("it works");
        let mut client = Client::connect(&stage.transaction().database(STRICT)).expect("it logs in");
        client.values("LISTEN news").expect_err("it would keep its connection");
        Client::connect(&stage.transaction().database(NOWHERE)).expect_err("the database is not there");
    });
    let pool = ["halephant.cluster", "db.client.connection.pool.name"];
    let node = ["server.address", "server.port"];
    let cluster = ["halephant.cluster"];
    let listener = ["halephant.cluster", "db.namespace", "halephant.user", "encoding"];
    let expected: [(&str, &[&[&str]]); 37] = [
        ("halephant.splice.bytes", &[&cluster, &node, &["direction"]]),
        ("halephant.splice.messages", &[&cluster, &node, &["direction"]]),
        ("halephant.splice.transactions", &[&cluster, &node, &["status"]]),
        ("halephant.splice.sessions", &[&cluster, &node]),
        ("halephant.splice.sessions.joined", &[&cluster, &node]),
        ("halephant.splice.reclaims", &[&cluster, &node, &["reason"]]),
        ("halephant.splice.stalls", &[&cluster, &node]),
        ("halephant.splice.arms", &[&cluster, &node]),
        ("halephant.splice.events_lost", &[&cluster, &node]),
        ("halephant.notify.connections", &[&listener]),
        ("halephant.notify.subscriptions", &[&listener]),
        ("halephant.notify.received", &[&listener]),
        ("halephant.notify.delivered", &[&listener]),
        ("halephant.notify.dropped", &[&listener]),
        ("halephant.notify.gaps", &[&listener, &["reason"]]),
        ("db.client.connection.count", &[&pool, &node, &["halephant.user", "db.client.connection.state"]]),
        ("db.client.connection.max", &[&pool, &node]),
        ("db.client.connection.errors", &[&pool, &["error.type"]]),
        ("db.client.connection.wait_time", &[&pool]),
        ("db.client.connection.create_time", &[&pool]),
        ("db.server.healthy", &[&node, &["halephant.cluster", "halephant.role"]]),
        ("halephant.replication.lag", &[&node, &["halephant.cluster"]]),
        ("halephant.client.connections", &[&pool, &["state"]]),
        ("halephant.client.accepted", &[]),
        ("halephant.client.refused", &[&["limit"]]),
        ("halephant.client.timeouts", &[&pool, &["limit"]]),
        ("halephant.client.logins", &[]),
        ("halephant.client.login_failures", &[&["reason"]]),
        ("halephant.client.throttle_entries", &[]),
        ("halephant.client.queue_depth", &[&pool, &["halephant.user", "halephant.role"]]),
        ("halephant.client.wait_duration", &[&pool]),
        ("halephant.config.reloads", &[&["outcome"]]),
        ("halephant.transaction.duration", &[&pool]),
        ("halephant.statement.duration", &[&pool]),
        ("halephant.pins", &[&pool, &["reason"]]),
        ("halephant.pins.denied", &[&pool, &["reason"]]),
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
    let labels = |name, key: &str| -> BTreeSet<String> {
        received.points(name).iter().map(|point| point[key].clone()).collect()
    };
    let text = |labels: &[&str]| labels.iter().map(|label| (*label).to_owned()).collect::<BTreeSet<_>>();
    // The minimum cannot be opened before somebody has logged in.
    let errors = labels("db.client.connection.errors", "error.type");
    assert!(
        errors.contains("refused") && errors.is_subset(&text(&["refused", "no_credentials"])),
        "{errors:?}"
    );
    assert_eq!(labels("halephant.pins", "reason"), text(&["listen"]));
    let states = ["idle", "used", "opening", "closing"];
    assert_eq!(labels("db.client.connection.count", "db.client.connection.state"), text(&states));
    let states = ["idle", "waiting", "active", "idle_in_transaction"];
    assert_eq!(labels("halephant.client.connections", "state"), text(&states));
    let outcomes = ["success", "restart_required", "parse_failed"];
    assert_eq!(labels("halephant.config.reloads", "outcome"), text(&outcomes));
    assert_eq!(labels("db.server.healthy", "halephant.role"), text(&["primary", "replica"]));
    // Whatever there is has a test here, and comes with the unit that is documented.
    for instrument in ALL {
        let metric = received.metrics.get(instrument.name);
        assert_eq!(metric.map(|metric| metric.unit.as_str()), Some(instrument.unit), "{}", instrument.name);
        assert!(
            expected.iter().any(|(name, _)| *name == instrument.name),
            "{} is not tested",
            instrument.name
        );
    }
    assert_eq!(received.resource.get("service.name").map(String::as_str), Some("pooler"));
}

#[test]
fn spans_tell_a_clients_story() {
    let received = received_of(|stage| {
        let mut client = stage.client().expect("it logs in");
        client.values("SELECT 'a secret', 17").expect("it works");
        client.query("SELECT $$a secret$$, $q$a secret$q$").expect("it works");
        client.values(&format!("SELECT 1 /*traceparent='00-{TRACE}-{PARENT}-01'*/")).expect("it works");
        client.query("SELECT * FROM nowhere").expect("an error is an answer");
        let mut extended = encode::parse("named", "SELECT $1::int + 41");
        extended.extend(encode::bind("", "named", &[Some("1")]));
        extended.extend(encode::execute("", 0));
        extended.extend(encode::sync());
        client.send(&extended).expect("it is open");
        client.receive_until(b'Z').expect("an answer");
        // What it leaves behind is put in order for the next.
        client.query("CREATE TEMP TABLE left_behind ()").expect("it works");
        client.terminate().expect("it leaves");
        let next = stage.client().expect("it logs in").error("TABLE left_behind").expect("it is not there");
        assert_eq!(next.sqlstate(), "42P01");
    });
    let pool = ["db.system.name", "halephant.cluster", "db.client.connection.pool.name"];
    let of_client = ["db.namespace", "db.user"];
    let node = ["server.address", "server.port"];
    let expected: [(&str, &[&[&str]]); 10] = [
        (
            "proxy.session",
            &[&pool, &of_client, &["client.address", "client.port", "halephant.client.process_id"]],
        ),
        ("proxy.setup", &[]),
        ("auth", &[]),
        ("proxy.transaction", &[&pool, &of_client, &node]),
        ("pool.checkout", &[&pool, &of_client]),
        ("proxy.statement", &[&pool, &of_client, &node, &["db.query.summary"]]),
        ("pool.warmup", &[&pool]),
        ("pool.connect", &[&pool, &node]),
        ("pool.reset", &[&pool]),
        ("topology.refresh", &[&["db.system.name", "halephant.cluster"], &node]),
    ];
    for (name, keys) in expected {
        let spans = received.spans_named(name);
        assert!(!spans.is_empty(), "{name} is missing");
        let has_all = |span: &&Span| {
            let attributes = attributes(&span.attributes);
            keys.iter().flat_map(|keys| keys.iter()).all(|key| attributes.contains_key(*key))
        };
        assert!(spans.iter().any(has_all), "{name}: {spans:#?}");
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
fn texts_of_queries_are_sent_as_the_configuration_says() {
    for (setting, expected) in [("off", None), ("raw", Some("SELECT 'a secret' FROM pg_class LIMIT 0"))] {
        let received = received_with(
            |config| config.set("otel.query_text", setting),
            |stage| {
                let mut client = stage.client().expect("it logs in");
                client.values("SELECT 'a secret' FROM pg_class LIMIT 0").expect("it works");
                client.terminate().expect("it leaves");
            },
        );
        let statements = received.spans_named("proxy.statement");
        let (_, attributes) = find(&statements, "db.query.summary", "SELECT pg_class");
        assert_eq!(attributes.get("db.query.text").map(String::as_str), expected, "{setting}");
    }
}

#[test]
fn a_collector_may_ask_for_tls() {
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let (certificate, key) = (own.cert.pem(), own.signing_key.serialize_pem());
    let scratch = tempfile::tempdir().expect("there is room");
    let authorities = scratch.path().join("authorities.pem");
    std::fs::write(&authorities, &certificate).expect("there is room");
    let trusted = authorities.to_str().expect("a path").to_owned();
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let untrusted = scratch.path().join("others.pem");
    std::fs::write(&untrusted, other.cert.pem()).expect("there is room");
    let untrusted = untrusted.to_str().expect("a path").to_owned();

    for (authorities, is_trusted) in [(trusted, true), (untrusted, false)] {
        let collector = Collector::with_tls(&certificate, &key).expect("there is a port");
        let change = |config| configure(config, collector.endpoint());
        let environment = [("SSL_CERT_FILE", authorities.as_str())];
        let mut stage = Stage::within(&environment, Cluster::builder(), change).expect("it starts");
        let mut client = stage.client().expect("it logs in");
        client.values("SELECT 1").expect("it works");
        client.terminate().expect("it leaves");
        assert!(stage.proxy.stop(LIMIT).expect("it ends").success());
        let received = collector.received();
        assert_eq!(!received.spans_named("proxy.session").is_empty(), is_trusted);
        assert_eq!(received.metrics.contains_key("halephant.transaction.duration"), is_trusted);
    }
}

/// Queries of one client, sent in batches.
fn work(client: &mut Client, batches: usize) {
    for _ in 0..batches {
        let queries: Vec<u8> = (0..50).flat_map(|_| encode::query("SELECT 1")).collect();
        client.send(&queries).expect("it is open");
        for _ in 0..50 {
            client.receive_until(b'Z').expect("an answer");
        }
    }
}

#[test]
fn a_collector_that_never_answers_costs_no_memory() {
    let collector = Collector::hanging().expect("there is a port");
    let mut stage = stage(collector.endpoint()).expect("it starts");
    let mut client = stage.client().expect("it logs in");
    let resident =
        |stage: &Stage| process::resident_bytes(stage.proxy.pid().expect("it runs")).expect("it runs") as i64;
    // Three spans for each query: the queue is full after this, and a request hangs.
    work(&mut client, 150);
    let hangs = || Ok((collector.received().hanging > 0).then_some(()));
    wait_for("a request", LIMIT, hangs).expect("it is sent");
    let before = resident(&stage);
    work(&mut client, 450);
    let grown = resident(&stage) - before;
    // 67,500 more spans, a kilobyte each and more.
    assert!(grown < 8 << 20, "{grown} bytes more, {before} before");
    client.terminate().expect("it leaves");
    assert!(stage.proxy.stop(LIMIT).expect("it ends by itself").success());
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
        work(&mut client, 200);
        client.terminate().expect("it leaves");
        wait_for("the end", LIMIT, || Ok(Some(stage.proxy.stop(LIMIT)?.success())))
            .expect("it ends by itself");
    }
}

#[test]
fn the_log_has_a_line_for_each_end_of_a_connection_and_no_secret() {
    let change = |config: ProxyConfig| config.set("logging.format", "json").set("logging.level", "trace");
    let mut stage = Stage::with(Cluster::builder(), change).expect("it starts");
    let mut client = stage.client().expect("it logs in");
    client.values("SELECT 'a secret'").expect("it works");
    client.query("SELECT a_secret_too FROM nowhere").expect("an error is an answer");
    let mut extended = encode::parse("named", "SELECT $1::text || 'a secret'");
    let parameter = Some("a secret parameter");
    extended
        .extend([encode::bind("", "named", &[parameter]), encode::execute("", 0), encode::sync()].concat());
    client.send(&extended).expect("it is open");
    client.receive_until(b'Z').expect("an answer");
    let wrong = "a-secret-password";
    Client::connect(&stage.transaction().password(wrong)).expect_err("it is wrong");
    client.terminate().expect("it leaves");
    stage.proxy.wait_for_log("client disconnected", 1, LIMIT).expect("it is logged");
    assert!(stage.proxy.stop(LIMIT).expect("it ends").success());

    let log = stage.proxy.log();
    for secret in ["secret", stage::PASSWORD, wrong, halephant_harness::postgres::cluster::ADMIN_PASSWORD] {
        assert!(!log.contains(secret), "{secret} is in {log}");
    }
    let lines: Vec<serde_json::Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")))
        .collect();
    let with = |message: &str| -> Vec<&serde_json::Value> {
        lines.iter().filter(|line| line["message"] == message).collect()
    };
    let (connected, disconnected) = (with("client connected"), with("client disconnected"));
    assert_eq!((connected.len(), disconnected.len()), (1, 1), "{log}");
    for line in [connected[0], disconnected[0]] {
        assert_eq!(
            (&line["user"], &line["database"]),
            (&stage::ROLE.into(), &stage::DATABASE.into()),
            "{line}"
        );
        assert!(line["process_id"].is_u64() && line["peer"].is_string(), "{line}");
    }
    assert_eq!(disconnected[0]["reason"], "terminated");
    assert!(disconnected[0]["seconds"].is_f64(), "{}", disconnected[0]);
    assert!(with("connection refused").iter().any(|line| line["error"].is_string()), "{log}");
}
