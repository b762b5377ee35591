//! The latencies that pgbench's `--log` writes down.

use anyhow::Result;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Microseconds of each transaction that was written down, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Latencies(Vec<u64>);

impl Latencies {
    /// Of the log files in `directory`, the transactions that ended within `span`, or all.
    pub fn read(directory: &Path, span: Option<(SystemTime, SystemTime)>) -> Result<Self> {
        let since_epoch = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let span = span.map(|(start, end)| since_epoch(start)..=since_epoch(end));
        let mut latencies = Vec::new();
        for entry in fs::read_dir(directory)? {
            let text = fs::read_to_string(entry?.path())?;
            let lines = text.lines().filter_map(parse);
            let within = lines.filter(|line| span.as_ref().is_none_or(|span| span.contains(&line.end)));
            latencies.extend(within.map(|line| line.microseconds));
        }
        Ok(latencies.into())
    }

    /// Nearest rank; `None` where nothing was written down.
    pub fn percentile_ms(&self, percent: f64) -> Option<f64> {
        // In thousandths of a percent, which rounding cannot push past a rank.
        let share = (percent * 1000.0).round() as usize;
        let rank = (self.0.len() * share).div_ceil(100_000).max(1);
        self.0.get(rank - 1).map(|value| *value as f64 / 1000.0)
    }
}

impl From<Vec<u64>> for Latencies {
    /// From microseconds in any order.
    fn from(mut microseconds: Vec<u64>) -> Self {
        microseconds.sort_unstable();
        Self(microseconds)
    }
}

struct Line {
    microseconds: u64,
    /// Since the epoch.
    end: Duration,
}

/// `client transaction latency script seconds microseconds`; a transaction that failed has a word for its latency.
fn parse(line: &str) -> Option<Line> {
    let mut fields = line.split(' ');
    let microseconds = fields.nth(2)?.parse().ok()?;
    let seconds = fields.nth(1)?.parse().ok()?;
    let part = fields.next()?.parse().ok()?;
    Some(Line { microseconds, end: Duration::from_secs(seconds) + Duration::from_micros(part) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_nearest_rank() {
        let latencies = Latencies((1..=1000).map(|n| n * 1000).collect());
        let percentile = |percent| latencies.percentile_ms(percent);
        assert_eq!(percentile(50.0), Some(500.0));
        assert_eq!(percentile(99.0), Some(990.0));
        assert_eq!(percentile(99.9), Some(999.0));
        assert_eq!(Latencies(vec![7000]).percentile_ms(99.0), Some(7.0));
        assert_eq!(Latencies::default().percentile_ms(50.0), None);
    }

    #[test]
    fn leaves_out_what_ended_outside_the_span() {
        let directory = tempfile::tempdir().expect("there is room");
        let log = "0 1 250 0 100 500000\n1 1 350 0 101 0\n0 2 failed 0 101 100\n1 2 450 0 102 1\n";
        fs::write(directory.path().join("transactions.1"), log).expect("it is ours");
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let within = Latencies::read(directory.path(), Some((at(101), at(102)))).expect("well formed");
        assert_eq!(within, Latencies(vec![350]));
        let all = Latencies::read(directory.path(), None).expect("well formed");
        assert_eq!(all, Latencies(vec![250, 350, 450]));
    }
}
