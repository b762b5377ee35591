//! What of the file system the program sees, and what of it may be written.

use super::Unit;
use anyhow::{Context, Result, ensure};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{User, chown};
use std::fs;
use std::path::Path;

pub const KEYS: [&str; 6] = [
    "PrivateDevices",
    "ProtectControlGroups",
    "ProtectHome",
    "ProtectKernelTunables",
    "ProtectProc",
    "ProtectSystem",
];
/// Of the test's own, and systemd's exceptions.
const WRITABLE: [&str; 4] = ["/dev", "/proc", "/sys", "/tmp"];
const DEVICES: [&str; 6] = ["full", "null", "random", "shm", "urandom", "zero"];

pub fn restrict(unit: &Unit, user: &User, program: &str) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    if let Some(name) = unit.value("RuntimeDirectory") {
        tmpfs("/run", "mode=755")?;
        let directory = format!("/run/{name}");
        fs::create_dir(&directory)?;
        tmpfs(&directory, "mode=755")?;
        chown(directory.as_str(), Some(user.uid), Some(user.gid))?;
    }
    if unit.is_on("ProtectHome") {
        for home in ["/home", "/root", "/run/user"] {
            // Where the checkout itself is in somebody's home, that one stays.
            if Path::new(home).exists() && !program.starts_with(home) {
                tmpfs(home, "mode=000")?;
            }
        }
    }
    if unit.is_on("PrivateDevices") {
        devices()?;
    }
    if unit.value("ProtectSystem").is_some() {
        ensure!(unit.value("ProtectSystem") == Some("strict"), "only strict is known");
        let runtime = unit.value("RuntimeDirectory").map(|name| format!("/run/{name}"));
        for target in targets()? {
            let is_writable = WRITABLE.iter().any(|writable| Path::new(&target).starts_with(writable))
                || Some(&target) == runtime.as_ref();
            // Some are under others by now.
            if !is_writable && Path::new(&target).exists() {
                read_only(&target)?;
            }
        }
    }
    if unit.is_on("ProtectKernelTunables") {
        for tunables in ["/proc/sys", "/sys"] {
            let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
            mount(Some(tunables), tunables, None::<&str>, flags, None::<&str>)?;
            read_only(tunables)?;
        }
    }
    if unit.value("ProtectProc") == Some("invisible") {
        let flags = MsFlags::MS_REMOUNT;
        mount(None::<&str>, "/proc", None::<&str>, flags, Some("hidepid=invisible")).context("hidepid")?;
    }
    Ok(())
}

fn tmpfs(target: &str, options: &str) -> Result<()> {
    mount(Some("tmpfs"), target, Some("tmpfs"), MsFlags::MS_NOSUID, Some(options))
        .with_context(|| format!("a file system at {target}"))
}

fn targets() -> Result<Vec<String>> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    Ok(mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(str::to_owned).collect())
}

fn read_only(target: &str) -> Result<()> {
    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    mount(None::<&str>, target, None::<&str>, flags, None::<&str>)
        .with_context(|| format!("{target} read-only"))
}

/// A /dev of its own. `shm` is in it, as the test's files may be there.
fn devices() -> Result<()> {
    let aside = "/tmp/.as_unit_dev";
    fs::create_dir_all(aside)?;
    tmpfs(aside, "mode=755")?;
    for name in DEVICES {
        let (from, to) = (format!("/dev/{name}"), format!("{aside}/{name}"));
        if Path::new(&from).is_dir() {
            fs::create_dir(&to)?;
        } else {
            fs::write(&to, "")?;
        }
        let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
        mount(Some(from.as_str()), to.as_str(), None::<&str>, flags, None::<&str>)?;
    }
    mount(Some(aside), "/dev", None::<&str>, MsFlags::MS_MOVE, None::<&str>).context("moving /dev")
}
