//! `psql` as a client.

use anyhow::{Result, anyhow};
use std::process::{Command, Output};
use std::time::Duration;

use crate::postgres::Binaries;
use crate::{Login, command};

pub const LIMIT: Duration = Duration::from_secs(60);

/// `psql` without its start-up file, ready for arguments.
pub fn command(binaries: &Binaries, login: &Login) -> Result<Command> {
    let mut psql = Command::new(binaries.tool("psql")?);
    psql.args(["--no-psqlrc", "--no-password", "--quiet"]);
    login.apply(&mut psql);
    Ok(psql)
}

/// Runs `statements` one by one until one fails; gives standard output, standard error and exit status as they are.
pub fn run(binaries: &Binaries, login: &Login, statements: &[String]) -> Result<Output> {
    let mut psql = command(binaries, login)?;
    psql.args(["--no-align", "--tuples-only", "--set=ON_ERROR_STOP=1"]);
    for statement in statements {
        psql.arg("--command").arg(statement);
    }
    command::run(&mut psql, LIMIT)
}

/// Runs `statements`, all of which must succeed, and gives the rows: a line each, columns divided by `|`.
pub fn script(binaries: &Binaries, login: &Login, statements: &[String]) -> Result<String> {
    let output = run(binaries, login, statements)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned());
    }
    Err(anyhow!("{}: {}", statements.join("; "), String::from_utf8_lossy(&output.stderr).trim_end()))
}

/// As [`script`], of one.
pub fn query(binaries: &Binaries, login: &Login, sql: &str) -> Result<String> {
    script(binaries, login, &[sql.to_owned()])
}
