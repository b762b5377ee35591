//! Drivers at their defaults, in transaction mode: 20 clients on 2 server connections, nobody pinned.

use anyhow::Result;
use halephant_harness::pgbench::{self, Pgbench};
use halephant_harness::port::Port;
use halephant_harness::{Cluster, command, target};
use halephant_suite::Stage;
use halephant_suite::http::get;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const INSTALL_LIMIT: Duration = Duration::from_secs(300);
const LIMIT: Duration = Duration::from_secs(120);
const PACKAGES: [&str; 2] = ["psycopg[binary]==3.3.9", "asyncpg==0.32.0"];

/// Python with the drivers, installed where it is missing: once for this checkout, from PyPI. `None`: it cannot be, and
/// nobody counts on it.
fn python() -> Option<PathBuf> {
    // Tests that run at the same time share it.
    static INSTALLED: std::sync::OnceLock<Result<PathBuf, String>> = std::sync::OnceLock::new();
    match INSTALLED.get_or_init(|| install().map_err(|error| format!("{error:#}"))) {
        Ok(python) => Some(python.clone()),
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "the drivers cannot be installed: {error}");
            eprintln!("the drivers cannot be installed, left out: {error}");
            None
        }
    }
}

fn install() -> Result<PathBuf> {
    let home = target::cache("drivers-psycopg-3.3.9-asyncpg-0.32.0")?;
    let (python, done) = (home.join("bin").join("python"), home.join("installed"));
    if !done.is_file() {
        let mut venv = Command::new("python3");
        command::succeed(venv.args(["-m", "venv", "--clear"]).arg(&home), INSTALL_LIMIT)?;
        let mut pip = Command::new(&python);
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(PACKAGES);
        command::succeed(&mut pip, INSTALL_LIMIT)?;
        std::fs::write(&done, "")?;
    }
    Ok(python)
}

/// A stage, and the port of its admin API.
fn stage() -> (Stage, Port) {
    let port = Port::pick().expect("a port is free");
    let stage = Stage::with(Cluster::builder(), |config| {
        config
            .set("cluster.main.pool.app.max_connections.primary", 2)
            .set("admin.listen", format!("127.0.0.1:{}", port.number()))
    });
    let stage = stage.expect("it starts");
    stage.prepare("CREATE TABLE work (worker int, round int)").expect("it is made");
    (stage, port)
}

/// How often clients were pinned so far, whatever for.
fn pins(port: &Port) -> f64 {
    let text = get(port.number(), "/metrics").expect("it answers").body;
    let lines = text.lines().filter(|line| line.starts_with("halephant_pins_total"));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// Runs a program of `drivers/` against a new stage.
fn run(program: &str) {
    let Some(python) = python() else { return };
    let (stage, port) = stage();
    let login = stage.transaction();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/drivers").join(program);
    let url = format!(
        "postgresql://{}:{}@{}:{}/{}",
        login.user, login.password, login.host, login.port, login.database
    );
    let output = command::run(Command::new(python).arg(path).arg(url), LIMIT).expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert_eq!(pins(&port), 0.0, "somebody was pinned");
    assert!(stage.server_connections().expect("the server answers") <= 2);
}

#[test]
fn psycopg_3() {
    run("psycopg_.py");
}

#[test]
fn asyncpg() {
    run("asyncpg_.py");
}

#[test]
fn tokio_postgres() {
    let (stage, port) = stage();
    let login = stage.transaction();
    let config = format!(
        "host={} port={} user={} password={} dbname={}",
        login.host, login.port, login.user, login.password, login.database
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut workers = tokio::task::JoinSet::new();
        for number in 0..20 {
            let config = config.clone();
            workers.spawn(async move { tokio_postgres_worker(&config, number).await.expect("it works") });
        }
        while let Some(ended) = workers.join_next().await {
            ended.expect("no panic");
        }
    });
    assert_eq!(pins(&port), 0.0, "somebody was pinned");
}

async fn tokio_postgres_worker(config: &str, number: i32) -> Result<(), tokio_postgres::Error> {
    let (mut client, connection) = tokio_postgres::connect(config, tokio_postgres::NoTls).await?;
    let connection = tokio::spawn(connection);
    let sum = client.prepare("SELECT $1::int + $2::int").await?;
    for round in 0..30 {
        let row = client.query_one(&sum, &[&number, &round]).await?;
        assert_eq!(row.get::<_, i32>(0), number + round);
        // Prepared, used once, and closed without waiting.
        let row = client.query_one("SELECT $1::text || 'x'", &[&format!("{number}")]).await?;
        assert_eq!(row.get::<_, String>(0), format!("{number}x"));
        let transaction = client.transaction().await?;
        transaction.execute("INSERT INTO work (worker, round) VALUES ($1, $2)", &[&number, &round]).await?;
        let mine = transaction.query_one("SELECT count(*) FROM work WHERE worker = $1", &[&number]).await?;
        assert_eq!(mine.get::<_, i64>(0), i64::from(round) + 1);
        transaction.commit().await?;
    }
    // In a pipeline.
    let parameters: [[&(dyn tokio_postgres::types::ToSql + Sync); 2]; 2] = [[&1, &2], [&3, &4]];
    let (one, other) =
        tokio::join!(client.query_one(&sum, &parameters[0]), client.query_one(&sum, &parameters[1]));
    assert_eq!((one?.get::<_, i32>(0), other?.get::<_, i32>(0)), (3, 7));
    drop((sum, client));
    connection.await.expect("no panic")
}

#[test]
fn pgbench_with_prepared_statements() {
    let (stage, port) = stage();
    let binaries = stage.cluster.binaries();
    pgbench::initialize(binaries, &stage.direct(), 1).expect("it is filled");
    for script in [pgbench::Script::Select, pgbench::Script::TpcB] {
        let run = Pgbench {
            clients: 8,
            // Each waits for its Parse without serving the others of its thread.
            threads: 8,
            length: pgbench::Length::Transactions(200),
            protocol: pgbench::Protocol::Prepared,
            script,
            ..Pgbench::default()
        };
        let report = run.run(binaries, &stage.transaction()).expect("it runs");
        assert_eq!(report.transactions, 8 * 200);
    }
    assert_eq!(pins(&port), 0.0, "somebody was pinned");
}
