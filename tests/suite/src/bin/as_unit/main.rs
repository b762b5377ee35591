//! Runs a program under the restrictions of the systemd unit, where systemd is not there to apply them. What it is given goes
//! to the program; the environment names the unit, the program and the user.
//!
//! Each line of the unit's `[Service]` section is applied, or it is named in [`LEFT_OUT`]; any other is an error, so that
//! a restriction that is new in the unit does not go untested.

mod filter;
mod view;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::prctl::set_keepcaps;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{User, chown, setgroups, setresgid, setresuid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, configure_capability_in_ambient_set, remove_capability_from_bounding_set,
    set_capabilities, set_no_new_privs,
};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// What says how the program is run and not what it may do, and what would hide the test's own files.
const LEFT_OUT: [&str; 13] = [
    "ExecReload",
    "ExecStart",
    "ExecStartPre",
    "Group",
    "PrivateTmp",
    "RemoveIPC",
    "Restart",
    "RestartSec",
    "TasksMax",
    "TimeoutStopSec",
    "Type",
    "User",
    "WatchdogSec",
];

/// The `[Service]` section: keys and values in their order.
struct Unit(Vec<(String, String)>);

impl Unit {
    fn parse(text: &str) -> Self {
        let mut section = "";
        let mut entries = Vec::new();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if line.starts_with('[') {
                section = line;
            } else if let Some((key, value)) = line.split_once('=').filter(|_| section == "[Service]") {
                entries.push((key.to_owned(), value.to_owned()));
            }
        }
        Self(entries)
    }

    fn value(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(found, _)| found == key).map(|(_, value)| value.as_str())
    }

    fn words(&self, key: &str) -> Vec<&str> {
        self.value(key).unwrap_or_default().split_whitespace().collect()
    }

    fn is_on(&self, key: &str) -> bool {
        self.value(key) == Some("yes")
    }
}

fn main() -> Result<()> {
    let variable = |name: &str| std::env::var(name).with_context(|| format!("{name} is not set"));
    let unit = Unit::parse(&std::fs::read_to_string(variable("AS_UNIT_FILE")?)?);
    check_known(&unit)?;
    let program = variable("AS_UNIT_PROGRAM")?;
    let user = variable("AS_UNIT_USER")?;
    let user = User::from_name(&user)?.with_context(|| format!("there is no user {user}"))?;

    // Where it is started are its configuration and its password file.
    for entry in std::fs::read_dir(".")? {
        chown(&entry?.path(), Some(user.uid), Some(user.gid))?;
    }
    view::restrict(&unit, &user, &program)?;
    limit(&unit)?;
    let ambient = capabilities(&unit.words("AmbientCapabilities"))?;
    let bounding = capabilities(&unit.words("CapabilityBoundingSet"))?;
    ensure!(bounding.contains(ambient), "the ambient capabilities are not in the bounding set");
    for capability in CapabilitySet::all().iter().filter(|capability| !bounding.contains(*capability)) {
        match remove_capability_from_bounding_set(capability) {
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(error) => return Err(error.into()),
        }
    }
    set_keepcaps(true)?;
    setgroups(&[user.gid])?;
    setresgid(user.gid, user.gid, user.gid)?;
    setresuid(user.uid, user.uid, user.uid)?;
    let sets = CapabilitySets { effective: ambient, permitted: ambient, inheritable: ambient };
    set_capabilities(None, sets)?;
    for capability in ambient.iter() {
        configure_capability_in_ambient_set(capability, true)?;
    }
    ensure!(unit.is_on("NoNewPrivileges"), "the unit does not set no_new_privs");
    set_no_new_privs(true)?;
    filter::apply(&unit)?;
    Err(Command::new(program).args(std::env::args_os().skip(1)).exec().into())
}

fn check_known(unit: &Unit) -> Result<()> {
    const OWN: [&str; 8] = [
        "AmbientCapabilities",
        "CapabilityBoundingSet",
        "LimitMEMLOCK",
        "LimitNOFILE",
        "NoNewPrivileges",
        "RuntimeDirectory",
        "SystemCallArchitectures",
        "UMask",
    ];
    let known = [&LEFT_OUT[..], &OWN, &filter::KEYS, &view::KEYS].concat();
    match unit.0.iter().find(|(key, _)| !known.contains(&key.as_str())) {
        Some((key, _)) => bail!("{key} is in the unit and not applied"),
        None => Ok(()),
    }
}

fn capabilities(names: &[&str]) -> Result<CapabilitySet> {
    let mut set = CapabilitySet::empty();
    for name in names {
        let short = name.strip_prefix("CAP_").unwrap_or(name);
        set |= CapabilitySet::from_name(short).with_context(|| format!("there is no {name}"))?;
    }
    Ok(set)
}

fn limit(unit: &Unit) -> Result<()> {
    for (key, resource) in
        [("LimitNOFILE", Resource::RLIMIT_NOFILE), ("LimitMEMLOCK", Resource::RLIMIT_MEMLOCK)]
    {
        let value = match unit.value(key) {
            None => continue,
            Some("infinity") => RLIM_INFINITY,
            Some(number) => number.parse()?,
        };
        // A container may not raise a limit; the unit's is then above what there is.
        let value = value.min(getrlimit(resource)?.1);
        setrlimit(resource, value, value).with_context(|| format!("{key}={value}"))?;
    }
    if let Some(mask) = unit.value("UMask") {
        umask(Mode::from_bits_truncate(u32::from_str_radix(mask, 8)?));
    }
    Ok(())
}
