//! One node of a cluster: what it said last, and what it is used as.

use super::cluster::NodeIndex;
use super::observation::Observation;
use super::probe::ProbeError;
use crate::net::{NodeAddress, Role};
use arc_swap::ArcSwapOption;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::time::Instant;

#[derive(Debug)]
pub struct Node {
    pub address: NodeAddress,
    role: AtomicU8,
    tenure: AtomicU32,
    /// The configuration names it.
    configured: AtomicBool,
    draining: AtomicBool,
    latest: ArcSwapOption<Latest>,
}

/// The answer to the last question.
#[derive(Clone, Debug)]
pub struct Latest {
    pub at: Instant,
    pub outcome: Result<Observation, Arc<ProbeError>>,
    /// Questions in a row that were not answered.
    pub failures: u32,
    /// What it was used as when it last had a role.
    last_role: Option<Role>,
}

/// A node that is used as something else from now on.
#[derive(Clone, Debug)]
pub struct Change {
    pub index: NodeIndex,
    pub node: Arc<Node>,
    pub from: Option<Role>,
    pub to: Option<Role>,
    /// Connections that were opened before must not be used any more.
    pub displaced: bool,
    /// It has not answered for so long, or has been replaced, that what runs on it is given up.
    pub lost: bool,
}

const UNKNOWN: u8 = 0;
const PRIMARY: u8 = 1;
const REPLICA: u8 = 2;

impl Node {
    pub(super) fn new(address: NodeAddress) -> Self {
        Self {
            address,
            role: AtomicU8::new(UNKNOWN),
            tenure: AtomicU32::new(0),
            configured: AtomicBool::new(true),
            draining: AtomicBool::new(false),
            latest: ArcSwapOption::empty(),
        }
    }

    /// The same node when it is configured again: nobody asks the one before any more, and what it lent is void.
    pub(super) fn configured_again(&self) -> Self {
        let again = Self::new(self.address.clone());
        again.tenure.store(self.tenure().wrapping_add(1), Ordering::Release);
        again
    }

    /// What clients may use it as; `None` while it has not answered, is drained, or is no longer configured.
    pub fn role(&self) -> Option<Role> {
        if self.is_draining() || !self.is_configured() { None } else { self.assessed_role() }
    }

    /// As [`role`](Self::role), draining or not.
    pub fn assessed_role(&self) -> Option<Role> {
        match self.role.load(Ordering::Acquire) {
            PRIMARY => Some(Role::Primary),
            REPLICA => Some(Role::Replica),
            _ => None,
        }
    }

    /// Grows whenever connections that were opened before must not be lent any more: the node has another role since,
    /// or its name leads elsewhere.
    pub fn tenure(&self) -> u32 {
        self.tenure.load(Ordering::Acquire)
    }

    pub fn is_configured(&self) -> bool {
        self.configured.load(Ordering::Acquire)
    }

    pub(super) fn remove(&self) {
        self.configured.store(false, Ordering::Release);
    }

    /// A drained node gets no more work; what runs on it goes on to the end of its transaction.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Returns whether it was another state before.
    pub fn set_draining(&self, draining: bool) -> bool {
        self.draining.swap(draining, Ordering::AcqRel) != draining
    }

    pub fn latest(&self) -> Option<Arc<Latest>> {
        self.latest.load_full()
    }

    /// What it said when it was last asked, if it answered.
    pub fn observation(&self) -> Option<Observation> {
        self.latest()?.outcome.clone().ok()
    }

    /// Stores an answer. Returns whether its name was found to lead elsewhere.
    pub(super) fn store(&self, outcome: Result<Observation, ProbeError>) -> bool {
        let before = self.latest();
        let failures = match &outcome {
            Ok(_) => 0,
            Err(_) => before.as_ref().map_or(0, |latest| latest.failures).saturating_add(1),
        };
        let moved = outcome.as_ref().is_ok_and(|observation| observation.moved);
        let last_role = self.assessed_role().or(before.and_then(|latest| latest.last_role));
        let outcome = outcome.map_err(Arc::new);
        self.latest.store(Some(Arc::new(Latest { at: Instant::now(), outcome, failures, last_role })));
        moved
    }

    /// Takes on a role. Returns the one before, and whether connections opened before are void.
    pub(super) fn take_on(&self, role: Option<Role>, moved: bool) -> (Option<Role>, bool) {
        let before = self.assessed_role();
        let last = before.or(self.latest().and_then(|latest| latest.last_role));
        // An interruption alone, from one role to none and back, leaves what survived it usable.
        let another = matches!((last, role), (Some(last), Some(role)) if last != role);
        let superseded = before.is_some() && role.is_none() && self.observation().is_some();
        let displaced = another || superseded || moved;
        if displaced {
            self.tenure.fetch_add(1, Ordering::AcqRel);
        }
        let value = match role {
            None => UNKNOWN,
            Some(Role::Primary) => PRIMARY,
            Some(Role::Replica) => REPLICA,
        };
        self.role.store(value, Ordering::Release);
        (before, displaced)
    }
}

impl Latest {
    pub(super) fn was_primary(&self) -> bool {
        self.last_role == Some(Role::Primary)
    }
}
