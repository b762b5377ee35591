//! One client's part: what it listens on, what it is about to, and the notifications that wait for it.

use super::channel::Channel;
use super::listener::{InForce, ListenError, Listener, Origin};
use super::mailbox::{Mailbox, Verdict};
use super::registry::Listeners;
use super::script::Script;
use super::subscriptions::Subscriptions;
use bytes::BytesMut;
use halephant_protocol::backend::TransactionStatus;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Sleep;

/// Channels that one client may listen on.
pub const CHANNELS_MAX: usize = 10_000;
/// Portals, and statements of its own on a server connection, that are remembered for what they do.
const SCRIPTS_MAX: usize = 1_000;
/// Notifications that are given to a client at a time.
const TAKEN_BYTES: usize = 64 * 1024;

/// Why a LISTEN is refused by us.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("too many channels for one client")]
    TooMany,
    #[error("no connection listens for this client: it could not be had in time")]
    Timeout,
    #[error("no connection listens for this client: {0}")]
    Listener(ListenError),
}

/// Wanted channels that the listener does not listen on yet.
#[derive(Debug)]
struct Reservation {
    channels: Vec<Channel>,
    waiting: Vec<InForce>,
    deadline: Pin<Box<Sleep>>,
}

impl Reservation {
    /// Ready once all of them are in force, or one of them will not be. Cancel safe.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        while let Some(next) = self.waiting.last_mut() {
            match Pin::new(next).poll(cx) {
                Poll::Ready(Ok(Ok(()))) => drop(self.waiting.pop()),
                Poll::Ready(Ok(Err(error))) => return Poll::Ready(Err(Refusal::Listener(error))),
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Refusal::Timeout)),
                Poll::Pending => {
                    return self.deadline.as_mut().poll(cx).map(|()| Err(Refusal::Timeout));
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Whether all that was committed up to now is awaited.
#[derive(Debug, Default)]
enum Barrier {
    #[default]
    None,
    /// Not for longer than the listener's connection may take to answer.
    Awaited(oneshot::Receiver<()>),
    /// The message that waits may pass.
    Reached,
}

impl Barrier {
    /// Without a connection there is nothing to wait for.
    fn of(listener: &Listener) -> Self {
        listener.barrier().map_or(Self::None, Self::Awaited)
    }

    fn is_awaited(&self) -> bool {
        matches!(self, Self::Awaited(_))
    }

    /// Ready when what waits may pass. Cancel safe.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Self::Awaited(reached) = self else { return Poll::Ready(()) };
        // An error: the connection is lost, and what came to it with it.
        let _lost = ready!(Pin::new(reached).poll(cx));
        *self = Self::Reached;
        Poll::Ready(())
    }
}

/// The listener that a client is subscribed to, and where its notifications wait.
#[derive(Debug)]
struct Link {
    listener: Arc<Listener>,
    mailbox: Arc<Mailbox>,
    /// Channels that it is subscribed to: those that are in force, and those that may come to be.
    reserved: BTreeSet<Channel>,
}

/// Of every client of a pool that multiplexes.
pub struct Listening {
    listeners: Arc<Listeners>,
    pub subscriptions: Subscriptions,
    link: Option<Link>,
    reservation: Option<Reservation>,
    /// Why the statement that waited cannot go.
    refused: Option<Refusal>,
    /// Of a message that may bring channels into force: what was committed before it is not meant for them.
    fence: Barrier,
    /// Of a ReadyForQuery: what its transaction sent to its own session comes first.
    barrier: Barrier,
    /// A statement that sends notifications is under way.
    notifies: bool,
    /// Channels came into force, and what waits may be for them.
    changed: bool,
    /// Something is under way that may commit.
    committing: bool,
    /// What portals do when they are executed.
    portals: HashMap<Box<[u8]>, Arc<Script>>,
    /// What statements do, by their names.
    statements: HashMap<Box<[u8]>, Arc<Script>>,
    /// What the message that is looked at will do.
    next: Option<Arc<Script>>,
}

impl fmt::Debug for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listening").field("subscriptions", &self.subscriptions).finish_non_exhaustive()
    }
}

impl Listening {
    pub fn new(listeners: Arc<Listeners>) -> Self {
        Self {
            listeners,
            subscriptions: Subscriptions::default(),
            link: None,
            reservation: None,
            refused: None,
            fence: Barrier::None,
            barrier: Barrier::None,
            notifies: false,
            changed: false,
            committing: false,
            portals: HashMap::new(),
            statements: HashMap::new(),
            next: None,
        }
    }

    /// Remembers what a statement does. `false`: there is no room for those of its own that a client has on its server
    /// connection (`own`).
    pub fn parsed(&mut self, name: &[u8], script: Option<Script>, own: bool) -> bool {
        let script = script.map(Arc::new);
        if !own && self.statements.len() >= SCRIPTS_MAX {
            // Those that are shared are looked up where they are kept.
            self.statements.retain(|name, _| name.is_empty());
        }
        set(&mut self.statements, name, script)
    }

