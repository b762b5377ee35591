//! Processes by their ID: signals, the tree below one, what `/proc` says of it.

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::process::{Child, ExitStatus};
use std::time::Duration;

use crate::deadline::wait_for;

/// Sends `signal`; a process that is gone is no error.
pub fn signal(pid: u32, signal: Signal) -> Result<()> {
    match kill(Pid::from_raw(i32::try_from(pid)?), signal) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(error) => bail!("cannot send {signal} to process {pid}: {error}"),
    }
}

/// True unless the process is gone or a zombie.
pub fn is_running(pid: u32) -> bool {
    stat(pid).is_some_and(|stat| !matches!(stat.state, 'Z' | 'X'))
}

/// `pid` and everything below it, parents first.
pub fn tree(pid: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, stat(pid)?.parent)))
        .collect();
    let mut tree = vec![pid];
    let mut next = 0;
    while next < tree.len() {
        let above = tree[next];
        tree.extend(parents.iter().filter(|(_, parent)| *parent == above).map(|(child, _)| *child));
        next += 1;
    }
    tree
}

/// Waits for `child`, whose end was already asked for.
pub fn wait(child: &mut Child, what: &str, limit: Duration) -> Result<ExitStatus> {
    wait_for(what, limit, || Ok(child.try_wait()?))
}

/// The fields of `/proc/<pid>/stat` that are used here.
pub(crate) struct Stat {
    pub state: char,
    pub parent: u32,
    /// User and system time, in clock ticks: its own, then that of the children it has waited for.
    pub own_ticks: u64,
    pub reaped_ticks: u64,
}

pub(crate) fn stat(pid: u32) -> Option<Stat> {
    let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    parse_stat(&line)
}

fn parse_stat(line: &str) -> Option<Stat> {
    // The command's name is in parentheses and may itself hold spaces and parentheses.
    let fields: Vec<&str> = line.get(line.rfind(')')? + 1..)?.split_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some(Stat {
        state: fields.first()?.chars().next()?,
        parent: u32::try_from(number(1)?).ok()?,
        own_ticks: number(11)? + number(12)?,
        reaped_ticks: number(13)? + number(14)?,
    })
}

/// Resident memory in bytes.
pub fn resident_bytes(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS in status")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn reads_a_stat_line_with_a_hostile_name() {
        let line = "42 (a) b (c) S 7 42 42 0 -1 4194560 1 2 3 4 10 20 30 40 20 0 1 0 100";
        let stat = parse_stat(line).expect("well formed");
        assert_eq!((stat.state, stat.parent, stat.own_ticks, stat.reaped_ticks), ('S', 7, 30, 70));
    }

    #[test]
    fn a_child_is_in_the_tree_until_it_is_killed() {
        let mut child = Command::new("sleep").arg("600").spawn().expect("sleep starts");
        assert!(tree(std::process::id()).contains(&child.id()));
        assert!(is_running(child.id()));
        signal(child.id(), Signal::SIGKILL).expect("it may be signalled");
        wait(&mut child, "sleep to end", Duration::from_secs(10)).expect("it ends");
        assert!(!is_running(child.id()));
    }

    #[test]
    fn this_process_has_memory() {
        assert!(resident_bytes(std::process::id()).expect("it runs") > 4096);
    }
}
