//! CPU time used, of a process tree and of the whole host.

use anyhow::{Context, Result};
use nix::unistd::{SysconfVar, sysconf};
use std::fs;
use std::time::Duration;

use crate::process;

/// User and system time of `pid`, of everything below it and of the children they have waited for.
pub fn of_tree(pid: u32) -> Duration {
    let ticks = process::tree(pid)
        .into_iter()
        .filter_map(process::stat)
        .map(|stat| stat.own_ticks + stat.reaped_ticks)
        .sum();
    ticks_to_duration(ticks)
}

/// Time the host's CPUs were not idle since it booted, interrupts included.
pub fn of_host() -> Result<Duration> {
    let text = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
    let ticks = parse_busy(&text).context("/proc/stat has no cpu line")?;
    Ok(ticks_to_duration(ticks))
}

fn parse_busy(text: &str) -> Option<u64> {
    let line = text.lines().next()?.strip_prefix("cpu ")?;
    let fields: Vec<u64> = line.split_whitespace().map_while(|field| field.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal; guest times are already in user and nice.
    let [user, nice, system, _idle, _iowait, irq, softirq, ..] = fields[..] else { return None };
    Some(user + nice + system + irq + softirq)
}

fn ticks_to_duration(ticks: u64) -> Duration {
    let per_second =
        sysconf(SysconfVar::CLK_TCK).ok().flatten().and_then(|n| u64::try_from(n).ok()).unwrap_or(100);
    Duration::from_micros(ticks * 1_000_000 / per_second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_time_is_not_busy() {
        assert_eq!(parse_busy("cpu  1 2 4 1000 2000 8 16 500 3 4\ncpu0 1 1 1 1"), Some(31));
        assert_eq!(parse_busy("intr 1 2"), None);
    }

    #[test]
    fn this_process_uses_time() {
        let start = of_tree(std::process::id());
        let more = crate::wait_for("a clock tick of work", Duration::from_secs(30), || {
            std::hint::black_box(
                (0..2_000_000_u64).fold(0_u64, |sum, n| sum.wrapping_mul(31).wrapping_add(n)),
            );
            Ok((of_tree(std::process::id()) > start).then_some(()))
        });
        more.expect("work takes time");
        assert!(of_host().expect("the host has a clock") > Duration::ZERO);
    }
}
