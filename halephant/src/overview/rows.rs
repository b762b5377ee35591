//! The rows that the admin API and the console show: shapes and units.

use serde::Serialize;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// A primary and its replicas.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ClusterRow {
    pub cluster: String,
    /// A node of it takes writes.
    pub ready: bool,
    /// The address of the primary, if there is one.
    pub primary: Option<String>,
    pub replicas: u32,
    /// Nodes that did not answer when they were last asked.
    pub unreachable: u32,
    pub pools: Vec<String>,
}

/// One PostgreSQL server, with the connections of all pools to it.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct NodeRow {
    pub cluster: String,
    pub node: String,
    /// `primary`, `replica` or, while it does not answer, `unknown`.
    pub role: &'static str,
    pub healthy: bool,
    /// It gets no more work, by an order of the console.
    pub draining: bool,
    /// Seconds since the last transaction that a replica has replayed, while it is behind the primary.
    pub replication_lag_seconds: Option<f64>,
    /// Bytes of the primary's log that a replica has not replayed.
    pub replication_lag_bytes: Option<u64>,
    pub idle: u32,
    pub used: u32,
    pub opening: u32,
    pub closing: u32,
    /// The sum of its pools' limits for its role.
    pub max_connections: u32,
}

/// One user of one pool.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct PoolRow {
    pub cluster: String,
    pub pool: String,
    /// The database on the server.
    pub database: String,
    pub user: String,
    /// `transaction` or `session`.
    pub mode: &'static str,
    pub clients_active: u32,
    pub clients_idle: u32,
    pub clients_waiting: u32,
    /// Clients that keep their server connection over transactions.
    pub clients_pinned: u32,
    pub servers_idle: u32,
    pub servers_used: u32,
    pub servers_opening: u32,
    pub servers_closing: u32,
    /// Seconds that the client at the head of the queue has been waiting.
    pub oldest_wait_seconds: Option<f64>,
    /// By an order of the console: it lends nothing.
    pub paused: bool,
}

/// One open server connection.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ServerRow {
    pub cluster: String,
    pub pool: String,
    pub user: String,
    pub node: String,
    /// PostgreSQL's process ID of it.
    pub process_id: u32,
    /// `idle`, `used` or `closing`.
    pub state: &'static str,
    /// RFC 3339.
    pub opened: String,
    /// The process ID of the client that has it.
    pub client_process_id: Option<u32>,
    pub checkouts: u64,
}

/// One client.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ClientRow {
    /// The process ID that the client was told.
    pub process_id: u32,
    /// `unix` for a client on a Unix socket.
    pub address: String,
    pub user: String,
    /// The pool.
    pub database: String,
    pub cluster: String,
    pub application_name: String,
    /// The role of node that it was routed to.
    pub role: Option<&'static str>,
    /// `idle`, `waiting`, `active` or `idle_in_transaction`.
    pub state: &'static str,
    /// RFC 3339: when its last transaction began, or it came into the queue.
    pub since: String,
    /// RFC 3339.
    pub connected: String,
    pub waiting_for: Option<String>,
    /// Why it keeps its server connection over transactions, if it does.
    pub pin: Option<&'static str>,
    /// The kernel moves its bytes, in one direction or both.
    pub spliced: bool,
    /// Between which sockets, if it does; else why not: `off` (not tried, or not in use), `no_plain_tcp`, `policy`, `full` or
    /// `failed`.
    pub kernel_path: &'static str,
    pub server_process_id: Option<u32>,
    pub transactions: u64,
    pub received_bytes: u64,
    pub sent_bytes: u64,
}

/// One queue: clients of one user that wait for a node of one role. Queues that are empty are not listed.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct QueueRow {
    pub cluster: String,
    pub pool: String,
    pub user: String,
    pub role: &'static str,
    pub depth: u32,
    /// Seconds that its head has been waiting.
    pub oldest_wait_seconds: f64,
    /// Seconds after which a waiting client is told so.
    pub checkout_timeout_seconds: f64,
}

/// The kernel path.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct KernelPathRow {
    /// Sessions that can use it do.
    pub active: bool,
    /// Why it is not active.
    pub reason: Option<String>,
    /// Places in its tables that are taken.
    pub flows: u32,
    /// Findings that it does not work as it should; the first one switches it off for good.
    pub faults: u64,
    /// What the self-test at start found, by where the two sockets are.
    pub paths: Vec<KernelSocketsRow>,
    pub nodes: Vec<KernelNodeRow>,
}

/// A kind of pair of sockets, and whether the kernel moves bytes between them.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct KernelSocketsRow {
    /// `own_socket`, `client_local`, `server_local` or `colocated`.
    pub sockets: &'static str,
    pub to_server: bool,
    pub to_client: bool,
    pub reason: String,
}

/// What the kernel did for the sessions on one node, since the process began.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct KernelNodeRow {
    pub cluster: String,
    pub node: String,
    /// Sessions on it now.
    pub sessions: u32,
    /// Sessions that were on it at any time, each counted once.
    pub sessions_total: u64,
    pub bytes_to_server: u64,
    pub bytes_to_client: u64,
    pub messages_to_server: u64,
    pub messages_to_client: u64,
    /// Answers by the transaction status that they ended with: `idle`, `in_transaction` or `failed`.
    pub transactions: BTreeMap<String, u64>,
    /// Directions that came back to userspace, by why.
    pub reclaims: BTreeMap<String, u64>,
    /// Directions that came back because their receiver did not keep up.
    pub stalls: u64,
    /// Directions that went to the kernel.
    pub arms: u64,
    /// What the programs had to say and found no room for; it is noticed later.
    pub events_lost: u64,
}

/// The prepared statements of all clients in transaction mode, each once.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct PreparedRow {
    /// The limit of the configuration; 0 is none.
    pub max_prepared_statements: u64,
    /// Memory that they take.
    pub memory_bytes: u64,
    /// Parse messages that were answered without asking a server.
    pub answered: u64,
    /// Copies made on server connections.
    pub copied: u64,
    /// Copies that made room for others.
    pub evicted: u64,
    /// Statements that were sent again because a copy was outdated.
    pub retried: u64,
    /// Statements that found no room, so that their client was pinned.
    pub refused: u64,
    pub statements: Vec<StatementRow>,
}

/// One prepared statement.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct StatementRow {
    /// Its name on server connections.
    pub name: String,
    /// Names that clients have for it now.
    pub names: u32,
    pub query_bytes: u64,
    /// The beginning of its text, with `?` in place of every literal.
    pub query: String,
}