    /// What a statement does that went under this name.
    pub fn statement(&self, name: &[u8]) -> Option<Arc<Script>> {
        self.statements.get(name).cloned()
    }

    /// Remembers what a portal does. `false`: there is no room.
    pub fn bound(&mut self, portal: &[u8], script: Option<Arc<Script>>) -> bool {
        set(&mut self.portals, portal, script)
    }

    /// Whether any portal does something that matters.
    pub fn has_portals(&self) -> bool {
        !self.portals.is_empty()
    }

    pub fn portal(&self, portal: &[u8]) -> Option<Arc<Script>> {
        self.portals.get(portal).cloned()
    }

    /// The next message is looked at.
    pub fn look(&mut self) {
        self.next = None;
    }

    /// A statement is about to be sent. `Ok(false)`: not before [`Self::poll_reserved`] is ready.
    pub fn reserve(
        &mut self,
        script: Arc<Script>,
        wait: Duration,
        origin: impl FnOnce() -> Origin,
    ) -> Result<bool, Refusal> {
        if let Some(refusal) = self.refused.take() {
            return Err(refusal);
        }
        if script.channels().next().is_some() {
            let link = self.link.get_or_insert_with(|| Link {
                listener: self.listeners.of(origin()),
                mailbox: Arc::default(),
                reserved: BTreeSet::new(),
            });
            let is_new = |channel: &&Channel| !link.reserved.contains(*channel);
            let channels: Vec<Channel> = script.channels().filter(is_new).cloned().collect();
            if link.reserved.len() + channels.len() > CHANNELS_MAX {
                return Err(Refusal::TooMany);
            }
            let mut waiting = Vec::new();
            for channel in &channels {
                // A text may name a channel twice.
                if link.reserved.insert(channel.clone()) {
                    waiting.extend(link.listener.subscribe(channel, &link.mailbox));
                }
            }
            if !waiting.is_empty() {
                let deadline = Box::pin(tokio::time::sleep(wait));
                self.reservation = Some(Reservation { channels, waiting, deadline });
                return Ok(false);
            }
        }
        self.next = Some(script);
        Ok(true)
    }

    /// As [`Self::reserve`], of a statement whose channels the listener does not have to listen on.
    pub fn pass(&mut self, script: Arc<Script>) {
        self.next = Some(script);
    }

    /// A message that may commit is about to be sent. `false`: not before [`Self::poll_reserved`] is ready, because what
    /// was committed before it may still be on its way to channels that it brings into force.
    pub fn fence(&mut self) -> bool {
        if matches!(self.fence, Barrier::None)
            && let Some(link) = &self.link
            && link.reserved.iter().any(|channel| self.is_early(channel))
        {
            self.fence = Barrier::of(&link.listener);
        }
        !self.fence.is_awaited()
    }

    /// Whether the message that is looked at, which may commit, is the first that can bring the channel into force.
    fn is_early(&self, channel: &Channel) -> bool {
        let listens = |script: &Arc<Script>| script.channels().any(|it| it == channel);
        let begins = || self.next.as_ref().is_some_and(listens) && !self.subscriptions.is_wanted(channel);
        !self.subscriptions.is_active(channel) && (!self.committing || begins())
    }

    /// Whether a message waits for its channels, or for what came before it.
    pub fn is_reserving(&self) -> bool {
        self.reservation.is_some() || self.fence.is_awaited()
    }

    /// Ready once the message that waits may be looked at again.
    pub fn poll_reserved(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(reservation) = &mut self.reservation {
            match ready!(reservation.poll(cx)) {
                Ok(()) => self.reservation = None,
                Err(refusal) => {
                    self.abandon();
                    self.refused = Some(refusal);
                }
            }
        }
        self.fence.poll(cx)
    }

    /// The statement that waits will not be sent.
    pub fn abandon(&mut self) {
        let Some(Reservation { channels, .. }) = self.reservation.take() else { return };
        let Some(link) = &mut self.link else { return };
        for channel in &channels {
            link.reserved.remove(channel);
            link.listener.unsubscribe(channel, &link.mailbox);
        }
    }

    /// A message goes to the server, which a ReadyForQuery will answer if it is `ready`; `may_commit`: it may end a
    /// transaction. Returns whether the server connection may listen on something after it.
    pub fn sent(&mut self, may_commit: bool, ready: bool) -> bool {
        if may_commit {
            self.drop_early();
            self.committing = true;
            self.fence = Barrier::None;
        }
        let mut listens = false;
        if let Some(script) = self.next.take() {
            listens = script.channels().next().is_some();
            self.notifies |= script.notifies;
            script.commands.iter().for_each(|command| self.subscriptions.announce(command.clone()));
        }
        if ready {
            self.subscriptions.asked_for_ready();
        }
        listens
    }

