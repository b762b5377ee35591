//! SIGHUP: what a reload changes, what it leaves alone, and what it refuses.

use halephant_harness::pgbench::{self, Length, Script};
use halephant_harness::{Cluster, Pgbench, ProxyConfig, wait_for};
use halephant_suite::{Client, Refused, Stage};
use nix::sys::signal::Signal;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);
const DONE: &str = "the configuration was reloaded";
const REJECTED: &str = "the reload was rejected";

fn reload(stage: &Stage, config: &ProxyConfig) {
    let attempts = || {
        let log = stage.proxy.log();
        log.matches(DONE).count() + log.matches(REJECTED).count()
    };
    let before = attempts();
    stage.proxy.write_config(config).expect("it is ours");
    stage.proxy.signal(Signal::SIGHUP).expect("it runs");
    wait_for("the reload", LIMIT, || Ok((attempts() > before).then_some(()))).expect("it is carried out");
}

#[test]
fn lowered_limits_shrink_the_pool_and_cut_no_transaction() {
    let stage = Stage::new().expect("it starts");
    let mut clients: Vec<_> = (0..10).map(|_| stage.client().expect("it may log in")).collect();
    for client in &mut clients {
        client.query("BEGIN; SELECT 1").expect("it answers");
    }
    assert_eq!(stage.server_connections().expect("it answers"), 10);
    let config = Stage::config(&stage.cluster).set("cluster.main.pool.app.max_connections.primary", 3);
    reload(&stage, &config);
    for client in &mut clients {
        assert_eq!(client.value("SELECT 1").expect("its transaction goes on"), "1");
        client.query("COMMIT").expect("it answers");
    }
    let shrunk = || Ok((stage.server_connections()? <= 3).then_some(()));
    wait_for("the pool to shrink", LIMIT, shrunk).expect("it does");
    for client in &mut clients {
        assert_eq!(client.value("SELECT 2").expect("it goes on"), "2");
    }
    assert!(stage.server_connections().expect("it answers") <= 3);

    // What did not change keeps its connections.
    let pid = clients[0].value("SELECT pg_backend_pid()").expect("it answers");
    reload(&stage, &config.clone().set("cluster.main.pool.app.idle_timeout", "4m"));
    assert_eq!(clients[0].value("SELECT pg_backend_pid()").expect("it answers"), pid);
}

#[test]
fn a_rejected_reload_leaves_everything_as_it_was() {
    let stage = Stage::new().expect("it starts");
    let config = Stage::config(&stage.cluster);
    let both = config.clone().set("server.workers", 3).set("logging.level", "info").pool(
        "other",
        "transaction",
        1,
        &["app"],
    );
    reload(&stage, &both);
    stage
        .proxy
        .wait_for_log("these need a restart: server.workers, logging.level", 1, LIMIT)
        .expect("it says so");
    let unknown = config.clone().set("cluster.main.pool.app.no_such_key", 1);
    reload(&stage, &unknown);
    stage.proxy.wait_for_log("no_such_key", 1, LIMIT).expect("it says so");
    let refused = Client::connect(&stage.transaction().database("other")).expect_err("it is not there");
    assert_eq!(refused.downcast::<Refused>().expect("by an ErrorResponse").sqlstate(), "3D000");
    assert_eq!(stage.client().expect("it may log in").value("SELECT 1").expect("it answers"), "1");
    assert_eq!(stage.proxy.log().matches(DONE).count(), 0);
}

#[test]
fn pools_and_users_come_and_go() {
    let stage = Stage::new().expect("it starts");
    let config = Stage::config(&stage.cluster);
    let other = stage.transaction().database("other");
    assert!(Client::connect(&other).is_err());
    let more = config
        .clone()
        .pool("other", "transaction", 5, &["app"])
        .set("cluster.main.pool.other.database", "app")
        .set("cluster.main.pool.other.user.app.min_connections.primary", 2)
        .set("cluster.main.pool.other.user.app.parameters.application_name", "warm");
    reload(&stage, &more.clone().pgpass("*:*:*:nobody:x"));
    let mut client = Client::connect(&other).expect("the pool is there");
    assert_eq!(client.value("SHOW application_name").expect("it answers"), "warm");
    let warm = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'warm'";
    stage.wait_until(warm, "2", LIMIT).expect("it is warmed up");

    // Its parameters change: who is there keeps the old ones, who comes has the new ones.
    reload(&stage, &more.set("cluster.main.pool.other.user.app.parameters.application_name", "hot"));
    let mut newer = Client::connect(&other).expect("the pool is there");
    assert_eq!(newer.value("SHOW application_name").expect("it answers"), "hot");
    assert_eq!(client.value("SHOW application_name").expect("it answers"), "warm");

    // The pool is gone: sessions go on, nobody else comes, and its connections end with them.
    reload(&stage, &config);
    assert!(Client::connect(&other).is_err());
    for client in [&mut client, &mut newer] {
        assert_eq!(client.value("SELECT 1").expect("its session goes on"), "1");
    }
    client.terminate().expect("it leaves");
    newer.terminate().expect("it leaves");
    let left = "SELECT count(*) FROM pg_stat_activity WHERE application_name IN ('warm', 'hot')";
    stage.wait_until(left, "0", LIMIT).expect("nothing is left");
}

