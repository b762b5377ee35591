//! How long things took: counts in buckets whose width grows with the value.

use super::{Apart, ROWS, row};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Buckets per power of two, as a power of two: a bucket is at most a quarter wider than its lower bound.
const SPLIT_BITS: u32 = 2;
const SPLIT: u64 = 1 << SPLIT_BITS;
/// Microseconds from here on, 71 minutes, are counted in the last bucket.
const LIMIT_BITS: u32 = 32;
const BUCKETS: usize = ((LIMIT_BITS - SPLIT_BITS + 1) as u64 * SPLIT) as usize;

/// Durations, written by every thread. Resolution: 1 µs, then a quarter of a power of two.
#[derive(Debug)]
pub struct Histogram(Box<[Apart<Row>; ROWS]>);

#[derive(Debug)]
struct Row {
    buckets: [AtomicU64; BUCKETS],
    sum_us: AtomicU64,
}

impl Default for Row {
    fn default() -> Self {
        Self { buckets: [const { AtomicU64::new(0) }; BUCKETS], sum_us: AtomicU64::new(0) }
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self(Box::new(std::array::from_fn(|_| Apart(Row::default()))))
    }
}

impl Histogram {
    pub fn record(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let row = &self.0[row()].0;
        row.buckets[bucket_of(us)].fetch_add(1, Ordering::Relaxed);
        row.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    pub fn distribution(&self) -> Distribution {
        let mut distribution = Distribution::default();
        for Apart(row) in self.0.iter() {
            for (total, count) in distribution.buckets.iter_mut().zip(&row.buckets) {
                *total += count.load(Ordering::Relaxed);
            }
            distribution.sum_us += row.sum_us.load(Ordering::Relaxed);
        }
        distribution
    }
}

fn bucket_of(us: u64) -> usize {
    if us < SPLIT {
        return us as usize;
    }
    let exponent = us.ilog2();
    if exponent >= LIMIT_BITS {
        return BUCKETS - 1;
    }
    let part = (us >> (exponent - SPLIT_BITS)) - SPLIT;
    (u64::from(exponent - SPLIT_BITS + 1) * SPLIT + part) as usize
}

/// The first value, in µs, that is above the bucket.
fn end_of(bucket: usize) -> u64 {
    let bucket = bucket as u64 + 1;
    if bucket < SPLIT {
        return bucket;
    }
    let exponent = bucket / SPLIT - 1;
    (SPLIT + bucket % SPLIT) << exponent
}

/// What a histogram held at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distribution {
    buckets: [u64; BUCKETS],
    sum_us: u64,
}

impl Default for Distribution {
    fn default() -> Self {
        Self { buckets: [0; BUCKETS], sum_us: 0 }
    }
}

impl Distribution {
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    pub fn sum(&self) -> Duration {
        Duration::from_micros(self.sum_us)
    }

    /// The value that this part (0 to 1) of what was recorded did not exceed; zero when nothing was.
    pub fn percentile(&self, part: f64) -> Duration {
        let wanted = ((self.count() as f64 * part).ceil() as u64).max(1);
        let mut passed = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            passed += count;
            if passed >= wanted {
                return Duration::from_micros(end_of(bucket) - 1);
            }
        }
        Duration::ZERO
    }

    /// What was recorded since `earlier`, which is an older state of the same histogram.
    pub fn since(&self, earlier: &Self) -> Self {
        let mut difference = self.clone();
        for (count, old) in difference.buckets.iter_mut().zip(&earlier.buckets) {
            *count = count.saturating_sub(*old);
        }
        difference.sum_us = self.sum_us.saturating_sub(earlier.sum_us);
        difference
    }

    pub fn merge(&mut self, other: &Self) {
        self.buckets.iter_mut().zip(&other.buckets).for_each(|(count, other)| *count += other);
        self.sum_us += other.sum_us;
    }

    /// Upper bounds in seconds, each with how many values were below it: powers of two and their middles, from 32 µs
    /// to 67 s. The last bound, infinity, is left out.
    pub fn cumulative(&self) -> Vec<(f64, u64)> {
        let exported = (5..=26).flat_map(|exponent| [1_u64 << exponent, 3 << (exponent - 1)]);
        let mut bounds = exported.peekable();
        let mut points = Vec::new();
        let mut below = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            below += count;
            if bounds.peek() == Some(&end_of(bucket)) {
                points.push((end_of(bucket) as f64 / 1e6, below));
                bounds.next();
            }
        }
        points
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn buckets_follow_one_another() {
        for bucket in 1..BUCKETS {
            assert_eq!(bucket_of(end_of(bucket - 1)), bucket);
            assert_eq!(bucket_of(end_of(bucket - 1) - 1), bucket - 1);
        }
        assert_eq!(end_of(BUCKETS - 1), 1 << LIMIT_BITS);
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn exported_bounds_are_bounds_of_buckets() {
        let points = Distribution::default().cumulative();
        assert_eq!(points.len(), 44);
        assert!(points.is_sorted_by(|one, other| one.0 < other.0));
        assert_eq!((points[0].0, points[43].0), (32e-6, 100.663_296));
    }

    proptest! {
        #[test]
        fn percentiles_are_near(mut values in prop::collection::vec(0_u64..100_000_000, 1..200), part in 0.01_f64..1.0) {
            let histogram = Histogram::default();
            values.iter().for_each(|&us| histogram.record(Duration::from_micros(us)));
            let found = histogram.distribution();
            prop_assert_eq!(found.count(), values.len() as u64);
            prop_assert_eq!(found.sum(), Duration::from_micros(values.iter().sum()));
            values.sort_unstable();
            let exact = values[((values.len() as f64 * part).ceil() as usize).max(1) - 1];
            let near = found.percentile(part).as_micros() as u64;
            prop_assert!(near >= exact && near <= exact + exact / SPLIT + 1, "{near} for {exact}");
            for (bound, below) in found.cumulative() {
                let counted = values.iter().filter(|&&us| (us as f64) < bound * 1e6).count() as u64;
                prop_assert_eq!(below, counted);
            }
        }

        #[test]
        fn a_difference_is_what_came_later(early in 0_u64..1000, late in 0_u64..1_000_000) {
            let histogram = Histogram::default();
            histogram.record(Duration::from_micros(early));
            let before = histogram.distribution();
            histogram.record(Duration::from_micros(late));
            let mut since = histogram.distribution().since(&before);
            prop_assert_eq!((since.count(), since.sum()), (1, Duration::from_micros(late)));
            since.merge(&before);
            prop_assert_eq!(since, histogram.distribution());
        }
    }
}
