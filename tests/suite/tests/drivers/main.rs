//! Drivers at their defaults. Each has a suite in `drivers/` of what its users do, which is played in transaction mode among
//! other clients, and in session mode.

mod crates;
mod documented;
mod load;
mod notified;
mod others;

use halephant_harness::port::Port;
use halephant_harness::{Cluster, Login, command};
use halephant_suite::Stage;
use halephant_suite::install::{Runtime, directory};
use others::Others;
use std::process::Command;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(120);

/// What a suite checks, in this order. `batches` are pipelines where the driver has them.
const CHECKS: [&str; 10] = [
    "types",
    "transactions",
    "prepared",
    "batches",
    "copy",
    "notifications",
    "cancel",
    "timeouts",
    "settings",
    "reconnect",
];

/// A driver, and the suite for it.
struct Driver {
    /// As `docs/drivers.md` has it.
    name: &'static str,
    runtime: Runtime,
    /// Below `drivers/`.
    program: &'static str,
}

macro_rules! drivers {
    ($($test:ident: $name:literal, $runtime:ident, $program:literal;)*) => {
        const DRIVERS: &[Driver] = &[
            $(Driver { name: $name, runtime: Runtime::$runtime, program: $program }),*
        ];

        mod suites {
            $(#[test] fn $test() { super::play($name); })*
        }
    };
}

drivers! {
    psycopg: "psycopg 3", Python, "psycopg/suite.py";
    psycopg2: "psycopg 2", Python, "psycopg2/suite.py";
    asyncpg: "asyncpg", Python, "asyncpg/suite.py";
    sqlalchemy: "SQLAlchemy", Python, "sqlalchemy/suite.py";
    django: "Django", Python, "django/suite.py";
    node_postgres: "node-postgres", Node, "node-postgres/suite.js";
    postgres_js: "Postgres.js", Node, "postgres.js/suite.js";
    pgjdbc: "pgjdbc", Java, "pgjdbc/Suite.java";
    pgx: "pgx", Go, "pgx/suite.go";
    pq: "lib/pq", Go, "pq/suite.go";
    ruby_pg: "ruby-pg", Ruby, "ruby-pg/suite.rb";
    dbd_pg: "DBD::Pg", Perl, "dbd-pg/suite.pl";
    pdo: "PDO", Php, "pdo/suite.php";
}

/// Tables that the suites share, and the port of the admin API.
fn stage(connections: u32) -> (Stage, Port) {
    let port = Port::pick().expect("a port is free");
    let stage = Stage::with(Cluster::builder(), |config| {
        config
            .set("cluster.main.pool.app.max_connections.primary", connections)
            .set("admin.listen", format!("127.0.0.1:{}", port.number()))
    });
    let stage = stage.expect("it starts");
    stage
        .prepare("CREATE TABLE work (worker int, round int); CREATE TABLE item (id serial, who text, n int)")
        .expect("they are made");
    (stage, port)
}

/// Two suites at the same time, each of which may pin two clients, and a third client each.
const CONNECTIONS: u32 = 6;

fn play(name: &str) {
    let driver = DRIVERS.iter().find(|driver| driver.name == name).expect("it is listed");
    let Some(installed) = driver.runtime.installed() else { return };
    let program = installed.prepare(&directory().join(driver.program)).expect("it compiles");
    let (stage, _port) = stage(CONNECTIONS);
    let suite = |login: &Login, who: &str| {
        let mut command = program.command();
        login.apply(&mut command);
        // lib/pq refuses to start with it.
        command.env_remove("PGSYSCONFDIR");
        let name = driver.program.split('/').next().unwrap_or_default().replace(['.', '-'], "_");
        command.env("WHO", format!("{name}_{who}"));
        check(driver, who, &mut command);
    };
    // PostgreSQL itself is the referee: what fails there is the suite's own fault.
    suite(&stage.direct(), "direct");
    let others = Others::start(&stage.transaction());
    std::thread::scope(|scope| {
        for who in ["one", "other"] {
            let (login, suite) = (stage.transaction(), &suite);
            scope.spawn(move || suite(&login, who));
        }
    });
    others.stop();
    suite(&stage.session(), "session");
}

/// Runs a suite. What it says is what it checked: all of it, or it did not run.
fn check(driver: &Driver, who: &str, command: &mut Command) {
    let output = command::run(command, LIMIT).expect("it runs");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{} {who}\n{out}\n{err}", driver.name);
    let passed: Vec<&str> = out.lines().filter_map(|line| line.strip_prefix("ok ")).collect();
    assert_eq!(passed, CHECKS, "{} {who}\n{err}", driver.name);
}
