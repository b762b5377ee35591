//! Many clients of a driver at its defaults on two server connections: nobody is pinned.

use anyhow::Result;
use halephant_harness::command;
use halephant_harness::pgbench::{self, Pgbench};
use halephant_harness::port::Port;
use halephant_suite::http::get;

use super::{LIMIT, Runtime, directory, stage};

/// How often clients were pinned so far, whatever for.
fn pins(port: &Port) -> f64 {
    let text = get(port.number(), "/metrics").expect("it answers").body;
    let lines = text.lines().filter(|line| line.starts_with("halephant_pins_total"));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// Runs a program of `drivers/` against a new stage.
fn run(program: &str) {
    let Some(installed) = Runtime::Python.installed() else { return };
    let program = installed.prepare(&directory().join(program)).expect("it is there");
    let (stage, port) = stage(2);
    let login = stage.transaction();
    let url = format!(
        "postgresql://{}:{}@{}:{}/{}",
        login.user, login.password, login.host, login.port, login.database
    );
    let output = command::run(program.command().arg(url), LIMIT).expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert_eq!(pins(&port), 0.0, "somebody was pinned");
    assert!(stage.server_connections().expect("the server answers") <= 2);
}

#[test]
fn psycopg() {
    run("psycopg/load.py");
}

#[test]
fn asyncpg() {
    run("asyncpg/load.py");
}

#[test]
fn tokio_postgres() {
    let (stage, port) = stage(2);
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
    let (stage, port) = stage(2);
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
