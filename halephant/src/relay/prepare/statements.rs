//! What a relay knows about prepared statements while messages about them are under way.

use crate::prepared::names::NAME_BYTES_MAX;
use crate::prepared::{Pending, StatementId};
use crate::relay::Tracker;
use std::collections::VecDeque;

/// Changes of the unnamed statement under way that can be taken back.
const UNNAMED_MAX: usize = 8;

/// Messages under way of which it is known which statement they are about.
const MENTIONED_MAX: usize = 1024;

/// What a relay knows about the prepared statements of its two sides.
#[derive(Debug, Default)]
pub(in crate::relay) struct Statements {
    pub(in crate::relay) pending: Pending,
    /// The client waits for answers before its next message can be passed on.
    pub(in crate::relay) waiting: bool,
    /// The client waits until the server has taken what was put in.
    pub(in crate::relay) full: bool,
    /// The unnamed statement on the server connection is what the client believes it to be.
    pub(super) unnamed_is_own: bool,
    /// Messages under way that change the unnamed statement, by position, and what it was before each.
    pub(super) unnamed_before: VecDeque<(u64, Option<Box<[u8]>>)>,
    /// Names that the client got from us without asking the server, in the batch that is under way.
    pub(super) answered: Vec<Box<[u8]>>,
    /// Names may be gone when what was sent is done.
    pub(in crate::relay) deallocating: bool,
    /// A command that takes names away may run.
    pub(in crate::relay) may_deallocate: bool,
    /// Bind and Describe messages since the server last had answered everything.
    pub(in crate::relay) mentioned: Vec<Mentioned>,
    pub(in crate::relay) shape: Shape,
}

/// What is known about the messages of one walk, which may be a whole batch.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::relay) struct Shape {
    pub(in crate::relay) binds: u32,
    /// The client is told by them which columns there are.
    pub(in crate::relay) describes: bool,
    /// There is something in it that must not be sent twice.
    pub(in crate::relay) once: bool,
    /// So much at its beginning was answered without the server.
    pub(in crate::relay) answered_bytes: usize,
}

/// A Bind or Describe under way that had a client's name in it.
#[derive(Clone, Copy, Debug)]
pub(in crate::relay) struct Mentioned {
    pub(in crate::relay) position: u64,
    pub(in crate::relay) id: StatementId,
    name: [u8; NAME_BYTES_MAX],
    name_bytes: u8,
}

impl Mentioned {
    pub(in crate::relay) fn name(&self) -> &[u8] {
        &self.name[..usize::from(self.name_bytes)]
    }
}

impl Statements {
    /// Something of ours has taken the place of the unnamed statement.
    pub(in crate::relay) fn unnamed_is_gone(&mut self) {
        self.unnamed_is_own = false;
        self.unnamed_before.clear();
    }

    /// The next message changes the unnamed statement, which was `before`.
    pub(super) fn changes_unnamed(&mut self, tracker: &Tracker, before: Option<&[u8]>) {
        let answered = tracker.answered_position();
        self.unnamed_before.retain(|(position, _)| *position >= answered);
        if self.unnamed_before.len() == UNNAMED_MAX {
            self.unnamed_before.pop_front();
        }
        self.unnamed_before.push_back((tracker.next_position(), before.map(Box::from)));
    }

    /// The message at `from` failed, and those up to `to` were skipped: what the unnamed statement is then, if that changes.
    pub(super) fn unnamed_after_error(&mut self, from: u64, to: u64) -> Option<Option<Box<[u8]>>> {
        let begin = self.unnamed_before.iter().position(|(position, _)| *position >= from)?;
        let mut failed: VecDeque<_> = self.unnamed_before.split_off(begin);
        let later = failed.iter().position(|(position, _)| *position >= to).unwrap_or(failed.len());
        let settled = failed.split_off(later);
        let overtaken = !settled.is_empty();
        self.unnamed_before = settled;
        let (position, before) = failed.pop_front()?;
        // A Parse that fails leaves none; one that was skipped leaves what was there.
        (!overtaken).then(|| before.filter(|_| position > from))
    }

    #[inline]
    pub(super) fn mention(&mut self, tracker: &Tracker, id: StatementId, name: &[u8]) {
        if tracker.is_quiet() {
            self.mentioned.clear();
        }
        // Beyond that, an error shows the canonical name.
        if self.mentioned.len() < MENTIONED_MAX && name.len() <= NAME_BYTES_MAX {
            let mut mentioned = Mentioned {
                position: tracker.next_position(),
                id,
                name: [0; NAME_BYTES_MAX],
                name_bytes: name.len() as u8,
            };
            mentioned.name[..name.len()].copy_from_slice(name);
            self.mentioned.push(mentioned);
        }
    }
}
