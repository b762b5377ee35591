//! A configuration file for a cluster that the harness made.

use anyhow::{Context, Result};
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use toml::{Table, Value};

use crate::postgres::Cluster;
use crate::postgres::cluster::{ADMIN, ADMIN_PASSWORD};

/// `halephant.toml` as a table, and the lines of its password file.
#[derive(Clone, Debug)]
pub struct ProxyConfig {
    table: Table,
    pgpass: Vec<String>,
    listen: Vec<String>,
}

/// The kernel path that a test's proxies use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelPath {
    Off,
    OwnSocket,
    Colocated,
}

impl KernelPath {
    /// Names the path for a whole run of tests; without it they run in userspace.
    pub const VARIABLE: &str = "HALEPHANT_TEST_KERNEL_PATH";
    pub const ALL: [Self; 3] = [Self::Off, Self::OwnSocket, Self::Colocated];

    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::OwnSocket => "own-socket",
            Self::Colocated => "colocated",
        }
    }

    pub fn of_environment() -> Self {
        let Some(wanted) = std::env::var_os(Self::VARIABLE) else { return Self::Off };
        let known = Self::ALL.into_iter().find(|path| wanted == path.name());
        known.unwrap_or_else(|| panic!("{} is {}", Self::VARIABLE, wanted.display()))
    }
}

impl ProxyConfig {
    /// A cluster `main` with the nodes of `cluster` and no pool yet. Of passwords, halephant has its own role's.
    pub fn new(cluster: &Cluster) -> Self {
        let nodes: Vec<String> = cluster.nodes().iter().map(super::super::postgres::Node::address).collect();
        let config = Self {
            table: Table::new(),
            pgpass: vec![format!("*:*:*:{ADMIN}:{ADMIN_PASSWORD}")],
            listen: Vec::new(),
        };
        config
            .set("logging.format", "text")
            .set("logging.level", "debug")
            .set("cluster.main.nodes", nodes)
            .set("cluster.main.admin_user", ADMIN)
            .kernel_path(KernelPath::of_environment())
    }

    /// How sessions are moved. A path other than userspace is required: the proxy does not start without it.
    #[must_use]
    pub fn kernel_path(self, path: KernelPath) -> Self {
        match path {
            KernelPath::Off => self.set("ebpf.mode", "off"),
            KernelPath::OwnSocket => self.set("ebpf.mode", "require"),
            KernelPath::Colocated => self.set("ebpf.mode", "require").set("ebpf.colocated", true),
        }
    }

    /// A pool of cluster `main` for the database of the same name, for `users`, with `max` connections to the primary.
    #[must_use]
    pub fn pool(mut self, name: &str, mode: &str, max: u32, users: &[&str]) -> Self {
        let path = format!("cluster.main.pool.{name}");
        self = self
            .set(&format!("{path}.mode"), mode)
            .set(&format!("{path}.max_connections.primary"), i64::from(max));
        users.iter().fold(self, |config, user| config.set(&format!("{path}.user.{user}"), Table::new()))
    }

    /// Sets the key at a path of bare keys.
    #[must_use]
    pub fn set(mut self, path: &str, value: impl Into<Value>) -> Self {
        let mut keys: Vec<&str> = path.split('.').collect();
        let last = keys.pop().unwrap_or_default();
        let mut table = &mut self.table;
        for key in keys {
            let entry = table.entry(key).or_insert_with(|| Value::Table(Table::new()));
            if !entry.is_table() {
                *entry = Value::Table(Table::new());
            }
            match entry {
                Value::Table(below) => table = below,
                _ => unreachable!("made a table above"),
            }
        }
        table.insert(last.to_owned(), value.into());
        self
    }

    /// Another entry of `server.listen`, beside the loopback addresses.
    #[must_use]
    pub fn listen(mut self, entry: &str) -> Self {
        self.listen.push(entry.into());
        self
    }

    pub(super) fn more_listen(&self) -> &[String] {
        &self.listen
    }

    /// A line of the password file, as `host:port:database:user:password`.
    #[must_use]
    pub fn pgpass(mut self, line: &str) -> Self {
        self.pgpass.push(line.into());
        self
    }

    /// Whether the kernel path has to be there without a path that the policy uses: the environment has to ask for it.
    pub(super) fn requires_every_path(&self) -> bool {
        let key = |name| self.table.get("ebpf").and_then(|section| section.get(name));
        let colocated = key("colocated").and_then(Value::as_bool).unwrap_or(false);
        key("mode").and_then(Value::as_str) == Some("require") && !colocated
    }

    pub fn text(&self) -> Result<String> {
        toml::to_string(&self.table).context("the configuration is not TOML")
    }

    /// Readable by the owner alone, or libpq's rule refuses it.
    pub fn write_pgpass(&self, path: &Path) -> Result<()> {
        let mut file = fs::File::options().create(true).write(true).truncate(true).mode(0o600).open(path)?;
        file.write_all((self.pgpass.join("\n") + "\n").as_bytes())?;
        Ok(())
    }
}
