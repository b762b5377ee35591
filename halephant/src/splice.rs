//! The kernel path: eBPF programs that move a session's bytes between its two sockets. Everything works without it.
//!
//! [`Splice`] loads the programs, tests them and hands out a [`Flow`] per session. Nothing of it outlives the process:
//! maps, programs and the link to the cgroup go with their descriptors.

mod capability;
mod core;
pub mod diag;
pub mod error;
mod events;
pub mod flow;
mod grace;
mod nodes;
mod object;
pub mod policy;
mod probe;
pub mod settings;
pub mod socket;
mod table;
mod words;

use std::fmt;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

pub use error::{Fault, NotArmed, NotInserted, SpliceError};
pub use flow::{Attention, Direction, Flow, Reclaimed, Released, Sockets, Status};
pub use halephant_common::counters::NodeCounters;
pub use halephant_common::flow::Reason;
pub use halephant_common::framing::Framing;
pub use nodes::{Node, NodeSet};
pub use policy::Path;
pub use probe::{Outcome, Report};
use settings::{SpliceMode, SpliceSettings};

/// The kernel path of a process; clones are the same.
#[derive(Clone)]
pub struct Splice {
    core: Arc<core::Core>,
    report: Arc<Report>,
}

impl fmt::Debug for Splice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Splice").field("report", &self.report).finish_non_exhaustive()
    }
}

impl Splice {
    /// Loads and tests the kernel path. `None` where the settings say off, or say auto and it does not work here; the
    /// reason is logged once. Blocks for the self-test, about a second.
    ///
    /// `listen_ports`: where clients connect to. With `colocated`, any process in the cgroup that connects to such a port
    /// has its socket enrolled.
    pub fn start(settings: &SpliceSettings, listen_ports: &[u16]) -> Result<Option<Self>, SpliceError> {
        match settings.mode {
            SpliceMode::Off => Ok(None),
            SpliceMode::Require => Self::load(settings, listen_ports).map(Some),
            SpliceMode::Auto => match Self::load(settings, listen_ports) {
                Ok(splice) => Ok(Some(splice)),
                // As it should be here: nothing is missing.
                Err(SpliceError::Policy(reason)) => {
                    tracing::info!(reason, "the kernel path is not used; sessions stay in userspace");
                    Ok(None)
                }
                Err(error) => {
                    tracing::warn!(reason = %chain(&error), "the kernel path is off; sessions stay in userspace");
                    Ok(None)
                }
            },
        }
    }

    fn load(settings: &SpliceSettings, listen_ports: &[u16]) -> Result<Self, SpliceError> {
        if let Some(reason) = policy::reason_for_none(settings.policy, settings.colocated) {
            // Nothing would be left for the self-test to find.
            return Err(SpliceError::Policy(reason));
        }
        capability::check()?;
        let cgroup = settings.colocated.then(|| capability::open_cgroup(&settings.cgroup)).transpose()?;
        let mut object = object::Object::load(cgroup.as_ref())?;
        let ring = object.events.take().ok_or(SpliceError::Missing("EVENTS"))?;
        let words = object.words.take();
        let core = Arc::new(core::Core::new(object, settings.credit_bytes, settings.policy)?);
        let reader = events::start(ring, words, Arc::downgrade(&core))?;
        core.keep_reader(reader);
        let report = probe::run(&core, settings.colocated)?;
        core.set_working(report.working());
        let enrolment = report.enrolment();
        if !enrolment.servers {
            core.enrol_no_servers();
        }
        let splice = Self { core, report: Arc::new(report) };
        for port in listen_ports.iter().filter(|_| enrolment.clients) {
            probe::listen(&splice.core, *port)?;
        }
        tracing::info!(report = %splice.report, "the kernel path is on");
        Ok(splice)
    }

    /// To be called when the process has given up what it needed to start: the thread that reads the programs' events must be able to
    /// close connections, so it needs what the calling one has kept.
    pub fn settle(&self) -> Result<(), SpliceError> {
        self.core.restart_reader()
    }

    /// Says that `socket` will be connected to PostgreSQL, so that the server's socket is enrolled if it is on this host.
    /// To be called before the connect; without it the session uses our own socket on the server's side.
    pub fn before_connect(&self, socket: BorrowedFd<'_>) {
        self.core.announce(socket);
    }

    /// The number of a node's counters; nodes beyond the last number share it.
    pub fn node(&self, name: &str) -> u32 {
        self.core.nodes.number(name)
    }

    /// Puts a session's sockets on the kernel path; userspace goes on owning both directions until it arms one.
    ///
    /// To be called when both are past authentication and encryption is off on both, at a quiet moment: no byte waits
    /// unread on either socket. `node` numbers the counters.
    pub fn insert(&self, sockets: Sockets<'_>, node: u32) -> Result<Flow, NotInserted> {
        Flow::insert(&self.core, sockets, node)
    }

    /// Directions that are armed from now on get this credit.
    pub fn set_credit(&self, bytes: u64) {
        self.core.set_credit(bytes);
    }

    /// Switches the kernel path off: programs pass from the next byte on, and every [`Flow::tend`] returns.
    pub fn kill(&self) {
        self.core.kill();
    }

    /// Switches it on again; `false` after a fault, which is for good.
    pub fn revive(&self) -> bool {
        self.core.revive()
    }

    pub fn is_killed(&self) -> bool {
        self.core.is_killed()
    }

    pub fn counters(&self, node: u32) -> NodeCounters {
        self.core.counters(node)
    }

    /// Counts a session for a node, once: `counted` is the session's own.
    pub fn count_session(&self, node: u32, counted: &mut NodeSet) {
        self.core.nodes.count_session(node, counted);
    }

    /// Every node that had a session on the kernel path, and what the programs counted for it.
    pub fn nodes(&self) -> Vec<(Node, NodeCounters)> {
        self.core
            .nodes
            .all()
            .into_iter()
            .zip(0..)
            .map(|(node, number)| (node, self.core.counters(number)))
            .collect()
    }

    pub fn flows(&self) -> usize {
        self.core.flows_now()
    }

    pub fn faults(&self) -> u64 {
        self.core.faults.load(std::sync::atomic::Ordering::Acquire)
    }

    pub fn report(&self) -> &Report {
        &self.report
    }
}

/// An error and its causes in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
