//! The library sources of the pinned compiler: from rustup where it reaches, else from Debian's package.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::{Toolchain, status};
use crate::debian::Archive;

/// Debian's package of the pinned compiler's sources, and the suite that has it.
const PACKAGE: &str = "rust-src=1.95.0+dfsg1-2~bpo13+1";
const SUITE: &str = "trixie-backports";

pub(super) fn ensure(toolchain: &Toolchain, no_install: bool) -> Result<()> {
    let installed = toolchain.sysroot.join("lib/rustlib/src/rust/library");
    if installed.join("core/src/lib.rs").exists() {
        return Ok(());
    }
    ensure!(!no_install, "rust-src is not at {}, and --no-install was given", installed.display());
    let rustup = status(
        Command::new("rustup").args(["component", "add", "rust-src"]).current_dir(&toolchain.workspace),
    );
    if rustup.is_ok() && installed.join("core/src/lib.rs").exists() {
        return Ok(());
    }
    from_debian(toolchain, &installed).context("rust-src: rustup did not reach it, nor did Debian's package")
}

/// Unpacks the package without installing it.
fn from_debian(toolchain: &Toolchain, installed: &Path) -> Result<()> {
    ensure!(PACKAGE.contains(&toolchain.version), "{PACKAGE} is not of rustc {}", toolchain.version);
    let folder = toolchain.scratch.join("rust-src");
    let _ = std::fs::remove_dir_all(&folder);
    let root = folder.join("root");
    Archive::open(&folder, SUITE)?.unpack(PACKAGE, &root)?;
    let library = root.join("usr/src").join(format!("rustc-{}", toolchain.version)).join("library");
    std::fs::create_dir_all(installed.parent().context("no parent")?)?;
    status(Command::new("cp").arg("--recursive").arg(&library).arg(installed))?;
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}
