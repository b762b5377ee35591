//! Prepared statements on their way to the server in transaction mode: a client's names become canonical ones, and where
//! the server connection has no copy of a statement, it gets one first.
//!
//! What the server would refuse goes to the server, in a form that it refuses in the same words: so every error has its
//! place, and the transaction fails as it should.

mod columns;
mod copy;
mod parse;
mod settle;
mod statements;
mod unnamed;

pub(super) use columns::DESCRIPTION_BYTES_MAX;
pub(super) use statements::{Mentioned, Shape, Statements};

use super::inspect::string;
use super::output::Output;
use super::pin::PinReason;
use super::{Relay, inspect};
use crate::prepared::message::{self, Mention, Place};
use crate::prepared::names::NAME_BYTES_MAX;
use crate::prepared::{Change, Meaning, Presence, Statement, StatementId};
use halephant_protocol::frame::{HEADER_BYTES, Header};
use halephant_protocol::frontend::{Flush, tag};
use std::sync::Arc;

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passage {
    /// It goes as it is.
    AsIs,
    /// More of it has to be read.
    More,
    /// It goes when the server has answered what it was sent.
    Wait,
    /// The output has what goes instead of as many bytes, and the tracker knows.
    Replaced(usize),
}

impl Relay<'_> {
    /// Looks at a message of the client in transaction mode.
    #[inline]
    pub(super) fn prepare_client(&mut self, header: Header, output: &mut Output<'_>) -> Passage {
        match header.tag {
            tag::BIND | tag::DESCRIBE | tag::CLOSE => {
                let passage = self.mention_statement(header, output);
                if matches!(passage, Passage::AsIs | Passage::Replaced(_)) {
                    let shape = &mut self.state.statements.shape;
                    shape.binds += u32::from(header.tag == tag::BIND);
                    shape.describes |= header.tag == tag::DESCRIBE;
                    shape.once |= header.tag == tag::CLOSE;
                }
                passage
            }
            tag::PARSE => self.parse_statement(header, output),
            tag::SYNC => {
                self.state.statements.pending.end_batch();
                self.state.statements.unnamed.synced(&self.state.tracker);
                Passage::AsIs
            }
            tag::EXECUTE => Passage::AsIs,
            tag::FLUSH => {
                self.state.statements.shape.flushed = true;
                Passage::AsIs
            }
            tag::QUERY if !self.state.tracker.is_skipping() => self.query(header, output),
            _ => {
                self.state.statements.shape.once = true;
                Passage::AsIs
            }
        }
    }

    /// A Query: the unnamed statement goes, and its text may speak of others.
    fn query(&mut self, header: Header, output: &mut Output<'_>) -> Passage {
        let message = output.rest();
        let Some(body) = message.get(HEADER_BYTES..header.frame_bytes()) else {
            if header.frame_bytes() <= inspect::INSPECTED_BYTES_MAX {
                return Passage::More;
            }
            self.pin(PinReason::Unknown);
            self.queried();
            return Passage::AsIs;
        };
        let text = string(body);
        if let Some(passage) = self.mention_in_text(header, text, output) {
            return passage;
        }
        if self.awaits_discard(text) {
            return Passage::Wait;
        }
        self.inspect_query(text);
        self.queried();
        Passage::AsIs
    }

    fn queried(&mut self) {
        let before = self.client.statements.unnamed();
        self.state.statements.unnamed.queried(&self.state.tracker, before);
        self.client.statements.drop_unnamed();
        self.state.statements.unnamed_is_own = true;
        self.state.statements.shape.once = true;
    }

    /// A Bind, Describe or Close.
    #[inline]
    fn mention_statement(&mut self, header: Header, output: &mut Output<'_>) -> Passage {
        let message = output.rest();
        let place = match message::mention(header, message) {
            Mention::At(place) => place,
            Mention::Nothing => return Passage::AsIs,
            Mention::Cut => return Passage::More,
        };
        let name = place.name(message);
        if name.is_empty() {
            return self.mention_unnamed(header, output);
        }
        if let Some(passage) = self.goes_to_nothing(output) {
            return passage;
        }
        if self.client_waits() {
            return Passage::Wait;
        }
        if self.is_unsettled(name) && !self.state.tracker.has_lost_count() {
            return self.wait(output);
        }
        let Some(named) = self.client.statements.find(name) else {
            self.doubt_names();
            self.vacate(name, output);
            return Passage::AsIs;
        };
        if header.tag == tag::CLOSE {
            return self.close_statement(place, output);
        }
        let same = self.is_settled()
            && !self.client.statements.meaning.is_unsettled()
            && self.client.read_under == self.client.wanted
            && named.held.meaning == self.client.statements.meaning;
        let (told, has_effects) = (named.told, named.has_effects);
        if has_effects && self.state.has_others_sequences {
            let statement = Arc::clone(named.held.statement());
            if self.awaits_discard(statement.query()) {
                return Passage::Wait;
            }
        }
        let Some(named) = self.client.statements.find(name) else { return Passage::AsIs };
        let (id, has_effects) = if same { (named.held.id, named.has_effects) } else { self.read_anew(name) };
        match self.lease.connection().copies.find(id) {
            (Presence::Ready, columns) if columns == told && self.state.statements.pending.is_empty() => {}
            found => {
                if let Some(passage) = self.fit_copy(header, name, (id, told), found, output) {
                    return passage;
                }
            }
        }
        message::rename(header, message, place, id, output.put_in());
        self.trace_client(header, message);
        self.state.statements.mention(&self.state.tracker, id, name);
        self.state.tracker.client_message(header.tag);
        if has_effects && header.tag == tag::BIND {
            self.inspect_bound(name);
        }
        Passage::Replaced(place.end())
    }

    /// The client's name goes, and the copy stays. On the server there is nothing by that name, or what made a Parse
    /// fail; it closes either as readily.
    fn close_statement(&mut self, place: Place, output: &mut Output<'_>) -> Passage {
        let message = output.rest();
        let name = place.name(message);
        if let Some(id) = StatementId::of_name(name) {
            self.lease.connection().copies.remove(id);
        }
        let named = self.client.statements.remove(name);
        let change = Change::Closed { name: name.into(), named };
        self.state.statements.pending.push(self.state.tracker.next_position(), change);
        Passage::AsIs
    }

    /// A Bind or Describe of the unnamed statement, or its Close.
    #[inline]
    fn mention_unnamed(&mut self, header: Header, output: &mut Output<'_>) -> Passage {
        if let Some(passage) = self.goes_to_nothing(output) {
            return passage;
        }
        if self.state.tracker.has_lost_count() {
            return Passage::AsIs;
        }
        if header.tag == tag::CLOSE {
            let before = self.client.statements.unnamed();
            self.state.statements.unnamed.changes(&self.state.tracker, before);
            self.client.statements.drop_unnamed();
            self.state.statements.unnamed_is_own = true;
        } else if !self.state.statements.unnamed_is_own {
            if self.client_waits() || self.unnamed_awaits_discard() {
                return Passage::Wait;
            }
            // What is there is another client's, or ours.
            self.state.statements.unnamed_is_own = true;
            match self.client.statements.unnamed() {
                Some(definition) => {
                    let query = string(definition).to_vec();
                    message::encode_parse(b"", definition, output.put_in());
                    self.inspect_text(&query);
                    self.sent_own(tag::PARSE, Change::Own);
                }
                None => {
                    message::encode_close(b"", output.put_in());
                    self.sent_own(tag::CLOSE, Change::Own);
                }
            }
        }
        Passage::AsIs
    }

    /// The server does nothing with the next message but skip or refuse it, or is about to end a COPY.
    #[inline]
    fn goes_to_nothing(&mut self, output: &mut Output<'_>) -> Option<Passage> {
        // Without the count, it may be skipping, and then it answers nothing that could be waited for.
        if self.state.tracker.is_skipping() || self.state.tracker.has_lost_count() {
            return self.state.tracker.is_skipping().then_some(Passage::AsIs);
        }
        (self.state.tracker.copy_open() || self.state.tracker.copy_ends()).then(|| self.meets_copy(output))
    }

    /// Holds what stands behind the end of a COPY until it is known how that ended.
    #[cold]
    pub(super) fn wait_for_copy(&mut self, output: &mut Output<'_>) {
        // Which Syncs the COPY reads is not known before. An answer comes for certain. A Sync that the COPY read does not ask for it.
        if !std::mem::replace(&mut self.state.statements.waiting, true) {
            Flush.encode(output.put_in());
        }
    }

    /// A message about a statement meets a COPY that is open.
    #[cold]
    fn meets_copy(&mut self, output: &mut Output<'_>) -> Passage {
        if self.state.tracker.copy_ends() {
            // Answers that the kernel moves are not seen: then the server's direction is waited for.
            if !self.client_waits() {
                self.wait_for_copy(output);
            }
            return Passage::Wait;
        }
        // It does not belong there, and PostgreSQL ends the connection. Should the COPY have failed just before, though, it
        // makes of it what it can, under the client's own names: the connection is no one else's any more.
        self.state.tracker.lose_track();
        Passage::AsIs
    }

    /// What the name stands for depends on answers that are outstanding.
    #[inline]
    fn is_unsettled(&mut self, name: &[u8]) -> bool {
        let statements = &mut self.state.statements;
        if statements.deallocating && self.state.tracker.is_quiet() {
            statements.deallocating = false;
        }
        statements.deallocating
            || (!statements.pending.is_empty() && statements.pending.is_name_unsettled(name))
    }

    /// Nothing more of the client's is passed on until the server has answered something; where it would keep its
    /// answers back, it is asked for them.
    pub(super) fn wait(&mut self, output: &mut Output<'_>) -> Passage {
        if !std::mem::replace(&mut self.state.statements.waiting, true)
            && self.state.tracker.commits_at_sync()
        {
            Flush.encode(output.put_in());
        }
        Passage::Wait
    }

    /// Takes note of the parameters under which the client's statements are read from now on.
    fn note_meaning(&mut self) {
        if let Some(new) = self.take_unsettled() {
            if new {
                self.client.statements.meaning = Meaning::unsettled();
            }
            return;
        }
        if self.client.read_under != self.client.wanted || self.client.statements.meaning.is_unsettled() {
            self.client.statements.meaning = Meaning::new(self.client.wanted.iter());
            self.client.read_under = self.client.wanted.clone();
        }
    }

    /// The statement that the name stands for under the parameters of now.
    fn read_anew(&mut self, name: &[u8]) -> (StatementId, bool) {
        self.note_meaning();
        let statements = &mut self.client.statements;
        let (store, meaning) = (Arc::clone(statements.store()), statements.meaning.clone());
        let Some(named) = statements.find_mut(name) else { return (StatementId::NONE, false) };
        if named.held.meaning != meaning
            && let Some(held) = store.intern(&named.held.definition, &meaning)
        {
            named.held = held;
        }
        (named.held.id, named.has_effects)
    }

    /// What a statement does that was read when it was prepared.
    fn inspect_bound(&mut self, name: &[u8]) {
        let statement = self.client.statements.find(name).map(|named| Arc::clone(named.held.statement()));
        if let Some(statement) = statement {
            self.inspect_text(Statement::query(&statement));
            self.doubt_names();
        }
    }
}

const _: () = assert!(NAME_BYTES_MAX < message::NAMES_BYTES_MAX);
