//! Running cargo, its output on our terminal.

use anyhow::{Context, Result, bail};
use halephant_harness::target;
use std::env;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The cargo that runs us, at the workspace's root.
pub fn command() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(target::workspace());
    cargo
}

/// Whether `cargo <name>` is there.
pub fn has(name: &str) -> bool {
    let mut cargo = command();
    cargo.args([name, "--version"]).stdout(Stdio::null()).stderr(Stdio::null());
    cargo.status().is_ok_and(|status| status.success())
}

/// Runs it to its end.
pub fn run(cargo: &mut Command) -> Result<()> {
    let status = cargo.status().context("cannot start cargo")?;
    if !status.success() {
        bail!("{cargo:?} failed: {status}");
    }
    Ok(())
}

/// Builds the proxy and gives its path.
pub fn build_halephant(release: bool) -> Result<PathBuf> {
    let mut cargo = command();
    cargo
        .args(["build", "--package", "halephant", "--bin", "halephant", "--target-dir"])
        .arg(target::directory());
    if release {
        cargo.arg("--release");
    }
    run(&mut cargo)?;
    Ok(target::directory().join(if release { "release" } else { "debug" }).join("halephant"))
}
