//! A throw-away cluster: a primary, its streaming replicas, roles and databases.

use anyhow::{Context, Result};
use std::sync::Arc;
use std::time::Duration;

use super::account::Account;
use super::node::Node;
use super::{Binaries, replica, template};
use crate::certificates::Identity;
use crate::scratch::Scratch;
use crate::{Login, process, tree, wait_for};

/// The role that halephant itself logs in as.
pub const ADMIN: &str = "halephant";
pub const ADMIN_PASSWORD: &str = "halephant-password";

/// Made for tests: nothing has to survive a crash of the machine, and a cluster is small.
const SETTINGS: [(&str, &str); 17] = [
    ("fsync", "off"),
    ("full_page_writes", "off"),
    ("password_encryption", "scram-sha-256"),
    ("max_connections", "100"),
    ("shared_buffers", "64MB"),
    // In the data directory, so that it goes with it after a crash.
    ("dynamic_shared_memory_type", "mmap"),
    ("max_wal_size", "1GB"),
    ("wal_level", "replica"),
    ("max_wal_senders", "8"),
    ("wal_keep_size", "256MB"),
    ("hot_standby", "on"),
    ("jit", "off"),
    ("timezone", "UTC"),
    ("log_timezone", "UTC"),
    ("logging_collector", "off"),
    ("log_line_prefix", "%m [%p] %q%u@%d "),
    ("log_checkpoints", "off"),
];

#[derive(Clone, Debug)]
pub struct Role {
    pub name: String,
    pub password: String,
}

#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Node>,
    roles: Vec<Role>,
    binaries: Binaries,
    // After the nodes, which stop when they are dropped.
    scratch: Arc<Scratch>,
}

impl Cluster {
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The node that was made as the primary; a promotion does not change which this is.
    pub fn primary(&self) -> &Node {
        &self.nodes[0]
    }

    /// All nodes, the primary first.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    pub fn node_mut(&mut self, index: usize) -> &mut Node {
        &mut self.nodes[index]
    }

    pub fn roles(&self) -> &[Role] {
        &self.roles
    }

    pub fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    /// A directory that goes when the cluster does.
    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// Runs `sql` on the primary as the superuser; see [`crate::psql::query`].
    pub fn query(&self, database: &str, sql: &str) -> Result<String> {
        self.primary().query(database, sql)
    }

    /// To the primary, as a role that the builder was given.
    pub fn login(&self, role: &str, database: &str) -> Login {
        let password = self.roles.iter().find(|known| known.name == role).map(|known| known.password.clone());
        Login {
            user: role.into(),
            password: password.unwrap_or_default(),
            ..self.primary().superuser(database)
        }
    }

    /// Waits until every running replica has replayed what the primary has written by now.
    pub fn wait_for_replay(&self) -> Result<()> {
        let replicas = self.nodes[1..].iter().filter(|node| node.is_running()).count();
        let written = self.query("postgres", "SELECT pg_current_wal_insert_lsn()")?;
        let sql = format!(
            "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND replay_lsn >= '{written}'"
        );
        wait_for("the replicas to catch up", Duration::from_secs(60), || {
            let done = self.query("postgres", &sql)?.parse::<usize>().is_ok_and(|count| count >= replicas);
            Ok(done.then_some(()))
        })
    }

    /// Server processes that serve `user`, on all running nodes.
    pub fn connections_of(&self, user: &str) -> Result<usize> {
        let sql =
            format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{}'", user.replace('\'', "''"));
        let running = self.nodes.iter().filter(|node| node.is_running());
        running.map(|node| Ok(node.query("postgres", &sql)?.parse::<usize>()?)).sum()
    }

    /// Adds a replica of node `index`, which runs, and waits until it streams.
    pub fn add_replica(&mut self, index: usize) -> Result<&mut Node> {
        let name = format!("replica{}", self.nodes.len());
        let primary = &mut self.nodes[index];
        let mut node = replica::create(&name, primary, &self.binaries, Account::for_server(), &self.scratch)?;
        node.start()?;
        self.nodes.push(node);
        self.wait_for_replay()?;
        self.nodes.last_mut().context("it was just added")
    }

    /// CPU time that its processes have used.
    pub fn cpu(&self) -> Duration {
        self.nodes.iter().filter_map(|node| node.pid().ok()).map(crate::cpu::of_tree).sum()
    }

    /// The servers' first processes.
    pub fn server_pids(&self) -> Vec<u32> {
        self.nodes.iter().filter_map(|node| node.pid().ok()).collect()
    }

    /// Every process of the cluster.
    pub fn pids(&self) -> Vec<u32> {
        self.nodes.iter().filter_map(|node| node.pid().ok()).flat_map(process::tree).collect()
    }
}

/// What a cluster is to be.
#[derive(Debug, Default)]
pub struct Builder {
    binaries: Option<Binaries>,
    replicas: usize,
    settings: Vec<(String, String)>,
    roles: Vec<(Role, String)>,
    databases: Vec<(String, String)>,
    hba: Vec<String>,
    files: Vec<(String, String)>,
}

