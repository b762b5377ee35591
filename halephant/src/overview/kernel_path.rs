//! The kernel path at one moment: whether it is on, which sockets it takes, what it moved for which node.

use super::Source;
use super::collect::nodes_of;
use super::rows::{KernelNodeRow, KernelPathRow, KernelSocketsRow};
use crate::cancel::KernelPath;
use crate::splice::{Direction, NodeCounters, Reason, Splice};
use std::collections::BTreeMap;

/// What the programs counted for a node, and the sessions that they serve now.
#[derive(Default)]
pub(super) struct OfNode {
    /// Empty for nodes that came too late for counters of their own: they have one name together.
    pub(super) cluster: String,
    pub(super) node: String,
    pub(super) counters: NodeCounters,
    pub(super) sessions: u32,
    /// And those that it served at any time.
    pub(super) sessions_total: u64,
}

/// Nodes that are configured, and those that were and had sessions; in the order of their names.
pub(super) fn of_nodes(source: &dyn Source, splice: &Splice) -> Vec<OfNode> {
    let mut nodes: BTreeMap<(String, String), OfNode> = BTreeMap::new();
    for cluster in source.clusters() {
        for (_, node, _) in nodes_of(&cluster) {
            nodes.entry((cluster.name.clone(), node.address.to_string())).or_default();
        }
    }
    for (node, counters) in splice.nodes() {
        // No address has a slash in it.
        let (cluster, address) = node.name.rsplit_once('/').unwrap_or(("", &node.name));
        let of_node = nodes.entry((cluster.to_owned(), address.to_owned())).or_default();
        (of_node.counters, of_node.sessions_total) = (counters, node.sessions);
    }
    // Switched off, the programs pass everything; sessions keep their places for when it is on again.
    let sessions = if splice.is_killed() { vec![] } else { source.sessions().all() };
    for handle in sessions {
        if matches!(handle.client().activity().kernel_path, KernelPath::On(_))
            && let Some(node) = handle.node()
        {
            nodes.entry((handle.client().details.cluster.clone(), node)).or_default().sessions += 1;
        }
    }
    let named = |((cluster, node), of_node)| OfNode { cluster, node, ..of_node };
    nodes.into_iter().map(named).collect()
}

pub fn kernel_path(source: &dyn Source) -> KernelPathRow {
    let splice = match source.splice() {
        Ok(splice) => splice,
        Err(reason) => {
            let reason = Some(reason.to_owned());
            return KernelPathRow {
                active: false,
                reason,
                flows: 0,
                faults: 0,
                paths: vec![],
                nodes: vec![],
            };
        }
    };
    let [to_server, to_client] =
        [Direction::ClientToServer, Direction::ServerToClient].map(|way| way as usize);
    let sockets = splice.report().paths.iter().map(|outcome| KernelSocketsRow {
        sockets: outcome.path.name(),
        to_server: outcome.used.0[to_server],
        to_client: outcome.used.0[to_client],
        reason: outcome.reason.clone(),
    });
    KernelPathRow {
        active: !splice.is_killed(),
        reason: splice.is_killed().then(|| match splice.faults() {
            0 => "it was switched off while the process runs".to_owned(),
            _ => "it had a fault, and stays off until the process is started again".to_owned(),
        }),
        flows: u32::try_from(splice.flows()).unwrap_or(u32::MAX),
        faults: splice.faults(),
        paths: sockets.collect(),
        nodes: of_nodes(source, &splice).into_iter().map(row).collect(),
    }
}

fn row(of_node: OfNode) -> KernelNodeRow {
    let OfNode { cluster, node, counters, sessions, sessions_total } = of_node;
    let [to_server, to_client] =
        [Direction::ClientToServer, Direction::ServerToClient].map(|way| way as usize);
    KernelNodeRow {
        cluster,
        node,
        sessions,
        sessions_total,
        bytes_to_server: counters.bytes[to_server],
        bytes_to_client: counters.bytes[to_client],
        messages_to_server: counters.messages[to_server],
        messages_to_client: counters.messages[to_client],
        transactions: statuses(&counters).map(|(status, count)| (status.to_owned(), count)).collect(),
        reclaims: reclaims(&counters).map(|(reason, count)| (reason.to_owned(), count)).collect(),
        stalls: counters.stalls(),
        arms: counters.arms,
        events_lost: counters.events_lost,
    }
}

/// Answers by the transaction status that they ended with.
pub(super) fn statuses(counters: &NodeCounters) -> impl Iterator<Item = (&'static str, u64)> + use<> {
    ["idle", "in_transaction", "failed"].into_iter().zip(counters.ready)
}

pub(super) fn reclaims(counters: &NodeCounters) -> impl Iterator<Item = (&'static str, u64)> + use<> {
    Reason::ALL.map(Reason::name).into_iter().zip(counters.reclaims)
}
