//! Who listens on which channels of a database as one user, and what the connection that does it has yet to be told.

use super::channel::Channel;
use super::connection;
use super::mailbox::{Gap, Mailbox, Taken};
use crate::server::Opener;
use crate::telemetry::metrics::Counter;
use crate::topology::Cluster;
use bytes::Bytes;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};

/// Why a channel cannot be listened on at the moment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListenError {
    /// In the server's words, or those of the attempt to connect.
    #[error("{0}")]
    Refused(Arc<str>),
}

/// Resolved once the connection listens on the channel.
pub type InForce = oneshot::Receiver<Result<(), ListenError>>;

/// Where a listener's connection leads, and as whom.
#[derive(Clone)]
pub struct Origin {
    pub cluster: Arc<Cluster>,
    pub opener: Arc<dyn Opener>,
    pub database: String,
    pub role: String,
    /// The `client_encoding`: names and payloads come in it.
    pub encoding: String,
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}/{}", self.cluster.name, self.database, self.role, self.encoding)
    }
}

/// What happened since the start.
#[derive(Debug, Default)]
pub struct Counts {
    /// Notifications that came from the server.
    pub received: Counter,
    /// Those that were passed on, once for each client.
    pub delivered: Counter,
    /// Those for which a client's mailbox had no room.
    pub dropped: Counter,
    /// Warnings to clients, by the numbers of [`Gap`].
    pub gaps: [Counter; 3],
    /// Connections that were opened.
    pub connects: Counter,
}

