//! Where cargo builds, and what the harness keeps there between runs.

use anyhow::{Context, Result};
use std::env;
use std::path::{Path, PathBuf};

/// The workspace's root.
pub fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}

/// The target directory: of the running program where that lies in one, else as the environment says, else `target`.
pub fn directory() -> PathBuf {
    let of_program = env::current_exe().ok().and_then(|program| {
        // Cargo marks its target directory with this file.
        program.ancestors().find(|path| path.join("CACHEDIR.TAG").is_file()).map(Path::to_path_buf)
    });
    let of_environment = || env::var_os("CARGO_TARGET_DIR").map(|path| workspace().join(path));
    of_program.or_else(of_environment).unwrap_or_else(|| workspace().join("target"))
}

/// A directory under the target directory for what is costly to make anew; made if it is not there.
pub fn cache(name: &str) -> Result<PathBuf> {
    let path = directory().join("harness").join(name);
    std::fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
    Ok(path)
}
