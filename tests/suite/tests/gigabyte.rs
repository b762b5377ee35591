//! A gigabyte each way through sessions that the kernel moves, compared by hash with what PostgreSQL itself gives.

use anyhow::{Context, Result, ensure};
use halephant_harness::proxy::KernelPath;
use halephant_harness::{Cluster, wait_for};
use halephant_suite::{Client, Stage, encode, message};
use sha2::{Digest, Sha256};
use std::io::Read;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(30);
/// For so long, in the middle of a result, the client reads nothing.
const STOP: Duration = Duration::from_secs(10);
const ROWS: usize = 1_050_000;
/// A row of a kilobyte.
const ROW: &str = "n, repeat(md5(n::text), 32) AS text";
const READY: &[u8] = b"Z\0\0\0\x05I";
const BATCH_BYTES: usize = 64 * 1024;

type Hash = [u8; 32];

fn stage(path: KernelPath) -> Stage {
    Stage::with(Cluster::builder(), |config| config.kernel_path(path))
        .expect("root, BPF and cgroup2 are there")
}

fn rows() -> String {
    format!("SELECT {ROW} FROM generate_series(1, {ROWS}) AS n")
}

/// A session with both directions in the kernel.
fn spliced(stage: &Stage) -> Client {
    let mut client = Client::connect(&stage.session()).expect("it may log in");
    wait_for("the session to be spliced", LIMIT, || {
        client.value("SELECT 1")?;
        let log = stage.proxy.log();
        let directions = log.lines().filter(|line| line.contains("events: spliced flow=")).count();
        Ok((directions >= 2).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", stage.proxy.log()));
    client
}

/// What PostgreSQL answers to `sql`, to its ReadyForQuery: how many bytes, and their hash.
fn whole(client: &mut Client, sql: &str) -> Result<(u64, Hash)> {
    client.send(&encode::query(sql))?;
    let mut socket = client.socket()?;
    let (mut hash, mut buffer, mut bytes) = (Sha256::new(), vec![0; 256 * 1024], 0);
    let mut last = Vec::new();
    // The texts are digits: nothing within them reads like the end.
    while !last.ends_with(READY) {
        let read = socket.read(&mut buffer)?;
        ensure!(read > 0, "the connection ended");
        hash.update(&buffer[..read]);
        bytes += read as u64;
        last.extend_from_slice(&buffer[read.saturating_sub(READY.len())..read]);
        last.drain(..last.len().saturating_sub(READY.len()));
    }
    ensure!(bytes > 1 << 30, "{bytes} bytes are no gigabyte");
    Ok((bytes, hash.finalize().into()))
}

/// As many bytes of the answer to `sql` as PostgreSQL gave, with a pause in the middle.
fn stopped(client: &mut Client, sql: &str, all: u64) -> Result<Hash> {
    client.send(&encode::query(sql))?;
    let mut socket = client.socket()?;
    let (mut hash, mut buffer, mut bytes) = (Sha256::new(), vec![0; 256 * 1024], 0);
    let mut pause = Some(STOP);
    while bytes < all {
        if bytes > all / 2
            && let Some(pause) = pause.take()
        {
            std::thread::sleep(pause);
        }
        let room = buffer.len().min(usize::try_from(all - bytes)?);
        let read = socket.read(&mut buffer[..room]).with_context(|| format!("after {bytes} bytes"))?;
        ensure!(read > 0, "the connection ended after {bytes} bytes");
        hash.update(&buffer[..read]);
        bytes += read as u64;
    }
    Ok(hash.finalize().into())
}

/// Sends what PostgreSQL gives as COPY back to it, through the session.
fn copy_in(from: &mut Client, to: &mut Client) -> Result<()> {
    to.send(&encode::query("COPY copied FROM STDIN"))?;
    to.receive_until(b'G')?;
    from.send(&encode::query(&format!("COPY ({}) TO STDOUT", rows())))?;
    let mut batch = Vec::with_capacity(2 * BATCH_BYTES);
    loop {
        let message = from.receive()?;
        match message.tag {
            b'd' => batch.extend(encode::copy_data(&message.body)),
            b'c' => batch.extend(encode::copy_done()),
            b'Z' => break,
            _ => {}
        }
        if batch.len() > BATCH_BYTES {
            to.send(&batch)?;
            batch.clear();
        }
    }
    to.send(&batch)?;
    let end = to.receive_until(b'Z')?;
    ensure!(message::error(&end).is_none(), "{end:?}");
    Ok(())
}

fn gigabytes(path: KernelPath) -> Result<()> {
    let stage = stage(path);
    stage.prepare("CREATE UNLOGGED TABLE copied (n int, text text)")?;
    let mut direct = Client::connect(&stage.direct())?;
    let mut client = spliced(&stage);
    let copy = format!("COPY ({}) TO STDOUT", rows());
    let mut given = Vec::new();
    for sql in [rows(), copy] {
        let (all, expected) = whole(&mut direct, &sql)?;
        let arrived = stopped(&mut client, &sql, all)?;
        ensure!(arrived == expected, "other bytes arrive: {sql}");
        ensure!(client.value("SELECT 2")? == "2");
        given.push((all, expected));
    }
    copy_in(&mut direct, &mut client)?;
    // In the order in which the rows came.
    direct.query("SET synchronize_seqscans = off")?;
    let copied = whole(&mut direct, "COPY copied TO STDOUT")?;
    ensure!(Some(&copied) == given.last(), "other bytes were copied: {} of them", copied.0);
    Ok(())
}

#[test]
fn rows_and_copies_arrive_whole_on_the_colocated_path() {
    gigabytes(KernelPath::Colocated).expect("a gigabyte each way");
}

#[test]
fn rows_and_copies_arrive_whole_on_our_own_sockets() {
    gigabytes(KernelPath::OwnSocket).expect("a gigabyte each way");
}
