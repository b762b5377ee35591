//! What is counted and timed while clients are served: numbers that the hot path can afford.
//!
//! A counter or histogram is an array of atomics, one row per group of threads, so that workers do not share a cache
//! line. Recording takes no lock, allocates nothing and makes no system call; only a snapshot adds the rows up.

mod counter;
mod histogram;
mod pool;
mod process;

pub use counter::{Counter, LabelledCounters};
pub use histogram::{Distribution, Histogram};
pub use pool::{PoolMetrics, PoolTotals};
pub use process::ProcessMetrics;

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Rows of every counter; more threads than this share rows, which costs time and no count.
const ROWS: usize = 8;

/// The row of the calling thread.
fn row() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static ROW: Cell<Option<usize>> = const { Cell::new(None) };
    }
    ROW.with(|row| match row.get() {
        Some(row) => row,
        None => {
            let assigned = NEXT.fetch_add(1, Ordering::Relaxed) % ROWS;
            row.set(Some(assigned));
            assigned
        }
    })
}

/// Keeps what different threads write apart; two lines, because processors fetch them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Apart<T>(T);
