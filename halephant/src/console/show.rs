//! SHOW: each command's columns and rows.

use super::command::{ORDERS, SHOWN, Shown};
use super::table::{Row, Table};
use crate::overview::rows::KernelPathRow;
use crate::overview::{self, Source};
use serde_json::Value;
use std::net::SocketAddr;

/// The columns are known before anything is looked at: a Describe asks for them.
pub(super) fn columns(shown: Shown) -> &'static [&'static str] {
    match shown {
        Shown::Help => &["command", "description"],
        Shown::Version => &["version"],
        Shown::Clusters => &["cluster", "ready", "primary", "replicas", "unreachable", "databases"],
        Shown::Nodes => &[
            "cluster",
            "node",
            "role",
            "healthy",
            "sv_active",
            "sv_idle",
            "sv_login",
            "sv_closing",
            "max_connections",
            "draining",
            "lag_seconds",
            "lag_bytes",
        ],
        Shown::Pools => &[
            "database",
            "user",
            "cl_active",
            "cl_waiting",
            "sv_active",
            "sv_idle",
            "sv_login",
            "maxwait",
            "maxwait_us",
            "pool_mode",
            "cluster",
            "server_database",
            "cl_idle",
            "cl_pinned",
            "sv_closing",
            "paused",
        ],
        Shown::Servers => &[
            "type",
            "user",
            "database",
            "state",
            "addr",
            "connect_time",
            "link",
            "remote_pid",
            "cluster",
            "checkouts",
        ],
        Shown::Clients => &[
            "type",
            "user",
            "database",
            "state",
            "addr",
            "port",
            "connect_time",
            "request_time",
            "id",
            "link",
            "application_name",
            "cluster",
            "role",
            "pin",
            "waiting_for",
            "transactions",
            "received",
            "sent",
            "spliced",
            "kernel_path",
        ],
        Shown::Queues => &["cluster", "database", "user", "role", "depth", "maxwait", "checkout_timeout"],
        Shown::Stats => &[
            "database",
            "total_xact_count",
            "total_query_count",
            "total_received",
            "total_sent",
            "total_xact_time",
            "total_query_time",
            "total_wait_time",
            "xact_time_p50",
            "xact_time_p99",
            "wait_time_p99",
            "cluster",
        ],
        Shown::Config => &["key", "value"],
        Shown::Prepared => &["name", "names", "query_bytes", "query"],
        Shown::Splice => &[
            "state",
            "cluster",
            "node",
            "sessions",
            "sessions_total",
            "bytes_to_server",
            "bytes_to_client",
            "messages_to_server",
            "messages_to_client",
            "transactions",
            "reclaims",
            "stalls",
            "arms",
            "events_lost",
            "reason",
        ],
        Shown::Listeners => &[
            "cluster",
            "database",
            "user",
            "encoding",
            "node",
            "remote_pid",
            "channels",
            "subscriptions",
            "received",
            "delivered",
            "dropped",
            "gaps",
            "connects",
        ],
        Shown::Pins => &["id", "user", "database", "reason", "request_time", "remote_pid", "cluster"],
    }
}

pub(super) fn show(shown: Shown, source: &dyn Source) -> Table {
    let rows = match shown {
        Shown::Help => help(),
        Shown::Version => vec![vec![text(concat!("halephant ", env!("CARGO_PKG_VERSION")))]],
        Shown::Clusters => clusters(source),
        Shown::Nodes => nodes(source),
        Shown::Pools => pools(source),
        Shown::Servers => servers(source),
        Shown::Clients => clients(source),
        Shown::Queues => queues(source),
        Shown::Stats => stats(source),
        Shown::Config => config(source),
        Shown::Prepared => prepared(source),
        Shown::Splice => splice(source),
        Shown::Listeners => listeners(source),
        Shown::Pins => pins(source),
    };
    Table { columns: columns(shown), rows }
}

fn text(value: impl ToString) -> Option<String> {
    Some(value.to_string())
}

fn optional(value: Option<impl ToString>) -> Option<String> {
    value.map(|value| value.to_string())
}

fn help() -> Vec<Row> {
    let shown =
        SHOWN.iter().map(|(name, _, about)| vec![text(format!("SHOW {}", name.to_uppercase())), text(about)]);
    shown.chain(ORDERS.iter().map(|(command, about)| vec![text(command), text(about)])).collect()
}

fn clusters(source: &dyn Source) -> Vec<Row> {
    let row = |row: overview::rows::ClusterRow| {
        vec![
            text(row.cluster),
            text(row.ready),
            row.primary,
            text(row.replicas),
            text(row.unreachable),
            text(row.pools.join(",")),
        ]
    };
    overview::clusters(source).into_iter().map(row).collect()
}

fn nodes(source: &dyn Source) -> Vec<Row> {
    let row = |row: overview::rows::NodeRow| {
        vec![
            text(row.cluster),
            text(row.node),
            text(row.role),
            text(row.healthy),
            text(row.used),
            text(row.idle),
            text(row.opening),
            text(row.closing),
            text(row.max_connections),
            text(row.draining),
            optional(row.replication_lag_seconds),
            optional(row.replication_lag_bytes),
        ]
    };
    overview::nodes(source).into_iter().map(row).collect()
}

fn pools(source: &dyn Source) -> Vec<Row> {
    let row = |row: overview::rows::PoolRow| {
        let wait = row.oldest_wait_seconds.unwrap_or(0.0);
        vec![
            text(row.pool),
            text(row.user),
            // As PgBouncer counts: whoever does not wait.
            text(row.clients_active + row.clients_idle),
            text(row.clients_waiting),
            text(row.servers_used),
            text(row.servers_idle),
            text(row.servers_opening),
            text(wait.trunc()),
            text((wait.fract() * 1e6).trunc()),
            text(row.mode),
            text(row.cluster),
            text(row.database),
            text(row.clients_idle),
            text(row.clients_pinned),
            text(row.servers_closing),
            text(u8::from(row.paused)),
        ]
    };
    overview::pools(source).into_iter().map(row).collect()
}

