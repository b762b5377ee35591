//! The channels that one session listens on, as its transactions leave them: LISTEN and UNLISTEN come into force when
//! their transaction commits, and vanish when it, or the savepoint before them, is rolled back.
//!
//! What a client sends is announced here; the server's answers say what became of it. Nothing is believed to have run
//! before its CommandComplete, nor to have been committed before that of a COMMIT, or before a ReadyForQuery that says
//! idle.

use super::channel::Channel;
use super::script::Command;
use halephant_protocol::backend::TransactionStatus;
use std::collections::{BTreeSet, VecDeque};

/// Announced commands above which the client is not read any further until the server caught up.
pub const ANNOUNCED_MAX: usize = 1 << 16;
/// Savepoints of a transaction that are remembered.
const SAVEPOINTS_MAX: usize = 4096;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Change {
    Listen(Channel),
    Unlisten(Channel),
    UnlistenAll,
}

#[derive(Debug, Default)]
pub struct Subscriptions {
    active: BTreeSet<Channel>,
    /// By the transaction that is under way, in order.
    pending: Vec<Change>,
    /// Savepoints, and how many changes were pending at each.
    savepoints: Vec<(Box<[u8]>, usize)>,
    /// The transaction has more savepoints than are remembered.
    forgot: bool,
    /// What was sent and not answered, with the number of the ReadyForQuery that comes after it.
    announced: VecDeque<(u64, Command)>,
    /// ReadyForQuery that were asked for.
    asked: u64,
    /// An error came since the last ReadyForQuery.
    failed: bool,
}

impl Subscriptions {
    pub fn is_active(&self, channel: &Channel) -> bool {
        self.active.contains(channel)
    }

    pub fn active(&self) -> impl Iterator<Item = &Channel> {
        self.active.iter()
    }

    /// Whether the channel is, or may still come to be, listened on.
    pub fn is_wanted(&self, channel: &Channel) -> bool {
        self.is_active(channel)
            || self
                .pending
                .iter()
                .any(|change| matches!(change, Change::Listen(pending) if pending == channel))
            || self
                .announced
                .iter()
                .any(|(_, command)| matches!(command, Command::Listen(announced) if announced == channel))
    }

    /// The answers to come decide about something.
    pub fn is_open(&self) -> bool {
        !self.announced.is_empty() || !self.pending.is_empty()
    }

    /// The client must not be read for now.
    pub fn is_saturated(&self) -> bool {
        self.announced.len() >= ANNOUNCED_MAX
    }

    /// A command is on its way to the server.
    pub fn announce(&mut self, command: Command) {
        self.announced.push_back((self.asked, command));
    }

    /// A message is on its way that a ReadyForQuery answers.
    pub fn asked_for_ready(&mut self) {
        self.asked += 1;
    }

    /// CommandComplete came with this tag. Returns whether channels may have changed.
    pub fn completed(&mut self, tag: &[u8]) -> bool {
        let command = match self.announced.front() {
            Some((_, command)) if command.is_answered_by(tag) => self.announced.pop_front().map(|(_, it)| it),
            _ => None,
        };
        match (tag, command) {
            (b"COMMIT", _) => return self.commit(),
            (b"ROLLBACK", Some(Command::RollbackTo(name))) => self.roll_back_to(&name),
            (b"ROLLBACK" | b"PREPARE TRANSACTION", _) => self.roll_back(),
            (_, Some(Command::Listen(channel))) => self.pending.push(Change::Listen(channel)),
            (_, Some(Command::Unlisten(channel))) => self.pending.push(Change::Unlisten(channel)),
            (_, Some(Command::UnlistenAll | Command::DiscardAll)) => self.pending.push(Change::UnlistenAll),
            (_, Some(Command::Savepoint(name))) => self.set_savepoint(name),
            (_, Some(Command::Release(name))) => self.release(&name),
            _ => {}
        }
        false
    }

    /// ErrorResponse came.
    pub fn failed(&mut self) {
        self.failed = true;
    }

    /// ReadyForQuery came, after which the server owes `owed` more. Returns whether channels may have changed.
    pub fn ready(&mut self, status: TransactionStatus, owed: u32) -> bool {
        let answered = self.asked.saturating_sub(owed.into());
        // What was not answered by now did not run.
        while self.announced.front().is_some_and(|(asked, _)| *asked < answered) {
            self.announced.pop_front();
        }
        let failed = std::mem::take(&mut self.failed);
        match status {
            TransactionStatus::Idle if failed => {
                self.roll_back();
                false
            }
            TransactionStatus::Idle => self.commit(),
            TransactionStatus::InTransaction | TransactionStatus::Failed => false,
        }
    }

    fn commit(&mut self) -> bool {
        let changed = !self.pending.is_empty();
        for change in self.pending.drain(..) {
            match change {
                Change::Listen(channel) => drop(self.active.insert(channel)),
                Change::Unlisten(channel) => drop(self.active.remove(&channel)),
                Change::UnlistenAll => self.active.clear(),
            }
        }
        self.roll_back();
        changed
    }

    fn roll_back(&mut self) {
        self.pending.clear();
        self.savepoints.clear();
        self.forgot = false;
    }

    fn set_savepoint(&mut self, name: Box<[u8]>) {
        if self.savepoints.len() < SAVEPOINTS_MAX {
            self.savepoints.push((name, self.pending.len()));
        } else {
            self.forgot = true;
        }
    }

    fn find(&self, name: &[u8]) -> Option<usize> {
        self.savepoints.iter().rposition(|(savepoint, _)| **savepoint == *name)
    }

    fn release(&mut self, name: &[u8]) {
        // One that was forgotten may be meant, and one of the same name before it still be there.
        if !self.forgot
            && let Some(at) = self.find(name)
        {
            self.savepoints.truncate(at);
        }
    }

    fn roll_back_to(&mut self, name: &[u8]) {
        match self.find(name) {
            Some(at) if !self.forgot => {
                self.pending.truncate(self.savepoints[at].1);
                self.savepoints.truncate(at + 1);
            }
            // Rather too many notifications than too few.
            _ => self.pending.retain(|change| matches!(change, Change::Listen(_))),
        }
    }
}

#[cfg(test)]
mod tests;
