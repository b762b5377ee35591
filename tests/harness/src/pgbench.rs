//! `pgbench` as a load and as a measure.

pub mod latencies;
pub mod window;

pub use latencies::Latencies;
pub use window::{Measured, Processes, Window};

use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use crate::postgres::Binaries;
use crate::{Login, command};

/// How statements are sent: `--protocol`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Simple,
    Extended,
    Prepared,
}

impl Protocol {
    pub fn name(self) -> &'static str {
        match self {
            Self::Simple => "simple",
            Self::Extended => "extended",
            Self::Prepared => "prepared",
        }
    }
}

/// What the clients do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Script {
    /// `--select-only`
    Select,
    /// The built-in TPC-B-like transaction.
    TpcB,
    File(PathBuf),
}

/// For how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    Time(Duration),
    /// Transactions of each client.
    Transactions(u32),
}

#[derive(Clone, Debug)]
pub struct Pgbench {
    pub clients: u32,
    pub threads: u32,
    pub length: Length,
    pub protocol: Protocol,
    pub script: Script,
    /// A new connection for each transaction.
    pub reconnect: bool,
    /// By TLS, whoever the server says it is.
    pub tls: bool,
    /// Write down each transaction, for percentiles.
    pub percentiles: bool,
}

impl Default for Pgbench {
    fn default() -> Self {
        Self {
            clients: 8,
            threads: 2,
            length: Length::Time(Duration::from_secs(2)),
            protocol: Protocol::Simple,
            script: Script::Select,
            reconnect: false,
            tls: false,
            percentiles: false,
        }
    }
}

/// What pgbench says at its end.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    pub transactions: u64,
    /// Without the time to connect, unless each transaction connects.
    pub tps: f64,
    pub latency_average_ms: f64,
    /// Transactions that failed, as counted by pgbench 15 and later.
    pub failed: u64,
    /// Every line that reports an error, an aborted client among them.
    pub errors: Vec<String>,
    /// Of all transactions, if they were asked for.
    pub p50_ms: Option<f64>,
    pub p99_ms: Option<f64>,
}

/// Makes pgbench's tables, at `scale` times 100,000 accounts.
pub fn initialize(binaries: &Binaries, login: &Login, scale: u32) -> Result<()> {
    let mut pgbench = std::process::Command::new(binaries.tool("pgbench")?);
    pgbench.args(["--initialize", "--quiet", "--scale"]).arg(scale.to_string());
    login.apply(&mut pgbench);
    command::succeed(&mut pgbench, Duration::from_secs(300)).map(drop)
}

impl Pgbench {
    /// Runs it to its end; errors that it reports are in the report, errors of the run itself are errors.
    pub fn run(&self, binaries: &Binaries, login: &Login) -> Result<Report> {
        let directory = tempfile::tempdir()?;
        let mut pgbench = self.command(binaries, login, directory.path())?;
        if self.percentiles {
            pgbench.args(["--log", "--log-prefix=transactions"]);
        }
        let limit = match self.length {
            Length::Time(time) => time + Duration::from_secs(120),
            Length::Transactions(_) => Duration::from_secs(600),
        };
        let output = command::run(&mut pgbench, limit)?;
        let mut report = parse(&output).with_context(|| format!("pgbench ended with {}", output.status))?;
        if self.percentiles {
            let latencies = Latencies::read(directory.path(), None)?;
            report.p50_ms = latencies.percentile_ms(50.0);
            report.p99_ms = latencies.percentile_ms(99.0);
        }
        Ok(report)
    }

    /// The program with its arguments, to run in `directory`.
    pub fn command(&self, binaries: &Binaries, login: &Login, directory: &Path) -> Result<Command> {
        let mut pgbench = Command::new(binaries.tool("pgbench")?);
        pgbench
            .current_dir(directory)
            .arg("--no-vacuum")
            .args(["--client", &self.clients.to_string(), "--jobs", &self.threads.to_string()])
            .args(["--protocol", self.protocol.name()]);
        match &self.script {
            Script::Select => pgbench.arg("--select-only"),
            Script::TpcB => pgbench.arg("--builtin=tpcb-like"),
            Script::File(path) => pgbench.arg("--file").arg(path),
        };
        match self.length {
            Length::Time(time) => pgbench.args(["--time", &time.as_secs().max(1).to_string()]),
            Length::Transactions(count) => pgbench.args(["--transactions", &count.to_string()]),
        };
        if self.reconnect {
            pgbench.arg("--connect");
        }
        login.apply(&mut pgbench);
        if self.tls {
            pgbench.env("PGSSLMODE", "require");
        }
        Ok(pgbench)
    }
}

fn is_error(line: &str) -> bool {
    line.contains("error:") || line.contains("aborted") || line.contains("FATAL")
}

fn parse(output: &Output) -> Result<Report> {
    let said = String::from_utf8_lossy(&output.stdout);
    let complaints = String::from_utf8_lossy(&output.stderr);
    let value = |name: &str| {
        let rest = said.lines().find_map(|line| line.trim().strip_prefix(name))?;
        rest.trim_start_matches([':', '=', ' ']).split([' ', '/']).next()
    };
    let number = |name: &str| -> Result<f64> {
        let text = value(name).with_context(|| format!("no {name:?} in\n{said}{complaints}"))?;
        text.parse().with_context(|| format!("{name} is {text:?}"))
    };
    let mut errors: Vec<String> =
        complaints.lines().filter(|line| is_error(line)).map(str::to_owned).collect();
    if !output.status.success() {
        errors.push(format!("pgbench ended with {}", output.status));
    }
    Ok(Report {
        transactions: value("number of transactions actually processed")
            .and_then(|text| text.parse().ok())
            .with_context(|| format!("no number of transactions in\n{said}{complaints}"))?,
        // No transaction, no rate.
        tps: number("tps").unwrap_or(0.0),
        latency_average_ms: number("latency average").unwrap_or(0.0),
        failed: value("number of failed transactions").and_then(|text| text.parse().ok()).unwrap_or(0),
        errors,
        p50_ms: None,
        p99_ms: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    const REPORT: &str = "\
pgbench (15.18 (Debian 15.18-0+deb12u1))
transaction type: <builtin: select only>
scaling factor: 1
query mode: simple
number of clients: 8
number of threads: 2
maximum number of tries: 1
duration: 2 s
number of transactions actually processed: 84123
number of failed transactions: 3 (0.000%)
latency average = 0.190 ms
initial connection time = 12.345 ms
tps = 42105.123456 (without initial connection time)
";

    fn output(stdout: &str, stderr: &str, status: i32) -> Output {
        Output { status: ExitStatus::from_raw(status), stdout: stdout.into(), stderr: stderr.into() }
    }

    #[test]
    fn reads_the_report() {
        let report = parse(&output(REPORT, "", 0)).expect("well formed");
        assert_eq!((report.transactions, report.failed), (84_123, 3));
        assert!(
            (report.tps - 42_105.123_456).abs() < 1e-6 && (report.latency_average_ms - 0.19).abs() < 1e-6
        );
        assert!(report.errors.is_empty());
    }

    #[test]
    fn an_aborted_client_is_an_error() {
        let complaint =
            "pgbench: error: client 3 aborted in command 1 (SQL) of script 0; perhaps the backend died\n";
        let report = parse(&output(REPORT, complaint, 2 << 8)).expect("well formed");
        assert_eq!(report.errors.len(), 2);
    }
}
