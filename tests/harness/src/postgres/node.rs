//! One PostgreSQL server: a data directory, its settings and, while it runs, its process.

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::signal::Signal;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use super::Binaries;
use super::account::Account;
use super::template::{SUPERUSER, SUPERUSER_PASSWORD};
use crate::port::{Port, has_ipv6};
use crate::scratch::Scratch;
use crate::{Login, command, log, process, psql, wait_for};

const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// Included at the end of `postgresql.conf`.
const SETTINGS_FILE: &str = "harness.conf";

/// Those that differ between the nodes of a cluster.
const OWN_SETTINGS: [&str; 3] = ["port", "cluster_name", "primary_conninfo"];

/// How a server is asked to end, in the manual's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// When the last client has gone.
    Smart,
    /// Clients are cut, the data is in order.
    Fast,
    /// As a crash.
    Immediate,
}

#[derive(Debug)]
pub struct Node {
    name: String,
    port: Port,
    data: PathBuf,
    settings: BTreeMap<String, String>,
    binaries: Binaries,
    account: Account,
    scratch: Arc<Scratch>,
    child: Option<Child>,
}

impl Node {
    /// A node at a free port; its data directory is still to be made.
    pub(super) fn new(
        name: &str,
        binaries: &Binaries,
        account: Account,
        scratch: &Arc<Scratch>,
    ) -> Result<Self> {
        let port = Port::pick()?;
        let addresses = if has_ipv6() { "127.0.0.1,::1" } else { "127.0.0.1" };
        let settings = [
            ("port", port.number().to_string()),
            ("listen_addresses", addresses.into()),
            ("unix_socket_directories", String::new()),
            ("cluster_name", name.into()),
        ];
        Ok(Self {
            name: name.into(),
            port,
            data: scratch.path().join(name),
            settings: settings.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
            binaries: binaries.clone(),
            account,
            scratch: Arc::clone(scratch),
            child: None,
        })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// `host:port`, as configuration files have it.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port())
    }

    pub fn data(&self) -> &Path {
        &self.data
    }

    pub fn superuser(&self, database: &str) -> Login {
        Login {
            host: "127.0.0.1".into(),
            port: self.port(),
            database: database.into(),
            user: SUPERUSER.into(),
            password: SUPERUSER_PASSWORD.into(),
        }
    }

    /// Runs `sql` as the superuser; see [`psql::query`].
    pub fn query(&self, database: &str, sql: &str) -> Result<String> {
        self.script(database, &[sql.to_owned()])
    }

    /// Runs `statements` as the superuser, each in a transaction of its own.
    pub fn script(&self, database: &str, statements: &[String]) -> Result<String> {
        psql::script(&self.binaries, &self.superuser(database), statements)
            .with_context(|| format!("on {}\n{}", self.name, self.log_tail()))
    }

    /// The value is in force from the next start or [`reload`](Self::reload).
    pub fn set(&mut self, name: &str, value: &str) -> Result<()> {
        self.settings.insert(name.to_owned(), value.to_owned());
        self.write_settings()
    }

    /// Takes the settings of `other` that do not tell the two apart.
    pub(super) fn inherit(&mut self, other: &Self) {
        for (name, value) in &other.settings {
            if !OWN_SETTINGS.contains(&&**name) {
                self.settings.insert(name.clone(), value.clone());
            }
        }
    }

    pub fn reload(&self) -> Result<()> {
        process::signal(self.pid()?, Signal::SIGHUP)
    }

    pub(super) fn write_settings(&self) -> Result<()> {
        let line = |(name, value): (&String, &String)| format!("{name} = '{}'\n", value.replace('\'', "''"));
        self.write_file(SETTINGS_FILE, &self.settings.iter().map(line).collect::<String>())
    }

    /// Writes a file of the data directory, owned as the rest.
    pub fn write_file(&self, name: &str, text: &str) -> Result<()> {
        let path = self.data.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        // It may be a private key.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        self.account.own(&path)
    }

    pub(super) fn include_settings(&self) -> Result<()> {
        let configuration = fs::read_to_string(self.data.join("postgresql.conf"))?;
        self.write_file("postgresql.conf", &format!("{configuration}\ninclude '{SETTINGS_FILE}'\n"))
    }

    /// Starts the server and waits until it takes connections.
    pub fn start(&mut self) -> Result<()> {
        if self.child.is_some() {
            bail!("{} already runs", self.name);
        }
        self.write_settings()?;
        let output = File::options().create(true).append(true).open(self.log_path())?;
        let mut command = self.account.command(&self.binaries.server("postgres"));
        command.arg("-D").arg(&self.data).stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        // The terminal's Ctrl-C is for us; we then end the servers in order.
        let child = command.process_group(0).spawn().context("cannot start postgres")?;
        self.scratch.adopt(child.id());
        self.child = Some(child);
        self.wait_until_ready()
    }

