//! What is measured: each figure's name, unit and direction, and the summary of several samples of it.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Figure {
    Tps,
    P50Ms,
    P95Ms,
    P99Ms,
    P999Ms,
    /// p99 of clients that run while nobody else logs in.
    CalmP99Ms,
    /// p99 of the same clients during the storm, and how many times the calm one it is.
    StormP99Ms,
    StormFactor,
    /// p99 while the metrics are read, how many times the calm one it is, and how far two calm runs differ.
    ScrapedP99Ms,
    ScrapeFactor,
    NoiseFactor,
    LoginsPerSecond,
    SecondsPerGb,
    /// Of the whole host: load, program, PostgreSQL and kernel.
    HostUsPerTransaction,
    /// Of the program's processes alone.
    ProgramUsPerTransaction,
    HostSecondsPerGb,
    ProgramSecondsPerGb,
    SyscallsPerTransaction,
    KibPerClientAt1000,
    KibPerClientAt10000,
    /// CPU time of processes that have nothing to do with the measurement: disturbance.
    OthersPercent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    More,
    Less,
}

impl Figure {
    pub fn title(self) -> &'static str {
        match self {
            Self::Tps => "tps",
            Self::P50Ms => "p50 ms",
            Self::P95Ms => "p95 ms",
            Self::P99Ms => "p99 ms",
            Self::P999Ms => "p99.9 ms",
            Self::CalmP99Ms => "p99 ms, calm",
            Self::StormP99Ms => "p99 ms, storm",
            Self::StormFactor => "storm / calm",
            Self::ScrapedP99Ms => "p99 ms, scraped",
            Self::ScrapeFactor => "scraped / calm",
            Self::NoiseFactor => "calm / calm",
            Self::LoginsPerSecond => "logins/s",
            Self::SecondsPerGb => "s/GB",
            Self::HostUsPerTransaction => "CPU µs/tx, host",
            Self::ProgramUsPerTransaction => "CPU µs/tx, program",
            Self::HostSecondsPerGb => "CPU s/GB, host",
            Self::ProgramSecondsPerGb => "CPU s/GB, program",
            Self::SyscallsPerTransaction => "syscalls/tx",
            Self::KibPerClientAt1000 => "KiB/client at 1,000",
            Self::KibPerClientAt10000 => "KiB/client at 10,000",
            Self::OthersPercent => "CPU %, others",
        }
    }

    pub fn better(self) -> Better {
        match self {
            Self::Tps | Self::LoginsPerSecond => Better::More,
            _ => Better::Less,
        }
    }

    pub fn decimals(self) -> usize {
        match self {
            Self::Tps | Self::LoginsPerSecond => 0,
            Self::P50Ms
            | Self::P95Ms
            | Self::P99Ms
            | Self::P999Ms
            | Self::CalmP99Ms
            | Self::StormP99Ms
            | Self::ScrapedP99Ms
            | Self::SecondsPerGb
            | Self::HostSecondsPerGb
            | Self::ProgramSecondsPerGb => 3,
            Self::StormFactor | Self::ScrapeFactor | Self::NoiseFactor | Self::SyscallsPerTransaction => 2,
            _ => 1,
        }
    }

    /// The whole host's CPU for what was done.
    pub fn is_cost(self) -> bool {
        matches!(self, Self::HostUsPerTransaction | Self::HostSecondsPerGb)
    }
}

/// The figures of one run.
pub type Sample = BTreeMap<Figure, f64>;

/// Of one figure over the rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    pub median: f64,
    pub least: f64,
    pub most: f64,
}

impl Summary {
    /// `None` where there is nothing to summarise.
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (least, most) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 {
            sorted[middle]
        } else {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        };
        Some(Self { median, least, most })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summarises_odd_even_and_no_rounds() {
        let summary = |median, least, most| Some(Summary { median, least, most });
        assert_eq!(Summary::of(&[3.0, 1.0, 2.0]), summary(2.0, 1.0, 3.0));
        assert_eq!(Summary::of(&[4.0, 1.0, 2.0, 3.0]), summary(2.5, 1.0, 4.0));
        assert_eq!(Summary::of(&[]), None);
    }
}
