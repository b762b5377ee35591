//! What each kernel is known to do, as one table: a kernel that does less fails the run.

use super::guest::{Findings, Outcome};

/// One line of kernels, of which Debian's newest is tried.
pub struct Series {
    pub name: &'static str,
    /// Debian's suite that has it.
    pub suite: &'static str,
    /// The release begins with this; empty for the one that moves.
    pub release: &'static str,
    /// Programs that its verifier has to refuse, since it lacks a helper they call.
    pub refused: &'static [&'static str],
    /// Programs are told network namespaces.
    pub netns: bool,
    /// Paths that are on; the self-test may keep the others off.
    pub on: &'static [&'static str],
    /// How many boots it has to do all of that once.
    pub boots: u32,
}

/// What a verdict passed to its own socket did not arrive in one of eight boots of 5.10, most likely for the lost wake-ups
/// that 6.4 mended. The policy leaves out the paths that can meet it there.
const STANDS_STILL_AT_TIMES: u32 = 3;

/// Those without an enrolled client: older kernels do not tell it by FIONREAD what was redirected to it.
const NO_CLIENTS: &[&str] = &["own_socket", "server_local"];
const ALL_PATHS: &[&str] = &["own_socket", "client_local", "server_local", "colocated"];

pub const TABLE: [Series; 4] = [
    Series {
        name: "5.10",
        suite: "bullseye",
        release: "5.10.",
        refused: &["enrol", "enrolled_msg"],
        netns: false,
        on: NO_CLIENTS,
        boots: STANDS_STILL_AT_TIMES,
    },
    Series {
        name: "6.1",
        suite: "bookworm",
        release: "6.1.",
        refused: &[],
        netns: true,
        on: NO_CLIENTS,
        boots: 1,
    },
    Series {
        name: "6.12",
        suite: "trixie",
        release: "6.12.",
        refused: &[],
        netns: true,
        on: ALL_PATHS,
        boots: 1,
    },
    Series {
        name: "newest",
        suite: "trixie-backports",
        release: "",
        refused: &[],
        netns: true,
        on: ALL_PATHS,
        boots: 1,
    },
];

impl Series {
    /// Where `found` falls short of the table, one sentence each.
    pub fn shortfalls(&self, found: &Findings) -> Vec<String> {
        let mut short = Vec::new();
        if !found.kernel.starts_with(self.release) {
            short.push(format!("the kernel is {}", found.kernel));
        }
        if found.programs.is_empty() {
            short.push("no program was tried".to_owned());
        }
        for program in &found.programs {
            if let Some(why) = &program.refused
                && !self.refused.contains(&program.name.as_str())
            {
                short.push(format!("{} does not load: {why}", program.name));
            }
        }
        if self.netns && !found.netns {
            short.push("programs are not told the network namespace".to_owned());
        }
        for path in ALL_PATHS {
            short.extend(self.path_shortfalls(found, path));
        }
        short
    }

    fn path_shortfalls(&self, found: &Findings, path: &str) -> Vec<String> {
        let Some(state) = found.paths.iter().find(|state| state.name == path) else {
            return vec![format!("{path} was not tried")];
        };
        let mut short = Vec::new();
        if !state.on && self.on.contains(&path) {
            short.push(format!("{path} is off: {}", state.reason));
        }
        for family in ["ipv4", "ipv6"] {
            let trip = found.trips.iter().find(|trip| trip.path == path && trip.family == family);
            match trip.map(|trip| &trip.outcome) {
                Some(Outcome::Equal { redirected: 1.. }) => {}
                Some(Outcome::Equal { .. }) => {
                    short.push(format!("{path} {family}: nothing went through the kernel"));
                }
                Some(Outcome::Skipped(_)) if !state.on => {}
                Some(Outcome::Skipped(why)) => short.push(format!("{path} {family} is off: {why}")),
                Some(Outcome::Failed(why)) => short.push(format!("{path} {family}: {why}")),
                None => short.push(format!("{path} {family}: not tried")),
            }
        }
        short
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::guest::{Loaded, PathState, Trip};

    fn all_well(kernel: &str) -> Findings {
        let trip = |path: &&str, family: &str| Trip {
            path: (*path).to_owned(),
            family: family.to_owned(),
            outcome: Outcome::Equal { redirected: 9 },
        };
        let state = |path: &&str| PathState { name: (*path).to_owned(), on: true, reason: String::new() };
        Findings {
            kernel: kernel.to_owned(),
            programs: vec![Loaded { name: "enrol".to_owned(), refused: None }],
            netns: true,
            paths: ALL_PATHS.iter().map(state).collect(),
            trips: ALL_PATHS.iter().flat_map(|path| [trip(path, "ipv4"), trip(path, "ipv6")]).collect(),
        }
    }

    #[test]
    fn what_is_as_expected_is_no_shortfall() {
        assert!(TABLE[1].shortfalls(&all_well("6.1.0-50-cloud-amd64")).is_empty());
        let mut old = all_well("5.10.0-32-cloud-amd64");
        (old.netns, old.programs[0].refused) = (false, Some("unknown func".to_owned()));
        assert!(TABLE[0].shortfalls(&old).is_empty());
    }

    #[test]
    fn every_loss_is_told() {
        let check = |change: fn(&mut Findings), expected: &str| {
            let mut findings = all_well("6.1.0-50-cloud-amd64");
            change(&mut findings);
            assert_eq!(TABLE[1].shortfalls(&findings).join("; "), expected);
        };
        check(|found| found.kernel = "6.12.1".to_owned(), "the kernel is 6.12.1");
        check(|found| found.programs.clear(), "no program was tried");
        check(|found| found.programs[0].refused = Some("why".to_owned()), "enrol does not load: why");
        check(|found| found.netns = false, "programs are not told the network namespace");
        check(|found| found.paths.truncate(3), "colocated was not tried");
        check(
            |found| {
                found.paths[0].on = false;
                found.trips[0].outcome = Outcome::Skipped("why".to_owned());
                found.trips[1].outcome = Outcome::Skipped("why".to_owned());
            },
            "own_socket is off: ",
        );
        check(
            |found| found.trips[0].outcome = Outcome::Skipped("why".to_owned()),
            "own_socket ipv4 is off: why",
        );
        check(
            |found| found.trips[0].outcome = Outcome::Equal { redirected: 0 },
            "own_socket ipv4: nothing went through the kernel",
        );
        check(
            |found| found.trips[0].outcome = Outcome::Failed("other bytes".to_owned()),
            "own_socket ipv4: other bytes",
        );
        check(|found| drop(found.trips.pop()), "colocated ipv6: not tried");
    }
}
