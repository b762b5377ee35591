//! PostgreSQL from the system's package manager.

use anyhow::{Context, Result};
use nix::unistd::geteuid;
use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::command;

const LIMIT: Duration = Duration::from_secs(600);

/// Read by Debian's package when it would make a cluster of its own and start it.
const NO_CLUSTER: &str = "/etc/postgresql-common/createcluster.d/halephant-no-main-cluster.conf";

struct Installer {
    program: &'static str,
    /// The one command for somebody to give.
    advice: &'static str,
    install: fn() -> Result<()>,
}

const KNOWN: [Installer; 3] = [
    Installer {
        program: "apt-get",
        advice: "apt-get install postgresql postgresql-contrib",
        install: install_with_apt,
    },
    Installer {
        program: "dnf",
        advice: "dnf install postgresql-server postgresql-contrib",
        install: || run("dnf", &["install", "-y", "postgresql-server", "postgresql-contrib"]),
    },
    Installer {
        program: "apk",
        advice: "apk add postgresql postgresql-contrib postgresql-client",
        install: || run("apk", &["add", "postgresql", "postgresql-contrib", "postgresql-client"]),
    },
];

/// Whether this process may install: it is root, and the package manager is a known one.
pub fn is_possible() -> bool {
    geteuid().is_root() && installer().is_some()
}

/// Installs server and client programs.
pub fn install() -> Result<()> {
    let installer = installer().with_context(advice)?;
    (installer.install)()
}

/// What to tell a user who has to do it.
pub fn advice() -> String {
    let sudo = if geteuid().is_root() { "" } else { "sudo " };
    match installer() {
        Some(manager) => format!("run `{sudo}{}`", manager.advice),
        None => {
            format!("install PostgreSQL's server and set {} to its bin directory", super::binaries::VARIABLE)
        }
    }
}

fn installer() -> Option<&'static Installer> {
    let path = env::var_os("PATH")?;
    KNOWN
        .iter()
        .find(|manager| env::split_paths(&path).any(|directory| directory.join(manager.program).is_file()))
}

/// The common package comes first: it brings the directory in which the server's package is told not to make and start
/// a cluster. That is true for this installation only, so the file goes again.
fn install_with_apt() -> Result<()> {
    if apt(&["postgresql-common"]).is_err() {
        run("apt-get", &["update"])?;
        apt(&["postgresql-common"])?;
    }
    let parent = Path::new(NO_CLUSTER).parent().context("the path has a parent")?;
    fs::create_dir_all(parent)?;
    fs::write(NO_CLUSTER, "create_main_cluster = false\n")?;
    let outcome = apt(&["postgresql", "postgresql-contrib"]);
    fs::remove_file(NO_CLUSTER)?;
    outcome
}

fn apt(packages: &[&str]) -> Result<()> {
    let mut arguments = vec!["install", "-y", "--no-install-recommends"];
    arguments.extend(packages);
    run("apt-get", &arguments)
}

fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let mut command = Command::new(program);
    command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C.UTF-8");
    command::succeed(&mut command, LIMIT).map(drop)
}