    /// What came before cannot be meant for channels that were not listened on yet.
    fn drop_early(&self) {
        let Some(link) = &self.link else { return };
        if link.reserved.iter().any(|channel| self.is_early(channel)) {
            link.mailbox.retain(|channel| !self.is_early(channel));
        }
    }

    /// CommandComplete came with this tag.
    pub fn completed(&mut self, tag: &[u8]) {
        self.changed |= self.subscriptions.completed(tag);
    }

    /// ReadyForQuery came, after which the server owes `owed` more; `settled`: nothing else is under way either.
    pub fn ready(&mut self, status: TransactionStatus, owed: u32, settled: bool) {
        self.changed |= self.subscriptions.ready(status, owed);
        self.barrier = Barrier::None;
        if owed == 0 {
            self.committing = false;
        }
        if settled && status == TransactionStatus::Idle {
            self.notifies = false;
            self.portals.clear();
            self.release();
        }
    }

    /// Gives up channels that will not come into force.
    fn release(&mut self) {
        if self.reservation.is_some() || self.subscriptions.is_open() || self.next.is_some() {
            return;
        }
        let Some(link) = &mut self.link else { return };
        if link.reserved.len() != self.subscriptions.active().count()
            || !link.reserved.iter().all(|channel| self.subscriptions.is_active(channel))
        {
            link.reserved.retain(|channel| {
                let active = self.subscriptions.is_active(channel);
                if !active {
                    link.listener.unsubscribe(channel, &link.mailbox);
                }
                active
            });
        }
        if link.reserved.is_empty() {
            self.link = None;
        }
    }

    /// Whether a ReadyForQuery that ends a transaction has to wait for [`Self::poll_barrier`]: notifications that the
    /// transaction sent to its own session are on their way.
    pub fn needs_barrier(&mut self) -> bool {
        if self.notifies
            && matches!(self.barrier, Barrier::None)
            && let Some(link) = &self.link
        {
            self.barrier = Barrier::of(&link.listener);
        }
        self.awaits_barrier()
    }

    pub fn awaits_barrier(&self) -> bool {
        self.barrier.is_awaited()
    }

    /// Ready when it may pass. Cancel safe.
    pub fn poll_barrier(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.barrier.poll(cx)
    }

    /// The task to wake when notifications come.
    pub fn register(&self, waker: &Waker) {
        if let Some(link) = &self.link {
            link.mailbox.register(waker);
        }
    }

    /// Whether there may be something to take.
    pub fn has_mail(&self) -> bool {
        self.link.as_ref().is_some_and(|link| self.changed || link.mailbox.is_filled())
    }

    /// Appends notifications, between two messages and outside of a transaction. `encoding`: the client's.
    pub fn take(&mut self, encoding: Option<&str>, out: &mut BytesMut) {
        self.changed = false;
        let Some(link) = &self.link else { return };
        let ascii_only = encoding != Some(link.listener.encoding());
        let taken = link.mailbox.take(TAKEN_BYTES, ascii_only, out, |channel| {
            if self.subscriptions.is_active(channel) {
                Verdict::Deliver
            } else if self.subscriptions.is_wanted(channel) {
                Verdict::Keep
            } else {
                Verdict::Drop
            }
        });
        link.listener.count(&taken);
    }

    /// Whether notifications on this channel come from the listener, now or soon.
    pub fn is_reserved(&self, channel: &[u8]) -> bool {
        self.link.as_ref().is_some_and(|link| link.reserved.contains(channel))
    }

    /// The encoding of the channels' names, where it is settled.
    pub fn encoding(&self) -> Option<&str> {
        self.link.as_ref().map(|link| link.listener.encoding())
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        if let Some(link) = &self.link {
            link.reserved.iter().for_each(|channel| link.listener.unsubscribe(channel, &link.mailbox));
        }
    }
}

fn set(scripts: &mut HashMap<Box<[u8]>, Arc<Script>>, name: &[u8], script: Option<Arc<Script>>) -> bool {
    match script {
        Some(script) if scripts.len() < SCRIPTS_MAX || scripts.contains_key(name) => {
            scripts.insert(name.into(), script);
            true
        }
        Some(_) => false,
        None => {
            scripts.remove(name);
            true
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::Dialect;

    #[tokio::test]
    async fn names_without_end_take_no_room_from_the_unnamed_statement() {
        let mut listening = Listening::new(Listeners::new(tokio::runtime::Handle::current()));
        let script = || Script::read(b"LISTEN a", Dialect::default());
        assert!(listening.parsed(b"", script(), false));
        for number in 0..=SCRIPTS_MAX {
            assert!(listening.parsed(number.to_string().as_bytes(), script(), false));
        }
        assert!(listening.statement(b"").is_some());
        assert!(listening.statements.len() <= SCRIPTS_MAX);
    }
}
