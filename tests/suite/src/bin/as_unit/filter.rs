//! The unit's filters of system calls, with the sets of calls as systemd itself lists them.

use super::Unit;
use anyhow::{Context, Result, bail, ensure};
use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter,
};
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

pub const KEYS: [&str; 12] = [
    "LockPersonality",
    "MemoryDenyWriteExecute",
    "ProtectClock",
    "ProtectHostname",
    "ProtectKernelLogs",
    "ProtectKernelModules",
    "RestrictAddressFamilies",
    "RestrictNamespaces",
    "RestrictRealtime",
    "RestrictSUIDSGID",
    "SystemCallErrorNumber",
    "SystemCallFilter",
];

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: TargetArch = TargetArch::x86_64;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: TargetArch = TargetArch::aarch64;

const NAMESPACES: i32 = libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWUTS;

/// Calls by number; without rules a call is allowed whatever its arguments are.
type Rules = BTreeMap<i64, Vec<SeccompRule>>;

pub fn apply(unit: &Unit) -> Result<()> {
    let numbers = numbers()?;
    let mut names = BTreeSet::new();
    for word in unit.words("SystemCallFilter") {
        ensure!(!word.starts_with('~'), "only lists of what is allowed are known");
        expand(word, &mut names)?;
    }
    // systemd's own list of what a program cannot do without.
    expand("@default", &mut names)?;
    names.insert("execve".to_owned());
    for (key, forbidden) in [
        ("LockPersonality", "personality"),
        ("ProtectClock", "@clock"),
        ("ProtectHostname", "sethostname"),
        ("ProtectHostname", "setdomainname"),
        ("ProtectKernelLogs", "syslog"),
        ("ProtectKernelModules", "@module"),
        ("RestrictNamespaces", "unshare"),
        ("RestrictNamespaces", "setns"),
        ("RestrictRealtime", "sched_setscheduler"),
        ("RestrictSUIDSGID", "fchmodat2"),
    ] {
        if unit.is_on(key) {
            let mut set = BTreeSet::new();
            expand(forbidden, &mut set)?;
            names.retain(|name| !set.contains(name));
        }
    }
    let number = |name: &String| numbers.get(name).copied();
    let mut rules: Rules = names.iter().filter_map(number).map(|number| (number, Vec::new())).collect();
    ensure!(rules.len() > 200, "only {} calls are allowed: the lists were not understood", rules.len());
    restrict(unit, &mut rules)?;
    let error = match unit.value("SystemCallErrorNumber") {
        Some("EPERM") => libc::EPERM,
        other => bail!("SystemCallErrorNumber={other:?} is not known"),
    };
    if unit.is_on("RestrictNamespaces") {
        // Its flags are in memory. The C library goes on with clone where clone3 is not there.
        let clone3 = Rules::from([(libc::SYS_clone3, Vec::new())]);
        install(clone3, SeccompAction::Allow, SeccompAction::Errno(libc::ENOSYS.cast_unsigned()))?;
    }
    install(rules, SeccompAction::Errno(error.cast_unsigned()), SeccompAction::Allow)
}

/// Where a restriction is on arguments, and not on a whole call.
fn restrict(unit: &Unit, rules: &mut Rules) -> Result<()> {
    if unit.is_on("RestrictNamespaces") {
        rules.insert(libc::SYS_clone, vec![rule(&[masked(0, NAMESPACES, 0)?])?]);
    }
    if unit.is_on("MemoryDenyWriteExecute") {
        let [not_written, not_executed] =
            [libc::PROT_WRITE, libc::PROT_EXEC].map(|bit| rule(&[masked(2, bit, 0)?]));
        rules.insert(libc::SYS_mmap, vec![not_written?, not_executed?]);
        rules.insert(libc::SYS_mprotect, vec![rule(&[masked(2, libc::PROT_EXEC, 0)?])?]);
        rules.remove(&libc::SYS_pkey_mprotect);
        rules.remove(&libc::SYS_shmat);
    }
    if unit.is_on("RestrictSUIDSGID") {
        let bits = (libc::S_ISUID | libc::S_ISGID).cast_signed();
        rules.insert(libc::SYS_fchmod, vec![rule(&[masked(1, bits, 0)?])?]);
        rules.insert(libc::SYS_fchmodat, vec![rule(&[masked(2, bits, 0)?])?]);
        #[cfg(target_arch = "x86_64")]
        rules.insert(libc::SYS_chmod, vec![rule(&[masked(1, bits, 0)?])?]);
    }
    let mut families = Vec::new();
    for family in unit.words("RestrictAddressFamilies") {
        let number = match family {
            "AF_INET" => libc::AF_INET,
            "AF_INET6" => libc::AF_INET6,
            "AF_UNIX" => libc::AF_UNIX,
            "AF_NETLINK" => libc::AF_NETLINK,
            other => bail!("{other} is not known"),
        };
        families.push(rule(&[masked(0, !0, number)?])?);
    }
    if !families.is_empty() {
        rules.insert(libc::SYS_socket, families);
    }
    Ok(())
}

/// `argument & mask == value`, of 32 bits.
fn masked(argument: u8, mask: i32, value: i32) -> Result<SeccompCondition> {
    let operator = SeccompCmpOp::MaskedEq(u64::from(mask.cast_unsigned()));
    let value = u64::from(value.cast_unsigned());
    Ok(SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)?)
}

fn rule(conditions: &[SeccompCondition]) -> Result<SeccompRule> {
    Ok(SeccompRule::new(conditions.to_vec())?)
}

fn install(rules: Rules, otherwise: SeccompAction, matching: SeccompAction) -> Result<()> {
    let filter = SeccompFilter::new(rules, otherwise, matching, ARCHITECTURE)?;
    let program: BpfProgram = filter.try_into()?;
    Ok(apply_filter(&program)?)
}

/// Adds a call, or the calls of a set.
fn expand(word: &str, names: &mut BTreeSet<String>) -> Result<()> {
    if !word.starts_with('@') {
        names.insert(word.to_owned());
        return Ok(());
    }
    let output = Command::new("systemd-analyze").args(["syscall-filter", word]).output()?;
    ensure!(output.status.success(), "systemd-analyze knows no {word}");
    let text = String::from_utf8(output.stdout).context("it is not text")?;
    let members =
        text.lines().skip(1).map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    for member in members {
        expand(member, names)?;
    }
    Ok(())
}

/// Calls by name, from the kernel's headers: systemd lists names.
fn numbers() -> Result<BTreeMap<String, i64>> {
    let headers = [
        "/usr/include/x86_64-linux-gnu/asm/unistd_64.h",
        "/usr/include/asm/unistd_64.h",
        "/usr/include/asm-generic/unistd.h",
    ];
    let text = headers.iter().find_map(|path| std::fs::read_to_string(path).ok());
    let text = text.context("the kernel's headers are not installed")?;
    let number = |line: &str| {
        let (name, number) = line.strip_prefix("#define __NR_")?.split_once(' ')?;
        Some((name.to_owned(), number.trim().parse().ok()?))
    };
    Ok(text.lines().filter_map(number).collect())
}
