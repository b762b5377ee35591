//! Whether the kernel path starts here, and what it leaves behind.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use halephant::splice::settings::SpliceMode;
use halephant::splice::{Path, Splice};
use halephant_kernel_tests::rig::{ADDRESSES, CREDIT_BYTES, DEADLINE, Rig, settings};

#[test]
fn every_path_passes_the_self_test() -> Result<()> {
    let splice = Splice::start(&settings(SpliceMode::Require, CREDIT_BYTES), &[])?.context("off")?;
    for (outcome, path) in splice.report().paths.iter().zip(Path::ALL) {
        ensure!(outcome.path == path && outcome.used.client_to_server(), "{}", splice.report());
        ensure!(outcome.used.server_to_client(), "{}", splice.report());
    }
    Ok(())
}

#[test]
fn without_a_cgroup_it_says_so() -> Result<()> {
    let mut wrong = settings(SpliceMode::Require, CREDIT_BYTES);
    wrong.cgroup = "/proc".into();
    let error = Splice::start(&wrong, &[]).err().context("it starts")?;
    ensure!(error.to_string() == "no cgroup2 hierarchy at /proc", "{error}");
    wrong.mode = SpliceMode::Auto;
    ensure!(Splice::start(&wrong, &[])?.is_none());
    Ok(())
}

/// Identifiers of all programs and maps that are in the kernel.
fn in_kernel() -> Result<(Vec<u32>, Vec<u32>)> {
    let programs =
        aya::programs::loaded_programs().map(|program| Ok(program?.id())).collect::<Result<_>>()?;
    let maps = aya::maps::loaded_maps().map(|map| Ok(map?.id())).collect::<Result<_>>()?;
    Ok((programs, maps))
}

const HOLD: &str = "HALEPHANT_KERNEL_TEST_HOLD";

/// Not a test of its own: the process that the next test kills.
#[test]
fn hold_sessions_until_killed() -> Result<()> {
    if std::env::var_os(HOLD).is_none() {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let rig = Rig::start(ADDRESSES[0]).await?;
        let mut sessions = Vec::new();
        for path in Path::ALL {
            sessions.push(rig.session(path).await?);
        }
        let (programs, maps) = in_kernel()?;
        println!("\nholding {} {}", programs.len(), maps.len());
        std::future::pending::<Result<()>>().await
    })
}

#[test]
fn a_killed_process_leaves_nothing_behind() -> Result<()> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["--exact", "hold_sessions_until_killed", "--nocapture"])
        .env(HOLD, "1")
        .stdout(Stdio::piped())
        .spawn()?;
    let mut output = BufReader::new(child.stdout.take().context("no output")?);
    let mut line = String::new();
    while !line.starts_with("holding") {
        line.clear();
        ensure!(output.read_line(&mut line)? > 0, "the process ended by itself");
    }
    let owned = owned_by(child.id())?;
    ensure!(owned.0.len() >= 4 && owned.1.len() >= 10, "{owned:?}");
    child.kill()?;
    child.wait()?;
    output.read_to_string(&mut line)?;
    let deadline = Instant::now() + DEADLINE;
    loop {
        let (programs, maps) = in_kernel()?;
        let left =
            owned.0.iter().any(|id| programs.contains(id)) || owned.1.iter().any(|id| maps.contains(id));
        if !left {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "programs or maps are left behind");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Programs and maps that a process holds descriptors of.
fn owned_by(process: u32) -> Result<(Vec<u32>, Vec<u32>)> {
    let (mut programs, mut maps) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir(format!("/proc/{process}/fdinfo"))? {
        let Ok(text) = std::fs::read_to_string(entry?.path()) else { continue };
        for line in text.lines() {
            if let Some(id) = line.strip_prefix("prog_id:") {
                programs.push(id.trim().parse()?);
            } else if let Some(id) = line.strip_prefix("map_id:") {
                maps.push(id.trim().parse()?);
            }
        }
    }
    Ok((programs, maps))
}
