//! What a relay knows about prepared statements while messages about them are under way.

use super::unnamed::Unnamed;
use crate::prepared::names::NAME_BYTES_MAX;
use crate::prepared::{Pending, StatementId};
use crate::relay::Tracker;

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
    pub(super) unnamed: Unnamed,
    /// Names that the client got from us without asking the server, in the batch that is under way.
    pub(super) answered: Vec<Box<[u8]>>,
    /// Names may be gone when what was sent is done.
    pub(in crate::relay) deallocating: bool,
    /// A command that takes names away may run.
    pub(in crate::relay) may_deallocate: bool,
    /// Bind and Describe messages since the server last had answered everything.
    pub(in crate::relay) mentioned: Vec<Mentioned>,
    pub(in crate::relay) shape: Shape,
    /// A copy that was made to see which columns it has.
    pub(super) renewed: StatementId,
}

/// What is known about the messages of one walk, which may be a whole batch.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::relay) struct Shape {
    pub(in crate::relay) binds: u32,
    /// The client is told by them which columns there are.
    pub(in crate::relay) describes: bool,
    /// There is a Flush in it.
    pub(in crate::relay) flushed: bool,
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
        self.unnamed = Unnamed::default();
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
