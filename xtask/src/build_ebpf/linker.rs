//! bpf-linker, built against the compiler's own LLVM, so that it reads what the compiler writes.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::{Toolchain, output, status};

const VERSION: &str = "0.13.0";
/// The LLVM of the pinned compiler, as bpf-linker's feature and as the library's name begins.
const FEATURE: &str = "llvm-22";
const LIBRARY: &str = "libLLVM.so.22";

/// The linker's path, installed into the scratch folder when it is not there.
pub(super) fn ensure(toolchain: &Toolchain, no_install: bool) -> Result<PathBuf> {
    let root = toolchain.scratch.join(format!("bpf-linker-{VERSION}-rust-{}", toolchain.version));
    let linker = root.join("bin/bpf-linker");
    if version(&linker, toolchain).is_ok_and(|answer| answer.ends_with(VERSION)) {
        return Ok(linker);
    }
    ensure!(!no_install, "bpf-linker {VERSION} is not at {}, and --no-install was given", linker.display());
    let prefix = root.join("llvm");
    link_llvm(toolchain, &prefix.join("lib"))?;
    let mut command = Command::new("cargo");
    // Unoptimised: that builds in a quarter of the time, and the work is done by LLVM anyway.
    command
        .args([
            "install",
            "--debug",
            "--quiet",
            "--locked",
            "--no-default-features",
            "--features",
            FEATURE,
            "--root",
        ])
        .arg(&root)
        .arg(format!("bpf-linker@{VERSION}"))
        .current_dir(&toolchain.workspace)
        .env("LLVM_PREFIX", &prefix)
        .env("CARGO_TARGET_DIR", root.join("build"))
        .env("CARGO_PROFILE_DEV_DEBUG", "none")
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    status(&mut command).context("installing bpf-linker")?;
    let _ = std::fs::remove_dir_all(root.join("build"));
    version(&linker, toolchain).context("bpf-linker does not start")?;
    Ok(linker)
}

fn version(linker: &Path, toolchain: &Toolchain) -> Result<String> {
    output(Command::new(linker).arg("--version").env("LD_LIBRARY_PATH", toolchain.libraries()))
}

/// A folder that looks like an LLVM installation: rustc's library under the names that a linker asks for.
fn link_llvm(toolchain: &Toolchain, folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    let library = std::fs::read_dir(toolchain.libraries())?
        .filter_map(Result::ok)
        .find(|entry| entry.file_name().to_string_lossy().starts_with(LIBRARY))
        .with_context(|| format!("no {LIBRARY}* in {}", toolchain.libraries().display()))?;
    for name in [library.file_name(), "libLLVM.so".into()] {
        let link = folder.join(name);
        let _ = std::fs::remove_file(&link);
        std::os::unix::fs::symlink(library.path(), &link)?;
    }
    Ok(())
}
