//! Drivers that listen as their users do.

use super::{LIMIT, console, stage_of};
use anyhow::{Context, Result};
use halephant_harness::{Login, command, target};
use halephant_suite::Stage;
use std::future::poll_fn;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_postgres::{AsyncMessage, Client, NoTls, Notification};

/// A client, and what it is notified of.
async fn connect(login: &Login) -> Result<(Client, UnboundedReceiver<Notification>)> {
    let mut config = tokio_postgres::Config::new();
    config.host(&login.host).port(login.port).dbname(&login.database);
    config.user(&login.user).password(&login.password);
    let (client, mut connection) = config.connect(NoTls).await?;
    let (sender, receiver) = unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
            if let AsyncMessage::Notification(notification) = message
                && sender.send(notification).is_err()
            {
                break;
            }
        }
    });
    Ok((client, receiver))
}

async fn next(receiver: &mut UnboundedReceiver<Notification>) -> Result<(String, String)> {
    let notification = tokio::time::timeout(LIMIT, receiver.recv()).await?.context("the connection ended")?;
    Ok((notification.channel().to_owned(), notification.payload().to_owned()))
}

async fn listen(stage: &Stage) -> Result<()> {
    let (mut one, mut of_one) = connect(&stage.transaction()).await?;
    let (other, mut of_other) = connect(&stage.transaction()).await?;
    one.batch_execute("LISTEN jobs").await?;
    // By the extended protocol, too, and in a transaction.
    other.execute("LISTEN jobs", &[]).await?;
    let transaction = one.transaction().await?;
    transaction.execute("LISTEN done", &[]).await?;
    transaction.commit().await?;
    let transaction = one.transaction().await?;
    transaction.batch_execute("LISTEN nothing; UNLISTEN jobs").await?;
    transaction.rollback().await?;
    for round in 0..20 {
        let payload = round.to_string();
        other.execute("SELECT pg_notify('jobs', $1), pg_notify('nothing', $1)", &[&payload]).await?;
        assert_eq!(next(&mut of_one).await?, ("jobs".to_owned(), payload.clone()));
        assert_eq!(next(&mut of_other).await?, ("jobs".to_owned(), payload.clone()));
        one.execute("SELECT pg_notify($1, $2)", &[&"done", &payload]).await?;
        assert_eq!(next(&mut of_one).await?, ("done".to_owned(), payload));
    }
    assert!(of_one.is_empty() && of_other.is_empty());
    Ok(())
}

#[test]
fn tokio_postgres_listens() {
    let stage = stage_of(1);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(listen(&stage)).expect("it works");
    assert_eq!(console(&stage, "SHOW PINS"), "");
}

const INSTALL_LIMIT: Duration = Duration::from_secs(300);
const PSYCOPG: &str = "psycopg[binary]==3.3.9";

/// Python with psycopg, installed where it is missing: once for this checkout, from PyPI.
fn python() -> Result<PathBuf> {
    let home = target::cache("notify-psycopg-3.3.9")?;
    let (python, done) = (home.join("bin").join("python"), home.join("installed"));
    if !done.is_file() {
        let mut venv = Command::new("python3");
        command::succeed(venv.args(["-m", "venv", "--clear"]).arg(&home), INSTALL_LIMIT)?;
        let mut pip = Command::new(&python);
        let pip = pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", PSYCOPG]);
        command::succeed(pip, INSTALL_LIMIT)?;
        std::fs::write(&done, "")?;
    }
    Ok(python)
}

#[test]
fn psycopg_listens() {
    let python = match python() {
        Ok(python) => python,
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "psycopg cannot be installed: {error:#}");
            return eprintln!("psycopg cannot be installed, left out: {error:#}");
        }
    };
    let stage = stage_of(2);
    let login = stage.transaction();
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/notify/psycopg_.py");
    let url = format!(
        "postgresql://{}:{}@{}:{}/{}",
        login.user, login.password, login.host, login.port, login.database
    );
    let output = command::run(Command::new(python).arg(program).arg(url), 2 * LIMIT).expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(console(&stage, "SHOW PINS"), "");
}
