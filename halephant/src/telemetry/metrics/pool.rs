//! What is counted for each pool.

use super::{Counter, Distribution, Histogram, LabelledCounters};

/// Shared by a pool and the sessions in it.
#[derive(Debug, Default)]
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
    /// Bytes of clients that were passed on to servers.
    pub received: Counter,
    /// Bytes of servers that were passed on to clients.
    pub sent: Counter,
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
            received_bytes: self.received.total(),
            sent_bytes: self.sent.total(),
        }
    }
}
