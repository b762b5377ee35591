//! Counts that only grow.

use super::{Apart, ROWS, row};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// One count, written by every thread.
#[derive(Debug, Default)]
pub struct Counter([Apart<AtomicU64>; ROWS]);

impl Counter {
    pub fn add(&self, count: u64) {
        self.0[row()].0.fetch_add(count, Ordering::Relaxed);
    }

    pub fn total(&self) -> u64 {
        self.0.iter().map(|row| row.0.load(Ordering::Relaxed)).sum()
    }
}

/// Labels that one set of counters can hold: labels are words of the code, never of a client.
const LABELS_MAX: usize = 32;

/// Rare events, counted by a word such as the reason for a pin.
#[derive(Debug, Default)]
pub struct LabelledCounters([Labelled; LABELS_MAX]);

#[derive(Debug, Default)]
struct Labelled {
    label: OnceLock<&'static str>,
    count: AtomicU64,
}

impl LabelledCounters {
    /// Makes the labels appear with a count of zero.
    pub fn with_labels(labels: &[&'static str]) -> Self {
        let counters = Self::default();
        labels.iter().for_each(|label| counters.add(label, 0));
        counters
    }

    pub fn add(&self, label: &'static str, count: u64) {
        let found = self.0.iter().find(|slot| *slot.label.get_or_init(|| label) == label);
        if let Some(slot) = found {
            slot.count.fetch_add(count, Ordering::Relaxed);
        }
    }

    pub fn totals(&self) -> Vec<(&'static str, u64)> {
        let total = |slot: &Labelled| Some((*slot.label.get()?, slot.count.load(Ordering::Relaxed)));
        self.0.iter().map_while(total).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_add_up() {
        let counter = Counter::default();
        let labelled = LabelledCounters::with_labels(&["a"]);
        std::thread::scope(|scope| {
            for _ in 0..2 * ROWS {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        counter.add(2);
                        labelled.add("b", 1);
                    }
                });
            }
        });
        let expected = 2 * ROWS as u64 * 1000;
        assert_eq!(counter.total(), 2 * expected);
        assert_eq!(labelled.totals(), [("a", 0), ("b", expected)]);
    }
}
