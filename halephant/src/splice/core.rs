//! [`Core`]: what all flows share: maps, table, switches, and who is at which index.

use std::collections::HashMap;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use halephant_common::address::{FlowKey, Peer};
use halephant_common::counters::NodeCounters;
use halephant_common::event::Broken;
use halephant_common::flow::{Attachment, Binding};
use halephant_common::names::{FLOWS_MAX, NODES_MAX};

use super::diag::{ANY_COOKIE, Diag};
use super::error::{NotInserted, SpliceError};
use super::events::{Reader, SIGNAL_RECLAIM, Signals};
use super::grace::Grace;
use super::nodes::Nodes;
use super::object::Object;
use super::policy::{Directions, Path, Policy, directions};
use super::table::Table;

pub struct Core {
    pub table: Table,
    object: Mutex<Object>,
    pub grace: Grace,
    pub diag: Diag,
    credit_bytes: AtomicU64,
    pub policy: Policy,
    flows: Mutex<Flows>,
    killed: AtomicBool,
    pub faults: AtomicU64,
    pub nodes: Nodes,
    /// What the self-test found to work; `None` while it runs.
    working: OnceLock<[Directions; 4]>,
    /// Servers of this host are not enrolled: no path of theirs works.
    no_servers: AtomicBool,
    pub reader: Mutex<Option<Reader>>,
}

/// Indexes and their owners.
#[derive(Default)]
struct Flows {
    /// Indexes from here on were never used.
    unused: u32,
    free: Vec<u32>,
    generation: u32,
    live: HashMap<u32, (u32, Arc<Signals>)>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Core {
    pub fn new(object: Object, credit_bytes: u64, policy: Policy) -> Result<Self, SpliceError> {
        let mapped = |source| SpliceError::System("mapping the flow table", source);
        let opened = |source| SpliceError::System("opening sock_diag", source);
        Ok(Self {
            table: Table::new(&object.flows, &object.switchboard, FLOWS_MAX).map_err(mapped)?,
            object: Mutex::new(object),
            grace: Grace::start()?,
            diag: Diag::open().map_err(opened)?,
            credit_bytes: AtomicU64::new(credit_bytes),
            policy,
            flows: Mutex::default(),
            killed: AtomicBool::new(false),
            faults: AtomicU64::new(0),
            nodes: Nodes::default(),
            working: OnceLock::new(),
            no_servers: AtomicBool::new(false),
            reader: Mutex::default(),
        })
    }

    pub fn keep_reader(&self, reader: Reader) {
        *lock(&self.reader) = Some(reader);
    }

    pub fn restart_reader(self: &Arc<Self>) -> Result<(), SpliceError> {
        let mut reader = lock(&self.reader);
        if let Some(before) = reader.take() {
            *reader = Some(before.restart(Arc::downgrade(self))?);
        }
        Ok(())
    }

    pub fn object(&self) -> MutexGuard<'_, Object> {
        lock(&self.object)
    }

    /// Bytes redirected and not yet consumed, per direction that is taken over from now on.
    pub fn credit_bytes(&self) -> u64 {
        self.credit_bytes.load(Ordering::Relaxed)
    }

    pub fn set_credit(&self, bytes: u64) {
        self.credit_bytes.store(bytes, Ordering::Relaxed);
    }

    /// What a path may use: the policy's say and the self-test's.
    pub fn directions(&self, path: Path) -> Directions {
        let index = Path::ALL.iter().position(|other| *other == path).unwrap_or(0);
        let wanted = directions(self.policy, path).0;
        self.working.get().map_or(Directions::BOTH, |working| wanted.and(working[index]))
    }

    pub fn set_working(&self, working: [Directions; 4]) {
        let _ = self.working.set(working);
    }

    /// From here on servers are left alone.
    pub fn enrol_no_servers(&self) {
        self.no_servers.store(true, Ordering::Release);
    }

    pub fn claim(&self) -> Result<(u32, u32, Arc<Signals>), NotInserted> {
        let mut flows = lock(&self.flows);
        let index = match flows.free.pop() {
            Some(index) => index,
            None if flows.unused < FLOWS_MAX => {
                flows.unused += 1;
                flows.unused - 1
            }
            None => return Err(NotInserted::Full(FLOWS_MAX)),
        };
        flows.generation = flows.generation.checked_add(1).unwrap_or(1);
        let generation = flows.generation;
        let signals = Arc::new(Signals::default());
        flows.live.insert(index, (generation, Arc::clone(&signals)));
        Ok((index, generation, signals))
    }

    /// Programs that still run for the old flow are waited for before the index is used again.
    pub fn free(self: &Arc<Self>, index: u32) {
        lock(&self.flows).live.remove(&index);
        let core = Arc::downgrade(self);
        self.grace.afterwards(move || {
            if let Some(core) = core.upgrade() {
                lock(&core.flows).free.push(index);
            }
        });
    }