impl Builder {
    /// Instead of those that are found on this machine.
    #[must_use]
    pub fn binaries(mut self, binaries: Binaries) -> Self {
        self.binaries = Some(binaries);
        self
    }

    #[must_use]
    pub fn replicas(mut self, count: usize) -> Self {
        self.replicas = count;
        self
    }

    /// A line of `postgresql.conf`, on all nodes.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// A role that may log in, its password stored as a SCRAM verifier.
    #[must_use]
    pub fn role(self, name: &str, password: &str) -> Self {
        self.role_with(name, password, "")
    }

    /// As [`role`](Self::role), with more of CREATE ROLE's options.
    #[must_use]
    pub fn role_with(mut self, name: &str, password: &str, options: &str) -> Self {
        self.roles.push((Role { name: name.into(), password: password.into() }, options.into()));
        self
    }

    #[must_use]
    pub fn database(mut self, name: &str, owner: &str) -> Self {
        self.databases.push((name.into(), owner.into()));
        self
    }

    /// A line of `pg_hba.conf` before the default ones, which are SCRAM for everybody on both loopback addresses.
    #[must_use]
    pub fn hba(mut self, line: &str) -> Self {
        self.hba.push(line.into());
        self
    }

    /// A file of the data directory, by its name there.
    #[must_use]
    pub fn file(mut self, name: &str, text: &str) -> Self {
        self.files.push((name.into(), text.into()));
        self
    }

    /// `ssl = on`, with this certificate.
    #[must_use]
    pub fn tls(self, identity: &Identity) -> Self {
        self.file("server.crt", &identity.certificate).file("server.key", &identity.key).setting("ssl", "on")
    }

    /// Makes and starts it; returns when the replicas stream.
    pub fn start(self) -> Result<Cluster> {
        let account = Account::for_server();
        let scratch = Arc::new(Scratch::new("cluster")?);
        let binaries = self.binaries.clone().map_or_else(Binaries::find_or_install, Ok)?;
        let binaries = runnable(binaries, account, &scratch)?;

        let mut primary = Node::new("primary", &binaries, account, &scratch)?;
        template::create(&binaries, account, scratch.path(), primary.data())?;
        primary.include_settings()?;
        primary.write_file("pg_hba.conf", &self.hba_text())?;
        for (name, text) in &self.files {
            primary.write_file(name, text)?;
        }
        let settings = SETTINGS.iter().map(|(name, value)| (*name, *value));
        for (name, value) in settings.chain(self.settings.iter().map(|(name, value)| (&**name, &**value))) {
            if name != "wal_keep_size" || binaries.version.major >= 13 {
                primary.set(name, value)?;
            }
        }

        primary.start()?;
        primary.script("postgres", &self.population())?;
        let mut replicas = Vec::new();
        for number in 1..=self.replicas {
            let mut replica =
                replica::create(&format!("replica{number}"), &mut primary, &binaries, account, &scratch)?;
            replica.start()?;
            replicas.push(replica);
        }
        let roles = self.roles.into_iter().map(|(role, _)| role).collect();
        let nodes = std::iter::once(primary).chain(replicas).collect();
        let cluster = Cluster { nodes, roles, binaries, scratch };
        cluster.wait_for_replay()?;
        Ok(cluster)
    }

    fn hba_text(&self) -> String {
        let mut lines = self.hba.clone();
        for address in ["127.0.0.1/32", "::1/128"] {
            lines.push(format!("host all all {address} scram-sha-256"));
            lines.push(format!("host replication {} {address} scram-sha-256", replica::ROLE));
        }
        lines.join("\n") + "\n"
    }

    /// Roles and databases. The admin role may read the verifiers, without being a superuser.
    fn population(&self) -> Vec<String> {
        let mut sql = vec![
            create_role(replica::ROLE, replica::PASSWORD, "REPLICATION"),
            create_role(ADMIN, ADMIN_PASSWORD, ""),
            format!("GRANT SELECT ON pg_catalog.pg_shadow TO {ADMIN}"),
            format!("GRANT pg_monitor TO {ADMIN}"),
        ];
        sql.extend(self.roles.iter().map(|(role, options)| create_role(&role.name, &role.password, options)));
        for (name, owner) in &self.databases {
            sql.push(format!("CREATE DATABASE {} OWNER {}", identifier(name), identifier(owner)));
        }
        sql
    }
}

fn create_role(name: &str, password: &str, options: &str) -> String {
    format!("CREATE ROLE {} LOGIN {options} PASSWORD '{}'", identifier(name), password.replace('\'', "''"))
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The programs where `account` may run them: where they are, or a copy.
fn runnable(binaries: Binaries, account: Account, scratch: &Scratch) -> Result<Binaries> {
    if account.can_run(&binaries.server("postgres")) {
        return Ok(binaries);
    }
    let home = binaries.directory().parent().context("bin has a parent directory")?;
    let copy = scratch.path().join("programs");
    tree::copy(home, &copy)?;
    Ok(binaries.moved_to(copy.join("bin")))
}
