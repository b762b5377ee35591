//! Rows from copies of pools and sessions.

use super::Source;
use super::rows::{ClientRow, ClusterRow, NodeRow, PoolRow, QueueRow, ServerRow};
use crate::cancel::{ClientState, KernelPath, SessionHandle};
use crate::net::Role;
use crate::pool::Pool;
use crate::pool::snapshot::NodeConnections;
use crate::topology::{Cluster, Node, NodeIndex};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

pub fn clusters(source: &dyn Source) -> Vec<ClusterRow> {
    let pools = source.pools();
    let row = |cluster: Arc<Cluster>| {
        let count = |role| nodes_of(&cluster).filter(|(_, _, found)| *found == role).count() as u32;
        // One that is drained takes no writes.
        let primary = nodes_of(&cluster).find(|(_, node, _)| node.role() == Some(Role::Primary));
        ClusterRow {
            cluster: cluster.name.clone(),
            ready: primary.is_some(),
            primary: primary.map(|(_, node, _)| node.address.to_string()),
            replicas: count(Some(Role::Replica)),
            unreachable: count(None),
            pools: of_cluster(&pools, &cluster).map(|pool| pool.settings().name.clone()).collect(),
        }
    };
    source.clusters().into_iter().map(row).collect()
}

pub fn nodes(source: &dyn Source) -> Vec<NodeRow> {
    let pools = source.pools();
    let mut rows = Vec::new();
    for cluster in source.clusters() {
        let pools: Vec<_> = of_cluster(&pools, &cluster).map(|pool| (pool, pool.snapshot())).collect();
        for (index, node, role) in nodes_of(&cluster) {
            let users = pools.iter().flat_map(|(_, snapshot)| &snapshot.users);
            let sum = sum(users.filter_map(|user| user.nodes.get(index.0)));
            let lag = cluster.lag(&node);
            rows.push(NodeRow {
                cluster: cluster.name.clone(),
                node: node.address.to_string(),
                draining: node.is_draining(),
                replication_lag_seconds: lag.and_then(|lag| lag.time).map(|time| time.as_secs_f64()),
                replication_lag_bytes: lag.and_then(|lag| lag.bytes),
                role: role_text(role),
                healthy: role.is_some(),
                idle: sum.idle,
                used: sum.used,
                opening: sum.opening,
                closing: sum.closing,
                max_connections: pools.iter().map(|(pool, _)| pool.limit(index)).sum(),
            });
        }
    }
    rows
}

pub fn pools(source: &dyn Source) -> Vec<PoolRow> {
    let mut clients: HashMap<(String, String), Vec<Arc<SessionHandle>>> = HashMap::new();
    for handle in source.sessions().all() {
        let details = &handle.client().details;
        clients.entry((details.database.clone(), details.user.clone())).or_default().push(handle);
    }
    let mut rows = Vec::new();
    for pool in source.pools() {
        let settings = pool.settings();
        let snapshot = pool.snapshot();
        let paused = snapshot.paused;
        for (user, snapshot) in settings.users.iter().zip(snapshot.users) {
            let clients = clients.remove(&(settings.name.clone(), user.name.clone())).unwrap_or_default();
            let count = |wanted: &[ClientState]| {
                clients.iter().filter(|client| wanted.contains(&client.client().state())).count() as u32
            };
            let sum = sum(snapshot.nodes.iter());
            let oldest = snapshot.queues.iter().filter_map(|queue| queue.oldest_wait).max();
            rows.push(PoolRow {
                cluster: pool.cluster().name.clone(),
                pool: settings.name.clone(),
                database: settings.database.clone(),
                user: user.name.clone(),
                mode: settings.mode.as_str(),
                clients_active: count(&[ClientState::Active, ClientState::IdleInTransaction]),
                clients_idle: count(&[ClientState::Idle]),
                clients_waiting: count(&[ClientState::Waiting]),
                clients_pinned: clients
                    .iter()
                    .filter(|client| client.client().activity().pin.is_some())
                    .count() as u32,
                servers_idle: sum.idle,
                servers_used: sum.used,
                servers_opening: sum.opening,
                servers_closing: sum.closing,
                oldest_wait_seconds: oldest.map(|wait| wait.as_secs_f64()),
                paused,
            });
        }
    }
    rows
}

