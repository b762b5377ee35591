//! What the programs count, per node and per CPU.

use crate::flow::REASONS;

/// One CPU's share of one node's counters; plain words, since only that CPU writes them.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeCounters {
    /// Bytes moved in the kernel, by direction.
    pub bytes: [u64; 2],
    /// Messages whose header was moved in the kernel, by direction.
    pub messages: [u64; 2],
    /// ReadyForQuery by transaction status: idle, in a transaction, in a failed one.
    pub ready: [u64; 3],
    /// Switches of a direction to the kernel.
    pub arms: u64,
    /// Switches back, by reason.
    pub reclaims: [u64; REASONS],
    /// Events that found no room in the ring buffer.
    pub events_lost: u64,
}

const _: () = assert!(size_of::<NodeCounters>() == 8 * (2 + 2 + 3 + 1 + REASONS + 1));

impl NodeCounters {
    /// Credit that ran out.
    pub const fn stalls(&self) -> u64 {
        self.reclaims[crate::flow::Reason::Credit as usize]
    }

    pub fn add(&mut self, other: &Self) {
        let pairs = [
            (&mut self.bytes[..], &other.bytes[..]),
            (&mut self.messages[..], &other.messages[..]),
            (&mut self.ready[..], &other.ready[..]),
            (&mut self.reclaims[..], &other.reclaims[..]),
        ];
        for (mine, theirs) in pairs {
            for (mine, theirs) in mine.iter_mut().zip(theirs) {
                *mine += theirs;
            }
        }
        self.arms += other.arms;
        self.events_lost += other.events_lost;
    }
}
