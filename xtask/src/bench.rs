//! `cargo xtask bench`: halephant, PgBouncer and other poolers in turn before one PostgreSQL, and a report of it.

mod bulk;
mod chart;
mod figure;
mod hosts;
mod lane;
mod machine;
mod markdown;
mod measure;
mod options;
mod page;
mod peer;
mod program;
mod results;
mod run;
mod scrape;
mod stage;
mod syscalls;
pub mod wire;

use anyhow::{Context, Result};
use halephant_harness::target;
use std::path::PathBuf;

use crate::say;
pub use options::Options;
use results::Results;

pub fn run(options: &Options) -> Result<()> {
    if options.list {
        return list();
    }
    let results = if options.from.is_empty() { measure(options)? } else { collect(&options.from)? };
    let directory = options.output.clone().unwrap_or_else(|| target::directory().join("bench"));
    std::fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    write(&results, &directory)?;
    print(&markdown::render(&results));
    for missing in results.missing() {
        say(&format!("MISSING: {missing}"));
    }
    if options.save {
        page::save(&results)?;
    }
    say(&format!("results.json, report.md and chart.svg are in {}", directory.display()));
    Ok(())
}

fn measure(options: &Options) -> Result<Results> {
    let plan = options.plan()?;
    run::run(&plan)
}

/// Reads earlier results as one; later files win.
fn collect(paths: &[PathBuf]) -> Result<Results> {
    let mut all = paths.iter().map(|path| Results::read(path));
    let mut results = all.next().context("there is a first")??;
    for later in all {
        results.merge(later?);
    }
    Ok(results)
}

fn write(results: &Results, directory: &std::path::Path) -> Result<()> {
    results.write(&directory.join("results.json"))?;
    std::fs::write(directory.join("report.md"), markdown::render(results))?;
    std::fs::write(directory.join("chart.svg"), chart::render(results)?)?;
    Ok(())
}

fn list() -> Result<()> {
    for lane in lane::all() {
        print(&format!("{:<28}{}", lane.name, lane.description()));
    }
    Ok(())
}

#[allow(clippy::print_stdout)]
fn print(text: &str) {
    println!("{text}");
}
