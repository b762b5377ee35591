//! System calls of a program for each transaction, counted by strace in a run of its own.

use anyhow::{Context, Result, bail};
use halephant_harness::pgbench::Length;
use halephant_harness::{Pgbench, process, wait_for};
use nix::sys::signal::Signal;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::lane::Load;
use super::measure;
use super::stage::{Stage, Subject};

/// Of each client: enough for its login not to count.
const TRANSACTIONS: u32 = 1000;
const LIMIT: Duration = Duration::from_secs(30);

/// Whether strace is here and may trace.
pub fn is_available() -> bool {
    let probe = Command::new("strace")
        .args(["-c", "-o", "/dev/null", "true"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    probe.is_ok_and(|status| status.success())
}

/// `None` where there is no program.
pub fn per_transaction(stage: &Stage, subject: &Subject, load: &Load) -> Result<Option<f64>> {
    let pids = subject.pids();
    if pids.is_empty() {
        return Ok(None);
    }
    let directory = tempfile::tempdir()?;
    let table = directory.path().join("calls");
    let load = Pgbench { length: Length::Transactions(TRANSACTIONS), ..measure::pgbench(load) };
    let mut strace = trace(&pids, &table)?;
    let outcome = load.run(stage.cluster.binaries(), &subject.login);
    process::signal(strace.id(), Signal::SIGINT)?;
    process::wait(&mut strace, "strace to end", LIMIT)?;
    let report = outcome?;
    if report.transactions == 0 || !report.errors.is_empty() {
        bail!("under strace: {}", report.errors.join("\n"));
    }
    let text = fs::read_to_string(&table).context("strace wrote nothing")?;
    let calls = total(&text).with_context(|| format!("strace wrote no total\n{text}"))?;
    Ok(Some(calls as f64 / report.transactions as f64))
}

fn trace(pids: &[u32], table: &Path) -> Result<std::process::Child> {
    let mut strace = Command::new("strace");
    strace.args(["-c", "-f", "-qq", "-o"]).arg(table);
    let all: Vec<u32> = pids.iter().flat_map(|pid| process::tree(*pid)).collect();
    for pid in &all {
        strace.args(["-p", &pid.to_string()]);
    }
    let child = strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    wait_for("strace to attach", LIMIT, || Ok(all.iter().all(|pid| is_traced(*pid)).then_some(())))?;
    Ok(child)
}

/// Every thread of `pid`.
fn is_traced(pid: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    threads.into_iter().all(|thread| {
        let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        status.lines().any(|line| line.strip_prefix("TracerPid:").is_some_and(|pid| pid.trim() != "0"))
    })
}

/// `100.00    0.012345           1     12345        12 total`: the calls are the fourth column.
fn total(table: &str) -> Option<u64> {
    let line = table.lines().rev().find(|line| line.trim_end().ends_with(" total"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn reads_the_total() {
        let table = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 60.00    0.030000           3     10000        12 recvfrom
 40.00    0.020000           2     10000           sendto
------ ----------- ----------- --------- --------- ----------------
100.00    0.050000           2     20000        12 total
";
        assert_eq!(super::total(table), Some(20_000));
        assert_eq!(super::total("nothing"), None);
    }
}
