//! The instruments: names, units and meanings.

use crate::telemetry::instrument::Instrument;
use crate::telemetry::instrument::Kind::{self, Counter, Gauge, UpDownCounter};

/// Every one of them.
pub const ALL: &[Instrument] = &[
    CONNECTIONS,
    CONNECTIONS_MAX,
    ERRORS,
    WAIT_TIME,
    CREATE_TIME,
    HEALTHY,
    CLIENTS,
    LAG,
    QUEUE_DEPTH,
    WAIT_DURATION,
    RELOADS,
    TRANSACTIONS,
    STATEMENTS,
    PINS,
    DENIED,
    RELAYED,
    ACCEPTED,
    REFUSED,
    TIMEOUTS,
    LOGINS,
    LOGIN_FAILURES,
    THROTTLED,
    SPLICED_BYTES,
    SPLICED_MESSAGES,
    SPLICED_TRANSACTIONS,
    SPLICED_SESSIONS,
    SPLICED_SESSIONS_JOINED,
    SPLICED_RECLAIMS,
    SPLICED_STALLS,
    SPLICED_ARMS,
    SPLICED_EVENTS_LOST,
    NOTIFY_CONNECTIONS,
    NOTIFY_SUBSCRIPTIONS,
    NOTIFY_RECEIVED,
    NOTIFY_DELIVERED,
    NOTIFY_DROPPED,
    NOTIFY_GAPS,
];

const fn instrument(
    name: &'static str,
    unit: &'static str,
    kind: Kind,
    description: &'static str,
) -> Instrument {
    Instrument { name, unit, kind, description }
}

pub(super) const CONNECTIONS: Instrument = instrument(
    "db.client.connection.count",
    "{connection}",
    UpDownCounter,
    "Server connections by what they are used for",
);
pub(super) const CONNECTIONS_MAX: Instrument = instrument(
    "db.client.connection.max",
    "{connection}",
    UpDownCounter,
    "The most server connections that a pool may have to a node",
);
pub(super) const ERRORS: Instrument = instrument(
    "db.client.connection.errors",
    "{error}",
    Counter,
    "Server connections that could not be opened, and checkouts that failed",
);
pub(super) const WAIT_TIME: Instrument = instrument(
    "db.client.connection.wait_time",
    "s",
    Kind::Histogram,
    "How long it took to get a server connection from a pool",
);
pub(super) const CREATE_TIME: Instrument = instrument(
    "db.client.connection.create_time",
    "s",
    Kind::Histogram,
    "How long it took to open a server connection",
);
pub(super) const HEALTHY: Instrument =
    instrument("db.server.healthy", "{node}", Gauge, "1 while a node answers and has a role, else 0");
pub(super) const LAG: Instrument = instrument(
    "halephant.replication.lag",
    "s",
    Gauge,
    "How old the last transaction is that a replica has replayed, while it is behind the primary",
);
pub(super) const CLIENTS: Instrument =
    instrument("halephant.client.connections", "{connection}", UpDownCounter, "Clients by what they do");
pub(super) const QUEUE_DEPTH: Instrument = instrument(
    "halephant.client.queue_depth",
    "{client}",
    UpDownCounter,
    "Clients that wait for a server connection",
);
pub(super) const WAIT_DURATION: Instrument = instrument(
    "halephant.client.wait_duration",
    "s",
    Kind::Histogram,
    "How long clients stood in the queue, whether they got a server connection or not",
);
pub(super) const RELOADS: Instrument = instrument(
    "halephant.config.reloads",
    "{reload}",
    Counter,
    "Attempts to reload the configuration, by outcome",
);
pub(super) const TRANSACTIONS: Instrument = instrument(
    "halephant.transaction.duration",
    "s",
    Kind::Histogram,
    "From a transaction's first message to the end of its last answer",
);
pub(super) const STATEMENTS: Instrument = instrument(
    "halephant.statement.duration",
    "s",
    Kind::Histogram,
    "From a statement's first message to the end of its answer",
);
pub(super) const PINS: Instrument = instrument(
    "halephant.pins",
    "{pin}",
    Counter,
    "Clients that were tied to their server connection over transactions, by reason",
);
pub(super) const DENIED: Instrument = instrument(
    "halephant.pins.denied",
    "{statement}",
    Counter,
    "Statements that were refused because they would have tied their client to its server connection, by reason",
);
pub(super) const RELAYED: Instrument = instrument(
    "halephant.relay.bytes",
    "By",
    Counter,
    "Bytes that were passed on in user space, to servers or to clients",
);
pub(super) const ACCEPTED: Instrument = instrument(
    "halephant.client.accepted",
    "{connection}",
    Counter,
    "Connections of clients that were accepted, whatever came of them",
);
pub(super) const REFUSED: Instrument = instrument(
    "halephant.client.refused",
    "{connection}",
    Counter,
    "Connections of clients that were refused because there were too many, by the limit",
);
pub(super) const TIMEOUTS: Instrument = instrument(
    "halephant.client.timeouts",
    "{timeout}",
    Counter,
    "Clients that were disconnected and queries that were cancelled because of a time limit",
);
pub(super) const LOGINS: Instrument =
    instrument("halephant.client.logins", "{login}", Counter, "Clients that have proved who they are");
