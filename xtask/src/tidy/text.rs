//! What no committed text may say: where somebody's machine keeps its files, and the hosts of package registries.

use halephant_harness::target;
use std::env;
use std::path::{Component, Path};

use super::table::{COMMON_DIRECTORIES, MACHINE_PATHS, REGISTRY_HOSTS};
use super::{File, Finding};

/// The paths of the machine that tidy runs on: this checkout's, or its first directory where that is not a common one.
pub fn this_machine() -> Vec<String> {
    let mut paths = of_checkout(&target::workspace());
    let homes = ["HOME", "CARGO_HOME", "RUSTUP_HOME"].into_iter().filter_map(|name| env::var(name).ok());
    paths.extend(homes.filter(|path| path.matches('/').count() > 1));
    paths
}

fn of_checkout(root: &Path) -> Vec<String> {
    let first = root.components().find_map(|part| match part {
        Component::Normal(name) => name.to_str(),
        _ => None,
    });
    let mut paths = vec![root.display().to_string()];
    paths.extend(first.filter(|name| !COMMON_DIRECTORIES.contains(name)).map(|name| format!("/{name}/")));
    paths
}

pub fn check(file: &File, machine: &[String]) -> Vec<Finding> {
    let fixed = MACHINE_PATHS.iter().map(|parts| parts.join("/"));
    let paths: Vec<String> = machine.iter().cloned().chain(fixed).collect();
    let hosts: Vec<String> = REGISTRY_HOSTS.iter().map(|labels| labels.join(".")).collect();
    let mut findings = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        if let Some(path) = paths.iter().find(|path| names_path(line, path)) {
            findings.push(Finding::new(&file.path, index + 1, format!("names a path of a machine: {path}")));
        }
        if let Some(host) = hosts.iter().find(|host| line.contains(host.as_str())) {
            findings.push(Finding::new(
                &file.path,
                index + 1,
                format!("names a package registry's host: {host}"),
            ));
        }
    }
    findings
}

/// `path` at the start of an absolute path, not within `usr/src/work/` or an address.
fn names_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        before.is_none_or(|letter| {
            !letter.is_alphanumeric() && !['.', '_', '-', '}', '~', '>'].contains(&letter)
        })
    })
}
