//! Notifications of drivers whose sessions the kernel moves. pgjdbc asks its socket how much there is to read before it
//! reads: a kernel that does not count redirected bytes would leave it waiting.

use anyhow::{Context, Result, ensure};
use halephant_harness::proxy::KernelPath;
use halephant_harness::{Cluster, Login, wait_for};
use halephant_suite::Stage;
use halephant_suite::install::{Runtime, directory};
use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);
const NOTIFICATIONS: usize = 50;

struct Driver {
    child: Child,
    said: Lines<BufReader<ChildStdout>>,
}

impl Driver {
    fn start(mut command: Command, url: &str) -> Result<Self> {
        command.arg(url).arg(NOTIFICATIONS.to_string()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("{command:?}"))?;
        let output = child.stdout.take().context("no output")?;
        Ok(Self { child, said: BufReader::new(output).lines() })
    }

    fn line(&mut self) -> Result<String> {
        Ok(self.said.next().context("the driver ended")??)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // Over already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `listening`: what of the session the kernel moves once the driver listens and works.
fn notify(database: &str, directions: usize, url: impl Fn(&Login) -> String, command: Command) -> Result<()> {
    let stage = Stage::with(Cluster::builder(), |config| config.kernel_path(KernelPath::Colocated))?;
    let login = if database == "session" { stage.session() } else { stage.transaction() };
    let mut driver = Driver::start(command, &url(&login))?;
    ensure!(driver.line()? == "ready");
    wait_for("the session to be spliced", LIMIT, || {
        let log = stage.proxy.log();
        let spliced = log.lines().filter(|line| line.contains("events: spliced flow=")).count();
        Ok((spliced >= directions).then_some(()))
    })?;
    for number in 0..NOTIFICATIONS {
        stage.prepare(&format!("NOTIFY news, '{number}'"))?;
        ensure!(driver.line()? == format!("news {number}"), "another notification");
    }
    Ok(())
}

fn jdbc(login: &Login) -> String {
    format!(
        "jdbc:postgresql://{}:{}/{}?user={}&password={}&sslmode=disable",
        login.host, login.port, login.database, login.user, login.password
    )
}

fn libpq(login: &Login) -> String {
    format!(
        "postgresql://{}:{}@{}:{}/{}?sslmode=disable",
        login.user, login.password, login.host, login.port, login.database
    )
}

/// `None`: it is not there, and nobody counts on it.
fn program(runtime: Runtime, program: &str) -> Option<Command> {
    let program = runtime.installed()?.prepare(&directory().join(program)).expect("it compiles");
    Some(program.command())
}

fn java() -> Option<Command> {
    program(Runtime::Java, "pgjdbc-notified/Notified.java")
}

fn python() -> Option<Command> {
    program(Runtime::Python, "psycopg/notified.py")
}

#[test]
fn pgjdbc_in_session_mode() -> Result<()> {
    java().map_or(Ok(()), |java| notify("session", 2, jdbc, java))
}

#[test]
fn pgjdbc_in_transaction_mode() -> Result<()> {
    java().map_or(Ok(()), |java| notify("transaction", 1, jdbc, java))
}

#[test]
fn psycopg_in_session_mode() -> Result<()> {
    python().map_or(Ok(()), |python| notify("session", 2, libpq, python))
}

#[test]
fn psycopg_in_transaction_mode() -> Result<()> {
    python().map_or(Ok(()), |python| notify("transaction", 1, libpq, python))
}
