//! The sessions of this process by the keys their clients hold: who a CancelRequest means, and how a session is told
//! something from outside.

mod client;
mod key;
pub mod peers;

pub use client::{ClientActivity, ClientDetails, ClientState, ClientStats, KernelPath};

pub use key::Identity;

use crate::server::CancelTarget;
use crate::server::cancel::CancelInFlight;
use atomic_waker::AtomicWaker;
use halephant_protocol::backend::BackendKeyData;
use key::Owner;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::time::Instant;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

const SHARDS: usize = 16;

/// What a session can be told while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Signal {
    /// The wait for a server connection is cancelled.
    Cancel = 1,
    /// End at the next transaction boundary.
    Drain = 2,
    /// End now.
    Stop = 4,
    /// The server connection's node is no longer what it was: leave it at the next transaction boundary.
    Leave = 8,
    /// The server connection's node is given up: leave it now.
    Abandon = 16,
}

/// Those that are about one server connection and mean nothing on the next.
const OF_CONNECTION: u32 = Signal::Leave as u32 | Signal::Abandon as u32;

/// One client's session as others see it.
#[derive(Debug)]
pub struct SessionHandle {
    process_id: u32,
    secret_key: Zeroizing<Vec<u8>>,
    signals: AtomicU32,
    waker: AtomicWaker,
    running: Mutex<Running>,
    client: ClientStats,
}

#[derive(Debug)]
enum Running {
    /// No statement of this client is anywhere.
    Nothing,
    /// A statement waits for a server connection.
    Waiting,
    On(Arc<CancelTarget>),
}

impl SessionHandle {
    pub fn process_id(&self) -> u32 {
        self.process_id
    }

    pub fn key_data(&self) -> BackendKeyData<'_> {
        BackendKeyData { process_id: self.process_id, secret_key: &self.secret_key }
    }

    /// What the client does, for the admin API and metrics.
    pub fn client(&self) -> &ClientStats {
        &self.client
    }

    /// The node of the server connection that it has.
    pub fn node(&self) -> Option<String> {
        match &*self.running() {
            Running::On(target) => Some(target.node().to_owned()),
            Running::Nothing | Running::Waiting => None,
        }
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on a CancelRequest ends the wait for a server connection.
    pub fn set_waiting(&self) {
        self.signals.fetch_and(!(Signal::Cancel as u32), Ordering::AcqRel);
        self.client.enter(ClientState::Waiting, Instant::now());
        *self.running() = Running::Waiting;
    }

    /// As [`Self::set_waiting`], of a client that waits for something else than a server connection.
    pub fn set_cancellable(&self) {
        self.signals.fetch_and(!(Signal::Cancel as u32), Ordering::AcqRel);
        *self.running() = Running::Waiting;
    }

    /// From now on a CancelRequest goes to this server connection.
    pub fn set_running(&self, target: &Arc<CancelTarget>) {
        self.client.set_server(Some(target.process_id()));
        let mut running = self.running();
        self.signals.fetch_and(!OF_CONNECTION, Ordering::AcqRel);
        *running = Running::On(Arc::clone(target));
    }

    /// From now on a CancelRequest goes nowhere; one that was let through before is `in_flight` on its target.
    pub fn set_idle(&self) {
        self.client.set_state(ClientState::Idle);
        self.client.set_server(None);
        *self.running() = Running::Nothing;
    }

    /// Whether the signal was given; the calling task is woken when one comes.
    pub fn poll_signal(&self, cx: &Context<'_>, signal: Signal) -> bool {
        self.waker.register(cx.waker());
        self.has(signal)
    }

    pub fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    pub fn has(&self, signal: Signal) -> bool {
        self.signals.load(Ordering::Acquire) & signal as u32 != 0
    }

    /// Any signal at all: the cheap question.
    pub fn is_signalled(&self) -> bool {
        self.signals.load(Ordering::Relaxed) != 0
    }

    pub fn signal(&self, signal: Signal) {
        self.signals.fetch_or(signal as u32, Ordering::AcqRel);
        self.waker.wake();
    }

    /// Gives a signal if the session is on a server connection to `node`.
    fn signal_on(&self, node: &str, signal: Signal) {
        if let Running::On(target) = &*self.running()
            && target.node() == node
        {
            self.signal(signal);
        }
    }

    /// What a CancelRequest leads to. The lock is held until the cancel counts as in flight, so the connection cannot
    /// change hands in between.
    fn cancel(&self) -> Option<CancelInFlight> {
        match &*self.running() {
            Running::Nothing => None,
            Running::Waiting => {
                self.signal(Signal::Cancel);
                None
            }
            Running::On(target) => Some(target.begin()),
        }
    }
}

