//! Drivers that bring a TLS of their own: pgjdbc with Java's, node-postgres with Node's. Each is its own referee: what it
//! does with PostgreSQL, it does with halephant.

use super::matrix::{KINDS, Kind, present};
use super::pki::Pki;
use halephant_harness::{Cluster, command};
use halephant_suite::{Stage, stage};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(120);
const JDBC: &str = "/usr/share/java/postgresql.jar";
/// Where Debian has the modules of Node.
const NODE_PATHS: [&str; 2] = ["/usr/share/nodejs", "/usr/lib/nodejs"];

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls/drivers").join(name)
}

/// Every kind of certificate by every mode, at PostgreSQL and at halephant.
#[allow(clippy::print_stdout)]
fn compare(name: &str, modes: &[&str], driver: impl Fn() -> Command) {
    let pki = Pki::new();
    let stage = Stage::with(Cluster::builder().tls(&pki.server()), |config| config).expect("it starts");
    let ports = [stage.cluster.primary().port(), stage.proxy.port()];
    println!("\n{name}: the same at PostgreSQL and at halephant\n");
    println!("{:<12} {}", "certificate", modes.iter().map(|mode| format!("{mode:<12}")).collect::<String>());
    // Neither driver is told of revoked certificates, and both trust `ca` alone.
    for kind in KINDS.into_iter().filter(|kind| !matches!(kind, Kind::Revoked | Kind::Pinned)) {
        present(&stage, &pki, kind, &kind.identity(&pki));
        let mut command = driver();
        command.arg(pki.file("root.crt")).arg(stage::DATABASE);
        for (mode, port) in modes.iter().flat_map(|mode| ports.map(|port| (mode, port))) {
            command.arg(port.to_string()).arg(mode);
        }
        let output = command::run(&mut command, LIMIT).expect("it ends");
        let ends = String::from_utf8_lossy(&output.stdout);
        let ends: Vec<_> = ends.lines().collect();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(ends.len(), 2 * modes.len(), "{said}");
        for (mode, pair) in modes.iter().zip(ends.chunks(2)) {
            assert_eq!(pair[0], pair[1], "{kind:?} {mode}: {said}");
        }
        let row: String = ends.chunks(2).map(|pair| format!("{:<12}", pair[1])).collect();
        println!("{:<12} {row}", format!("{kind:?}"));
        if kind == Kind::Good {
            assert!(ends.iter().all(|end| *end == "let in"), "{said}");
        }
    }
    println!();
}

#[test]
fn pgjdbc() {
    if !Path::new(JDBC).exists() || Command::new("javac").arg("-version").output().is_err() {
        // `.ci/run` installs them, so a run of it that leaves this out is broken.
        assert!(std::env::var_os("CI").is_none(), "pgjdbc or a JDK is missing");
        return eprintln!("pgjdbc or a JDK is missing: left out");
    }
    compare("pgjdbc", &["disable", "allow", "prefer", "require", "verify-ca", "verify-full"], || {
        let mut java = Command::new("java");
        java.args(["-cp", JDBC]).arg(source("Probe.java"));
        java
    });
}

#[test]
fn node_postgres() {
    let own = std::env::var("NODE_PATH").unwrap_or_default();
    let paths = [&[own.as_str()][..], &NODE_PATHS].concat().join(":");
    let probe = Command::new("node").env("NODE_PATH", &paths).args(["-e", "require('pg')"]).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        return eprintln!("node-postgres is missing (npm install pg, and NODE_PATH): left out");
    }
    compare("node-postgres", &["disable", "require", "verify-ca", "verify-full"], || {
        let mut node = Command::new("node");
        node.env("NODE_PATH", &paths).arg(source("probe.js"));
        node
    });
}
