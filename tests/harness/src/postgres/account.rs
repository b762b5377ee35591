//! The user that PostgreSQL's server programs run as: they refuse to be root.

use anyhow::{Context, Result};
use nix::unistd::{Gid, Uid, User, chown, geteuid};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Used where neither `postgres` nor `nobody` exists.
const OVERFLOW_ID: u32 = 65_534;

/// Whom to become; nobody if we are not root.
#[derive(Clone, Copy, Debug)]
pub struct Account(Option<(Uid, Gid)>);

impl Account {
    pub fn for_server() -> Self {
        if !geteuid().is_root() {
            return Self(None);
        }
        let known = ["postgres", "nobody"].into_iter().find_map(|name| User::from_name(name).ok().flatten());
        let ids = known.map(|user| (user.uid, user.gid));
        Self(Some(ids.unwrap_or((Uid::from_raw(OVERFLOW_ID), Gid::from_raw(OVERFLOW_ID)))))
    }

    /// A command that runs as this account, with nothing of our environment that PostgreSQL would read.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir("/").env_remove("LANG").env("LC_ALL", "C").env("HOME", "/nonexistent");
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PG") {
                command.env_remove(name);
            }
        }
        if let Self(Some((uid, gid))) = *self {
            // Also drops root's supplementary groups.
            command.uid(uid.as_raw()).gid(gid.as_raw());
        }
        command
    }

    /// Gives `path` and everything below it to this account.
    pub fn own(&self, path: &Path) -> Result<()> {
        let Self(Some((uid, gid))) = *self else { return Ok(()) };
        let mut left: Vec<PathBuf> = vec![path.to_path_buf()];
        while let Some(path) = left.pop() {
            chown(&path, Some(uid), Some(gid))
                .with_context(|| format!("cannot give away {}", path.display()))?;
            if path.is_dir() {
                for entry in std::fs::read_dir(&path)? {
                    left.push(entry?.path());
                }
            }
        }
        Ok(())
    }

    /// Whether this account may run `program`; a home directory closed to others is the usual reason why not.
    pub fn can_run(&self, program: &Path) -> bool {
        let output =
            crate::command::run(self.command(program).arg("--version"), std::time::Duration::from_secs(20));
        output.is_ok_and(|output| output.status.success())
    }
}
