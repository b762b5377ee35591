//! 200 pgbench clients over ten server connections: no error, and never an eleventh connection.

use halephant_harness::pgbench::{self, Length, Protocol, Script};
use halephant_harness::{Cluster, Login, Pgbench};
use halephant_suite::{Client, Stage, soak, stage};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const CLIENTS: u32 = 200;
const CONNECTIONS: usize = 10;

fn stage() -> Stage {
    let builder = Cluster::builder().setting("shared_buffers", "256MB");
    // All of them wait their turn, on a slow machine too.
    let stage =
        Stage::with(builder, |config| config.set("server.checkout_timeout", "5m")).expect("it starts");
    pgbench::initialize(stage.cluster.binaries(), &stage.direct(), 5).expect("there is room");
    stage
}

/// Runs `load` while it counts the server's connections, and gives the most there were.
fn watch(stage: &Stage, name: &str, load: &Pgbench, login: &Login) -> usize {
    // The server sets the pace.
    let sql =
        format!("SELECT count(*), pg_sleep(0.02) FROM pg_stat_activity WHERE usename = '{}'", stage::ROLE);
    let mut observer = Client::connect(&stage.cluster.primary().superuser("postgres")).expect("it may look");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let most = scope.spawn(|| {
            let mut most = 0;
            while !done.load(Ordering::SeqCst) {
                let count = observer.value(&sql).expect("the server answers").parse().expect("a number");
                most = most.max(count);
            }
            most
        });
        let report = load.run(stage.cluster.binaries(), login);
        done.store(true, Ordering::SeqCst);
        let most = most.join().expect("the observer does not fail");
        let report = report.expect("pgbench runs");
        eprintln!("{name}: {:.0} tps, {} transactions, {most} connections", report.tps, report.transactions);
        assert_eq!((report.failed, &report.errors), (0, &Vec::new()), "{name}");
        assert!(report.transactions > 0, "{name}: {report:?}");
        most
    })
}

fn run(stage: &Stage, login: &Login, reconnect: bool) {
    for (script, what) in [(Script::Select, "select"), (Script::TpcB, "TPC-B")] {
        for protocol in [Protocol::Simple, Protocol::Extended] {
            let name = format!("{what}, {}{}", protocol.name(), if reconnect { ", -C" } else { "" });
            let load = Pgbench {
                clients: CLIENTS,
                threads: 2,
                length: Length::Time(soak::duration()),
                protocol,
                script: script.clone(),
                reconnect,
                tls: false,
                percentiles: false,
            };
            let most = watch(stage, &name, &load, login);
            assert!((1..=CONNECTIONS).contains(&most), "{name}: {most} connections");
        }
    }
    // Not one is left with work or a transaction.
    stage.wait_until_idle(Duration::from_secs(10)).expect("all has ended");
}

#[test]
fn transaction_mode() {
    let stage = stage();
    run(&stage, &stage.transaction(), false);
}

#[test]
fn transaction_mode_with_a_connection_for_each() {
    let stage = stage();
    run(&stage, &stage.transaction(), true);
}

#[test]
fn session_mode_with_a_connection_for_each() {
    let stage = stage();
    run(&stage, &stage.session(), true);
}