pub fn servers(source: &dyn Source) -> Vec<ServerRow> {
    let mut rows = Vec::new();
    for pool in source.pools() {
        for server in pool.servers() {
            rows.push(ServerRow {
                cluster: pool.cluster().name.clone(),
                pool: pool.settings().name.clone(),
                user: pool.user_name(server.user).unwrap_or_default(),
                node: pool.cluster().node(server.node).address.to_string(),
                process_id: server.process_id,
                state: server.state().as_str(),
                opened: time_text(server.opened),
                client_process_id: server.client(),
                checkouts: server.checkouts(),
            });
        }
    }
    rows
}

/// In the order in which they came.
pub fn clients(source: &dyn Source) -> Vec<ClientRow> {
    let mut handles = source.sessions().all();
    handles.sort_by_key(|handle| (handle.client().connected, handle.process_id()));
    let is_killed = source.splice().is_ok_and(|splice| splice.is_killed());
    handles.iter().map(|handle| client(handle, is_killed)).collect()
}

/// `is_killed`: the kernel path is switched off.
fn client(handle: &SessionHandle, is_killed: bool) -> ClientRow {
    let (stats, activity) = (handle.client(), handle.client().activity());
    let kernel_path = if is_killed { KernelPath::Off } else { activity.kernel_path };
    let details = &stats.details;
    let role = details.role.map(Role::as_str);
    let waiting = activity.state == ClientState::Waiting;
    ClientRow {
        process_id: handle.process_id(),
        address: details.origin.to_string(),
        user: details.user.clone(),
        database: details.database.clone(),
        cluster: details.cluster.clone(),
        application_name: details.application_name.clone(),
        role,
        state: activity.state.as_str(),
        since: time_text(activity.since),
        connected: time_text(stats.connected),
        waiting_for: waiting
            .then(|| format!("a connection to a {} for pool {}", role.unwrap_or("node"), details.database)),
        pin: activity.pin,
        spliced: matches!(kernel_path, KernelPath::On(_)),
        kernel_path: kernel_path.as_str(),
        server_process_id: activity.server_process_id,
        transactions: activity.transactions,
        received_bytes: activity.received_bytes,
        sent_bytes: activity.sent_bytes,
    }
}

pub fn queues(source: &dyn Source) -> Vec<QueueRow> {
    let mut rows = Vec::new();
    for pool in source.pools() {
        let settings = pool.settings();
        for (user, snapshot) in settings.users.iter().zip(pool.snapshot().users) {
            for queue in snapshot.queues.iter().filter(|queue| queue.depth > 0) {
                rows.push(QueueRow {
                    cluster: pool.cluster().name.clone(),
                    pool: settings.name.clone(),
                    user: user.name.clone(),
                    role: queue.role.as_str(),
                    depth: u32::try_from(queue.depth).unwrap_or(u32::MAX),
                    oldest_wait_seconds: queue.oldest_wait.unwrap_or_default().as_secs_f64(),
                    checkout_timeout_seconds: settings.checkout_timeout.as_secs_f64(),
                });
            }
        }
    }
    rows
}

/// The nodes that the configuration names: position, address, role as the last probe found it.
pub(super) fn nodes_of(cluster: &Cluster) -> impl Iterator<Item = (NodeIndex, Arc<Node>, Option<Role>)> {
    cluster.configured().into_iter().map(|(index, node)| {
        let role = node.assessed_role();
        (index, node, role)
    })
}

pub(super) fn of_cluster<'a>(
    pools: &'a [Arc<Pool>],
    cluster: &'a Cluster,
) -> impl Iterator<Item = &'a Arc<Pool>> {
    pools.iter().filter(|pool| pool.cluster().name == cluster.name)
}

fn sum<'a>(connections: impl Iterator<Item = &'a NodeConnections>) -> NodeConnections {
    connections.fold(NodeConnections::default(), |sum, more| NodeConnections {
        idle: sum.idle + more.idle,
        used: sum.used + more.used,
        opening: sum.opening + more.opening,
        closing: sum.closing + more.closing,
    })
}

pub(super) fn role_text(role: Option<Role>) -> &'static str {
    role.map_or("unknown", Role::as_str)
}

fn time_text(time: SystemTime) -> String {
    // Only times beyond the year 9999 cannot be written.
    let end = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(253_402_300_799);
    humantime::format_rfc3339_millis(time.clamp(SystemTime::UNIX_EPOCH, end)).to_string()
}
