//! Measuring a stretch in the middle of a pgbench run: connecting, the first transactions and disconnecting are outside.

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStderr, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant, SystemTime};

use super::{Latencies, Length, Pgbench, is_error};
use crate::postgres::Binaries;
use crate::{Login, cpu, process};

/// How long the clients may take to connect, and to leave.
const EDGE_LIMIT: Duration = Duration::from_secs(180);

/// Clients that surely connect within a second: pgbench's time begins with the first of them.
const CONNECTS_PER_SECOND: u32 = 200;

/// Which stretch, and how much of it is written down.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Whole seconds that are measured; one more goes before them, one after.
    pub seconds: u32,
    /// The share of transactions whose latency is written down.
    pub sampling: f64,
}

/// Whose CPU time is told apart.
#[derive(Clone, Copy, Debug)]
pub struct Processes<'a> {
    pub watched: &'a [u32],
    pub servers: &'a [u32],
}

/// What happened within the window.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    pub transactions: f64,
    pub time: Duration,
    pub latencies: Latencies,
    /// CPU time of the whole host, and of the processes that were watched.
    pub host: Duration,
    pub watched: Duration,
    /// CPU time of neither pgbench, nor the watched, nor the servers: what else went on.
    pub others: Duration,
    /// Every line that reports an error, an aborted client among them.
    pub errors: Vec<String>,
}

impl Measured {
    pub fn tps(&self) -> f64 {
        self.transactions / self.time.as_secs_f64()
    }

    /// The part of all CPUs that others had, in percent.
    pub fn others_percent(&self) -> f64 {
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        100.0 * self.others.as_secs_f64() / (self.time.as_secs_f64() * cpus as f64)
    }

    /// Microseconds of `time` for each transaction.
    pub fn each_us(&self, time: Duration) -> f64 {
        time.as_secs_f64() * 1e6 / self.transactions.max(1.0)
    }
}

impl Pgbench {
    /// Runs it with a length of its own and measures `window`, and the CPU time of processes with what is below them.
    /// `on_start` is called at the window's beginning.
    pub fn measure(
        &self,
        binaries: &Binaries,
        login: &Login,
        window: Window,
        processes: Processes<'_>,
        on_start: impl FnOnce() -> Result<()>,
    ) -> Result<Measured> {
        let directory = tempfile::tempdir()?;
        let seconds = window.seconds + 2 + self.clients / CONNECTS_PER_SECOND;
        let length = Length::Time(Duration::from_secs(seconds.into()));
        let mut pgbench = Self { length, ..self.clone() }.command(binaries, login, directory.path())?;
        pgbench
            .args(["--progress=1", "--log", "--log-prefix=transactions"])
            .arg(format!("--sampling-rate={}", window.sampling))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut run = Run::start(pgbench.spawn().context("cannot start pgbench")?)?;
        run.watch(window, processes, on_start, directory.path())
    }
}

/// A pgbench that runs; killed if it is left early.
struct Run {
    child: Child,
    lines: Receiver<String>,
    errors: Vec<String>,
}

/// The clocks at one edge of the window.
struct Edge {
    wall: SystemTime,
    host: Duration,
    watched: Duration,
    /// pgbench and the servers.
    rest: Duration,
}

impl Edge {
    fn now(processes: Processes<'_>, pgbench: u32) -> Result<Self> {
        let used = |pids: &[u32]| pids.iter().map(|pid| cpu::of_tree(*pid)).sum::<Duration>();
        Ok(Self {
            wall: SystemTime::now(),
            host: cpu::of_host()?,
            watched: used(processes.watched),
            rest: used(processes.servers) + used(&[pgbench]),
        })
    }
}

/// A line of `--progress`: when, since the start, and how fast since the line before.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Progress {
    seconds: f64,
    tps: f64,
}

