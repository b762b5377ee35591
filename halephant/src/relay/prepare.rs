//! Prepared statements on their way to the server in transaction mode: a client's names become canonical ones, and where
//! the server connection has no copy of a statement, it gets one first.
//!
//! What the server would refuse goes to the server, in a form that it refuses in the same words: so every error has its
//! place, and the transaction fails as it should.

use super::output::Output;
use super::own_names::NOTHING;
use super::pin::PinReason;
use super::suspect::sqlstate;
use super::{Relay, Tracker, inspect};
use crate::prepared::message::{self, Mention, Place};
use crate::prepared::names::NAME_BYTES_MAX;
use crate::prepared::{Change, Meaning, Named, Pending, Presence, Statement, StatementId};
use crate::sql::effect::Effect;
use crate::sql::{self};
use halephant_protocol::backend::{self, TransactionStatus};
use halephant_protocol::frame::{HEADER_BYTES, Header};
use halephant_protocol::frontend::{Flush, Parse, tag};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Longest definition of a statement that is shared. A client with a longer one keeps its connection.
const DEFINITION_BYTES_MAX: usize = 256 * 1024;

/// Messages under way of which it is known which statement they are about.
const MENTIONED_MAX: usize = 1024;

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

/// What a relay knows about the prepared statements of its two sides.
#[derive(Debug, Default)]
pub(super) struct Statements {
    pub(super) pending: Pending,
    /// The client waits for answers before its next message can be passed on.
    pub(super) waiting: bool,
    /// The client waits until the server has taken what was put in.
    pub(super) full: bool,
    /// The unnamed statement on the server connection is what the client believes it to be.
    unnamed_is_own: bool,
    /// The position of the client's last Parse of the unnamed statement.
    unnamed_position: Option<u64>,
    /// Names that the client got from us without asking the server, in the batch that is under way.
    answered: Vec<Box<[u8]>>,
    /// Names may be gone when what was sent is done.
    pub(super) deallocating: bool,
    /// A command that takes names away may run.
    pub(super) may_deallocate: bool,
    /// Bind and Describe messages since the server last had answered everything.
    pub(super) mentioned: Vec<Mentioned>,
    pub(super) shape: Shape,
}

/// What is known about the messages of one walk, which may be a whole batch.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Shape {
    pub(super) binds: u32,
    /// The client is told by them which columns there are.
    pub(super) describes: bool,
    /// There is something in it that must not be sent twice.
    pub(super) once: bool,
    /// So much at its beginning was answered without the server.
    pub(super) answered_bytes: usize,
}

/// A Bind or Describe under way that had a client's name in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mentioned {
    pub(super) position: u64,
    pub(super) id: StatementId,
    name: [u8; NAME_BYTES_MAX],
    name_bytes: u8,
}

