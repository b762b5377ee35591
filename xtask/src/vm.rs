//! `cargo xtask vm`: the kernel path on other kernels than this machine's. Boots Debian's in qemu and compares what each
//! does with what it is known to do.

mod expected;
mod guest;
mod image;
mod kernel;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Context as _, Result, ensure};
use halephant_harness::target;

use crate::cargo;
use expected::{Series, TABLE};
use guest::{Findings, Outcome};
use kernel::Kernel;

/// Machines at a time. Each is one busy thread and half a gigabyte.
const MACHINES_MAX: usize = 4;

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Only this one: 5.10, 6.1, 6.12 or newest
    #[arg(long)]
    kernel: Option<String>,
    /// Fetch kernels anew instead of using those of an earlier run
    #[arg(long)]
    refresh: bool,
}

pub fn run(options: &Options) -> Result<()> {
    let wanted: Vec<&Series> = TABLE
        .iter()
        .filter(|series| options.kernel.as_deref().is_none_or(|name| name == series.name))
        .collect();
    ensure!(!wanted.is_empty(), "there are the kernels {}", TABLE.map(|series| series.name).join(", "));
    let cache = target::directory().join("vm");
    std::fs::create_dir_all(&cache)?;
    let program = build()?;
    let mut waiting = VecDeque::new();
    for series in wanted {
        let kernel = Kernel::fetch(&cache.join("kernels"), series, options.refresh)
            .with_context(|| format!("fetching kernel {}", series.name))?;
        waiting.push_back((series, kernel));
    }
    let shortfalls = boot_all(waiting, &cache, &program);
    ensure!(shortfalls.is_empty(), "{}", shortfalls.join("\n"));
    Ok(())
}

/// The program that runs in each kernel.
fn build() -> Result<PathBuf> {
    let mut build = cargo::command();
    build
        .args(["build", "--package", "halephant-kernel-tests", "--bin", "matrix", "--target-dir"])
        .arg(target::directory());
    cargo::run(&mut build)?;
    Ok(target::directory().join("debug/matrix"))
}

/// Boots as many at a time as there are processors; what falls short of the table, in the order of the table.
fn boot_all(waiting: VecDeque<(&Series, Kernel)>, cache: &Path, program: &Path) -> Vec<String> {
    let machines = thread::available_parallelism().map_or(1, usize::from).min(MACHINES_MAX);
    let waiting = Mutex::new(waiting);
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let shortfalls = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..machines {
            scope.spawn(|| {
                while let Some((series, kernel)) = next() {
                    let short = boot_until_well(cache, series, &kernel, program);
                    shortfalls.lock().unwrap_or_else(PoisonError::into_inner).extend(short);
                }
            });
        }
    });
    shortfalls.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Boots a kernel as often as its series may need; what the last boot fell short of.
fn boot_until_well(cache: &Path, series: &Series, kernel: &Kernel, program: &Path) -> Vec<String> {
    let mut short = Vec::new();
    for boot in 1..=series.boots {
        short = match one(cache, series, kernel, program) {
            Ok(found) => {
                print(series, &found);
                series.shortfalls(&found)
            }
            Err(error) => vec![format!("{error:#}")],
        };
        if short.is_empty() {
            break;
        }
        for one in &mut short {
            one.insert_str(0, &format!("kernel {}: ", series.name));
            eprintln!("boot {boot} of {}: {one}", series.boots);
        }
    }
    short
}

fn one(cache: &Path, series: &Series, kernel: &Kernel, program: &Path) -> Result<Findings> {
    let initrd = image::write(&cache.join("images").join(series.name), kernel, program)?;
    guest::boot(kernel, &initrd)
}

#[allow(clippy::print_stdout, reason = "the table is the answer")]
fn print(series: &Series, found: &Findings) {
    // Tables are printed one after the other.
    static PRINTING: Mutex<()> = Mutex::new(());
    let _printing = PRINTING.lock().unwrap_or_else(PoisonError::into_inner);
    let netns = if found.netns { "known to programs" } else { "not known to programs" };
    println!("{} ({}): network namespaces are {netns}", series.name, found.kernel);
    for program in &found.programs {
        match &program.refused {
            Some(why) => println!("  {:<18} refused  {why}", program.name),
            None => println!("  {:<18} loads", program.name),
        }
    }
    for path in &found.paths {
        let trips = found.trips.iter().filter(|trip| trip.path == path.name).map(|trip| {
            let outcome = match &trip.outcome {
                Outcome::Skipped(_) => "left out".to_owned(),
                Outcome::Equal { redirected } => format!("bytes equal, {redirected} by the kernel"),
                Outcome::Failed(why) => format!("FAILED: {why}"),
            };
            format!("{} {outcome}", trip.family)
        });
        let state = if path.on { "on".to_owned() } else { format!("off ({})", path.reason) };
        println!("  {:<18} {state}: {}", path.name, trips.collect::<Vec<_>>().join("; "));
    }
}