/// A copy for the console and metrics.
#[derive(Clone, Debug)]
pub struct ListenerSnapshot {
    pub cluster: String,
    pub database: String,
    pub role: String,
    pub encoding: String,
    /// Where the connection leads to and what its process ID is, while there is one.
    pub node: Option<String>,
    pub process_id: Option<u32>,
    pub channels: usize,
    /// Clients, counted once for each of their channels.
    pub subscriptions: usize,
    pub received: u64,
    pub delivered: u64,
    pub dropped: u64,
    /// By [`Gap::as_str`].
    pub gaps: [(&'static str, u64); 3],
    pub connects: u64,
}

/// One listener: its subscribers, and at most one connection.
#[derive(Debug)]
pub struct Listener {
    pub(super) origin: Origin,
    control: Handle,
    state: Mutex<State>,
    /// There is something to tell the server.
    pub(super) work: Notify,
    pub(super) counts: Counts,
}

#[derive(Debug, Default)]
struct State {
    channels: HashMap<Channel, Subscribed>,
    /// Channels about which the server may have to be told something.
    dirty: VecDeque<Channel>,
    barriers: Vec<oneshot::Sender<()>>,
    /// The task that owns the connection runs.
    running: bool,
    /// Node and process ID of the connection, while there is one.
    link: Option<(String, u32)>,
}

#[derive(Debug, Default)]
struct Subscribed {
    subscribers: Vec<Subscriber>,
    stage: Stage,
    waiting: Vec<oneshot::Sender<Result<(), ListenError>>>,
}

#[derive(Debug)]
struct Subscriber {
    mailbox: Arc<Mailbox>,
    /// Nobody listened for it for a while.
    gap: bool,
}

/// How far the server knows of a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Unknown,
    Asked,
    InForce,
}

/// One thing to tell the server; each is answered by one ReadyForQuery.
#[derive(Debug)]
pub(super) enum Ask {
    Listen(Channel),
    Unlisten(Channel),
    /// Everything that was committed before is to be read.
    Barrier(Vec<oneshot::Sender<()>>),
}

impl Listener {
    pub(super) fn new(origin: Origin, control: Handle) -> Arc<Self> {
        Arc::new(Self {
            origin,
            control,
            state: Mutex::default(),
            work: Notify::new(),
            counts: Counts::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn encoding(&self) -> &str {
        &self.origin.encoding
    }

    /// From now on notifications on the channel come to the mailbox. `Some`: not before that is resolved.
    pub fn subscribe(self: &Arc<Self>, channel: &Channel, mailbox: &Arc<Mailbox>) -> Option<InForce> {
        let mut guard = self.lock();
        let state = &mut *guard;
        let subscribed = state.channels.entry(channel.clone()).or_default();
        subscribed.subscribers.push(Subscriber { mailbox: Arc::clone(mailbox), gap: false });
        if subscribed.stage == Stage::InForce {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        subscribed.waiting.push(sender);
        if subscribed.stage == Stage::Unknown {
            state.dirty.push_back(channel.clone());
        }
        let starts = !std::mem::replace(&mut state.running, true);
        drop(guard);
        self.work.notify_one();
        if starts {
            self.control.spawn(connection::run(Arc::clone(self)));
        }
        Some(receiver)
    }

    pub fn unsubscribe(&self, channel: &Channel, mailbox: &Arc<Mailbox>) {
        let mut guard = self.lock();
        let state = &mut *guard;
        let Some(subscribed) = state.channels.get_mut(channel) else { return };
        subscribed.subscribers.retain(|subscriber| !Arc::ptr_eq(&subscriber.mailbox, mailbox));
        if subscribed.subscribers.is_empty() {
            subscribed.waiting.clear();
            state.dirty.push_back(channel.clone());
            drop(guard);
            self.work.notify_one();
        }
    }

    /// Resolved when everything that was committed before has come to the mailboxes. `None`: there is no connection.
    pub fn barrier(&self) -> Option<oneshot::Receiver<()>> {
        let mut state = self.lock();
        state.link.as_ref()?;
        let (sender, receiver) = oneshot::channel();
        state.barriers.push(sender);
        drop(state);
        self.work.notify_one();
        Some(receiver)
    }

    /// What to tell the server next: `count` things at most.
    pub(super) fn take_work(&self, count: usize) -> Vec<Ask> {
        let mut guard = self.lock();
        let state = &mut *guard;
        let mut asks = Vec::new();
        while asks.len() < count
            && let Some(channel) = state.dirty.pop_front()
        {
            let Some(subscribed) = state.channels.get_mut(&channel) else { continue };
            if subscribed.subscribers.is_empty() {
                let known = subscribed.stage != Stage::Unknown;
                state.channels.remove(&channel);
                if known {
                    asks.push(Ask::Unlisten(channel));
                }
            } else if subscribed.stage == Stage::Unknown {
                subscribed.stage = Stage::Asked;
                asks.push(Ask::Listen(channel));
            }
        }
        if !state.barriers.is_empty() && state.dirty.is_empty() {
            asks.push(Ask::Barrier(std::mem::take(&mut state.barriers)));
        }
        asks
    }

    /// The server listens on the channel from now on.
    pub(super) fn in_force(&self, channel: &Channel) {
        let mut state = self.lock();
        let Some(subscribed) = state.channels.get_mut(channel) else { return };
        subscribed.stage = Stage::InForce;
        for sender in subscribed.waiting.drain(..) {
            let _ = sender.send(Ok(()));
        }
        for subscriber in &mut subscribed.subscribers {
            if std::mem::take(&mut subscriber.gap) {
                subscriber.mailbox.put_gap(channel, Gap::Reconnect);
            }
        }
    }

    /// The server refused to listen. Returns whether somebody relies on the channel who cannot be told.
    pub(super) fn refused(&self, channel: &Channel, error: &str) -> bool {
        let mut state = self.lock();
        let Some(subscribed) = state.channels.get_mut(channel) else { return false };
        subscribed.stage = Stage::Unknown;
        let error = ListenError::Refused(error.into());
        for sender in subscribed.waiting.drain(..) {
            let _ = sender.send(Err(error.clone()));
        }
        subscribed.subscribers.iter().any(|subscriber| subscriber.gap)
    }

    /// No connection can be had, and waiting does not help.
    pub(super) fn refuse_all(&self, error: &str) {
        let error = ListenError::Refused(error.into());
        let mut state = self.lock();
        for subscribed in state.channels.values_mut() {
            for sender in subscribed.waiting.drain(..) {
                let _ = sender.send(Err(error.clone()));
            }
        }
    }

    pub(super) fn connected(&self, node: String, process_id: u32) {
        self.counts.connects.add(1);
        self.lock().link = Some((node, process_id));
    }

    /// Nobody listens any more: whoever did is to be told as soon as somebody does again.
    pub(super) fn disconnected(&self) {
        let mut guard = self.lock();
        let state = &mut *guard;
        state.link = None;
        state.barriers.clear();
        state.dirty.clear();
        state.channels.retain(|_, subscribed| !subscribed.subscribers.is_empty());
        for (channel, subscribed) in &mut state.channels {
            if subscribed.stage == Stage::InForce {
                subscribed.subscribers.iter_mut().for_each(|subscriber| subscriber.gap = true);
            }
            subscribed.stage = Stage::Unknown;
            state.dirty.push_back(channel.clone());
        }
    }

    /// Whether anybody is subscribed to anything.
    pub(super) fn is_used(&self) -> bool {
        self.lock().channels.values().any(|subscribed| !subscribed.subscribers.is_empty())
    }

    /// The task may end: nobody is subscribed, and whoever comes starts another one.
    pub(super) fn stop(&self) -> bool {
        let mut state = self.lock();
        let unused = state.channels.values().all(|subscribed| subscribed.subscribers.is_empty());
        if unused {
            state.channels.clear();
            state.dirty.clear();
            state.barriers.clear();
            state.link = None;
            state.running = false;
        }
        unused
    }

    /// Passes a notification on to everybody who is subscribed.
    pub(super) fn dispatch(&self, channel: &[u8], message: &Bytes) {
        self.counts.received.add(1);
        let state = self.lock();
        let Some((channel, subscribed)) = state.channels.get_key_value(channel) else { return };
        let put = |subscriber: &&Subscriber| subscriber.mailbox.put(channel, message);
        let taken = subscribed.subscribers.iter().filter(put).count();
        self.counts.dropped.add((subscribed.subscribers.len() - taken) as u64);
    }

    /// What a client was given.
    pub(super) fn count(&self, taken: &Taken) {
        self.counts.delivered.add(taken.notifications);
        for (counter, count) in self.counts.gaps.iter().zip(taken.gaps) {
            counter.add(count);
        }
    }

    pub fn snapshot(&self) -> ListenerSnapshot {
        let state = self.lock();
        let (node, process_id) = match &state.link {
            Some((node, process_id)) => (Some(node.clone()), Some(*process_id)),
            None => (None, None),
        };
        let Counts { received, delivered, dropped, gaps, connects } = &self.counts;
        let told = |gap: Gap| (gap.as_str(), gaps[gap as usize].total());
        ListenerSnapshot {
            cluster: self.origin.cluster.name.clone(),
            database: self.origin.database.clone(),
            role: self.origin.role.clone(),
            encoding: self.origin.encoding.clone(),
            node,
            process_id,
            channels: state.channels.values().filter(|channel| !channel.subscribers.is_empty()).count(),
            subscriptions: state.channels.values().map(|channel| channel.subscribers.len()).sum(),
            received: received.total(),
            delivered: delivered.total(),
            dropped: dropped.total(),
            gaps: [told(Gap::Overflow), told(Gap::Reconnect), told(Gap::Encoding)],
            connects: connects.total(),
        }
    }
}