impl Mentioned {
    pub(super) fn name(&self) -> &[u8] {
        &self.name[..usize::from(self.name_bytes)]
    }
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
                Passage::AsIs
            }
            tag::EXECUTE | tag::FLUSH => Passage::AsIs,
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
        let text = body.split(|&byte| byte == 0).next().unwrap_or_default();
        if let Some(passage) = self.mention_in_text(text) {
            return passage;
        }
        self.inspect_text(text);
        self.queried();
        Passage::AsIs
    }

    fn queried(&mut self) {
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
        if self.goes_to_nothing() {
            return Passage::AsIs;
        }
        if self.client_waits() {
            return Passage::Wait;
        }
        if self.is_unsettled(name) {
            return self.wait(output);
        }
        let Some(named) = self.client.statements.find(name) else {
            self.vacate(name, output);
            return Passage::AsIs;
        };
        if header.tag == tag::CLOSE {
            return self.close_statement(place, output);
        }
        let same = self.client.read_under == self.client.wanted
            && named.held.meaning == self.client.statements.meaning;
        let (id, has_effects) = if same { (named.held.id, named.has_effects) } else { self.read_anew(name) };
        match self.lease.connection().copies.find(id) {
            Presence::Ready if self.state.statements.pending.is_empty() => {}
            presence => {
                if let Some(passage) = self.make_copy(name, id, presence, output) {
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

    /// Puts a Parse in front of what is about to use the statement, unless the copy is there by now.
    fn make_copy(
        &mut self,
        name: &[u8],
        id: StatementId,
        presence: Presence,
        output: &mut Output<'_>,
    ) -> Option<Passage> {
        if self.state.statements.pending.is_copy_unsettled(id) {
            return Some(self.wait(output));
        }
        if presence == Presence::Ready {
            return None;
        }
        if self.state.tracker.has_lost_count() {
            // The answer to what is put in could not be told from the client's: it gets the server's error instead.
            return Some(Passage::AsIs);
        }
        let statement = Arc::clone(self.client.statements.find(name)?.held.statement());
        if !output.has_room(statement.definition.len()) {
            self.state.statements.full = true;
            return Some(Passage::Wait);
        }
        self.drop_copy_for(id, presence, output);
        message::encode_parse(id.name().as_bytes(), &statement.definition, output.put_in());
        self.sent_own(tag::PARSE, Change::Copied(id));
        self.count_copy();
        None
    }

    fn parse_statement(&mut self, header: Header, output: &mut Output<'_>) -> Passage {
        let message = output.rest();
        let Some(body) = message.get(HEADER_BYTES..header.frame_bytes()) else {
            if header.frame_bytes() <= inspect::INSPECTED_BYTES_MAX {
                return Passage::More;
            }
            return self.parse_unread();
        };
        let Ok(parse) = Parse::parse(body) else { return Passage::AsIs };
        let definition = &body[parse.statement.len() + 1..];
        if self.goes_to_nothing() {
            return Passage::AsIs;
        }
        if parse.statement.is_empty() {
            if let Some(passage) = self.mention_in_text(parse.query) {
                return passage;
            }
            self.state.statements.shape.once = true;
            self.inspect_text(parse.query);
            self.client.statements.set_unnamed(definition);
            self.state.statements.unnamed_is_own = true;
            self.state.statements.unnamed_position = Some(self.state.tracker.next_position());
            return Passage::AsIs;
        }
        if self.client_waits() {
            return Passage::Wait;
        }
        let statements = &self.state.statements;
        let answered = statements.answered.iter().any(|name| **name == *parse.statement);
        // What was answered by us may have been refused by PostgreSQL, as the rest of the batch will show.
        if (answered && !self.state.tracker.is_quiet()) || self.is_unsettled(parse.statement) {
            return self.wait(output);
        }
        if self.client.statements.find(parse.statement).is_some_and(|named| !named.tentative) {
            return self.parse_again(parse.statement, output);
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
            // It goes under its own name, and nobody else gets this connection.
            self.pin(PinReason::PreparedStatement);
            self.inspect_text(query);
            self.vacate(name, output);
            return Passage::AsIs;
        };
        let id = named.id;
        if self.state.statements.pending.is_copy_unsettled(id) {
            return self.wait(output);
        }
        let presence = self.lease.connection().copies.find(id);
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
            self.drop_copy_for(id, presence, output);
            message::encode_parse(id.name().as_bytes(), definition, output.put_in());
            self.trace_client(header, message);
            self.sent_own(tag::PARSE, Change::Named { name: name.into(), id });
            self.count_copy();
        }
        self.client.statements.insert(name, Named { held: named, has_effects, tentative: false });
        Passage::Replaced(header.frame_bytes())
    }

    /// The shared statement for a Parse, and whether it has effects. `None`: it cannot be shared.
    fn share(
        &mut self,
        name: &[u8],
        query: &[u8],
        definition: &[u8],
    ) -> Option<(crate::prepared::Held, bool)> {
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
        self.pin(PinReason::PreparedStatement);
        self.client.statements.drop_unnamed();
        self.state.statements.unnamed_is_own = true;
        Passage::AsIs
    }

    /// A Parse under a name that is taken: it is taken on the server, too, when the Parse gets there.
    fn parse_again(&mut self, name: &[u8], output: &mut Output<'_>) -> Passage {
        if self.state.tracker.has_lost_count() {
            return Passage::AsIs;
        }
        // It may be taken there already, by an earlier Parse of this kind: then that one would fail, for another reason.
        message::encode_close(name, output.put_in());
        self.sent_own(tag::CLOSE, Change::Own);
        message::encode_parse(name, NOTHING, output.put_in());
        self.sent_own(tag::PARSE, Change::Own);
        self.lease.connection().dirty = true;
        Passage::AsIs
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

    /// Before a name that is not the client's goes to the server as it is: it must not be one of ours there.
    fn vacate(&mut self, name: &[u8], output: &mut Output<'_>) {
        let Some(id) = StatementId::of_name(name) else { return };
        if self.lease.connection().copies.remove(id) && !self.state.tracker.has_lost_count() {
            message::encode_close(name, output.put_in());
            self.sent_own(tag::CLOSE, Change::Dropped(id));
        }
    }

    /// A Bind or Describe of the unnamed statement, or its Close.
    #[inline]
    fn mention_unnamed(&mut self, header: Header, output: &mut Output<'_>) -> Passage {
        if self.goes_to_nothing() || self.state.tracker.has_lost_count() {
            return Passage::AsIs;
        }
        if header.tag == tag::CLOSE {
            self.client.statements.drop_unnamed();
            self.state.statements.unnamed_is_own = true;
        } else if !self.state.statements.unnamed_is_own {
            if self.client_waits() {
                return Passage::Wait;
            }
            // What is there is another client's, or ours.
            self.state.statements.unnamed_is_own = true;
            match self.client.statements.unnamed() {
                Some(definition) => {
                    message::encode_parse(b"", definition, output.put_in());
                    let query = definition.split(|&byte| byte == 0).next().unwrap_or_default().to_vec();
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

    /// Makes room for a copy: a stale one of the same statement is closed, or the one that was not used for longest.
    fn drop_copy_for(&mut self, id: StatementId, presence: Presence, output: &mut Output<'_>) {
        let evicted = self.lease.connection().copies.insert(id);
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

    /// A message that was put in, or changes something, is on its way.
    fn sent_own(&mut self, tag: u8, change: Change) {
        self.state.statements.pending.push(self.state.tracker.next_position(), change);
        self.state.tracker.client_message(tag);
    }

    fn count_copy(&self) {
        self.client.statements.store().counts().copied.fetch_add(1, Ordering::Relaxed);
    }

    /// The server does nothing with the next message but skip or refuse it.
    #[inline]
    fn goes_to_nothing(&self) -> bool {
        self.state.tracker.is_skipping() || self.state.tracker.copy_open()
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
    fn wait(&mut self, output: &mut Output<'_>) -> Passage {
        if !std::mem::replace(&mut self.state.statements.waiting, true)
            && self.state.tracker.commits_at_sync()
        {
            Flush.encode(output.put_in());
        }
        Passage::Wait
    }

    /// Takes note of the parameters under which the client's statements are read from now on.
    fn note_meaning(&mut self) {
        if self.client.read_under != self.client.wanted {
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
        }
    }
}

impl Statements {
    #[inline]
    fn mention(&mut self, tracker: &Tracker, id: StatementId, name: &[u8]) {
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

/// Whether a Parse could have failed with it, had it been sent: for what is not there, not allowed, or not a value.
fn may_be_of_parse(sqlstate: &[u8]) -> bool {
    match sqlstate {
        b"42P05" => false,
        b"22P02" | b"22007" | b"22008" | b"58P01" => true,
        _ => [&b"42"[..], b"3F", b"0A"].iter().any(|class| sqlstate.starts_with(class)),
    }
}

/// What cannot be done by a statement whose text is not sent again: what a replica has to refuse by it.
fn must_stay(effect: &Effect<'_>) -> bool {
    effect.access().is_some_and(|change| change.may_write())
}

const _: () = assert!(NAME_BYTES_MAX < message::NAMES_BYTES_MAX);

impl Relay<'_> {
    /// A closing answer of the server's came, or an error: what it settles. Positions `from` to `to` are done with.
    pub(super) fn settle_statements(&mut self, from: u64, to: u64, error: Option<&[u8]>) {
        if let Some(error) = error {
            self.statements_failed(from, to, error);
        } else if !self.state.statements.pending.is_empty() {
            // What is done was taken for done when it was sent.
            self.state.statements.pending.answered(from);
        }
    }

    fn statements_failed(&mut self, from: u64, to: u64, error: &[u8]) {
        if self.state.statements.unnamed_position.take_if(|position| *position >= from).is_some() {
            self.client.statements.drop_unnamed();
        }
        let doubtful = sqlstate(error).is_none_or(may_be_of_parse);
        for name in std::mem::take(&mut self.state.statements.answered) {
            let mut mentioned = self.state.statements.mentioned.iter();
            // What was used before is there.
            let used = mentioned.any(|used| used.position < from && *used.name() == *name);
            if doubtful
                && !used
                && let Some(named) = self.client.statements.find_mut(&name)
            {
                named.tentative = true;
            }
        }
        for change in self.state.statements.pending.failed(to) {
            let copies = &mut self.lease.connection().copies;
            match change {
                Change::Copied(id) | Change::Dropped(id) => copies.distrust(id),
                Change::Own => {}
                Change::Named { name, id } => {
                    copies.distrust(id);
                    self.client.statements.remove(&name);
                }
                Change::Closed { name, named } => {
                    if let Some(named) = named {
                        self.client.statements.insert(&name, named);
                    }
                }
            }
        }
    }

    /// A ReadyForQuery came.
    #[inline]
    pub(super) fn statements_ready(&mut self) {
        self.state.statements.answered.clear();
    }

    /// The server has no prepared statements any more.
    pub(super) fn statements_deallocated(&mut self) {
        self.client.statements.clear();
        self.lease.connection().copies.clear();
        self.state.statements.deallocating = false;
    }
}
