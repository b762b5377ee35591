//! What is measured: PostgreSQL alone, the other poolers, halephant on its paths.

use clap::ValueEnum;

use super::lane::{Lane, Mode, Remote, Work};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
#[value(rename_all = "kebab-case")]
pub enum Program {
    /// Straight to PostgreSQL
    Direct,
    /// One process
    Pgbouncer,
    /// One process for each CPU, sharing a port by so_reuseport
    PgbouncerMany,
    Odyssey,
    Pgdog,
    Pgcat,
    /// halephant without its kernel path
    Halephant,
    /// halephant with its kernel path between its own two sockets
    HalephantOwn,
    /// halephant with its kernel path between the client's and PostgreSQL's sockets
    HalephantColocated,
    /// halephant with its kernel path between PostgreSQL's socket and its own, where the client is on another host
    HalephantServerLocal,
    /// halephant with its kernel path between the client's socket and its own, where PostgreSQL is on another host
    HalephantClientLocal,
    /// Another build of halephant, without kernel path and without --set: see --baseline
    HalephantBaseline,
}

impl Program {
    /// As reports name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Pgbouncer => "PgBouncer",
            Self::PgbouncerMany => "PgBouncer, one process per CPU",
            Self::Odyssey => "Odyssey",
            Self::Pgdog => "PgDog",
            Self::Pgcat => "PgCat",
            Self::Halephant => "halephant",
            Self::HalephantOwn => "halephant, own-socket",
            Self::HalephantColocated => "halephant, co-located",
            Self::HalephantServerLocal => "halephant, server-local",
            Self::HalephantClientLocal => "halephant, client-local",
            Self::HalephantBaseline => "halephant, baseline",
        }
    }

    /// The program file it needs besides halephant's own.
    pub fn peer(self) -> Option<&'static str> {
        match self {
            Self::Pgbouncer | Self::PgbouncerMany => Some("pgbouncer"),
            Self::Odyssey => Some("odyssey"),
            Self::Pgdog => Some("pgdog"),
            Self::Pgcat => Some("pgcat"),
            Self::HalephantBaseline => Some("baseline"),
            _ => None,
        }
    }

    /// The kernel path that its sessions are on, as the admin API names it.
    pub fn kernel_path(self) -> Option<&'static str> {
        match self {
            Self::HalephantOwn => Some("own_socket"),
            Self::HalephantColocated => Some("colocated"),
            Self::HalephantServerLocal => Some("server_local"),
            Self::HalephantClientLocal => Some("client_local"),
            _ => None,
        }
    }

    /// Whether measuring it on `lane` says something.
    pub fn is_for(self, lane: &Lane) -> bool {
        if lane.work == Work::Scrape {
            // The others' metrics are not read this way.
            return matches!(self, Self::Halephant | Self::HalephantBaseline);
        }
        if lane.has_tls() {
            // The kernel path does not encrypt; PostgreSQL and the others are not set up for it.
            return matches!(
                self,
                Self::Pgbouncer | Self::PgbouncerMany | Self::Halephant | Self::HalephantBaseline
            );
        }
        match self {
            Self::Direct => lane.has_direct(),
            // A session alone goes by the kernel; what a waiting client costs does not depend on it.
            Self::HalephantOwn => {
                lane.mode == Mode::Session && !matches!(lane.work, Work::Idle | Work::Storm)
            }
            Self::HalephantColocated => lane.remote.is_none() && Self::HalephantOwn.is_for(lane),
            Self::HalephantServerLocal => lane.remote == Some(Remote::Client),
            Self::HalephantClientLocal => lane.remote == Some(Remote::Server),
            Self::Halephant | Self::HalephantBaseline => true,
            // They listen on loopback.
            _ => lane.remote.is_none(),
        }
    }
}
