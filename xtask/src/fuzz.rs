//! `cargo xtask fuzz`: runs the fuzz targets for a while, with no more than the pinned toolchain and a C++ compiler.

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::Args;
use halephant_harness::target;
use std::collections::VecDeque;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::{cargo, say};

/// Longer inputs find nothing that shorter ones do not.
const INPUT_BYTES_MAX: usize = 12_000;
/// One input.
const INPUT_TIMEOUT: Duration = Duration::from_secs(10);
const MEMORY_MIB_MAX: usize = 2048;
/// Lines of a failed target's output that are shown.
const LINES_SHOWN: usize = 60;
/// libFuzzer's counters in every branch and comparison, and AddressSanitizer.
const FLAGS: &str = "--cfg fuzzing -Zsanitizer=address -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
                     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
                     -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1";

#[derive(Args)]
pub struct Options {
    /// Seconds for each target
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Targets that run at a time; one for each CPU if it is left out
    #[arg(long)]
    jobs: Option<usize>,
    /// Where inputs that reach something new are kept, a directory for each target
    #[arg(long, value_name = "DIRECTORY", default_value = "fuzz/corpus")]
    corpus: PathBuf,
    /// Targets to run; all of them if none is named
    targets: Vec<String>,
}

pub fn run(options: &Options) -> Result<()> {
    let known = known()?;
    if let Some(unknown) = options.targets.iter().find(|name| !known.contains(name)) {
        bail!("there is no target {unknown}; known are {}", known.join(", "));
    }
    let wanted = if options.targets.is_empty() { known } else { options.targets.clone() };
    let programs = build()?;
    let jobs = options.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    say(&format!("{} for {} s each, {jobs} at a time", wanted.join(", "), options.seconds));
    let queue = Mutex::new(wanted.into_iter().collect::<VecDeque<_>>());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let outcomes: Vec<Result<()>> = std::thread::scope(|scope| {
        let work = || {
            let mut outcomes = Vec::new();
            while let Some(name) = next() {
                let outcome = fuzz(&name, &programs, options).with_context(|| format!("target {name}"));
                outcomes.push(outcome);
            }
            outcomes
        };
        let threads: Vec<_> = (0..jobs.max(1)).map(|_| scope.spawn(work)).collect();
        let ended = threads.into_iter().map(|thread| thread.join().map_err(|_| anyhow!("a thread panicked")));
        ended.flat_map(|ended| ended.unwrap_or_else(|error| vec![Err(error)])).collect()
    });
    all(outcomes)
}

/// Every target that failed is told of, not only the first.
fn all(outcomes: Vec<Result<()>>) -> Result<()> {
    let failures: Vec<_> = outcomes.into_iter().filter_map(Result::err).collect();
    let texts: Vec<_> = failures.iter().map(|failure| format!("{failure:#}")).collect();
    ensure!(failures.is_empty(), "{} fuzz targets failed\n{}", failures.len(), texts.join("\n\n"));
    Ok(())
}

fn folder() -> PathBuf {
    target::workspace().join("fuzz")
}

/// The names of the targets.
fn known() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder().join("targets"))? {
        let path = entry?.path();
        names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
    }
    names.sort();
    ensure!(!names.is_empty(), "there is no target");
    Ok(names)
}

/// Builds all of them and gives the directory that they are in.
fn build() -> Result<PathBuf> {
    let triple = host()?;
    let built = folder().join("target");
    let mut build = cargo::command();
    build.args(["build", "--release", "--bins", "--manifest-path"]).arg(folder().join("Cargo.toml"));
    // With a target of its own the flags are not for build scripts and macros.
    build.args(["--target", &triple, "--target-dir"]).arg(&built);
    // The flags are unstable; the toolchain is the pinned one all the same.
    build.env("RUSTC_BOOTSTRAP", "1").env("RUSTFLAGS", FLAGS);
    cargo::run(&mut build)?;
    Ok(built.join(triple).join("release"))
}

fn host() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").current_dir(target::workspace()).output()?;
    let text = String::from_utf8(output.stdout)?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc does not tell its host")?.to_owned())
}

/// Runs one target; what it fails on stays in `fuzz/artifacts`.
fn fuzz(name: &str, programs: &Path, options: &Options) -> Result<()> {
    let corpus = target::workspace().join(&options.corpus).join(name);
    let artifacts = folder().join("artifacts").join(name);
    fs::create_dir_all(&corpus)?;
    fs::create_dir_all(&artifacts)?;
    let log_path = artifacts.join("log");
    let log = File::create(&log_path)?;
    let mut program = Command::new(programs.join(name));
    program
        .arg(format!("-max_total_time={}", options.seconds))
        .arg(format!("-max_len={INPUT_BYTES_MAX}"))
        .arg(format!("-timeout={}", INPUT_TIMEOUT.as_secs()))
        .arg(format!("-rss_limit_mb={MEMORY_MIB_MAX}"))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .arg("-print_final_stats=1")
        .arg(&corpus)
        .arg(folder().join("seeds").join(name))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    let status = program.status().with_context(|| format!("cannot start {name}"))?;
    let text = String::from_utf8_lossy(&fs::read(&log_path)?).into_owned();
    if !status.success() {
        let lines: Vec<_> = text.lines().collect();
        let shown = &lines[lines.len().saturating_sub(LINES_SHOWN)..];
        bail!("{status}; its input is in {}\n{}", artifacts.display(), shown.join("\n"));
    }
    let inputs = text.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
    let inputs = inputs.context("it does not say how many inputs it ran")?.trim();
    say(&format!("{name}: {inputs} inputs, {} in the corpus", fs::read_dir(&corpus)?.count()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// A target that fails is an error with what it said, and so is one that says nothing.
    #[test]
    fn a_finding_fails_the_run() {
        let programs = tempfile::tempdir().expect("there is room");
        let corpus = programs.path().join("corpus");
        for (name, text, expected) in [
            ("fails-for-a-test", "echo 'panicked at parse.rs'; exit 77", Some("panicked at parse.rs")),
            ("runs-nothing-for-a-test", "exit 0", Some("how many inputs")),
            ("works-for-a-test", "echo stat::number_of_executed_units: 5", None),
        ] {
            let program = programs.path().join(name);
            fs::write(&program, format!("#!/bin/sh\n{text}\n")).expect("there is room");
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("it is ours");
            let options = Options { seconds: 1, jobs: None, corpus: corpus.clone(), targets: Vec::new() };
            let outcome = fuzz(name, programs.path(), &options);
            fs::remove_dir_all(folder().join("artifacts").join(name)).expect("it was made");
            match (outcome, expected) {
                (Ok(()), None) => {}
                (Err(error), Some(expected)) => assert!(format!("{error:#}").contains(expected), "{error:#}"),
                (outcome, _) => panic!("{name}: {outcome:?}"),
            }
        }
    }

    #[test]
    fn all_failures_are_told() {
        let outcomes = vec![Err(anyhow!("first")), Ok(()), Err(anyhow!("second"))];
        let text = all(outcomes).expect_err("two failed").to_string();
        assert!(
            text.contains("2 fuzz targets") && text.contains("first") && text.contains("second"),
            "{text}"
        );
        all(vec![Ok(()), Ok(())]).expect("none failed");
    }
}
