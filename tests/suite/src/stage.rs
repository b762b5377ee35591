//! A cluster with halephant before it, as most tests want them.

use anyhow::Result;
use halephant_harness::postgres::cluster::Builder;
use halephant_harness::{Cluster, Login, Proxy, ProxyConfig, psql, wait_for};
use std::time::Duration;

use crate::Client;

/// The role that owns the database, and its pools' names.
pub const ROLE: &str = "app";
pub const PASSWORD: &str = "app-password";
pub const DATABASE: &str = "app";
/// The pool in transaction mode has the database's name; this one is the same database in session mode.
pub const SESSION_POOL: &str = "app_session";

#[derive(Debug)]
pub struct Stage {
    // Before the cluster: what is connected goes first.
    pub proxy: Proxy,
    pub cluster: Cluster,
}

impl Stage {
    /// One node, and ten server connections in either mode.
    pub fn new() -> Result<Self> {
        Self::with(Cluster::builder(), |config| config)
    }

    /// With more in the cluster and changes to the configuration.
    pub fn with(builder: Builder, change: impl FnOnce(ProxyConfig) -> ProxyConfig) -> Result<Self> {
        Self::within(&[], builder, change)
    }

    /// As [`with`](Self::with), in an environment with more variables.
    pub fn within(
        environment: &[(&str, &str)],
        builder: Builder,
        change: impl FnOnce(ProxyConfig) -> ProxyConfig,
    ) -> Result<Self> {
        let cluster = builder.role(ROLE, PASSWORD).database(DATABASE, ROLE).start()?;
        let proxy = Proxy::start_in(&change(Self::config(&cluster)), environment)?;
        Ok(Self { proxy, cluster })
    }

    pub fn config(cluster: &Cluster) -> ProxyConfig {
        ProxyConfig::new(cluster)
            .pool(DATABASE, "transaction", 10, &[ROLE])
            .pool(SESSION_POOL, "session", 10, &[ROLE])
            .set(&format!("cluster.main.pool.{SESSION_POOL}.database"), DATABASE)
    }

    pub fn direct(&self) -> Login {
        self.cluster.login(ROLE, DATABASE)
    }

    pub fn transaction(&self) -> Login {
        self.proxy.login(self.direct())
    }

    pub fn session(&self) -> Login {
        self.proxy.login(self.direct()).database(SESSION_POOL)
    }

    /// A client in transaction mode.
    pub fn client(&self) -> Result<Client> {
        Client::connect(&self.transaction())
    }

    /// Runs SQL on the server itself, as the owner of the database.
    pub fn prepare(&self, sql: &str) -> Result<String> {
        psql::query(self.cluster.binaries(), &self.direct(), sql)
    }

    /// Server processes that serve [`ROLE`].
    pub fn server_connections(&self) -> Result<usize> {
        self.cluster.connections_of(ROLE)
    }

    /// Terminates every server process of [`ROLE`], and waits until they are gone.
    pub fn end_server_connections(&self) -> Result<()> {
        let all = format!("SELECT pid FROM pg_stat_activity WHERE usename = '{ROLE}'");
        let pids = self.cluster.query("postgres", &all)?.replace('\n', ", ");
        if pids.is_empty() {
            return Ok(());
        }
        self.cluster.query("postgres", &format!("SELECT pg_terminate_backend(unnest(ARRAY[{pids}]))"))?;
        let left = format!("SELECT count(*) FROM pg_stat_activity WHERE pid IN ({pids})");
        self.wait_until(&left, "0", Duration::from_secs(10))
    }

    /// Waits until `sql`, run on the server as the superuser, gives `wanted`.
    pub fn wait_until(&self, sql: &str, wanted: &str, limit: Duration) -> Result<()> {
        wait_for(&format!("{sql} to give {wanted}"), limit, || {
            Ok((self.cluster.query("postgres", sql)? == wanted).then_some(()))
        })
    }

    /// Waits until the server has no process for [`ROLE`].
    pub fn wait_until_gone(&self, limit: Duration) -> Result<()> {
        self.wait_until(
            &format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{ROLE}'"),
            "0",
            limit,
        )
    }

    /// Waits until no server process of [`ROLE`] runs anything or has a transaction open.
    pub fn wait_until_idle(&self, limit: Duration) -> Result<()> {
        let busy =
            format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{ROLE}' AND state <> 'idle'");
        self.wait_until(&busy, "0", limit)
    }
}
