//! `cargo xtask test`: everything the tests need, then the tests.

use anyhow::Result;
use clap::Args;
use halephant_harness::postgres::Binaries;
use halephant_harness::proxy::{KernelPath, binary};
use std::path::Path;
use std::process::Command;

use crate::cargo;

#[derive(Args)]
pub struct Options {
    /// Test an optimised build
    #[arg(long)]
    release: bool,
    /// Names, filters and options for the test runner: cargo-nextest where it is installed, else cargo test
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

pub fn run(options: &Options) -> Result<()> {
    let binaries = Binaries::find_or_install()?;
    eprintln!("PostgreSQL {} in {}", binaries.version, binaries.directory().display());
    let halephant = cargo::build_halephant(options.release)?;

    let features = features();
    let nextest = cargo::has("nextest");
    if nextest && options.arguments.is_empty() {
        // What nextest leaves out. First, so that the last line is that of the run that counts.
        cargo::run(with_profile(
            cargo::command().args(["test", "--workspace", "--doc", "--quiet"]).args(features),
            options,
        ))?;
    }
    let mut runner = cargo::command();
    runner.args(if nextest { &["nextest", "run"][..] } else { &["test"] }).arg("--workspace");
    runner.env(binary::VARIABLE, &halephant).args(features).args(&options.arguments);
    cargo::run(with_profile(&mut runner, options))?;
    if options.arguments.is_empty() {
        for path in [KernelPath::Colocated, KernelPath::OwnSocket] {
            again(options, nextest, &halephant, path)?;
        }
    }
    Ok(())
}

/// The tests of sessions, in proxies that put sessions on `path`.
fn again(options: &Options, nextest: bool, halephant: &Path, path: KernelPath) -> Result<()> {
    eprintln!("the tests of sessions again, on the kernel path {}", path.name());
    let mut runner = cargo::command();
    runner.args(if nextest { &["nextest", "run"][..] } else { &["test"] });
    runner.args(["--package", "halephant-suite"]);
    for name in OF_SESSIONS {
        runner.args(["--test", name]);
    }
    runner.env(binary::VARIABLE, halephant).env(KernelPath::VARIABLE, path.name());
    cargo::run(with_profile(&mut runner, options))
}

/// The test binaries that must not notice whether the kernel moves the bytes.
const OF_SESSIONS: [&str; 18] = [
    "cancel",
    "chaos",
    "differential",
    "drivers",
    "failover",
    "faults",
    "limits",
    "load",
    "login",
    "patience",
    "pooling",
    "queue",
    "reload",
    "replication",
    "routing",
    "shutdown",
    "transcripts",
    "wide",
];

/// The comparison with PostgreSQL's own parser wants libclang to build. CI has it: there, its absence is an error.
fn features() -> &'static [&'static str] {
    if std::env::var_os("CI").is_some() || has_libclang() {
        return &["--features", "halephant-sql-oracle/postgres"];
    }
    eprintln!("left out: the SQL lexer against PostgreSQL's own parser (install libclang-dev for it)");
    &[]
}

/// Where bindgen looks for it: what it is told, and the places of the distributions' packages.
fn has_libclang() -> bool {
    let holds = |directory: &Path| {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        entries.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with("libclang"))
    };
    let llvm = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    std::env::var_os("LIBCLANG_PATH").is_some()
        || llvm
            .filter(|entry| entry.file_name().to_string_lossy().starts_with("llvm"))
            .any(|entry| holds(&entry.path().join("lib")))
        || [Path::new("/usr/lib/x86_64-linux-gnu"), Path::new("/usr/lib64")].into_iter().any(holds)
}

fn with_profile<'a>(cargo: &'a mut Command, options: &Options) -> &'a mut Command {
    if options.release { cargo.arg("--release") } else { cargo }
}