fn servers(source: &dyn Source) -> Vec<Row> {
    let row = |row: overview::rows::ServerRow| {
        vec![
            text("S"),
            text(row.user),
            text(row.pool),
            text(if row.state == "used" { "active" } else { row.state }),
            text(row.node),
            text(row.opened),
            optional(row.client_process_id),
            text(row.process_id),
            text(row.cluster),
            text(row.checkouts),
        ]
    };
    overview::servers(source).into_iter().map(row).collect()
}

fn clients(source: &dyn Source) -> Vec<Row> {
    let row = |row: overview::rows::ClientRow| {
        let address: Option<SocketAddr> = row.address.parse().ok();
        vec![
            text("C"),
            text(row.user),
            text(row.database),
            text(row.state),
            text(address.map_or(row.address, |address| address.ip().to_string())),
            optional(address.map(|address| address.port())),
            text(row.connected),
            text(row.since),
            text(row.process_id),
            optional(row.server_process_id),
            text(row.application_name),
            text(row.cluster),
            optional(row.role),
            optional(row.pin),
            row.waiting_for,
            text(row.transactions),
            text(row.received_bytes),
            text(row.sent_bytes),
            text(row.spliced),
            text(row.kernel_path),
        ]
    };
    overview::clients(source).into_iter().map(row).collect()
}

fn queues(source: &dyn Source) -> Vec<Row> {
    let row = |row: overview::rows::QueueRow| {
        vec![
            text(row.cluster),
            text(row.pool),
            text(row.user),
            text(row.role),
            text(row.depth),
            text(row.oldest_wait_seconds),
            text(row.checkout_timeout_seconds),
        ]
    };
    overview::queues(source).into_iter().map(row).collect()
}

/// Times in microseconds, as PgBouncer has them.
fn stats(source: &dyn Source) -> Vec<Row> {
    let row = |pool: std::sync::Arc<crate::pool::Pool>| {
        let totals = pool.metrics().totals();
        vec![
            text(&pool.settings().name),
            text(totals.transactions.count()),
            text(totals.statements.count()),
            text(totals.received_bytes),
            text(totals.sent_bytes),
            text(totals.transactions.sum().as_micros()),
            text(totals.statements.sum().as_micros()),
            text(totals.waits.sum().as_micros()),
            text(totals.transactions.percentile(0.5).as_micros()),
            text(totals.transactions.percentile(0.99).as_micros()),
            text(totals.waits.percentile(0.99).as_micros()),
            text(&pool.cluster().name),
        ]
    };
    source.pools().into_iter().map(row).collect()
}

fn config(source: &dyn Source) -> Vec<Row> {
    let mut rows = Vec::new();
    flatten("", &source.config(), &mut rows);
    rows
}

fn flatten(path: &str, value: &Value, rows: &mut Vec<Row>) {
    match value {
        Value::Object(entries) => entries.iter().for_each(|(key, value)| {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            flatten(&path, value, rows);
        }),
        Value::String(value) => rows.push(vec![text(path), text(value)]),
        other => rows.push(vec![text(path), text(other)]),
    }
}

fn prepared(source: &dyn Source) -> Vec<Row> {
    let row = |row: overview::rows::StatementRow| {
        vec![text(row.name), text(row.names), text(row.query_bytes), text(row.query)]
    };
    overview::prepared(source).statements.into_iter().map(row).collect()
}

/// A row for each node; one without a node where the kernel path was not started.
fn splice(source: &dyn Source) -> Vec<Row> {
    let KernelPathRow { active, reason, nodes, .. } = overview::kernel_path(source);
    let state = if active { "on" } else { "off" };
    let row = |row: overview::rows::KernelNodeRow| {
        vec![
            text(state),
            text(row.cluster),
            text(row.node),
            text(row.sessions),
            text(row.sessions_total),
            text(row.bytes_to_server),
            text(row.bytes_to_client),
            text(row.messages_to_server),
            text(row.messages_to_client),
            text(row.transactions.values().sum::<u64>()),
            text(row.reclaims.values().sum::<u64>()),
            text(row.stalls),
            text(row.arms),
            text(row.events_lost),
            reason.clone(),
        ]
    };
    if nodes.is_empty() {
        let mut only = vec![text(state)];
        only.resize(columns(Shown::Splice).len() - 1, None);
        only.push(reason);
        return vec![only];
    }
    nodes.into_iter().map(row).collect()
}

fn listeners(source: &dyn Source) -> Vec<Row> {
    let row = |row: crate::notify::ListenerSnapshot| {
        vec![
            text(row.cluster),
            text(row.database),
            text(row.role),
            text(row.encoding),
            row.node,
            optional(row.process_id),
            text(row.channels),
            text(row.subscriptions),
            text(row.received),
            text(row.delivered),
            text(row.dropped),
            text(row.gaps.iter().map(|(_, count)| count).sum::<u64>()),
            text(row.connects),
        ]
    };
    source.listeners().into_iter().map(row).collect()
}

fn pins(source: &dyn Source) -> Vec<Row> {
    let row = |row: overview::rows::ClientRow| {
        let reason = row.pin?;
        Some(vec![
            text(row.process_id),
            text(row.user),
            text(row.database),
            text(reason),
            text(row.since),
            optional(row.server_process_id),
            text(row.cluster),
        ])
    };
    overview::clients(source).into_iter().filter_map(row).collect()
}
