//! `cargo xtask tidy`: the rules of ARCHITECTURE.md that the compiler does not check. [`table`] holds them as data.

mod crates;
mod layers;
mod names;
mod paths;
mod shape;
mod source;
mod table;
mod text;

use anyhow::{Context, Result, bail};
use halephant_harness::{command, target};
use std::fmt;
use std::fs;
use std::process::Command;
use std::time::Duration;

use source::Source;

/// One breach of a rule.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    path: String,
    line: usize,
    message: String,
}

impl Finding {
    fn new(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self { path: path.into(), line, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.message)
    }
}

/// A file of the repository, its path from the root with forward slashes.
pub struct File {
    path: String,
    text: String,
}

pub fn run() -> Result<()> {
    let files = files()?;
    let mut findings = check(&files, &text::this_machine());
    findings.sort();
    // A path named twice on a line is one breach.
    findings.dedup();
    for finding in &findings {
        eprintln!("{finding}");
    }
    if !findings.is_empty() {
        bail!("tidy: {} findings in {} files", findings.len(), files.len());
    }
    eprintln!("tidy: {} files in order", files.len());
    Ok(())
}

fn check(files: &[File], machine: &[String]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut sources = Vec::new();
    for file in files {
        findings.extend(text::check(file, machine));
        if file.path.ends_with(".rs") {
            match Source::parse(file) {
                Ok(source) => sources.push(source),
                Err(finding) => findings.push(finding),
            }
        }
        if file.path == "Cargo.toml" || file.path.ends_with("/Cargo.toml") {
            findings.extend(crates::check(file));
        }
    }
    for source in &sources {
        findings.extend(shape::check(source));
        findings.extend(names::check(source));
        findings.extend(layers::check(source, &sources));
    }
    findings.extend(shape::stale_exceptions(&sources));
    findings
}

/// What git has or would take; files that are not text are nobody's business here.
fn files() -> Result<Vec<File>> {
    let root = target::workspace();
    let mut git = Command::new("git");
    git.current_dir(&root).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let list = command::succeed(&mut git, Duration::from_secs(60)).context("tidy asks git for the files")?;
    let mut files = Vec::new();
    for path in list.split_terminator('\0') {
        // A file that is deleted and not yet committed is still in the list.
        if let Ok(text) = fs::read_to_string(root.join(path)) {
            files.push(File { path: path.into(), text });
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests;
