//! Bulk lanes: one client moves a gigabyte, or rows of 10 MB, and does nothing with them.

use anyhow::{Result, bail};
use halephant_harness::{Login, cpu};
use std::time::{Duration, Instant};

use super::figure::{Figure, Sample};
use super::wire::Client;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bulk {
    Select,
    CopyOut,
    CopyIn,
    Rows,
}

/// Of a row, text alone; together with `ROWS` a gigabyte.
const ROW_BYTES: u64 = 1000;
const ROWS: u64 = 1_000_000;
const LARGE_ROW_BYTES: u64 = 10_000_000;
const LARGE_ROWS: u64 = 100;

impl Bulk {
    pub const ALL: [Self; 4] = [Self::Select, Self::CopyOut, Self::CopyIn, Self::Rows];

    pub fn name(self) -> &'static str {
        match self {
            Self::Select => "select-1gb",
            Self::CopyOut => "copy-out-1gb",
            Self::CopyIn => "copy-in-1gb",
            Self::Rows => "rows-10mb",
        }
    }

    pub fn description(self) -> &'static str {
        match self {
            Self::Select => "SELECT of 1 GB in rows of 1 kB",
            Self::CopyOut => "COPY TO STDOUT of 1 GB in rows of 1 kB",
            Self::CopyIn => "COPY FROM STDIN of 1 GB in rows of 1 kB, filtered out by PostgreSQL",
            Self::Rows => "SELECT of 1 GB in rows of 10 MB",
        }
    }

    /// Moves one part in `share` of the volume, after a small one to warm up.
    pub fn measure(self, login: &Login, watched: &[u32], share: u64) -> Result<Sample> {
        let mut client = Client::connect(login)?;
        self.run(&mut client, share * 100)?;
        let used = || watched.iter().map(|pid| cpu::of_tree(*pid)).sum::<Duration>();
        let (start, host, program) = (Instant::now(), cpu::of_host()?, used());
        let bytes = self.run(&mut client, share)?;
        let time = start.elapsed();
        let (host, program) = (cpu::of_host()?.saturating_sub(host), used().saturating_sub(program));
        let per_gb = |time: Duration| time.as_secs_f64() * 1e9 / bytes as f64;
        let mut sample =
            Sample::from([(Figure::SecondsPerGb, per_gb(time)), (Figure::HostSecondsPerGb, per_gb(host))]);
        if !watched.is_empty() {
            sample.insert(Figure::ProgramSecondsPerGb, per_gb(program));
        }
        Ok(sample)
    }

    /// Gives the bytes that were moved.
    fn run(self, client: &mut Client, share: u64) -> Result<u64> {
        let rows = (ROWS / share).max(1);
        let columns = format!("repeat('x', {ROW_BYTES}), generate_series(1, {rows})");
        let large = (LARGE_ROWS / share).max(1);
        let (moved, least) = match self {
            Self::Select => (client.query(&format!("SELECT {columns}"))?, rows * ROW_BYTES),
            Self::CopyOut => (client.query(&format!("COPY (SELECT {columns}) TO STDOUT"))?, rows * ROW_BYTES),
            Self::Rows => (
                client
                    .query(&format!("SELECT repeat('x', {LARGE_ROW_BYTES}), generate_series(1, {large})"))?,
                large * LARGE_ROW_BYTES,
            ),
            Self::CopyIn => {
                let row = [vec![b'x'; ROW_BYTES as usize], vec![b'\n']].concat();
                // PostgreSQL reads and parses each row, and keeps none: its disk is not what is measured.
                (client.copy_in("COPY bulk FROM STDIN WHERE line IS NULL", &row, rows)?, rows * ROW_BYTES)
            }
        };
        if moved < least {
            bail!("only {moved} bytes of {least} were moved");
        }
        Ok(moved)
    }
}
