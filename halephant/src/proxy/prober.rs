//! Finds out which node is the primary: asks every node, over a connection that is kept open.

use super::cluster::Upstream;
use super::settings::ClusterConfig;
use crate::net::Role;
use crate::server::settings::ParameterSettings;
use crate::server::{Login, ServerConnection};
use crate::topology::settings::TopologySettings;
use crate::topology::{Cluster, NodeIndex};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout};

/// Requests for a probe that come closer together than this are one.
const REFRESH_INTERVAL_MIN: Duration = Duration::from_millis(100);

pub struct Prober {
    cluster: Arc<Cluster>,
    upstream: Arc<Upstream>,
    user: String,
    database: String,
    settings: TopologySettings,
    connections: Vec<Option<ServerConnection>>,
}

impl Prober {
    pub fn new(config: &ClusterConfig, cluster: Arc<Cluster>, upstream: Arc<Upstream>) -> Self {
        let connections = (0..cluster.len()).map(|_| None).collect();
        Self {
            cluster,
            upstream,
            user: config.node.admin_user.clone(),
            database: config.node.admin_database.clone(),
            settings: config.topology.clone(),
            connections,
        }
    }

    /// Asks every node at once. Returns whether any role changed.
    pub async fn probe(&mut self) -> bool {
        let nodes: Vec<NodeIndex> = self.cluster.nodes().map(|(index, _)| index).collect();
        let mut tasks = tokio::task::JoinSet::new();
        for node in nodes {
            let connection = self.connections[node.0].take();
            let probe = Probe {
                cluster: Arc::clone(&self.cluster),
                upstream: Arc::clone(&self.upstream),
                user: self.user.clone(),
                database: self.database.clone(),
                node,
            };
            let limit = self.settings.timeout;
            tasks.spawn(async move { (node, timeout(limit, probe.ask(connection)).await.unwrap_or(None)) });
        }
        let mut changed = false;
        while let Some(joined) = tasks.join_next().await {
            let Ok((node, answer)) = joined else { continue };
            let role = answer.as_ref().map(|(role, _)| *role);
            self.connections[node.0] = answer.map(|(_, connection)| connection);
            if self.cluster.observe(node, role) {
                changed = true;
                let role = role.map_or("unreachable", Role::as_str);
                tracing::info!(cluster = self.cluster.name, node = %self.cluster.node(node).address, role, "node role");
            }
        }
        changed
    }

    /// Probes for ever: at every interval, and when somebody asks. `changed` is called when a role is another one.
    pub async fn run(mut self, changed: impl Fn()) {
        loop {
            let began = Instant::now();
            if self.probe().await {
                changed();
            }
            let at = began + self.settings.interval;
            tokio::select! {
                () = sleep_until(at) => {}
                () = self.cluster.refresh_requested() => sleep_until(began + REFRESH_INTERVAL_MIN).await,
            }
        }
    }
}

/// One question to one node.
struct Probe {
    cluster: Arc<Cluster>,
    upstream: Arc<Upstream>,
    user: String,
    database: String,
    node: NodeIndex,
}

impl Probe {
    async fn ask(self, kept: Option<ServerConnection>) -> Option<(Role, ServerConnection)> {
        if let Some(connection) = kept
            && let Some(answer) = in_recovery(connection).await
        {
            return Some(answer);
        }
        let parameters =
            ParameterSettings { application_name: Some("halephant".into()), ..Default::default() };
        let login = Login { database: &self.database, role: &self.user, parameters: &parameters };
        match self.upstream.open_own(&self.cluster.node(self.node).address, login).await {
            Ok(connection) => in_recovery(connection).await,
            Err(error) => {
                let known = self.cluster.node(self.node).role().is_some();
                if known {
                    tracing::warn!(cluster = self.cluster.name, %error, "a node does not answer");
                } else {
                    tracing::debug!(cluster = self.cluster.name, %error, "a node does not answer");
                }
                None
            }
        }
    }
}

async fn in_recovery(mut connection: ServerConnection) -> Option<(Role, ServerConnection)> {
    let rows = connection.query("SELECT pg_catalog.pg_is_in_recovery()", &[]).await.ok()?;
    let role = match rows.first()?.first()?.as_deref()? {
        "t" => Role::Replica,
        "f" => Role::Primary,
        _ => return None,
    };
    Some((role, connection))
}
