//! The program `halephant`: named by the environment, or built.

use anyhow::{Context, Result, bail};
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use crate::{command, target};

/// Names the program; nothing is built then.
pub const VARIABLE: &str = "HALEPHANT_BIN";

const BUILD_LIMIT: Duration = Duration::from_secs(1200);

/// The environment's, else that of this source, built now if it has to be, in the profile of the running program.
pub fn find() -> Result<PathBuf> {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    if let Some(program) = FOUND.get() {
        return Ok(program.clone());
    }
    let program = match env::var_os(VARIABLE) {
        Some(program) => PathBuf::from(program),
        None => build(in_release())?,
    };
    if !program.is_file() {
        bail!("{} is not there", program.display());
    }
    Ok(FOUND.get_or_init(|| program).clone())
}

/// Has cargo build it and gives the path.
pub fn build(release: bool) -> Result<PathBuf> {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(target::workspace()).args([
        "build",
        "--quiet",
        "--package",
        "halephant",
        "--bin",
        "halephant",
    ]);
    cargo.arg("--target-dir").arg(target::directory());
    if release {
        cargo.arg("--release");
    }
    command::succeed(&mut cargo, BUILD_LIMIT).context("halephant does not build")?;
    Ok(target::directory().join(if release { "release" } else { "debug" }).join("halephant"))
}

fn in_release() -> bool {
    let program = env::current_exe().unwrap_or_default();
    let below = program.strip_prefix(target::directory()).map(Path::to_path_buf).unwrap_or_default();
    below.components().any(|part| part.as_os_str() == "release")
}
