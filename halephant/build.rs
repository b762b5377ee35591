//! Where the linker finds libpam.
//!
//! No headers are needed, and libpam.so.0 is on every system; but the name without a version, which the linker looks for,
//! comes with a package for developers. Where that is missing, a link to the library stands in for it.

use std::env;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let of = |name| env::var(name).unwrap_or_default();
    // Elsewhere this system's library is of no use.
    if env::var_os("CARGO_FEATURE_PAM").is_none() || of("HOST") != of("TARGET") {
        return;
    }
    let arch = of("CARGO_CFG_TARGET_ARCH");
    let triple = format!("{arch}-linux-gnu");
    let folders = ["/usr/lib", "/lib", "/usr/lib64", "/lib64"].map(Path::new);
    let folders: Vec<PathBuf> =
        folders.iter().flat_map(|folder| [folder.join(&triple), folder.to_path_buf()]).collect();
    let find = |name: &str| folders.iter().map(|folder| folder.join(name)).find(|path| path.exists());
    if let Some(found) = find("libpam.so") {
        println!("cargo::rerun-if-changed={}", found.display());
        return;
    }
    let Some(library) = find("libpam.so.0") else {
        println!("cargo::warning=libpam is not found: install it, or build with --no-default-features");
        return;
    };
    let own = PathBuf::from(of("OUT_DIR"));
    let link = own.join("libpam.so");
    let _ = std::fs::remove_file(&link);
    if symlink(&library, &link).is_ok() {
        println!("cargo::rustc-link-search=native={}", own.display());
    }
}
