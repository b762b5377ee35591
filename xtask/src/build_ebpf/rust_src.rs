//! The library sources of the pinned compiler: from rustup where it reaches, else from Debian's package.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use super::{Toolchain, output, status};

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

/// Unpacks the package without installing it. apt keeps its lists in a folder of ours, so that the machine's own
/// configuration stays as it is; mirror, proxy and keys are the machine's.
fn from_debian(toolchain: &Toolchain, installed: &Path) -> Result<()> {
    ensure!(PACKAGE.contains(&toolchain.version), "{PACKAGE} is not of rustc {}", toolchain.version);
    let folder = toolchain.scratch.join("rust-src");
    let lists = folder.join("lists/partial");
    std::fs::create_dir_all(&lists)?;
    let sources = folder.join("sources.list");
    std::fs::write(&sources, format!("deb {} {SUITE} main\n", mirror()?))?;
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command
            .arg("--quiet")
            .arg("--option")
            .arg(format!("Dir::Etc::SourceList={}", sources.display()))
            .args(["--option", "Dir::Etc::SourceParts=/dev/null", "--option"])
            .arg(format!("Dir::State::Lists={}", folder.join("lists").display()))
            .args(["--option", "Dir::Cache::PkgCache=", "--option", "Dir::Cache::SrcPkgCache="])
            .args(["--option", "APT::Sandbox::User="])
            .args(arguments)
            .current_dir(&folder);
        status(&mut command)
    };
    apt(&["update"])?;
    apt(&["download", PACKAGE])?;
    let package = std::fs::read_dir(&folder)?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .context("apt-get downloaded nothing")?;
    status(Command::new("dpkg-deb").arg("--extract").arg(&package).arg(folder.join("root")))?;
    let library = folder.join("root/usr/src").join(format!("rustc-{}", toolchain.version)).join("library");
    std::fs::create_dir_all(installed.parent().context("no parent")?)?;
    status(Command::new("cp").arg("--recursive").arg(&library).arg(installed))?;
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}

/// The Debian mirror of the machine's own apt configuration.
fn mirror() -> Result<String> {
    let sites = output(Command::new("apt-get").args(["indextargets", "--format", "$(ORIGIN) $(REPO_URI)"]))?;
    for line in sites.lines() {
        if let Some(address) = line.strip_prefix("Debian ")
            && !address.contains("security")
        {
            return Ok(address.to_owned());
        }
    }
    bail!("apt's configuration names no Debian mirror")
}
