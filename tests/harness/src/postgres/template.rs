//! What `initdb` makes, made once for each version and copied from then on.

use anyhow::{Context, Result};
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use super::Binaries;
use super::account::Account;
use crate::{command, target, tree};

pub const SUPERUSER: &str = "postgres";
pub const SUPERUSER_PASSWORD: &str = "superuser-password";

/// Makes the data directory `data` below `scratch`.
pub fn create(binaries: &Binaries, account: Account, scratch: &Path, data: &Path) -> Result<()> {
    let cache = target::cache("templates")?;
    let lock = File::create(cache.join("lock"))?;
    lock.lock()?;
    let place = binaries.directory().to_string_lossy().replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    let template = cache.join(format!("{}{place}", binaries.version));
    if !template.exists() {
        let fresh = scratch.join("initdb");
        initdb(binaries, account, &fresh)?;
        let unfinished = tempfile::tempdir_in(&cache)?;
        tree::copy(&fresh.join("data"), &unfinished.path().join("data"))?;
        fs::rename(unfinished.path().join("data"), &template)?;
        fs::remove_dir_all(&fresh)?;
    }
    drop(lock);
    tree::copy(&template, data)?;
    fs::set_permissions(data, PermissionsExt::from_mode(0o700))?;
    account.own(data)
}

fn initdb(binaries: &Binaries, account: Account, fresh: &Path) -> Result<()> {
    fs::create_dir(fresh)?;
    let password = fresh.join("password");
    fs::write(&password, SUPERUSER_PASSWORD)?;
    account.own(fresh)?;
    let mut initdb = account.command(&binaries.server("initdb"));
    initdb
        .args(["--username", SUPERUSER, "--encoding=UTF8", "--locale=C", "--no-sync"])
        .args(["--auth-local=scram-sha-256", "--auth-host=scram-sha-256"])
        .arg(format!("--pwfile={}", password.display()))
        .arg("--pgdata")
        .arg(fresh.join("data"));
    command::succeed(&mut initdb, Duration::from_secs(180)).context("initdb failed").map(drop)
}
