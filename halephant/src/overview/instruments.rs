//! Every instrument with its values: the one list that Prometheus, OTLP and the documentation share.

pub(super) mod names;
#[cfg(test)]
mod tests;

pub use names::ALL;

use super::Source;
use super::collect::{nodes_of, of_cluster, role_text};
use super::kernel_path::{of_nodes, reclaims, statuses};
use crate::cancel::ClientState;
use crate::net::NodeAddress;
use crate::pool::Pool;
use crate::pool::snapshot::PoolSnapshot;
use crate::telemetry::instrument::{Attributes, Family};
use crate::telemetry::metrics::{Distribution, PoolTotals};
use crate::topology::{Cluster, NodeIndex};
use names::{
    ACCEPTED, CLIENTS, CONNECTIONS, CONNECTIONS_MAX, CREATE_TIME, DENIED, ERRORS, HEALTHY, LAG,
    LOGIN_FAILURES, LOGINS, PINS, QUEUE_DEPTH, REFUSED, RELAYED, RELOADS, SPLICED_ARMS, SPLICED_BYTES,
    SPLICED_EVENTS_LOST, SPLICED_MESSAGES, SPLICED_RECLAIMS, SPLICED_SESSIONS, SPLICED_SESSIONS_JOINED,
    SPLICED_STALLS, SPLICED_TRANSACTIONS, STATEMENTS, THROTTLED, TIMEOUTS, TRANSACTIONS, WAIT_DURATION,
    WAIT_TIME,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Every instrument with what it says now.
pub fn families(source: &dyn Source) -> Vec<Family> {
    let pools: Vec<_> = source.pools().into_iter().map(PoolView::new).collect();
    let mut families = Vec::new();
    families.extend(connections(&pools));
    families.extend(histograms(&pools));
    families.extend(counters(&pools));
    families.extend(health(source));
    families.push(clients(source));
    families.extend(process(source));
    families.extend(spliced(source));
    families.extend(super::listeners::families(source));
    families
}

/// A pool with its copies, so that all instruments show the same moment.
struct PoolView {
    pool: Arc<Pool>,
    snapshot: PoolSnapshot,
    totals: PoolTotals,
}

impl PoolView {
    fn new(pool: Arc<Pool>) -> Self {
        let (snapshot, totals) = (pool.snapshot(), pool.metrics().totals());
        Self { pool, snapshot, totals }
    }

    fn attributes(&self) -> Attributes {
        vec![
            ("halephant.cluster", self.pool.cluster().name.clone()),
            ("db.client.connection.pool.name", self.pool.settings().name.clone()),
        ]
    }

    fn with(&self, more: impl IntoIterator<Item = (&'static str, String)>) -> Attributes {
        let mut attributes = self.attributes();
        attributes.extend(more);
        attributes
    }
}

fn node_attributes(cluster: &Cluster, index: NodeIndex) -> [(&'static str, String); 2] {
    let address = &cluster.node(index).address;
    [("server.address", address.host.clone()), ("server.port", address.port.to_string())]
}

/// Connections per node and user, and what they may come to.
fn connections(pools: &[PoolView]) -> [Family; 3] {
    let mut count = Family::new(CONNECTIONS);
    let mut max = Family::new(CONNECTIONS_MAX);
    let mut queued = Family::new(QUEUE_DEPTH);
    for view in pools {
        let cluster = view.pool.cluster();
        for (user, snapshot) in view.pool.settings().users.iter().zip(&view.snapshot.users) {
            let name = || ("halephant.user", user.name.clone());
            for (index, _, _) in nodes_of(cluster) {
                let node = snapshot.nodes.get(index.0).copied().unwrap_or_default();
                for (state, value) in [
                    ("idle", node.idle),
                    ("used", node.used),
                    ("opening", node.opening),
                    ("closing", node.closing),
                ] {
                    let state = ("db.client.connection.state", state.to_owned());
                    let node = node_attributes(cluster, index);
                    count.count(view.with([name(), state].into_iter().chain(node)), value.into());
                }
            }
            for queue in &snapshot.queues {
                let role = ("halephant.role", queue.role.as_str().to_owned());
                queued.count(view.with([name(), role]), queue.depth as u64);
            }
        }
        for (index, _, _) in nodes_of(cluster) {
            max.count(view.with(node_attributes(cluster, index)), view.pool.limit(index).into());
        }
    }
    [count, max, queued]
}

fn histograms(pools: &[PoolView]) -> [Family; 5] {
    let of = |instrument, distribution: fn(&PoolTotals) -> &Distribution| {
        let mut family = Family::new(instrument);
        for view in pools {
            family.distribution(view.attributes(), distribution(&view.totals).clone());
        }
        family
    };
    [
        of(WAIT_TIME, |totals| &totals.checkouts),
        of(CREATE_TIME, |totals| &totals.connects),
        of(WAIT_DURATION, |totals| &totals.waits),
        of(TRANSACTIONS, |totals| &totals.transactions),
        of(STATEMENTS, |totals| &totals.statements),
    ]
}

fn counters(pools: &[PoolView]) -> [Family; 5] {
    let mut errors = Family::new(ERRORS);
    let mut pins = Family::new(PINS);
    let mut denied = Family::new(DENIED);
    let mut timeouts = Family::new(TIMEOUTS);
    let mut bytes = Family::new(RELAYED);
    for view in pools {
        for (kind, count) in &view.totals.errors {
            errors.count(view.with([("error.type", (*kind).to_owned())]), *count);
        }
        for (reason, count) in &view.totals.pins {
            pins.count(view.with([("reason", (*reason).to_owned())]), *count);
        }
        for (reason, count) in &view.totals.denied {
            denied.count(view.with([("reason", (*reason).to_owned())]), *count);
        }
        for (limit, count) in &view.totals.timeouts {
            timeouts.count(view.with([("limit", (*limit).to_owned())]), *count);
        }
        for (direction, count) in
            DIRECTIONS.into_iter().zip([view.totals.received_bytes, view.totals.sent_bytes])
        {
            bytes.count(view.with([("direction", direction.to_owned())]), count);
        }
    }
    [errors, pins, denied, timeouts, bytes]
}

fn health(source: &dyn Source) -> [Family; 2] {
    let (mut family, mut lags) = (Family::new(HEALTHY), Family::new(LAG));
    for cluster in source.clusters() {
        for (index, node, role) in nodes_of(&cluster) {
            if let Some(lag) = cluster.lag(&node).and_then(|lag| lag.time) {
                let own = [("halephant.cluster", cluster.name.clone())];
                let attributes = own.into_iter().chain(node_attributes(&cluster, index)).collect();
                lags.number(attributes, lag.as_secs_f64());
            }
            let own =
                [("halephant.cluster", cluster.name.clone()), ("halephant.role", role_text(role).to_owned())];
            let attributes = own.into_iter().chain(node_attributes(&cluster, index)).collect();
            family.count(attributes, u64::from(role.is_some()));
        }
    }
    [family, lags]
}

fn clients(source: &dyn Source) -> Family {
    let mut counts: BTreeMap<(String, String), [u64; ClientState::ALL.len()]> = BTreeMap::new();
    let pools = source.pools();
    for cluster in source.clusters() {
        for pool in of_cluster(&pools, &cluster) {
            counts.insert((cluster.name.clone(), pool.settings().name.clone()), Default::default());
        }
    }
    for handle in source.sessions().all() {
        let details = &handle.client().details;
        let key = (details.cluster.clone(), details.database.clone());
        counts.entry(key).or_default()[handle.client().state() as usize] += 1;
    }
    let mut family = Family::new(CLIENTS);
    for ((cluster, pool), states) in counts {
        for (state, count) in ClientState::ALL.into_iter().zip(states) {
            let attributes = vec![
                ("halephant.cluster", cluster.clone()),
                ("db.client.connection.pool.name", pool.clone()),
                ("state", state.as_str().to_owned()),
            ];
            family.count(attributes, count);
        }
    }
    family
}

fn process(source: &dyn Source) -> [Family; 6] {
    let metrics = source.process();
    let mut reloads = Family::new(RELOADS);
    for (outcome, count) in metrics.reloads.totals() {
        reloads.count(vec![("outcome", outcome.to_owned())], count);
    }
    let mut accepted = Family::new(ACCEPTED);
    accepted.count(vec![], metrics.accepted.total());
    let mut refused = Family::new(REFUSED);
    for (limit, count) in metrics.refused.totals() {
        refused.count(vec![("limit", limit.to_owned())], count);
    }
    let mut logins = Family::new(LOGINS);
    logins.count(vec![], metrics.logins.total());
    let mut failures = Family::new(LOGIN_FAILURES);
    for (reason, count) in metrics.login_failures.totals() {
        failures.count(vec![("reason", reason.to_owned())], count);
    }
    let mut throttled = Family::new(THROTTLED);
    throttled.count(vec![], source.throttle_entries() as u64);
    [reloads, accepted, refused, logins, failures, throttled]
}

/// Of the kernel path; nothing where it was not started.
fn spliced(source: &dyn Source) -> [Family; 9] {
    let mut families = [
        SPLICED_BYTES,
        SPLICED_MESSAGES,
        SPLICED_TRANSACTIONS,
        SPLICED_SESSIONS,
        SPLICED_SESSIONS_JOINED,
        SPLICED_RECLAIMS,
        SPLICED_STALLS,
        SPLICED_ARMS,
        SPLICED_EVENTS_LOST,
    ]
    .map(Family::new);
    let Ok(splice) = source.splice() else { return families };
    let [bytes, messages, transactions, sessions, joined, reclaimed, stalls, arms, lost] = &mut families;
    for of_node in of_nodes(source, &splice) {
        let with = |more: Option<(&'static str, &str)>| {
            let mut attributes = vec![("halephant.cluster", of_node.cluster.clone())];
            attributes.extend(named_attributes(&of_node.node));
            attributes.extend(more.map(|(key, value)| (key, value.to_owned())));
            attributes
        };
        let counters = &of_node.counters;
        for (way, direction) in DIRECTIONS.into_iter().enumerate() {
            bytes.count(with(Some(("direction", direction))), counters.bytes[way]);
            messages.count(with(Some(("direction", direction))), counters.messages[way]);
        }
        for (status, count) in statuses(counters) {
            transactions.count(with(Some(("status", status))), count);
        }
        for (reason, count) in reclaims(counters) {
            reclaimed.count(with(Some(("reason", reason))), count);
        }
        sessions.count(with(None), of_node.sessions.into());
        joined.count(with(None), of_node.sessions_total);
        stalls.count(with(None), counters.stalls());
        arms.count(with(None), counters.arms);
        lost.count(with(None), counters.events_lost);
    }
    families
}

/// By the numbers that the kernel's counters have.
const DIRECTIONS: [&str; 2] = ["to_server", "to_client"];

/// Of a node by its name; nodes that came too late for counters of their own have one name together.
fn named_attributes(node: &str) -> Attributes {
    match node.parse::<NodeAddress>() {
        Ok(address) => vec![("server.address", address.host), ("server.port", address.port.to_string())],
        Err(_) => vec![("server.address", node.to_owned())],
    }
}
