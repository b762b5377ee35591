//! One sample: one program, one lane, once.

use anyhow::{Result, bail};
use halephant_harness::pgbench::{Length, Measured, Processes, Script, Window};
use halephant_harness::{Pgbench, process, psql, wait_for};
use nix::sys::signal::Signal;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use super::figure::{Figure, Sample};
use super::lane::{Lane, Load, Work};
use super::scrape;
use super::stage::{Stage, Subject};

/// How long everything takes, and how much of it there is.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pub rounds: u32,
    pub seconds: u32,
    /// One part in so many of the bulk volume.
    pub bulk_share: u64,
    /// Clients of the two steps of the idle lane.
    pub idle: [u32; 2],
    pub storm_logins: u32,
}

/// The share of transactions that is written down where there are very many.
const SAMPLING: f64 = 0.2;

const IDLE_LIMIT: Duration = Duration::from_secs(240);

pub fn sample(stage: &Stage, subject: &Subject, lane: &Lane, pace: &Pace) -> Result<Sample> {
    match &lane.work {
        Work::Load(load) => {
            let measured = run(stage, subject, load, pace)?;
            Ok(figures(&measured, !subject.pids().is_empty()))
        }
        Work::Bulk(bulk) => bulk.measure(&subject.login, &subject.pids(), pace.bulk_share),
        Work::Idle => idle(stage, subject, pace),
        Work::Storm => storm(stage, subject, pace),
        Work::Scrape => scrape::sample(stage, subject, pace),
    }
}

pub fn pgbench(load: &Load) -> Pgbench {
    Pgbench {
        clients: load.clients,
        threads: 2.min(load.clients),
        protocol: load.protocol,
        script: load.script.clone(),
        reconnect: load.reconnect,
        tls: load.tls,
        ..Pgbench::default()
    }
}

fn run(stage: &Stage, subject: &Subject, load: &Load, pace: &Pace) -> Result<Measured> {
    let is_slow = load.reconnect || load.script != Script::Select;
    let window = Window { seconds: pace.seconds, sampling: if is_slow { 1.0 } else { SAMPLING } };
    let (watched, servers) = (subject.pids(), stage.cluster.server_pids());
    let processes = Processes { watched: &watched, servers: &servers };
    let measured =
        pgbench(load).measure(stage.cluster.binaries(), &subject.login, window, processes, || Ok(()))?;
    refuse_errors(&measured.errors)?;
    Ok(measured)
}

pub fn refuse_errors(errors: &[String]) -> Result<()> {
    if let Some(first) = errors.first() {
        bail!("{} errors, the first: {first}", errors.len());
    }
    Ok(())
}

fn figures(measured: &Measured, has_program: bool) -> Sample {
    let mut sample = Sample::from([
        (Figure::Tps, measured.tps()),
        (Figure::HostUsPerTransaction, measured.each_us(measured.host)),
        (Figure::OthersPercent, measured.others_percent()),
    ]);
    if has_program {
        sample.insert(Figure::ProgramUsPerTransaction, measured.each_us(measured.watched));
    }
    let percentiles =
        [(Figure::P50Ms, 50.0), (Figure::P95Ms, 95.0), (Figure::P99Ms, 99.0), (Figure::P999Ms, 99.9)];
    for (figure, percent) in percentiles {
        if let Some(value) = measured.latencies.percentile_ms(percent) {
            sample.insert(figure, value);
        }
    }
    sample
}

/// A program of the load that is ended when it is left.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = process::signal(self.0.id(), Signal::SIGKILL);
        let _ = self.0.wait();
    }
}

