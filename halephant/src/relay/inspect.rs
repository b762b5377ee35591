//! What a client does to its session in transaction mode: what pins it to its server connection, what ends a pin, and
//! what is applied to the next connection.

use super::Relay;
use super::join::Joined;
use super::pin::{Consequence, PinReason, Pins, consequence, outlives_discard};
use super::sequences::recalls;
use crate::server::apply::{encode_joined, encode_parameters, has_short_timeout};
use crate::sql::effect::{Discard, Effect, Value};
use crate::sql::{self, Dialect};
use bytes::BytesMut;
use halephant_protocol::backend::{self, ErrorFields, ParameterStatus, TransactionStatus, field};
use halephant_protocol::frame::Header;
use halephant_protocol::frontend::tag;

/// Longest message whose statement is read. A client with a longer one keeps its connection.
pub(super) const INSPECTED_BYTES_MAX: usize = 1 << 20;

/// Longest ErrorResponse that is looked into for whether the grammar refused a text.
const SYNTAX_ERROR_BYTES_MAX: u32 = 8 * 1024;

/// What statements on their way to the server will mean once it has carried them out.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// Pins that end with the next CommandComplete of DISCARD ALL, UNLISTEN or DEALLOCATE ALL.
    clear: Pins,
    /// DISCARD ALL was carried out: parameters are back at the session's beginning.
    reset_all: bool,
}

/// Up to the NUL, or the end of what is there.
pub(super) fn string(bytes: &[u8]) -> &[u8] {
    &bytes[..memchr::memchr(0, bytes).unwrap_or(bytes.len())]
}

/// The text of a Query or Parse.
pub fn text_of(tag: u8, body: &[u8]) -> Option<&[u8]> {
    match tag {
        tag::QUERY => Some(string(body)),
        tag::PARSE => body.get(string(body).len() + 1..).map(string),
        _ => None,
    }
}

