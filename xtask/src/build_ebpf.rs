//! `cargo xtask build-ebpf`: the kernel programs' object files, one per byte order, committed beside their source.
//!
//! A build is the same wherever it runs: the compiler is pinned by `rust-toolchain.toml`, its library is built from the
//! sources of exactly that compiler, the linker is one version on that compiler's own LLVM, paths are remapped, and
//! nothing but code and map definitions is kept.

mod linker;
mod rust_src;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use halephant_harness::target;

/// Byte order of the target, as in its name.
const TARGETS: [&str; 2] = ["bpfel", "bpfeb"];
/// What every kernel from 5.10 on runs.
const TARGET_CPU: &str = "v2";

#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct Options {
    /// Fail when a committed object differs from a fresh build; write nothing
    #[arg(long)]
    pub check: bool,
    /// Fail when rust-src or bpf-linker is missing instead of installing it
    #[arg(long)]
    pub no_install: bool,
}

pub fn run(options: Options) -> Result<()> {
    let workspace = &target::workspace();
    let toolchain = Toolchain::find(workspace)?;
    rust_src::ensure(&toolchain, options.no_install)?;
    let linker = linker::ensure(&toolchain, options.no_install)?;
    let mut stale = Vec::new();
    for order in TARGETS {
        let built = std::fs::read(build(&toolchain, &linker, order)?)?;
        let committed = object_path(workspace, order);
        if std::fs::read(&committed).ok().as_deref() == Some(&built[..]) {
            continue;
        }
        if options.check {
            stale.push(committed.display().to_string());
            continue;
        }
        if let Some(folder) = committed.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(&committed, &built).with_context(|| format!("writing {}", committed.display()))?;
    }
    ensure!(
        stale.is_empty(),
        "not what a fresh build gives: {}; run `cargo xtask build-ebpf`",
        stale.join(", ")
    );
    Ok(())
}

/// Where the object for a byte order is committed.
fn object_path(workspace: &Path, order: &str) -> PathBuf {
    workspace.join("halephant-ebpf/object").join(format!("halephant.{order}.o"))
}

/// The pinned compiler.
struct Toolchain {
    workspace: PathBuf,
    sysroot: PathBuf,
    /// As in `1.95.0`.
    version: String,
    /// Folder for what is built and installed on the way.
    scratch: PathBuf,
}

impl Toolchain {
    fn find(workspace: &Path) -> Result<Self> {
        let sysroot =
            PathBuf::from(output(Command::new("rustc").args(["--print", "sysroot"]).current_dir(workspace))?);
        let verbose = output(Command::new("rustc").arg("-vV").current_dir(workspace))?;
        let version = verbose
            .lines()
            .find_map(|line| line.strip_prefix("release: "))
            .context("rustc -vV tells no release")?
            .to_owned();
        Ok(Self {
            workspace: workspace.to_owned(),
            sysroot,
            version,
            scratch: target::directory().join("ebpf"),
        })
    }

    /// Folder of rustc's own LLVM.
    fn libraries(&self) -> PathBuf {
        self.sysroot.join("lib")
    }
}

/// The object that a fresh build gives.
fn build(toolchain: &Toolchain, linker: &Path, order: &str) -> Result<PathBuf> {
    let target = format!("{order}-unknown-none");
    let build = toolchain.scratch.join("build");
    let cargo_home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".cargo")))
        .context("neither CARGO_HOME nor a home folder")?;
    let mut flags = OsString::from(format!("-Ctarget-cpu={TARGET_CPU}"));
    for (from, to) in
        [(&toolchain.workspace, "/halephant"), (&cargo_home, "/cargo"), (&toolchain.sysroot, "/rust")]
    {
        flags.push("\x1f--remap-path-prefix=");
        flags.push(from);
        flags.push(format!("={to}"));
    }
    let mut command = Command::new("cargo");
    command
        .args(["build", "--quiet", "--locked", "--release", "-Zbuild-std=core", "--target", &target])
        .args(["--package", "halephant-ebpf", "--bin", "halephant-programs", "--features", "programs"])
        .current_dir(&toolchain.workspace)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_TARGET_DIR", &build)
        .env("CARGO_ENCODED_RUSTFLAGS", flags)
        .env_remove("RUSTFLAGS")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "none")
        .env("CARGO_INCREMENTAL", "0")
        .env(format!("CARGO_TARGET_{}_LINKER", target.replace('-', "_").to_uppercase()), linker)
        .env("LD_LIBRARY_PATH", toolchain.libraries());
    status(&mut command)?;
    Ok(build.join(&target).join("release/halephant-programs"))
}

/// Standard output of a command that has to succeed, without the line's end.
fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("starting {:?}", command.get_program()))?;
    if !output.status.success() {
        bail!("{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
}

fn status(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("starting {:?}", command.get_program()))?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}
