//! The self-test: what the programs do on this kernel, with real sockets, before a session is trusted to them.

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
    pub(super) fn working(&self) -> [Directions; 4] {
        Path::ALL.map(|path| {
            self.paths
                .iter()
                .find(|outcome| outcome.path == path)
                .map_or(Directions::NONE, |outcome| outcome.used)
        })
    }
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

pub fn listen(core: &Core, port: u16) -> Result<(), SpliceError> {
    core.object().listen_ports.insert(port, 1, 0).map_err(|source| SpliceError::Map {
        name: "LISTEN_PORTS",
        step: "inserting",
        source: Box::new(source),
    })
}

pub fn run(core: &Arc<Core>, colocated: bool) -> Result<Report, SpliceError> {
    let netns = core.object().netns;
    let paths = Path::ALL
        .into_iter()
        .map(|path| {
            let (used, reason) = directions(path);
            if path == Path::Own || colocated {
                Outcome { path, used, reason: reason.to_owned() }
            } else {
                Outcome { path, used: Directions::NONE, reason: "colocated is off".to_owned() }
            }
        })
        .collect();
    Ok(Report { paths, netns })
}