    /// The last line of `postmaster.pid` says what the server is ready for.
    fn wait_until_ready(&mut self) -> Result<()> {
        let pid = self.pid()?.to_string();
        let path = self.data.join("postmaster.pid");
        let outcome = wait_for("the server to be ready", START_LIMIT, || {
            if let Some(status) = self.child.as_mut().map(Child::try_wait).transpose()?.flatten() {
                bail!("the server ended: {status}");
            }
            let text = fs::read_to_string(&path).unwrap_or_default();
            let mut lines = text.lines();
            let ours = lines.next() == Some(pid.as_str());
            Ok((ours && lines.last().is_some_and(|line| line.trim() == "ready")).then_some(()))
        });
        outcome.map_err(|error| anyhow!("{}: {error:#}\n{}", self.name, self.log_tail()))
    }

    pub fn stop(&mut self, shutdown: Shutdown) -> Result<()> {
        let pid = self.pid()?;
        let signal = match shutdown {
            Shutdown::Smart => Signal::SIGTERM,
            Shutdown::Fast => Signal::SIGINT,
            Shutdown::Immediate => Signal::SIGQUIT,
        };
        process::signal(pid, signal)?;
        self.reap()
    }

    pub fn restart(&mut self) -> Result<()> {
        self.stop(Shutdown::Fast)?;
        self.start()
    }

    /// SIGKILL to the server and all its backends at once, as if the machine had lost power.
    pub fn kill(&mut self) -> Result<()> {
        let tree = self.freeze_tree()?;
        for pid in &tree {
            process::signal(*pid, Signal::SIGKILL)?;
        }
        self.reap()?;
        self.remove_shared_memory();
        wait_for("the backends to end", STOP_LIMIT, || {
            Ok((!tree.iter().any(|pid| process::is_running(*pid))).then_some(()))
        })
    }

    /// A server that was killed leaves the segment that guards its data directory; `postmaster.pid` names it.
    fn remove_shared_memory(&self) {
        let file = fs::read_to_string(self.data.join("postmaster.pid")).unwrap_or_default();
        let segment = file.lines().nth(6).and_then(|line| line.split_whitespace().nth(1));
        if let Some(segment) = segment {
            // Where the program is missing, a few bytes stay until the machine restarts.
            let _ = command::run(Command::new("ipcrm").args(["-m", segment]), STOP_LIMIT);
        }
    }

    /// SIGSTOP to all its processes: connections are accepted by the kernel, and nobody answers.
    pub fn freeze(&self) -> Result<()> {
        self.freeze_tree().map(drop)
    }

    /// Stopped parents make no more children, so the list is complete when nothing new is found.
    fn freeze_tree(&self) -> Result<Vec<u32>> {
        let postmaster = self.pid()?;
        process::signal(postmaster, Signal::SIGSTOP)?;
        let tree = process::tree(postmaster);
        for pid in &tree {
            process::signal(*pid, Signal::SIGSTOP)?;
        }
        Ok(tree)
    }

    pub fn thaw(&self) -> Result<()> {
        process::tree(self.pid()?).into_iter().try_for_each(|pid| process::signal(pid, Signal::SIGCONT))
    }

    /// Makes a replica a primary and waits until it takes writes.
    pub fn promote(&self) -> Result<()> {
        let mut promote = self.account.command(&self.binaries.server("pg_ctl"));
        promote.args(["promote", "--wait", "--timeout=60", "--silent", "--pgdata"]).arg(&self.data);
        command::succeed(&mut promote, Duration::from_secs(70)).map(drop)
    }

    fn reap(&mut self) -> Result<()> {
        let child = self.child.as_mut().context("it does not run")?;
        let pid = child.id();
        process::wait(child, "the server to end", STOP_LIMIT)
            .map_err(|error| anyhow!("{}: {error:#}\n{}", self.name, self.log_tail()))?;
        self.scratch.release(pid);
        self.child = None;
        Ok(())
    }

    pub fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// The postmaster's process ID.
    pub fn pid(&self) -> Result<u32> {
        self.child.as_ref().map(Child::id).with_context(|| format!("{} does not run", self.name))
    }

    fn log_path(&self) -> PathBuf {
        self.scratch.path().join(format!("{}.log", self.name))
    }

    pub fn log(&self) -> String {
        fs::read(self.log_path()).map(|text| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default()
    }

    pub fn log_tail(&self) -> String {
        log::tail(&format!("log of {}", self.name), &self.log())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.log_tail());
        }
        if self.is_running() && (self.thaw().is_err() || self.stop(Shutdown::Immediate).is_err()) {
            let _ = self.kill();
        }
    }
}