pub(super) const LOGIN_FAILURES: Instrument = instrument(
    "halephant.client.login_failures",
    "{login}",
    Counter,
    "Clients that have not proved who they are, by reason",
);
pub(super) const THROTTLED: Instrument = instrument(
    "halephant.client.throttle_entries",
    "{entry}",
    UpDownCounter,
    "What is remembered of logins to throttle those that fail",
);
pub(super) const SPLICED_BYTES: Instrument = instrument(
    "halephant.splice.bytes",
    "By",
    Counter,
    "Bytes that the kernel moved, to servers or to clients",
);
pub(super) const SPLICED_MESSAGES: Instrument =
    instrument("halephant.splice.messages", "{message}", Counter, "Messages that the kernel moved");
pub(super) const SPLICED_TRANSACTIONS: Instrument = instrument(
    "halephant.splice.transactions",
    "{transaction}",
    Counter,
    "Answers that the kernel moved, by the transaction status that they ended with",
);
pub(super) const SPLICED_SESSIONS: Instrument = instrument(
    "halephant.splice.sessions",
    "{session}",
    UpDownCounter,
    "Sessions that are on the kernel path",
);
pub(super) const SPLICED_SESSIONS_JOINED: Instrument = instrument(
    "halephant.splice.sessions.joined",
    "{session}",
    Counter,
    "Sessions that have been on the kernel path, each counted once",
);
pub(super) const SPLICED_RECLAIMS: Instrument = instrument(
    "halephant.splice.reclaims",
    "{reclaim}",
    Counter,
    "Directions that came back from the kernel to userspace, by reason",
);
pub(super) const SPLICED_STALLS: Instrument = instrument(
    "halephant.splice.stalls",
    "{stall}",
    Counter,
    "Directions that came back from the kernel because their receiver did not keep up",
);
pub(super) const SPLICED_ARMS: Instrument =
    instrument("halephant.splice.arms", "{arm}", Counter, "Directions that went to the kernel");
pub(super) const SPLICED_EVENTS_LOST: Instrument = instrument(
    "halephant.splice.events_lost",
    "{event}",
    Counter,
    "What the kernel's programs had to say and found no room for; it is noticed later",
);
pub(in crate::overview) const NOTIFY_CONNECTIONS: Instrument = instrument(
    "halephant.notify.connections",
    "{connection}",
    UpDownCounter,
    "Connections that listen for clients of pools with listen_mode = multiplex",
);
pub(in crate::overview) const NOTIFY_SUBSCRIPTIONS: Instrument = instrument(
    "halephant.notify.subscriptions",
    "{subscription}",
    UpDownCounter,
    "Clients that are listened for, counted once for each of their channels",
);
pub(in crate::overview) const NOTIFY_RECEIVED: Instrument = instrument(
    "halephant.notify.received",
    "{notification}",
    Counter,
    "Notifications that came from servers",
);
pub(in crate::overview) const NOTIFY_DELIVERED: Instrument = instrument(
    "halephant.notify.delivered",
    "{notification}",
    Counter,
    "Notifications that were passed on, counted once for each client",
);
pub(in crate::overview) const NOTIFY_DROPPED: Instrument = instrument(
    "halephant.notify.dropped",
    "{notification}",
    Counter,
    "Notifications that were not kept for a client that did not take those before",
);
pub(in crate::overview) const NOTIFY_GAPS: Instrument = instrument(
    "halephant.notify.gaps",
    "{gap}",
    Counter,
    "Warnings to clients that notifications on a channel may have been lost, by reason",
);
