//! One client as others see it: who it is, what it does, what went through it. Written by its session alone.

use crate::net::{Origin, Role};
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime};

/// What does not change while a session lasts.
#[derive(Clone, Debug)]
pub struct ClientDetails {
    pub origin: Arc<Origin>,
    pub user: String,
    /// What the client asked for: the pool's name.
    pub database: String,
    pub cluster: String,
    pub application_name: String,
    /// The role of node that it was routed to; `None` for a console.
    pub role: Option<Role>,
}

/// Whether the kernel moves a client's bytes, and why not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KernelPath {
    /// It has not been tried: no server connection of its own, too few statements, or the path is off.
    #[default]
    Off,
    On(&'static str),
    /// A connection is encrypted, or no TCP.
    Transport,
    /// The policy, or the self-test, keeps these two sockets in userspace.
    Policy,
    /// All flows are in use.
    Full,
    /// The kernel refused.
    Failed,
}

impl KernelPath {
    /// The word in the console and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::On(path) => path,
            Self::Transport => "no_plain_tcp",
            Self::Policy => "policy",
            Self::Full => "full",
            Self::Failed => "failed",
        }
    }
}

/// What a client is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ClientState {
    /// Between transactions.
    Idle,
    /// In the queue for a server connection.
    Waiting,
    /// The server works for it.
    Active,
    /// The server waits for it, in an open transaction.
    IdleInTransaction,
}

impl ClientState {
    pub const ALL: [Self; 4] = [Self::Idle, Self::Waiting, Self::Active, Self::IdleInTransaction];

    /// The word in the console, the API and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Waiting => "waiting",
            Self::Active => "active",
            Self::IdleInTransaction => "idle_in_transaction",
        }
    }

    fn of(value: u8) -> Self {
        Self::ALL.into_iter().find(|state| *state as u8 == value).unwrap_or(Self::Idle)
    }
}

#[derive(Debug)]
pub struct ClientStats {
    pub details: ClientDetails,
    pub connected: SystemTime,
    began: Instant,
    state: AtomicU8,
    /// Microseconds from `began` to the last change that was worth a look at the clock.
    since_us: AtomicU64,
    transactions: AtomicU64,
    received_bytes: AtomicU64,
    sent_bytes: AtomicU64,
    /// The process ID of the server connection that it has; 0 without one.
    server: AtomicU32,
    /// Taken when a pin comes or goes, and for a copy.
    pin: Mutex<Option<&'static str>>,
    /// Taken when the session comes to the kernel path or leaves it, and for a copy.
    kernel_path: Mutex<KernelPath>,
}

/// A copy of what [`ClientStats`] holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClientActivity {
    pub state: ClientState,
    /// Since the transaction began, the client came into the queue, or the last transaction began.
    pub since: SystemTime,
    pub transactions: u64,
    pub received_bytes: u64,
    pub sent_bytes: u64,
    pub server_process_id: Option<u32>,
    pub pin: Option<&'static str>,
    pub kernel_path: KernelPath,
}

impl ClientStats {
    pub fn new(details: ClientDetails) -> Self {
        Self {
            details,
            connected: SystemTime::now(),
            began: Instant::now(),
            state: AtomicU8::new(ClientState::Idle as u8),
            since_us: AtomicU64::new(0),
            transactions: AtomicU64::new(0),
            received_bytes: AtomicU64::new(0),
            sent_bytes: AtomicU64::new(0),
            server: AtomicU32::new(0),
            pin: Mutex::new(None),
            kernel_path: Mutex::default(),
        }
    }

    pub fn set_state(&self, state: ClientState) {
        self.state.store(state as u8, Ordering::Relaxed);
    }

    /// As [`Self::set_state`], at a moment that the caller knows.
    pub fn enter(&self, state: ClientState, now: Instant) {
        let us = u64::try_from(now.saturating_duration_since(self.began).as_micros()).unwrap_or(u64::MAX);
        self.since_us.store(us, Ordering::Relaxed);
        self.set_state(state);
    }

    pub fn set_server(&self, process_id: Option<u32>) {
        self.server.store(process_id.unwrap_or(0), Ordering::Relaxed);
    }

    pub fn set_pin(&self, reason: Option<&'static str>) {
        *self.pin.lock().unwrap_or_else(PoisonError::into_inner) = reason;
    }

    pub fn set_kernel_path(&self, path: KernelPath) {
        *self.kernel_path.lock().unwrap_or_else(PoisonError::into_inner) = path;
    }

    /// The session is the only writer, so that no read-modify-write is needed.
    pub fn add_traffic(&self, transactions: u64, received_bytes: u64, sent_bytes: u64) {
        for (total, more) in [
            (&self.transactions, transactions),
            (&self.received_bytes, received_bytes),
            (&self.sent_bytes, sent_bytes),
        ] {
            total.store(total.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
        }
    }

    pub fn state(&self) -> ClientState {
        ClientState::of(self.state.load(Ordering::Relaxed))
    }

    pub fn activity(&self) -> ClientActivity {
        let since = std::time::Duration::from_micros(self.since_us.load(Ordering::Relaxed));
        let server = self.server.load(Ordering::Relaxed);
        ClientActivity {
            state: self.state(),
            since: self.connected.checked_add(since).unwrap_or(self.connected),
            transactions: self.transactions.load(Ordering::Relaxed),
            received_bytes: self.received_bytes.load(Ordering::Relaxed),
            sent_bytes: self.sent_bytes.load(Ordering::Relaxed),
            server_process_id: (server != 0).then_some(server),
            pin: *self.pin.lock().unwrap_or_else(PoisonError::into_inner),
            kernel_path: *self.kernel_path.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }
}