/// Resident memory before and after clients have come, done one transaction and gone quiet.
fn idle(stage: &Stage, subject: &Subject, pace: &Pace) -> Result<Sample> {
    let directory = tempfile::tempdir()?;
    let script = directory.path().join("visit.sql");
    std::fs::write(&script, "INSERT INTO visits VALUES (now());\n\\sleep 3600 s\n")?;
    psql::query(stage.cluster.binaries(), &stage.direct(), "TRUNCATE visits")?;
    let before = subject.resident_bytes()?;
    let [few, many] = pace.idle;
    let _few = visit(stage, subject, &script, few)?;
    wait_for_visits(stage, subject, few)?;
    let at_few = subject.resident_bytes()?;
    let _rest = visit(stage, subject, &script, many - few)?;
    wait_for_visits(stage, subject, many)?;
    let at_many = subject.resident_bytes()?;
    let kib = |after: u64, clients: u32| after.saturating_sub(before) as f64 / 1024.0 / f64::from(clients);
    Ok(Sample::from([
        (Figure::KibPerClientAt1000, kib(at_few, few)),
        (Figure::KibPerClientAt10000, kib(at_many, many)),
    ]))
}

fn visit(stage: &Stage, subject: &Subject, script: &std::path::Path, clients: u32) -> Result<Ended> {
    let load = Pgbench {
        clients,
        threads: 2,
        length: Length::Transactions(1),
        script: Script::File(script.into()),
        ..Pgbench::default()
    };
    let directory = script.parent().unwrap_or(script);
    let mut pgbench = load.command(stage.cluster.binaries(), &subject.login, directory)?;
    Ok(Ended(quiet(&mut pgbench).spawn()?))
}

fn wait_for_visits(stage: &Stage, subject: &Subject, count: u32) -> Result<()> {
    wait_for("every client's transaction", IDLE_LIMIT, || {
        let visits = stage.cluster.query(&stage.direct().database, "SELECT count(*) FROM visits")?;
        Ok((visits.parse::<u32>()? >= count).then_some(()))
    })
    .map_err(|error| error.context(subject.log_tail()))
}

fn quiet(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null())
}

/// Eight clients run, first alone, then while many others log in, do one transaction and go.
fn storm(stage: &Stage, subject: &Subject, pace: &Pace) -> Result<Sample> {
    let binaries = stage.cluster.binaries();
    let (watched, servers) = (subject.pids(), stage.cluster.server_pids());
    let processes = Processes { watched: &watched, servers: &servers };
    let runners = Pgbench { clients: 8, ..Pgbench::default() };
    let window = Window { seconds: pace.seconds, sampling: 1.0 };
    let calm = runners.measure(binaries, &subject.login, window, processes, || Ok(()))?;
    refuse_errors(&calm.errors)?;

    let logins = Pgbench {
        clients: 50.min(pace.storm_logins),
        threads: 2,
        length: Length::Transactions(pace.storm_logins.div_ceil(50)),
        reconnect: true,
        ..Pgbench::default()
    };
    let mut outcome = None;
    let directory = tempfile::tempdir()?;
    let command = logins.command(binaries, &subject.login, directory.path())?;
    let stormy = runners.measure(binaries, &subject.login, window, processes, || {
        outcome = Some(std::thread::spawn(move || time_of(command)));
        Ok(())
    })?;
    refuse_errors(&stormy.errors)?;
    let Some(Ok(took)) = outcome.map(std::thread::JoinHandle::join) else { bail!("the storm broke off") };
    let seconds = took?.as_secs_f64();
    let (calm, stormy) = (calm.latencies.percentile_ms(99.0), stormy.latencies.percentile_ms(99.0));
    let (Some(calm), Some(stormy)) = (calm, stormy) else { bail!("no transaction was written down") };
    Ok(Sample::from([
        (Figure::CalmP99Ms, calm),
        (Figure::StormP99Ms, stormy),
        (Figure::StormFactor, stormy / calm),
        (Figure::LoginsPerSecond, f64::from(pace.storm_logins) / seconds),
    ]))
}

fn time_of(mut command: Command) -> Result<Duration> {
    let start = SystemTime::now();
    let status = quiet(&mut command).status()?;
    if !status.success() {
        bail!("the logins failed: {status}");
    }
    Ok(start.elapsed()?)
}
