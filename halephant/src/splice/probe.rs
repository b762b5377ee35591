//! The self-test: what the programs do on this kernel, with real sockets, before a session is trusted to them.

mod trial;

use std::fmt;
use std::sync::Arc;

use super::core::Core;
use super::error::SpliceError;
use super::policy::{Directions, Path, directions};

/// What the self-test found on one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub path: Path,
    /// Directions that are used: the policy's and the self-test's.
    pub used: Directions,
    /// Why not, or the policy's reason.
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub paths: Vec<Outcome>,
    /// Programs know network namespaces.
    pub netns: bool,
}

impl Report {
    /// Which far ends are worth enrolling. An enrolled socket whose path is off is on none: the session would be kept in
    /// userspace, and its process would pay for the enrolment.
    pub(super) fn enrolment(&self) -> Enrolment {
        let on = |path| self.paths.iter().any(|row| row.path == path && row.used != Directions::NONE);
        let clients = on(Path::Colocated) || on(Path::ClientLocal);
        // With both ends enrolled a session is colocated.
        let servers = on(Path::Colocated) || (on(Path::ServerLocal) && !clients);
        Enrolment { clients, servers }
    }

    pub(super) fn working(&self) -> [Directions; 4] {
        Path::ALL.map(|path| {
            self.paths
                .iter()
                .find(|outcome| outcome.path == path)
                .map_or(Directions::NONE, |outcome| outcome.used)
        })
    }
}

/// Far ends that are enrolled when they are born.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Enrolment {
    pub clients: bool,
    pub servers: bool,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, outcome) in self.paths.iter().enumerate() {
            let used = match outcome.used.0 {
                [true, true] => "on",
                [true, false] => "client to server only",
                [false, true] => "server to client only",
                [false, false] => "off",
            };
            let comma = if i > 0 { ", " } else { "" };
            write!(f, "{comma}{}: {used} ({})", outcome.path, outcome.reason)?;
        }
        Ok(())
    }
}

/// Clients that connect to `port` are enrolled.
pub fn listen(core: &Core, port: u16) -> Result<(), SpliceError> {
    core.object().listen_ports.insert(port, 1, 0).map_err(|source| SpliceError::Map {
        name: "LISTEN_PORTS",
        step: "inserting",
        source: Box::new(source),
    })
}

/// Clients that connect to `port` are no longer enrolled.
fn unlisten(core: &Core, port: u16) {
    // Not there is as good.
    let _ = core.object().listen_ports.remove(&port);
}

/// Runs on a thread and a runtime of its own, so that it may be called from anywhere.
pub fn run(core: &Arc<Core>, colocated: bool) -> Result<Report, SpliceError> {
    let failed = |source| SpliceError::System("starting the self-test", source);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let netns = core.object().netns;
    let paths = std::thread::scope(|scope| {
        let tests = scope.spawn(|| {
            runtime.block_on(async {
                let mut paths = Vec::new();
                for path in Path::ALL {
                    paths.push(outcome(core, path, colocated).await);
                }
                paths
            })
        });
        tests.join().map_err(|_| SpliceError::Probe("the self-test panicked".to_owned()))
    })?;
    let report = Report { paths, netns };
    if report.paths.iter().all(|outcome| outcome.used == Directions::NONE) {
        return Err(SpliceError::Probe(report.to_string()));
    }
    Ok(report)
}

async fn outcome(core: &Arc<Core>, path: Path, colocated: bool) -> Outcome {
    let (used, reason) = directions(core.policy, path);
    let off = |reason| Outcome { path, used: Directions::NONE, reason };
    if path != Path::Own && !colocated {
        return off("colocated is off".to_owned());
    }
    if used == Directions::NONE {
        return off(reason.to_owned());
    }
    match trial::run(core, path).await {
        Ok(()) => Outcome { path, used, reason: reason.to_owned() },
        Err(failure) => off(format!("the self-test failed: {failure}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ends_with_a_path_are_enrolled() {
        use Path::{ClientLocal, Colocated, Own, ServerLocal};
        let check = |on: &[Path], clients, servers| {
            let paths = Path::ALL.map(|path| {
                let used = if on.contains(&path) { Directions::BOTH } else { Directions::NONE };
                Outcome { path, used, reason: String::new() }
            });
            let report = Report { paths: paths.to_vec(), netns: true };
            assert_eq!(report.enrolment(), Enrolment { clients, servers }, "{on:?}");
        };
        check(&Path::ALL, true, true);
        check(&[Own], false, false);
        check(&[Own, ServerLocal], false, true);
        check(&[Own, ClientLocal], true, false);
        check(&[Own, ClientLocal, ServerLocal], true, false);
        check(&[Colocated], true, true);
    }
}
