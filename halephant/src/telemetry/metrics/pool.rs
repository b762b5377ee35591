//! What is counted for each pool.

use super::{Counter, Distribution, Histogram, LabelledCounters};

/// Shared by a pool and the sessions in it.
#[derive(Debug)]
pub struct PoolMetrics {
    /// From a transaction's first message to the ReadyForQuery that ends it.
    pub transactions: Histogram,
    /// From a statement's first message to its ReadyForQuery.
    pub statements: Histogram,
    /// How long checkouts took, those that did not have to wait included.
    pub checkouts: Histogram,
    /// How long clients stood in the queue, whether they got a connection or not; only those that had to.
    pub waits: Histogram,
    /// How long it took to open and authenticate a server connection.
    pub connects: Histogram,
    /// Openings and checkouts that failed, by the kind of error.
    pub errors: LabelledCounters,
    /// Clients that were pinned to their server connection, by reason.
    pub pins: LabelledCounters,
    /// Statements that were refused because they would have pinned their client, by reason.
    pub denied: LabelledCounters,
    /// Clients and queries that took longer than they may, by the key of the limit.
    pub timeouts: LabelledCounters,
    /// Bytes of clients that were passed on to servers.
    pub received: Counter,
    /// Bytes of servers that were passed on to clients.
    pub sent: Counter,
}

impl Default for PoolMetrics {
    fn default() -> Self {
        let (transactions, statements, checkouts, waits, connects) = Default::default();
        let (errors, pins, denied, received, sent) = Default::default();
        let timeouts = ["client_idle_timeout", "idle_transaction_timeout", "query_timeout"];
        let timeouts = LabelledCounters::with_labels(&timeouts);
        Self {
            transactions,
            statements,
            checkouts,
            waits,
            connects,
            errors,
            pins,
            denied,
            timeouts,
            received,
            sent,
        }
    }
}

/// A copy of [`PoolMetrics`] at one moment.
#[derive(Clone, Debug, Default)]
pub struct PoolTotals {
    pub transactions: Distribution,
    pub statements: Distribution,
    pub checkouts: Distribution,
    pub waits: Distribution,
    pub connects: Distribution,
    pub errors: Vec<(&'static str, u64)>,
    pub pins: Vec<(&'static str, u64)>,
    pub denied: Vec<(&'static str, u64)>,
    pub timeouts: Vec<(&'static str, u64)>,
    pub received_bytes: u64,
    pub sent_bytes: u64,
}

impl PoolMetrics {
    pub fn totals(&self) -> PoolTotals {
        PoolTotals {
            transactions: self.transactions.distribution(),
            statements: self.statements.distribution(),
            checkouts: self.checkouts.distribution(),
            waits: self.waits.distribution(),
            connects: self.connects.distribution(),
            errors: self.errors.totals(),
            pins: self.pins.totals(),
            denied: self.denied.totals(),
            timeouts: self.timeouts.totals(),
            received_bytes: self.received.total(),
            sent_bytes: self.sent.total(),
        }
    }
}