    pub fn signals(&self, index: u32, generation: u32) -> Option<Arc<Signals>> {
        let flows = lock(&self.flows);
        let (live, signals) = flows.live.get(&index)?;
        (*live == generation).then(|| Arc::clone(signals))
    }

    pub fn flows_now(&self) -> usize {
        lock(&self.flows).live.len()
    }

    pub fn is_killed(&self) -> bool {
        self.killed.load(Ordering::Acquire)
    }

    pub fn kill(&self) {
        // Held throughout, as in `revive`: what the process and the programs are told stays the same.
        let flows = lock(&self.flows);
        self.killed.store(true, Ordering::Release);
        self.table.switchboard().killed.store(1);
        for (_, signals) in flows.live.values() {
            signals.raise(SIGNAL_RECLAIM);
        }
    }

    /// Refused after a fault.
    pub fn revive(&self) -> bool {
        // A fault is counted before it kills: one that is not seen here kills after this.
        let _flows = lock(&self.flows);
        if self.faults.load(Ordering::Acquire) > 0 {
            return false;
        }
        self.table.switchboard().killed.store(0);
        self.killed.store(false, Ordering::Release);
        true
    }

    /// The kernel path lost or doubled bytes: it is off for the rest of the process's life.
    pub fn fault(&self) {
        self.faults.fetch_add(1, Ordering::AcqRel);
        self.kill();
    }

    /// A socket under a verdict can receive nothing more: its connection is closed before anybody takes the silence for an
    /// answer.
    pub fn broken(&self, socket: &Broken) {
        let here = self.diag.destroy(&socket.key, socket.cookie);
        // The far end, where the socket is in another network namespace.
        let closed = here.or_else(|_| self.diag.destroy(&socket.key.reversed(), ANY_COOKIE));
        let error = closed.err().map(tracing::field::display);
        tracing::error!(
            cookie = socket.cookie,
            port = socket.key.local_port,
            remote_port = socket.key.remote_port,
            error,
            "a packet does not fit into its connection, which is closed"
        );
        self.fault();
    }

    /// The enrolled socket at the other end of ours.
    pub fn peer(&self, cookie: u64) -> Option<Peer> {
        let object = self.object();
        let peer = object.peers.get(&cookie, 0).ok()?;
        object.enrolled.get(&peer.key, 0).ok()?;
        Some(peer)
    }

    /// One of our sockets is about to be connected.
    pub fn announce(&self, socket: BorrowedFd<'_>) {
        if !self.no_servers.load(Ordering::Acquire)
            && let Ok(cookie) = super::socket::cookie(socket)
        {
            // Full is no error: the map forgets the oldest.
            let _ = self.object().dials.insert(cookie, 1, 0);
        }
    }

    /// Bytes that reached an enrolled socket by TCP, since it was born.
    pub fn arrived(&self, cookie: u64) -> Option<u64> {
        self.object().arrived.get(&cookie, 0).ok().map(|arrival| arrival.bytes)
    }

    pub fn bind(&self, key: FlowKey, binding: Binding) -> Result<(), NotInserted> {
        let failed = |source| NotInserted::Map { name: "BINDINGS", source: Box::new(source) };
        self.object().bindings.insert(key, binding, 0).map_err(failed)
    }

    pub fn unbind(&self, key: &FlowKey) {
        // Already gone is as good.
        let _ = self.object().bindings.remove(key);
    }

    /// Puts a socket of ours under the verdict.
    pub fn insert_own(
        &self,
        slot: u32,
        socket: BorrowedFd<'_>,
        cookie: u64,
        attachment: Attachment,
    ) -> Result<(), NotInserted> {
        let mut object = self.object();
        let failed = |name| move |source| NotInserted::Map { name, source: Box::new(source) };
        object.own.insert(cookie, attachment, 0).map_err(failed("OWN"))?;
        if let Err(error) = object.own_sockets.set(slot, &socket, 0) {
            let _ = object.own.remove(&cookie);
            return Err(failed("OWN_SOCKETS")(error));
        }
        Ok(())
    }

    /// What is queued for the socket is lost with it.
    pub fn remove_own(&self, slot: u32, cookie: u64) {
        let mut object = self.object();
        // A closed socket has left the map by itself.
        let _ = object.own_sockets.clear_index(&slot);
        let _ = object.own.remove(&cookie);
    }

    pub fn counters(&self, node: u32) -> NodeCounters {
        let mut sum = NodeCounters::default();
        let object = self.object();
        if let Ok(values) = object.counters.get(&node.min(NODES_MAX - 1), 0) {
            values.iter().for_each(|value| sum.add(value));
        }
        sum
    }
}
