//! Which directions of which path go through the kernel.

use std::fmt;

use halephant_common::flow::{CLIENT_TO_SERVER, SERVER_TO_CLIENT};

/// Where the ends of a session are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Path {
    /// Neither is known to be a process of this host: our two sockets.
    Own,
    /// The client is.
    ClientLocal,
    /// PostgreSQL is.
    ServerLocal,
    /// Both are: their two sockets, ours are not in between.
    Colocated,
}

impl Path {
    pub const ALL: [Self; 4] = [Self::Own, Self::ClientLocal, Self::ServerLocal, Self::Colocated];

    pub const fn of(client_enrolled: bool, server_enrolled: bool) -> Self {
        match (client_enrolled, server_enrolled) {
            (false, false) => Self::Own,
            (true, false) => Self::ClientLocal,
            (false, true) => Self::ServerLocal,
            (true, true) => Self::Colocated,
        }
    }

    /// Metric label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Own => "own_socket",
            Self::ClientLocal => "client_local",
            Self::ServerLocal => "server_local",
            Self::Colocated => "colocated",
        }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Which of the two directions a path may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Directions(pub [bool; 2]);

impl Directions {
    pub const BOTH: Self = Self([true, true]);
    pub const NONE: Self = Self([false, false]);

    pub const fn client_to_server(self) -> bool {
        self.0[CLIENT_TO_SERVER as usize]
    }

    pub const fn server_to_client(self) -> bool {
        self.0[SERVER_TO_CLIENT as usize]
    }

    pub const fn and(self, other: Self) -> Self {
        Self([self.0[0] && other.0[0], self.0[1] && other.0[1]])
    }
}

/// Which paths sessions may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// Those that measurement speaks for.
    #[default]
    Measured,
    /// All that the programs know, for tests and for measuring.
    Every,
}

/// For sessions, before the self-test's say. Figures: pgbench -S on kernel 6.18 with 2 CPUs, over loopback; with one end
/// on another host, over a veth pair (`docs/kernel-path.md`).
const TABLE: [(Path, Directions, &str); 4] = [
    (Path::Own, Directions::NONE, "not faster than copying under load"),
    (Path::ClientLocal, Directions::NONE, "23 to 32% more than copying, but bytes under way are not counted"),
    (Path::ServerLocal, Directions::NONE, "21 to 28% more than copying, but bulk takes 21% longer"),
    (Path::Colocated, Directions::BOTH, "80% more than copying, 10% more than a direct connection"),
];

/// Directions and the measured reason for them.
pub fn directions(policy: Policy, path: Path) -> (Directions, &'static str) {
    let row = TABLE.iter().find(|(row, ..)| *row == path);
    let (directions, reason) =
        row.map_or((Directions::NONE, "unknown"), |(_, directions, reason)| (*directions, *reason));
    match policy {
        Policy::Measured => (directions, reason),
        Policy::Every => (Directions::BOTH, reason),
    }
}

/// Why nothing is used, where the policy leaves out every path that the settings make possible. Without `colocated` no
/// socket of another process is enrolled.
pub fn reason_for_none(policy: Policy, colocated: bool) -> Option<&'static str> {
    let possible = if colocated { &Path::ALL[..] } else { &[Path::Own] };
    let mut every = possible.iter().map(|path| directions(policy, *path));
    let none = every.clone().all(|(used, _)| used == Directions::NONE);
    every.next_back().filter(|_| none).map(|(_, reason)| reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_has_a_row() {
        for path in Path::ALL {
            assert_ne!(directions(Policy::Measured, path).1, "unknown", "{path}");
            assert_eq!(directions(Policy::Every, path).0, Directions::BOTH, "{path}");
        }
    }

    #[test]
    fn a_reason_is_given_where_no_path_is_left() {
        let own = directions(Policy::Measured, Path::Own);
        let reason = (own.0 == Directions::NONE).then_some(own.1);
        assert_eq!(reason_for_none(Policy::Measured, false), reason);
        assert_eq!(reason_for_none(Policy::Measured, true), None);
        assert_eq!(reason_for_none(Policy::Every, false), None);
    }
}
