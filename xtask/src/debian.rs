//! [`Archive`]: packages of one suite of Debian, unpacked and never installed.
//!
//! apt keeps its lists in a folder of ours, so that the machine's own configuration stays as it is; mirror, proxy and keys
//! are the machine's.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use halephant_harness::command::succeed;

/// Longest that apt may take for one step.
const LIMIT: Duration = Duration::from_secs(600);
/// Debian's own keys where apt does not trust them for every archive.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

pub struct Archive {
    suite: &'static str,
    folder: PathBuf,
}

impl Archive {
    /// Fetches the suite's list of packages into `folder`.
    pub fn open(folder: &Path, suite: &'static str) -> Result<Self> {
        let archive = Self { suite, folder: folder.to_owned() };
        std::fs::create_dir_all(folder.join("lists/partial"))?;
        let keys = if Path::new(KEYRING).exists() { format!(" signed-by={KEYRING}") } else { String::new() };
        let line = format!("deb [target=Packages{keys}] {} {suite} main\n", mirror()?);
        std::fs::write(archive.sources(), line)?;
        // A list that cannot be fetched is a warning to apt, and an error here.
        archive
            .apt("apt-get", &["update", "--error-on=any"])
            .with_context(|| format!("Debian's {suite} cannot be reached"))?;
        Ok(archive)
    }

    fn sources(&self) -> PathBuf {
        self.folder.join("sources.list")
    }

    fn apt(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(program);
        for option in [
            format!("Dir::Etc::SourceList={}", self.sources().display()),
            "Dir::Etc::SourceParts=/dev/null".to_owned(),
            format!("Dir::State::Lists={}", self.folder.join("lists").display()),
            "Dir::Cache::PkgCache=".to_owned(),
            "Dir::Cache::SrcPkgCache=".to_owned(),
            "APT::Sandbox::User=".to_owned(),
        ] {
            command.arg("--option").arg(option);
        }
        command.args(arguments).current_dir(&self.folder).env("LC_ALL", "C.UTF-8");
        succeed(&mut command, LIMIT)
    }

    /// Names of the packages that the suite's newest version of `package` depends on; the first of alternatives.
    pub fn dependencies(&self, package: &str) -> Result<Vec<String>> {
        let shown = self
            .apt("apt-cache", &["show", "--no-all-versions", package])
            .with_context(|| format!("Debian's {} has no package {package}", self.suite))?;
        Ok(dependencies(&shown))
    }

    /// Downloads `package` (a name, or name=version) and unpacks it into `root`.
    pub fn unpack(&self, package: &str, root: &Path) -> Result<()> {
        let before = self.packages()?;
        ensure!(before.is_empty(), "there are packages in {} already", self.folder.display());
        self.apt("apt-get", &["--quiet", "download", package])
            .with_context(|| format!("{package} of Debian's {} cannot be had", self.suite))?;
        for file in self.packages()? {
            succeed(Command::new("dpkg-deb").arg("--extract").arg(&file).arg(root), LIMIT)?;
            std::fs::remove_file(file)?;
        }
        Ok(())
    }

    fn packages(&self) -> Result<Vec<PathBuf>> {
        Ok(std::fs::read_dir(&self.folder)?
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "deb"))
            .collect())
    }
}

fn dependencies(shown: &str) -> Vec<String> {
    shown
        .lines()
        .filter_map(|line| line.strip_prefix("Depends: "))
        .flat_map(|line| line.split(','))
        .filter_map(|one| one.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}

/// The Debian mirror of the machine's own apt configuration.
fn mirror() -> Result<String> {
    let mut ask = Command::new("apt-get");
    ask.args(["indextargets", "--format", "$(ORIGIN) $(REPO_URI)"]);
    let sites = succeed(&mut ask, LIMIT).context("Debian's packages are needed, and apt-get does not run")?;
    for line in sites.lines() {
        if let Some(address) = line.strip_prefix("Debian ")
            && !address.contains("security")
        {
            return Ok(address.to_owned());
        }
    }
    bail!("apt's configuration names no Debian mirror")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_names_alone() {
        let shown = "Package: a\nDepends: dracut | initramfs-tools (>= 0.1), linux-binary-7.3 (= 7.3-1), kmod\nSize: 1\n";
        assert_eq!(dependencies(shown), ["dracut", "linux-binary-7.3", "kmod"]);
        assert!(dependencies("Package: b\n").is_empty());
    }
}