impl Relay<'_> {
    /// Reads a text that the server is about to get.
    pub(super) fn inspect_text(&mut self, text: &[u8]) {
        if self.inspect(text, false) {
            // It may run at any time from now on, and what comes behind it is read by rules that nobody has told yet.
            self.pin(PinReason::Parameter);
        }
    }

    /// Reads the text of a Query.
    pub(super) fn inspect_query(&mut self, text: &[u8]) {
        self.state.dialect_changes |= self.inspect(text, true);
    }

    fn inspect(&mut self, text: &[u8], by_query: bool) -> bool {
        let dialect = self.lease.connection().dialect();
        sql::may_have_effects(text, dialect) && self.inspect_statement(text, dialect, by_query)
    }

    /// Whether a message has to wait until it is known how the server reads it.
    pub(super) fn awaits_dialect(&mut self, header: Header) -> bool {
        if !self.state.dialect_changes {
            return false;
        }
        if self.state.tracker.is_quiet() {
            self.state.dialect_changes = false;
            return false;
        }
        // None of these goes ahead unanswered: there would be no Sync to bring its answer.
        let waits = [tag::QUERY, tag::PARSE, tag::BIND, tag::CLOSE, tag::DESCRIBE, tag::EXECUTE];
        if !waits.contains(&header.tag) {
            return false;
        }
        if !self.client_waits() {
            self.state.statements.waiting = true;
        }
        true
    }

    /// Whether it may change how the server reads statements.
    fn inspect_statement(&mut self, statement: &[u8], dialect: Dialect, by_query: bool) -> bool {
        let effects = sql::classify(statement, dialect);
        self.note_names(&effects, by_query);
        // In a transaction it may all be taken back: only what stands alone ends something.
        let alone = effects.statements.len() == 1 && self.state.tracker.status() == TransactionStatus::Idle;
        let mut changes = false;
        for effect in effects.iter().flat_map(with_body) {
            changes |= changes_dialect(effect);
            if recalls(effect) {
                self.lease.note_recall();
            }
            if matches!(effect, Effect::Deallocate(_) | Effect::Discard(Discard::All)) {
                self.state.statements.deallocating = true;
                self.state.statements.may_deallocate = true;
            }
            if self.release.is_shared() && outlives_discard(effect) {
                self.lease.connection().lasting = true;
            }
            match self.consequence_of(effect) {
                Consequence::Nothing => {}
                Consequence::Pin(reason) => self.pin(reason),
                Consequence::Clear(pins) if alone => self.state.pending.clear = pins,
                Consequence::Clear(_) => {}
                Consequence::Follow(name, value) => self.follow(name, value),
                Consequence::FollowAll => self.follow_all(),
            }
        }
        changes
    }

    pub(super) fn consequence_of<'e>(&self, effect: &'e Effect<'_>) -> Consequence<'e> {
        if self.client.listening.is_some() && matches!(effect, Effect::Listen(_)) {
            // Others listen for the client.
            return Consequence::Nothing;
        }
        let reported = &self.lease.connection_ref().reported;
        let is_reported =
            |name: &[u8]| reported.iter().any(|(reported, _)| reported.as_bytes().eq_ignore_ascii_case(name));
        consequence(effect, is_reported)
    }

    /// Whether the tag of the next CommandComplete matters.
    pub(super) fn awaits_command(&self) -> bool {
        !self.state.pending.clear.is_empty() || self.state.statements.may_deallocate
    }

    /// Looks at the tag of a CommandComplete.
    pub(super) fn inspect_command(&mut self, command: &[u8]) {
        let command = string(command);
        let clear = self.state.pending.clear;
        match command {
            b"DISCARD ALL" => self.statements_deallocated(),
            b"DEALLOCATE ALL" => {
                self.statements_deallocated();
                self.names_left(true);
            }
            b"DEALLOCATE" => {
                self.statement_deallocated();
                self.names_left(false);
            }
            _ => {}
        }
        match command {
            b"DISCARD ALL" if clear == Pins::DISCARDED => {
                self.unpin(clear);
                self.state.pending.reset_all = true;
            }
            b"UNLISTEN" | b"DEALLOCATE ALL" => self.unpin(clear),
            _ => return,
        }
        self.state.pending.clear = Pins::NONE;
    }

    pub(super) fn pin(&mut self, reason: PinReason) {
        // What comes behind a statement that ends pins is not ended by it.
        self.state.pending.clear.remove(reason.into());
        let before = self.state.pins;
        // Pins of a text that comes behind others are not told apart by an answer.
        self.state.doubted = match self.state.tracker.is_quiet() {
            true => self.state.doubted.or(Some(before)),
            false => None,
        };
        if self.release.is_shared() && self.state.pins.insert(reason) {
            tracing::debug!(
                process_id = self.handle.process_id(),
                reason = reason.as_str(),
                "a client is pinned to its server connection"
            );
            self.observe_pin(reason);
            self.lease.connection().dirty = true;
        }
    }

    /// Bytes of an ErrorResponse that must be there to know whether it takes pins back.
    pub(super) fn doubted_bytes(&self, header: Header) -> u32 {
        let told = self.state.doubted.is_some() && header.body_bytes <= SYNTAX_ERROR_BYTES_MAX;
        if told { header.body_bytes } else { 0 }
    }

    /// The first answer to a text that pinned: where the server could not read the text, it did nothing of it.
    #[inline]
    pub(super) fn settle_doubted(&mut self, tag: u8, body: &[u8]) {
        if self.state.doubted.is_none() || matches!(tag, b'N' | b'S' | b'A') {
            return;
        }
        let Some(before) = self.state.doubted.take() else { return };
        if tag == backend::tag::ERROR_RESPONSE && is_of_grammar(body) {
            let mut pins = self.state.pins;
            pins.remove(before);
            // The connection is reset all the same before somebody else gets it.
            self.unpin(pins);
        }
    }

    pub(super) fn unpin(&mut self, pins: Pins) {
        self.state.pins.remove(pins);
        if pins.contains(PinReason::PreparedStatement) {
            self.forget_names();
        }
        if self.state.pins.is_empty() {
            self.observe_unpin();
        }
    }

    /// The transaction is over and the connection goes back: after DISCARD ALL, the session is as it began, and so is the connection.
    pub(super) fn settle_parameters(&mut self) {
        let pending = std::mem::take(&mut self.state.pending);
        if pending.reset_all {
            self.client.wanted = self.client.startup.clone();
            self.lease.connection().dirty = true;
        }
    }

    /// Sends what turns the connection's parameters into the client's, in front of the client's first message.
    pub(super) fn apply_parameters(&mut self) {
        let discards = self.meets_sequences() && self.lease.recalls_sequences();
        self.state.has_others_sequences &= !discards;
        let server = self.lease.connection();
        if server.applied == self.client.wanted && !discards {
            self.tell_parameters();
            return;
        }
        let applied = server.applied.clone();
        let wanted = self.client.wanted.clone();
        let difference = applied.difference(&wanted);
        self.state.is_hasty = has_short_timeout(&applied);
        let joins = !self.state.is_hasty && self.may_join(&difference);
        let mut out = BytesMut::new();
        let encoded = match joins {
            true => encode_joined(&difference.set, &difference.reset, discards, &mut out),
            false => encode_parameters(&difference.set, &difference.reset, discards, &mut out).map(|()| 0),
        };
        match encoded {
            Ok(commands) => {
                self.state.to_server = out;
                if joins {
                    self.state.joined = Some(Box::new(Joined::new(commands, &difference)));
                    self.tell_unchanged();
                }
                self.state.swallowing = !joins;
                let server = self.lease.connection();
                server.applied = wanted.clone();
                server.busy = true;
            }
            // Parameters are checked when they enter `wanted`: they hold no NUL and are short.
            Err(error) => tracing::error!(%error, "session parameters could not be encoded"),
        }
    }

    /// As [`tell_parameters`](Self::tell_parameters), but for what is being changed: that is reported.
    fn tell_unchanged(&mut self) {
        let Some(joined) = &self.state.joined else { return };
        let server = self.lease.connection_ref();
        let client = &mut *self.client;
        let differing = server.reported.differing(&client.known).filter(|(name, _)| !joined.changes(name));
        let differing: Vec<_> = differing.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        for (name, value) in differing {
            let status = ParameterStatus { name: name.as_bytes(), value: value.as_bytes() };
            let _ = status.encode(&mut client.out);
            client.known.set(&name, &value);
        }
    }

    /// Tells the client where this connection's parameters differ from what it knows.
    pub(super) fn tell_parameters(&mut self) {
        let server = self.lease.connection();
        if server.reported == self.client.known {
            // Share one copy, so that the next comparison is one of pointers.
            server.reported = self.client.known.clone();
            return;
        }
        for (name, value) in server.reported.differing(&self.client.known) {
            let status = ParameterStatus { name: name.as_bytes(), value: value.as_bytes() };
            // What a server reported can be reported again.
            let _ = status.encode(&mut self.client.out);
        }
        self.client.known = server.reported.clone();
    }
}