impl Run {
    fn start(mut child: Child) -> Result<Self> {
        let said = child.stderr.take().context("pgbench's output is piped")?;
        Ok(Self { child, lines: read_lines(said), errors: Vec::new() })
    }

    fn watch(
        &mut self,
        window: Window,
        processes: Processes<'_>,
        on_start: impl FnOnce() -> Result<()>,
        directory: &Path,
    ) -> Result<Measured> {
        let Some(first) = self.progress(Instant::now() + EDGE_LIMIT)? else { return self.failed() };
        let start = Edge::now(processes, self.child.id())?;
        on_start()?;
        let limit = Instant::now() + Duration::from_secs(window.seconds.into()) + EDGE_LIMIT;
        let (mut transactions, mut last) = (0.0, first.seconds);
        while last - first.seconds < f64::from(window.seconds) - 0.5 {
            let Some(progress) = self.progress(limit)? else { return self.failed() };
            transactions += progress.tps * (progress.seconds - last);
            last = progress.seconds;
        }
        let end = Edge::now(processes, self.child.id())?;
        while self.progress(Instant::now() + EDGE_LIMIT)?.is_some() {}
        let status = process::wait(&mut self.child, "pgbench to end", EDGE_LIMIT)?;
        if !status.success() {
            self.errors.push(format!("pgbench ended with {status}"));
        }
        let (host, watched) =
            (end.host.saturating_sub(start.host), end.watched.saturating_sub(start.watched));
        let rest = end.rest.saturating_sub(start.rest);
        Ok(Measured {
            transactions,
            time: Duration::from_secs_f64(last - first.seconds),
            latencies: Latencies::read(directory, Some((start.wall, end.wall)))?,
            host,
            watched,
            others: host.saturating_sub(watched + rest),
            errors: std::mem::take(&mut self.errors),
        })
    }

    /// The next line of progress, errors before it kept; `None` at the end of what pgbench says.
    fn progress(&mut self, deadline: Instant) -> Result<Option<Progress>> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = match self.lines.recv_timeout(left) {
                Ok(line) => line,
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Err(RecvTimeoutError::Timeout) => {
                    bail!("pgbench made no progress in time\n{}", self.errors.join("\n"))
                }
            };
            if let Some(progress) = parse(&line) {
                return Ok(Some(progress));
            }
            if is_error(&line) {
                self.errors.push(line);
            }
        }
    }

    /// It ended before the window did.
    fn failed(&self) -> Result<Measured> {
        bail!(
            "pgbench ended before its clients had been at work for long enough\n{}",
            self.errors.iter().take(10).cloned().collect::<Vec<_>>().join("\n")
        )
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = process::signal(self.child.id(), Signal::SIGKILL);
            let _ = self.child.wait();
        }
    }
}

fn read_lines(said: ChildStderr) -> Receiver<String> {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(said).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    lines
}

/// `progress: 1.0 s, 42105.0 tps, lat 0.190 ms stddev 0.050, 0 failed`
fn parse(line: &str) -> Option<Progress> {
    let (seconds, rest) = line.strip_prefix("progress: ")?.split_once(" s, ")?;
    let (tps, _) = rest.split_once(" tps")?;
    Some(Progress { seconds: seconds.parse().ok()?, tps: tps.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_line_of_progress() {
        let line = "progress: 2.0 s, 42105.5 tps, lat 0.190 ms stddev 0.050, 0 failed";
        assert_eq!(parse(line), Some(Progress { seconds: 2.0, tps: 42_105.5 }));
        assert_eq!(parse("pgbench: error: client 3 aborted"), None);
    }

    #[test]
    fn divides_by_transactions_and_time() {
        let time = Duration::from_secs(2);
        let measured = Measured { transactions: 1000.0, time, ..Measured::default() };
        assert!((measured.tps() - 500.0).abs() < 1e-9);
        assert!((measured.each_us(Duration::from_millis(50)) - 50.0).abs() < 1e-9);
    }
}
