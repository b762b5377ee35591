//! Why the kernel path is off, or a session is not on it.

use std::io;

/// Why the kernel path does not start.
#[derive(Debug, thiserror::Error)]
pub enum SpliceError {
    #[error("the capability {0} is missing")]
    Capability(&'static str),
    #[error("kernel {0} is older than 5.10")]
    Kernel(String),
    #[error("no cgroup2 hierarchy at {path}")]
    Cgroup {
        path: String,
        #[source]
        source: Option<io::Error>,
    },
    #[error("membarrier has no grace periods here")]
    Membarrier,
    #[error("the object file does not load")]
    Object(#[source] Box<aya::EbpfError>),
    #[error("the program {name} does not load or attach")]
    Program {
        name: &'static str,
        #[source]
        source: Box<aya::programs::ProgramError>,
    },
    #[error("the object file has no {0}")]
    Missing(&'static str),
    #[error("the map {name}: {step}")]
    Map {
        name: &'static str,
        step: &'static str,
        #[source]
        source: Box<aya::maps::MapError>,
    },
    #[error("{0}")]
    System(&'static str, #[source] io::Error),
    /// What measurement speaks against.
    #[error(
        "the policy uses no path here (own_socket: {0}); colocated = true enrols the sockets of this host"
    )]
    Policy(&'static str),
    #[error("no path works: {0}")]
    Probe(String),
}

/// Why two sockets stay in userspace altogether.
#[derive(Debug, thiserror::Error)]
pub enum NotInserted {
    #[error("the kernel path is switched off")]
    Killed,
    #[error("all {0} flows are in use")]
    Full(u32),
    /// Bytes wait in a receive queue; read them and try again at a quiet moment.
    #[error("bytes wait unread")]
    Unread,
    /// The path between these two sockets is not one that the policy uses.
    #[error("the policy keeps the path {0} in userspace")]
    Policy(super::policy::Path),
    #[error("{0}")]
    System(&'static str, #[source] io::Error),
    #[error("the map {name}")]
    Map {
        name: &'static str,
        #[source]
        source: Box<aya::maps::MapError>,
    },
}

/// Why a direction stays in userspace for now.
#[derive(Debug, thiserror::Error)]
pub enum NotArmed {
    #[error("the kernel path is switched off")]
    Killed,
    /// For good: do not ask again for this flow.
    #[error("the policy keeps this direction in userspace")]
    Policy,
    /// For good: the messages of this direction are no longer followed.
    #[error("the direction is untracked")]
    Untracked,
    /// Userspace has not read all that the source's TCP has received.
    #[error("bytes of the source are on their way")]
    SourceBusy,
    /// The receiver has not read all that userspace wrote.
    #[error("the target has not taken all bytes yet")]
    TargetBusy,
    #[error("{0}")]
    System(&'static str, #[source] io::Error),
}

/// The kernel path did not do what it should have: close both sockets. The kernel path is off from here on.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error("{redirected} bytes went to the target, {taken} arrived")]
    Bytes { redirected: u64, taken: u64 },
    #[error("{0}")]
    System(&'static str, #[source] io::Error),
    #[error("the grace period's thread is gone")]
    Grace,
}