/// Reloads, each of another configuration, while pgbench works.
const RELOADS: usize = 500;

/// Limits, users, parameters of another user, and the list of nodes change from one to the next.
fn variant(stage: &Stage, number: usize) -> ProxyConfig {
    let mut config = base(stage)
        .set("cluster.main.pool.app.max_connections.primary", 4 + (number % 7) as i64)
        .set("cluster.main.pool.app.max_connections.replica", (number % 3) as i64)
        .set("cluster.main.pool.app.user.app.min_connections.primary", (number % 4) as i64)
        .set("cluster.main.topology.interval", format!("{}ms", 200 + number % 5 * 100));
    if number.is_multiple_of(2) {
        let path = "cluster.main.pool.app.user.other";
        config = config.set(&format!("{path}.parameters.application_name"), format!("other {}", number % 11));
    }
    if number.is_multiple_of(3) {
        config = config.pool("side", "session", 2, &["app"]);
    }
    let nodes = stage.cluster.nodes();
    let named = if number % 5 < 3 { nodes } else { &nodes[..1] };
    config.set("cluster.main.nodes", named.iter().map(halephant_harness::Node::address).collect::<Vec<_>>())
}

fn base(stage: &Stage) -> ProxyConfig {
    Stage::config(&stage.cluster).set("logging.level", "info")
}

#[test]
fn five_hundred_reloads_under_load_fail_no_transaction() {
    let builder = Cluster::builder().replicas(1);
    let stage = Stage::with(builder, |config| config.set("logging.level", "info")).expect("it starts");
    let login = stage.transaction();
    pgbench::initialize(stage.cluster.binaries(), &stage.direct(), 1).expect("there is room");
    let load = |script, length| {
        let load = Pgbench { clients: 16, script, length, ..Pgbench::default() };
        load.run(stage.cluster.binaries(), &login).expect("it runs")
    };
    let start = Instant::now();
    let mut transactions = 0;
    std::thread::scope(|scope| {
        let reloads =
            scope.spawn(|| (0..RELOADS).for_each(|number| reload(&stage, &variant(&stage, number))));
        while !reloads.is_finished() {
            for script in [Script::TpcB, Script::Select] {
                let report = load(script, Length::Time(Duration::from_secs(3)));
                assert_eq!(
                    (report.failed, report.errors.as_slice()),
                    (0, &[][..]),
                    "{}",
                    stage.proxy.log_tail()
                );
                transactions += report.transactions;
            }
        }
        reloads.join().expect("every reload is carried out");
    });
    eprintln!("{RELOADS} reloads and {transactions} transactions in {:?}", start.elapsed());
    assert_eq!(stage.proxy.log().matches(DONE).count(), RELOADS);
    let consistent =
        "SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(bbalance) FROM pgbench_branches)";
    assert_eq!(stage.prepare(consistent).expect("it answers"), "t");
    reload(&stage, &base(&stage).set("cluster.main.pool.app.max_connections.primary", 2));
    let shrunk = || Ok((stage.server_connections()? <= 2).then_some(()));
    wait_for("the pool to shrink", LIMIT, shrunk).expect("nothing leaked");
}

/// What a pool's sessions still have counts when the pool comes back.
#[test]
fn a_pool_that_comes_back_counts_what_it_has() {
    let stage = Stage::new().expect("it starts");
    let without = Stage::config(&stage.cluster);
    let with = without
        .clone()
        .pool("other", "session", 2, &["app"])
        .set("cluster.main.pool.other.database", "app")
        .set("cluster.main.pool.other.checkout_timeout", "1s")
        .set("cluster.main.pool.other.user.app.parameters.application_name", "other");
    reload(&stage, &with);
    let other = stage.transaction().database("other");
    let mut before = [(); 2].map(|()| Client::connect(&other).expect("it may log in"));
    for client in &mut before {
        assert_eq!(client.value("SELECT 1").expect("it answers"), "1");
    }
    reload(&stage, &without);
    reload(&stage, &with);
    let refused = Client::connect(&other).expect_err("there is no connection for it");
    assert_eq!(refused.downcast::<Refused>().expect("by an ErrorResponse").sqlstate(), "53300");
    let count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'other'";
    assert_eq!(stage.cluster.query("postgres", count).expect("it answers"), "2");
    let [client, _other] = before;
    client.terminate().expect("it leaves");
    let mut after = Client::connect(&other).expect("its turn comes");
    assert_eq!(after.value("SELECT 2").expect("it answers"), "2");
}
