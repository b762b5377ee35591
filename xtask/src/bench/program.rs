//! What is measured: PostgreSQL alone, the other poolers, halephant on its paths.

use clap::ValueEnum;

use super::lane::{Lane, Mode, Work};

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

    /// Whether measuring it on `lane` says something.
    pub fn is_for(self, lane: &Lane) -> bool {
        if lane.work == Work::Scrape {
            // The others' metrics are not read this way.
            return matches!(self, Self::Halephant | Self::HalephantBaseline);
        }
        match self {
            Self::Direct => lane.has_direct(),
            // A session alone goes by the kernel; what a waiting client costs does not depend on it.
            Self::HalephantOwn | Self::HalephantColocated => {
                lane.mode == Mode::Session && !matches!(lane.work, Work::Idle | Work::Storm)
            }
            _ => true,
        }
    }
}
