//! Making a replica of a node.

use anyhow::{Context, Result};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::Binaries;
use super::account::Account;
use super::node::{Node, Shutdown};
use crate::scratch::Scratch;
use crate::{command, tree};

/// The role of replicas.
pub(super) const ROLE: &str = "replication";
pub(super) const PASSWORD: &str = "replication-password";

/// Copies `primary` and makes the copy follow it; both are to be started by the caller, if they do not run.
pub(super) fn create(
    name: &str,
    primary: &mut Node,
    binaries: &Binaries,
    account: Account,
    scratch: &Arc<Scratch>,
) -> Result<Node> {
    let mut replica = Node::new(name, binaries, account, scratch)?;
    let program = binaries.server("pg_basebackup");
    if program.is_file() {
        // The scratch directory is ours, and the server's account may be another.
        fs::create_dir(replica.data())?;
        fs::set_permissions(replica.data(), PermissionsExt::from_mode(0o700))?;
        account.own(replica.data())?;
        base_backup(&program, primary, account, replica.data())?;
    } else {
        // The files of a server that was stopped in order are a base backup, too.
        primary.stop(Shutdown::Fast)?;
        tree::copy(primary.data(), replica.data())?;
        account.own(replica.data())?;
        primary.start()?;
    }
    follow(&mut replica, primary)?;
    Ok(replica)
}

fn base_backup(program: &Path, primary: &Node, account: Account, data: &Path) -> Result<()> {
    let mut backup = account.command(program);
    backup
        .env("PGPASSWORD", PASSWORD)
        .args([
            "--host=127.0.0.1",
            "--username",
            ROLE,
            "--checkpoint=fast",
            "--no-sync",
            "--wal-method=stream",
        ])
        .arg(format!("--port={}", primary.port()))
        .arg("--pgdata")
        .arg(data);
    command::succeed(&mut backup, Duration::from_secs(120)).context("pg_basebackup failed").map(drop)
}

/// Makes `replica` stream from `primary` from its next start on.
pub(super) fn follow(replica: &mut Node, primary: &Node) -> Result<()> {
    replica.inherit(primary);
    replica.write_file("standby.signal", "")?;
    let port = primary.port();
    let name = replica.name().to_owned();
    let connection =
        format!("host=127.0.0.1 port={port} user={ROLE} password={PASSWORD} application_name={name}");
    replica.set("primary_conninfo", &connection)
}