/// Every session of the process.
#[derive(Debug)]
pub struct Sessions {
    identity: Identity,
    shards: [Mutex<HashMap<u32, Arc<SessionHandle>>>; SHARDS],
    next: AtomicU32,
    /// What every session was told, and whoever comes later is told, too.
    told: AtomicU32,
}

impl Default for Sessions {
    /// Of a process that no other one reaches.
    fn default() -> Self {
        Self::new(Identity::new(None))
    }
}

impl Sessions {
    pub fn new(identity: Identity) -> Self {
        Self {
            identity,
            shards: Default::default(),
            next: AtomicU32::new(rand::random_range(1..0x4000_0000)),
            told: AtomicU32::new(0),
        }
    }
}

/// Keeps a session registered; its key is void once this is dropped.
#[derive(Debug)]
pub struct Registration {
    sessions: Arc<Sessions>,
    handle: Arc<SessionHandle>,
}

impl std::ops::Deref for Registration {
    type Target = Arc<SessionHandle>;

    fn deref(&self) -> &Arc<SessionHandle> {
        &self.handle
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.sessions.shard(self.handle.process_id).remove(&self.handle.process_id);
    }
}

impl Sessions {
    fn shard(&self, process_id: u32) -> MutexGuard<'_, HashMap<u32, Arc<SessionHandle>>> {
        self.shards[process_id as usize % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a session under a process ID that no other one has and an unpredictable key.
    pub fn register(
        self: &Arc<Self>,
        long_key: bool,
        details: ClientDetails,
    ) -> Result<Registration, getrandom::Error> {
        let secret_key = self.identity.secret_key(long_key)?;
        loop {
            let process_id = self.identity.process_id(self.next.fetch_add(1, Ordering::Relaxed));
            let mut shard = self.shard(process_id);
            if process_id == 0 || shard.contains_key(&process_id) {
                continue;
            }
            let handle = Arc::new(SessionHandle {
                process_id,
                secret_key,
                signals: AtomicU32::new(0),
                waker: AtomicWaker::new(),
                running: Mutex::new(Running::Nothing),
                client: ClientStats::new(details),
            });
            shard.insert(process_id, Arc::clone(&handle));
            drop(shard);
            // Either this finds the signal, or whoever gives it finds the session.
            handle.signals.fetch_or(self.told.load(Ordering::SeqCst), Ordering::AcqRel);
            return Ok(Registration { sessions: Arc::clone(self), handle });
        }
    }

    /// Carries out a CancelRequest, or has the process do so whose key it is. As PostgreSQL does, it tells nobody whether
    /// the key was right.
    pub async fn cancel(&self, process_id: u32, secret_key: &[u8]) {
        match self.identity.owner(process_id, secret_key) {
            Owner::Other(place) => {
                // A process without a place of its own has process IDs of any.
                if self.identity.place.is_none() {
                    self.cancel_own(process_id, secret_key).await;
                }
                match peers::forward(place, process_id, secret_key).await {
                    Ok(()) => tracing::debug!(process_id, ?place, "a cancel request was passed on"),
                    Err(error) => {
                        tracing::debug!(process_id, ?place, %error, "nobody takes a cancel request")
                    }
                }
            }
            Owner::Own | Owner::Nobody => self.cancel_own(process_id, secret_key).await,
        }
    }

    /// As [`cancel`](Self::cancel), for sessions of this process alone.
    async fn cancel_own(&self, process_id: u32, secret_key: &[u8]) {
        let handle = self.shard(process_id).get(&process_id).cloned();
        let Some(handle) = handle else { return };
        if !bool::from(handle.secret_key.ct_eq(secret_key)) {
            tracing::warn!(process_id, "a cancel request came with a wrong key");
            return;
        }
        if let Some(cancel) = handle.cancel()
            && let Err(error) = cancel.send().await
        {
            tracing::warn!(process_id, %error, "a cancel request did not reach the server");
        }
    }

    /// Tells every session, those to come included.
    pub fn signal_all(&self, signal: Signal) {
        self.told.fetch_or(signal as u32, Ordering::SeqCst);
        for shard in &self.shards {
            let handles: Vec<_> =
                shard.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
            handles.iter().for_each(|handle| handle.signal(signal));
        }
    }

    /// Tells every session that is on a server connection to `node`.
    pub fn signal_on(&self, node: &str, signal: Signal) {
        self.all().iter().for_each(|handle| handle.signal_on(node, signal));
    }

    /// Every session, in no order.
    pub fn all(&self) -> Vec<Arc<SessionHandle>> {
        let of = |shard: &Mutex<HashMap<u32, Arc<SessionHandle>>>| {
            shard.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect::<Vec<_>>()
        };
        self.shards.iter().flat_map(of).collect()
    }

    pub fn find(&self, process_id: u32) -> Option<Arc<SessionHandle>> {
        self.shard(process_id).get(&process_id).cloned()
    }

    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
