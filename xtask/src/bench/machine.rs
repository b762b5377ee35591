//! The machine, as far as figures depend on it; nothing that names it.

use serde::{Deserialize, Serialize};
use std::fs;

use super::peer::cpus;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    pub cpu: String,
    pub cpus: u32,
    pub memory_gib: u64,
    pub kernel: String,
    pub system: String,
}

impl Machine {
    pub fn of_this_host() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let unknown = || "unknown".to_owned();
        let field = |text: &str, name: &str, divider: char| {
            let line = text.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(divider)?.1.trim().trim_matches('"').to_owned())
        };
        let kib = field(&read("/proc/meminfo"), "MemTotal", ':')
            .and_then(|text| text.split(' ').next()?.parse::<u64>().ok())
            .unwrap_or_default();
        Self {
            cpu: field(&read("/proc/cpuinfo"), "model name", ':').unwrap_or_else(unknown),
            cpus: cpus(),
            memory_gib: kib.div_ceil(1 << 20),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            system: field(&read("/etc/os-release"), "PRETTY_NAME", '=').unwrap_or_else(unknown),
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn knows_this_host() {
        let machine = super::Machine::of_this_host();
        assert!(machine.cpus > 0 && machine.memory_gib > 0 && !machine.kernel.is_empty(), "{machine:?}");
    }
}
