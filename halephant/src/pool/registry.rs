//! The open server connections of a pool as others see them.

use super::state::UserIndex;
use crate::topology::NodeIndex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

/// Where a server connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ServerState {
    Idle,
    /// Lent to a client, or being put in order after one.
    Used,
    Closing,
}

impl ServerState {
    /// The word in the console, the API and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Used => "used",
            Self::Closing => "closing",
        }
    }
}

/// One open server connection.
#[derive(Debug)]
pub struct ServerStats {
    pub user: UserIndex,
    pub node: NodeIndex,
    /// PostgreSQL's process ID of it.
    pub process_id: u32,
    pub opened: SystemTime,
    state: AtomicU8,
    /// The process ID that the client was told; 0 without one.
    client: AtomicU32,
    checkouts: AtomicU64,
}

impl ServerStats {
    pub fn state(&self) -> ServerState {
        let value = self.state.load(Ordering::Relaxed);
        let states = [ServerState::Idle, ServerState::Used];
        states.into_iter().find(|state| *state as u8 == value).unwrap_or(ServerState::Closing)
    }

    pub fn client(&self) -> Option<u32> {
        match self.client.load(Ordering::Relaxed) {
            0 => None,
            client => Some(client),
        }
    }

    pub fn checkouts(&self) -> u64 {
        self.checkouts.load(Ordering::Relaxed)
    }

    pub(super) fn set_state(&self, state: ServerState) {
        self.state.store(state as u8, Ordering::Relaxed);
    }

    /// A client has it now.
    pub fn lend(&self, client: u32) {
        self.client.store(client, Ordering::Relaxed);
        // Whoever holds the connection is the only writer.
        self.checkouts.store(self.checkouts().wrapping_add(1), Ordering::Relaxed);
    }

    /// The client is done with it.
    pub fn unlend(&self) {
        self.client.store(0, Ordering::Relaxed);
    }
}

/// The connections by a number in the order of their opening. Locked when one is opened or closed, and for a copy.
#[derive(Debug, Default)]
pub(super) struct Registry {
    servers: Mutex<BTreeMap<u64, Arc<ServerStats>>>,
    next: AtomicU64,
}

impl Registry {
    pub(super) fn register(
        self: &Arc<Self>,
        user: UserIndex,
        node: NodeIndex,
        process_id: u32,
    ) -> Registered {
        let stats = Arc::new(ServerStats {
            user,
            node,
            process_id,
            opened: SystemTime::now(),
            state: AtomicU8::new(ServerState::Used as u8),
            client: AtomicU32::new(0),
            checkouts: AtomicU64::new(0),
        });
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        servers.insert(number, Arc::clone(&stats));
        drop(servers);
        Registered { registry: Arc::clone(self), number, stats }
    }

    pub(super) fn servers(&self) -> Vec<Arc<ServerStats>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

/// Keeps a connection registered.
#[derive(Debug)]
pub struct Registered {
    registry: Arc<Registry>,
    number: u64,
    stats: Arc<ServerStats>,
}

impl std::ops::Deref for Registered {
    type Target = ServerStats;

    fn deref(&self) -> &ServerStats {
        &self.stats
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.registry.servers.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.number);
    }
}
