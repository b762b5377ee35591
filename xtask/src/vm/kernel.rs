//! [`Kernel`]: one of Debian's cloud kernels, fetched and kept for the next run.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use super::expected::Series;
use crate::debian::Archive;

/// The package that depends on the suite's newest kernel for virtual machines.
const META_PACKAGE: &str = "linux-image-cloud-amd64";
/// sock_diag for TCP, which cloud kernels have as modules. In this order.
const MODULES: [&str; 2] = ["inet_diag.ko", "tcp_diag.ko"];

#[derive(Clone, Debug)]
pub struct Kernel {
    pub image: PathBuf,
    /// In the order in which they have to be loaded; compressed or not.
    pub modules: Vec<PathBuf>,
}

impl Kernel {
    /// The kernel in `cache`, from Debian where it is not there or is to be fetched anew.
    pub fn fetch(cache: &Path, series: &Series, refresh: bool) -> Result<Self> {
        let kept = cache.join(series.name);
        if refresh && kept.exists() {
            std::fs::remove_dir_all(&kept)?;
        }
        if !kept.exists() {
            eprintln!("fetching {} of Debian's {}", series.name, series.suite);
            let scratch = cache.join(format!("{}.new", series.name));
            let _ = std::fs::remove_dir_all(&scratch);
            let ready = download(&scratch, series)?;
            std::fs::rename(ready, &kept)?;
            std::fs::remove_dir_all(&scratch)?;
        }
        Self::find(&kept)
    }

    fn find(folder: &Path) -> Result<Self> {
        let files: Vec<PathBuf> =
            std::fs::read_dir(folder)?.filter_map(Result::ok).map(|entry| entry.path()).collect();
        let named = |beginning: &str| {
            files
                .iter()
                .find(|file| {
                    file.file_name().is_some_and(|name| name.to_string_lossy().starts_with(beginning))
                })
                .cloned()
                .with_context(|| format!("{} has no {beginning}*", folder.display()))
        };
        Ok(Self {
            image: named("vmlinuz")?,
            modules: MODULES.iter().map(|module| named(module)).collect::<Result<_>>()?,
        })
    }
}

/// A folder with the image and the modules.
fn download(scratch: &Path, series: &Series) -> Result<PathBuf> {
    let (root, ready) = (scratch.join("root"), scratch.join("ready"));
    std::fs::create_dir_all(&ready)?;
    let archive = Archive::open(&scratch.join("apt"), series.suite)?;
    for package in packages(&archive)? {
        archive.unpack(&package, &root)?;
    }
    let mut found = 0;
    collect(&root, &mut |file, name| {
        if name.starts_with("vmlinuz") || MODULES.iter().any(|module| name.starts_with(module)) {
            found += 1;
            std::fs::copy(file, ready.join(name))?;
        }
        Ok(())
    })?;
    ensure!(
        found == 1 + MODULES.len(),
        "{found} files are of use in the kernel's packages of {}",
        series.suite
    );
    Ok(ready)
}

/// The packages that hold image and modules: one, or from 7.x on one for each.
fn packages(archive: &Archive) -> Result<Vec<String>> {
    let image = archive
        .dependencies(META_PACKAGE)?
        .into_iter()
        .find(|name| name.starts_with("linux-image-"))
        .with_context(|| format!("{META_PACKAGE} depends on no kernel"))?;
    let parts: Vec<String> = archive
        .dependencies(&image)?
        .into_iter()
        .filter(|name| name.starts_with("linux-binary-") || name.starts_with("linux-modules-"))
        .collect();
    Ok(if parts.is_empty() { vec![image] } else { parts })
}

fn collect(folder: &Path, take: &mut impl FnMut(&Path, &str) -> Result<()>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), take)?;
        } else {
            take(&entry.path(), &entry.file_name().to_string_lossy())?;
        }
    }
    Ok(())
}
