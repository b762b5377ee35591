//! A client's Parse: a name of its own for a statement that is kept for all.

use super::Passage;
use crate::prepared::message;
use crate::prepared::{Change, Columns, Held, Named, Presence};
use crate::relay::output::Output;
use crate::relay::own_names::NOTHING;
use crate::relay::pin::PinReason;
use crate::relay::refuse::Reason;
use crate::relay::{Relay, inspect};
use crate::sql;
use crate::sql::effect::Effect;
use halephant_protocol::backend::{self, TransactionStatus};
use halephant_protocol::frame::{HEADER_BYTES, Header};
use halephant_protocol::frontend::{Parse, tag};
use std::sync::atomic::Ordering;

/// Longest definition of a statement that is shared. A client with a longer one keeps its connection.
const DEFINITION_BYTES_MAX: usize = 256 * 1024;

impl Relay<'_> {
    pub(super) fn parse_statement(&mut self, header: Header, output: &mut Output<'_>) -> Passage {
        let message = output.rest();
        let Some(body) = message.get(HEADER_BYTES..header.frame_bytes()) else {
            if header.frame_bytes() <= inspect::INSPECTED_BYTES_MAX {
                return Passage::More;
            }
            return self.parse_unread();
        };
        let Ok(parse) = Parse::parse(body) else { return Passage::AsIs };
        let definition = &body[parse.statement.len() + 1..];
        if let Some(passage) = self.goes_to_nothing(output) {
            return passage;
        }
        if self.awaits_discard(parse.query) {
            return Passage::Wait;
        }
        if parse.statement.is_empty() {
            if let Some(passage) = self.mention_in_text(header, parse.query, output) {
                return passage;
            }
            self.state.statements.shape.once = true;
            self.inspect_text(parse.query);
            let before = self.client.statements.unnamed();
            self.state.statements.unnamed.changes(&self.state.tracker, before);
            self.client.statements.set_unnamed(definition);
            self.state.statements.unnamed_is_own = true;
            return Passage::AsIs;
        }
        if self.client_waits() {
            return Passage::Wait;
        }
        let statements = &self.state.statements;
        let answered = statements.answered.iter().any(|name| **name == *parse.statement);
        // What was answered by us may have been refused by PostgreSQL, as the rest of the batch will show. Without the count
        // it is not certain that anything is answered before the client's next Sync.
        if !self.state.tracker.has_lost_count()
            && ((answered && !self.state.tracker.is_quiet()) || self.is_unsettled(parse.statement))
        {
            return self.wait(output);
        }
        if self.client.statements.find(parse.statement).is_some_and(|named| !named.tentative) {
            return self.parse_again(header, parse.statement, output);
        }
        self.parse_named(header, parse.statement, parse.query, definition, output)
    }

    /// A Parse under a name that is free.
    fn parse_named(
        &mut self,
        header: Header,
        name: &[u8],
        query: &[u8],
        definition: &[u8],
        output: &mut Output<'_>,
    ) -> Passage {
        let Some((named, has_effects)) = self.share(name, query, definition) else {
            if self.denies_pins {
                self.deny(header, PinReason::PreparedStatement);
                return Passage::Wait;
            }
            // It goes under its own name, and nobody else gets this connection.
            self.note_own_name(Some(name));
            self.inspect_text(query);
            self.doubt_names();
            self.vacate(name, output);
            return Passage::AsIs;
        };
        let id = named.id;
        if self.state.statements.pending.is_copy_unsettled(id) {
            return self.wait(output);
        }
        let copies = &mut self.lease.connection().copies;
        let (mut presence, _) = copies.find(id);
        if presence == Presence::Ready && copies.is_older(id, named.changes()) {
            presence = Presence::Stale;
        }
        let message = output.rest();
        let quiet = self.state.tracker.is_quiet() && self.state.tracker.status() != TransactionStatus::Failed;
        if presence == Presence::Ready && quiet {
            self.trace_client(header, message);
            self.client
                .out
                .extend_from_slice(&Header { tag: backend::tag::PARSE_COMPLETE, body_bytes: 0 }.encode());
            self.client.statements.store().counts().answered.fetch_add(1, Ordering::Relaxed);
            self.state.statements.answered.push(name.into());
            self.state.statements.shape.describes = true;
            self.state.statements.shape.answered_bytes = output.at + header.frame_bytes();
        } else {
            if !output.has_room(definition.len()) {
                self.state.statements.full = true;
                return Passage::Wait;
            }
            self.state.statements.shape.once = true;
            self.drop_copy_for(&named, presence, output);
            message::encode_parse(id.name().as_bytes(), definition, output.put_in());
            self.trace_client(header, message);
            self.sent_own(tag::PARSE, Change::Named { name: name.into(), id });
            // Where something is owed, a COPY may be among it, and fail in a way that leaves it uncertain whose answers come: the
            // fewer are ours. The columns are learnt when they matter.
            if self.state.tracker.owed() == 0 {
                self.describe_copy(id, Some(name), output);
            }
            self.count_copy();
        }
        let told = Columns::UNKNOWN;
        self.client.statements.insert(name, Named { held: named, has_effects, tentative: false, told });
        Passage::Replaced(header.frame_bytes())
    }

    /// The shared statement for a Parse, and whether it has effects. `None`: it cannot be shared.
    fn share(&mut self, name: &[u8], query: &[u8], definition: &[u8]) -> Option<(Held, bool)> {
        // Where a client has names of its own on the server, PostgreSQL says which are taken.
        let own_names = self.state.pins.contains(PinReason::PreparedStatement);
        let statements = &self.client.statements;
        if own_names
            || !statements.takes(name)
            || definition.len() > DEFINITION_BYTES_MAX
            || self.state.tracker.has_lost_count()
        {
            return None;
        }
        let dialect = self.lease.connection().dialect();
        let has_effects = sql::may_have_effects(query, dialect);
        if has_effects && sql::classify(query, dialect).iter().any(must_stay) {
            return None;
        }
        self.note_meaning();
        let held = self.client.statements.store().intern(definition, &self.client.statements.meaning)?;
        Some((held, has_effects))
    }

    /// A Parse that is too long to be read.
    fn parse_unread(&mut self) -> Passage {
        self.pin(PinReason::Unknown);
        self.note_own_name(None);
        self.client.statements.drop_unnamed();
        self.state.statements.unnamed_is_own = true;
        Passage::AsIs
    }

    /// A Parse under a name that is taken: it is taken on the server, too, when the Parse gets there.
    fn parse_again(&mut self, header: Header, name: &[u8], output: &mut Output<'_>) -> Passage {
        if self.state.tracker.has_lost_count() {
            // Nothing can be put in to make it fail, so something else goes in its place.
            self.refuse_next(header.frame_bytes(), Reason::Taken(name.into()));
            return Passage::Wait;
        }
        // It may be taken there already, by an earlier Parse of this kind: then that one would fail, for another reason.
        message::encode_close(name, output.put_in());
        self.sent_own(tag::CLOSE, Change::Own);
        message::encode_parse(name, NOTHING, output.put_in());
        self.sent_own(tag::PARSE, Change::Own);
        self.lease.connection().dirty = true;
        Passage::AsIs
    }
}

/// What cannot be done by a statement whose text is not sent again: what a replica has to refuse by it.
fn must_stay(effect: &Effect<'_>) -> bool {
    effect.access().is_some_and(|change| change.may_write())
}