/// Whether an error is PostgreSQL's grammar's, about the client's own text. The grammar reads all of a text before any of it runs.
fn is_of_grammar(error: &[u8]) -> bool {
    let Ok(fields) = ErrorFields::parse(error) else { return false };
    let is = |code, value: &[u8]| fields.field(code) == Some(value);
    is(field::SQLSTATE, b"42601")
        && is(field::ROUTINE, b"scanner_yyerror")
        && fields.field(field::POSITION).is_some()
        // Not of a text that a function runs.
        && [field::INTERNAL_POSITION, field::INTERNAL_QUERY, field::WHERE]
            .iter()
            .all(|&code| fields.field(code).is_none())
}

/// An effect, and what an EXECUTE of it will do, if it prepares something.
fn with_body<'e, 'a>(effect: &'e Effect<'a>) -> impl Iterator<Item = &'e Effect<'a>> {
    let body = match effect {
        Effect::Prepare { body, .. } => body.as_slice(),
        _ => &[],
    };
    std::iter::once(effect).chain(body)
}

/// Whether the server may read the statements behind this one by other rules than ours: the usual values, which
/// drivers set for good measure, do not.
pub(super) fn changes_dialect(effect: &Effect<'_>) -> bool {
    let Effect::Setting(setting) = effect else { return false };
    let text = match &setting.value {
        Value::Text(text) => Some(&**text),
        _ => None,
    };
    match setting.name.text() {
        Some(b"standard_conforming_strings") => text.and_then(sql::boolean) != Some(true),
        Some(b"client_encoding") => {
            text.is_none_or(|text| !Dialect::reported(b"on", text, b"UTF8").ascii_safe)
        }
        _ => false,
    }
}
