//! `cargo xtask test`: everything the tests need, then the tests.

use anyhow::Result;
use clap::Args;
use halephant_harness::postgres::Binaries;
use halephant_harness::proxy::binary;
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

    let nextest = cargo::has("nextest");
    if nextest && options.arguments.is_empty() {
        // What nextest leaves out. First, so that the last line is that of the run that counts.
        cargo::run(with_profile(
            cargo::command().args(["test", "--workspace", "--doc", "--quiet"]),
            options,
        ))?;
    }
    let mut runner = cargo::command();
    runner.args(if nextest { &["nextest", "run"][..] } else { &["test"] }).arg("--workspace");
    runner.env(binary::VARIABLE, halephant).args(&options.arguments);
    cargo::run(with_profile(&mut runner, options))
}

fn with_profile<'a>(cargo: &'a mut Command, options: &Options) -> &'a mut Command {
    if options.release { cargo.arg("--release") } else { cargo }
}
