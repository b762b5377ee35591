//! Whether somebody who reads the metrics every second is felt by the clients: their p99 with a reader, and the difference
//! of two runs without one.

use anyhow::{Context, Result, bail, ensure};
use halephant_harness::Pgbench;
use halephant_harness::pgbench::{Processes, Window};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use super::figure::{Figure, Sample};
use super::measure::{Pace, refuse_errors};
use super::stage::{Stage, Subject};

pub const CLIENTS: u32 = 64;

const INTERVAL: Duration = Duration::from_secs(1);
const LIMIT: Duration = Duration::from_secs(5);

pub fn sample(stage: &Stage, subject: &Subject, pace: &Pace) -> Result<Sample> {
    let port = subject.admin.as_ref().context("it has no admin port")?.number();
    let calm = p99(stage, subject, pace)?;
    let (stop, stopped) = mpsc::channel::<()>();
    let reader = std::thread::spawn(move || read_every_second(port, &stopped));
    let scraped = p99(stage, subject, pace);
    drop(stop);
    let Ok(scrapes) = reader.join() else { bail!("the reader of metrics broke off") };
    let (scraped, scrapes) = (scraped?, scrapes?);
    ensure!(scrapes >= pace.seconds, "only {scrapes} scrapes in {} s", pace.seconds);
    let again = p99(stage, subject, pace)?;
    Ok(Sample::from([
        (Figure::ScrapeFactor, scraped / f64::midpoint(calm, again)),
        (Figure::NoiseFactor, calm.max(again) / calm.min(again)),
        (Figure::CalmP99Ms, f64::midpoint(calm, again)),
        (Figure::ScrapedP99Ms, scraped),
    ]))
}

fn p99(stage: &Stage, subject: &Subject, pace: &Pace) -> Result<f64> {
    let (watched, servers) = (subject.pids(), stage.cluster.server_pids());
    let processes = Processes { watched: &watched, servers: &servers };
    let window = Window { seconds: pace.seconds, sampling: 1.0 };
    let load = Pgbench { clients: CLIENTS, threads: 2, ..Pgbench::default() };
    let measured = load.measure(stage.cluster.binaries(), &subject.login, window, processes, || Ok(()))?;
    refuse_errors(&measured.errors)?;
    measured.latencies.percentile_ms(99.0).context("no transaction was written down")
}

/// How often it read them before `stopped`.
fn read_every_second(port: u16, stopped: &mpsc::Receiver<()>) -> Result<u32> {
    let mut scrapes = 0;
    loop {
        scrape(port)?;
        scrapes += 1;
        match stopped.recv_timeout(INTERVAL) {
            Err(RecvTimeoutError::Timeout) => {}
            _ => return Ok(scrapes),
        }
    }
}

fn scrape(port: u16) -> Result<()> {
    let answer = read(port, "/metrics")?;
    ensure!(answer.contains("halephant_"), "no metrics: {answer}");
    Ok(())
}

/// What the admin API answers, header and all.
pub fn read(port: u16, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(LIMIT))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    Ok(answer)
}
