//! Copies of statements on the server connection: made before they are used, closed to make room.

use super::Passage;
use crate::prepared::message;
use crate::prepared::{Change, Presence, Statement, StatementId};
use crate::relay::Relay;
use crate::relay::output::Output;
use halephant_protocol::frontend::tag;
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Relay<'_> {
    /// Puts a Parse in front of what is about to use the statement.
    pub(super) fn make_copy(
        &mut self,
        name: &[u8],
        id: StatementId,
        presence: Presence,
        output: &mut Output<'_>,
    ) -> Option<Passage> {
        let statement = Arc::clone(self.client.statements.find(name)?.held.statement());
        if !output.has_room(statement.definition.len()) {
            self.state.statements.full = true;
            return Some(Passage::Wait);
        }
        self.drop_copy_for(&statement, presence, output);
        message::encode_parse(id.name().as_bytes(), &statement.definition, output.put_in());
        self.sent_own(tag::PARSE, Change::Copied(id));
        self.count_copy();
        None
    }

    /// Makes room for a copy: a stale one of the same statement is closed, or the one that was not used for longest.
    pub(super) fn drop_copy_for(
        &mut self,
        statement: &Statement,
        presence: Presence,
        output: &mut Output<'_>,
    ) {
        let id = statement.id;
        let evicted = self.lease.connection().copies.insert(id, statement.changes());
        if presence != Presence::Absent {
            message::encode_close(id.name().as_bytes(), output.put_in());
            self.sent_own(tag::CLOSE, Change::Dropped(id));
        }
        if let Some(evicted) = evicted {
            message::encode_close(evicted.name().as_bytes(), output.put_in());
            self.sent_own(tag::CLOSE, Change::Dropped(evicted));
            self.client.statements.store().counts().evicted.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Before a name that is not the client's goes to the server as it is: it must not be one of ours there.
    pub(super) fn vacate(&mut self, name: &[u8], output: &mut Output<'_>) {
        let Some(id) = StatementId::of_name(name) else { return };
        if self.lease.connection().copies.remove(id) && !self.state.tracker.has_lost_count() {
            message::encode_close(name, output.put_in());
            self.sent_own(tag::CLOSE, Change::Dropped(id));
        }
    }

    /// A message that was put in, or changes something, is on its way.
    pub(super) fn sent_own(&mut self, tag: u8, change: Change) {
        self.state.statements.pending.push(self.state.tracker.next_position(), change);
        self.state.tracker.client_message(tag);
    }

    pub(super) fn count_copy(&self) {
        self.client.statements.store().counts().copied.fetch_add(1, Ordering::Relaxed);
    }
}
