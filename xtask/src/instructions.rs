//! `cargo xtask instructions`: instructions that halephant executes for each transaction, against a committed bound.
//!
//! Seconds differ from machine to machine and from minute to minute; instructions, counted by callgrind, hardly do. Only
//! those in halephant's own program file count: the C library picks its routines by the CPU, the kernel is not ours.

mod baseline;
mod callgrind;
mod scenario;

use anyhow::{Context, Result, bail};
use clap::Args;
use halephant_harness::Cluster;
use halephant_harness::postgres::Binaries;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::{cargo, say};
use baseline::Baseline;
use scenario::Scenario;

/// Growth above this fails.
const BOUND_PERCENT: f64 = 3.0;

#[derive(Args)]
pub struct Options {
    /// Write what is counted down as the new baseline
    #[arg(long)]
    save: bool,
    /// Count in this program file of halephant instead, whose figures are not those of the baseline
    #[arg(long, value_name = "FILE")]
    halephant: Option<PathBuf>,
    /// Show the functions that execute most
    #[arg(long)]
    functions: bool,
}

pub fn run(options: &Options) -> Result<()> {
    if !has_valgrind() {
        bail!("valgrind is not installed (Debian: apt-get install valgrind)");
    }
    let halephant = match &options.halephant {
        Some(file) => file.canonicalize()?,
        // As it ships: without link-time optimisation other things are expensive.
        None => cargo::build_halephant(true)?,
    };
    let cluster = Cluster::builder()
        .binaries(Binaries::find_or_install()?)
        .role(scenario::ROLE, scenario::PASSWORD)
        .database(scenario::DATABASE, scenario::ROLE)
        .start()?;
    let mut counted = Baseline::default();
    for scenario in Scenario::ALL {
        let cost = scenario::count(scenario, &cluster, &halephant)
            .with_context(|| format!("scenario {}", scenario.name()))?;
        say(&format!("{}: {:.0} instructions for each transaction", scenario.name(), cost.total));
        for (function, count) in cost.functions.iter().take(if options.functions { 40 } else { 0 }) {
            eprintln!("{count:>12.1}  {function}");
        }
        counted.set(scenario.name(), cost.total);
    }
    if options.save {
        return counted.write();
    }
    let findings = Baseline::read()?.exceeded_by(&counted, BOUND_PERCENT);
    if findings.is_empty() {
        return Ok(());
    }
    bail!(
        "{}\nWhere the growth is worth it: `cargo xtask instructions --save`, and say why in the commit.",
        findings.join("\n")
    )
}

fn has_valgrind() -> bool {
    let mut valgrind = Command::new("valgrind");
    valgrind.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    valgrind.status().is_ok_and(|status| status.success())
}
