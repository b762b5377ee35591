//! Where a client's SQL speaks of its prepared statements: EXECUTE, DEALLOCATE and PREPARE know names on the server only,
//! so the ones that a text mentions are put there before it.

mod present;

use super::output::Output;
use super::pin::PinReason;
use super::prepare::Passage;
use super::refuse::Reason;
use super::suspect::sqlstate;
use super::{Relay, RelayEnd};
use crate::prepared::Named;
use crate::prepared::message::{encode_close, encode_parse};
use crate::sql;
use crate::sql::effect::{Effect, Effects};
use halephant_protocol::backend::{ReadyForQuery, TransactionStatus};
use halephant_protocol::frame::{Header, parse_frontend_header};
use halephant_protocol::frontend::{Flush, Sync};
use present::Present;

/// The definition of nothing: an empty query without parameters.
pub(super) const NOTHING: &[u8] = b"\0\0\0";

/// Statements that are being put on the server under the client's own names.
#[derive(Debug, Default)]
pub(super) struct OwnNames {
    /// Their answers are outstanding, and for nobody.
    pub(super) underway: bool,
    /// The text that was held back for them may go now.
    done: bool,
    /// What they were, until it is certain that they are on the server.
    moving: Vec<(Box<[u8]>, Named)>,
    /// The one that a DEALLOCATE is about to take away, and whether the connection had to be reset before that.
    leaving: Option<(Box<[u8]>, bool)>,
    // In a box, because most clients have none and every client has room for this.
    present: Option<Box<Present>>,
}

impl OwnNames {
    fn present(&mut self) -> &mut Present {
        self.present.get_or_insert_default()
    }
}

impl Relay<'_> {
    /// Looks for names of the client's in a text. `Some`: it has to wait.
    pub(super) fn mention_in_text(
        &mut self,
        header: Header,
        text: &[u8],
        output: &mut Output<'_>,
    ) -> Option<Passage> {
        let nothing = self.client.statements.is_empty() && self.state.statements.pending.is_empty();
        if std::mem::take(&mut self.state.own_names.done) || nothing {
            return None;
        }
        if self.state.tracker.has_lost_count() {
            // Nothing can be waited for, or put there: the server refuses the text.
            return None;
        }
        let dialect = self.lease.connection().dialect();
        if !sql::may_have_effects(text, dialect) {
            return None;
        }
        let effects = sql::classify(text, dialect);
        let names_one = |effect: &Effect<'_>| {
            matches!(effect, Effect::Prepare { .. } | Effect::Execute(_) | Effect::Deallocate(Some(_)))
        };
        if !self.state.statements.pending.is_empty() && effects.iter().any(names_one) {
            // What names there are is not settled.
            return Some(self.wait(output));
        }
        let mentioned = |effect: &Effect<'_>| match effect {
            Effect::Prepare { name, .. } | Effect::Execute(name) | Effect::Deallocate(Some(name)) => {
                name.text().filter(|name| self.client.statements.find(name).is_some()).map(Box::from)
            }
            _ => None,
        };
        let mut names: Vec<Box<[u8]>> = effects.iter().filter_map(mentioned).collect();
        names.sort_unstable();
        names.dedup();
        if names.is_empty() {
            return None;
        }
        if self.is_joining() {
            // What is put there ends with a Sync, which must not come before it is known that ours went well.
            // Behind what was passed on of the same read; it is also what a BEGIN is sent with that waits for the first message.
            if !std::mem::replace(&mut self.state.statements.waiting, true) {
                Flush.encode(output.put_in());
            }
            return Some(Passage::Wait);
        }
        let tracker = &self.state.tracker;
        if !tracker.is_quiet() {
            return Some(self.wait(output));
        }
        if tracker.needs_sync() || tracker.status() == TransactionStatus::Failed {
            // A Sync of ours would end the client's batch; in a failed transaction nothing can be prepared. PostgreSQL
            // refuses the text.
            return None;
        }
        let leaves = effects.statements.len() == 1
            && matches!(effects.statements[0].effects[..], [Effect::Deallocate(Some(_))]);
        if self.denies_pins && !leaves {
            self.deny(header, PinReason::PreparedStatement);
            return Some(Passage::Wait);
        }
        self.put_names(names, leaves);
        Some(Passage::Wait)
    }

    /// Sends the statements under the client's names. `leaving`: only so that there is something to deallocate.
    fn put_names(&mut self, names: Vec<Box<[u8]>>, leaving: bool) {
        for name in names {
            let out = &mut self.state.to_server;
            encode_close(&name, out);
            if leaving {
                encode_parse(&name, NOTHING, out);
                let dirty = std::mem::replace(&mut self.lease.connection().dirty, true);
                self.state.own_names.leaving = Some((name, dirty));
            } else if let Some(named) = self.client.statements.remove(&name) {
                encode_parse(&name, &named.held.definition, out);
                self.state.own_names.present().insert(Some(&name));
                self.state.own_names.moving.push((name, named));
            }
        }
        Sync.encode(&mut self.state.to_server);
        if !leaving {
            self.pin(PinReason::PreparedStatement);
            // That stays, whatever the text turns out to be.
            self.state.doubted = None;
        }
        self.state.own_names.underway = true;
        self.lease.connection().busy = true;
    }

    /// One of them could not be prepared: they stay what they were.
    pub(super) fn names_are_refused(&mut self, error: &[u8]) {
        if sqlstate(error).is_some_and(may_strike_any)
            && let Ok(Some(header)) = parse_frontend_header(&self.client.held)
        {
            // In place of the text that waits for them.
            self.refuse_next(header.frame_bytes(), Reason::Failed(error.into()));
        }
        for (name, named) in std::mem::take(&mut self.state.own_names.moving) {
            self.client.statements.insert(&name, named);
        }
    }

    /// The ReadyForQuery behind them.
    pub(super) fn names_are_put(&mut self, body: &[u8]) -> Option<RelayEnd> {
        self.state.own_names.underway = false;
        self.state.own_names.done = true;
        self.state.own_names.moving.clear();
        if self.has_refused() {
            self.state.own_names.done = false;
            self.state.own_names.leaving = None;
        }
        match ReadyForQuery::parse(body) {
            Ok(ready) if ready.status == self.state.tracker.status() => None,
            // One of them failed, and the transaction with it: as it would have by the client's own text.
            Ok(ready) => {
                self.state.tracker.ready_unasked(ready.status);
                None
            }
            Err(_) => Some(RelayEnd::ServerViolation),
        }
    }

    /// The server confirmed a DEALLOCATE of one name.
    pub(super) fn statement_deallocated(&mut self) {
        if let Some((name, dirty)) = self.state.own_names.leaving.take() {
            self.client.statements.remove(&name);
            if self.state.pins.is_empty() {
                self.lease.connection().dirty = dirty;
            }
        }
    }

    /// A text that puts names on the server or takes them away is about to be sent.
    pub(super) fn note_names(&mut self, effects: &Effects<'_>, by_query: bool) {
        let names = |effect: &Effect<'_>| matches!(effect, Effect::Prepare { .. } | Effect::Deallocate(_));
        if !effects.iter().any(names) {
            return;
        }
        let tracker = &self.state.tracker;
        let present = self.state.own_names.present();
        if effects.iter().any(|effect| matches!(effect, Effect::Deallocate(_))) {
            // Within a transaction block there may be portals of texts that came before.
            let settled = tracker.is_quiet() && (by_query || tracker.is_complete());
            let read = !effects.iter().any(|effect| matches!(effect, Effect::Unknown(_)));
            present.begin(tracker.cycles(), settled && read);
        }
        for effect in effects.iter() {
            match effect {
                Effect::Prepare { name, .. } => present.insert(name.text()),
                Effect::Deallocate(name) => present.leave(name.as_ref().map(|name| name.text())),
                _ => {}
            }
        }
    }

    /// The client's Parse goes under a name of its own. `None`: one that is not read.
    pub(super) fn note_own_name(&mut self, name: Option<&[u8]>) {
        self.pin(PinReason::PreparedStatement);
        self.state.own_names.present().insert(name);
    }

    /// What is sent now may be a DEALLOCATE that was read before, or never.
    pub(super) fn doubt_names(&mut self) {
        if let Some(present) = &mut self.state.own_names.present {
            present.doubt();
        }
    }

    /// The server confirmed a DEALLOCATE.
    pub(super) fn names_left(&mut self, all: bool) {
        let Some(present) = &mut self.state.own_names.present else { return };
        if present.left(self.state.tracker.cycles(), all)
            && self.state.pins.contains(PinReason::PreparedStatement)
        {
            self.unpin(PinReason::PreparedStatement.into());
        }
    }

    /// The server has none of the client's names any more.
    pub(super) fn forget_names(&mut self) {
        if let Some(present) = &mut self.state.own_names.present {
            present.clear();
        }
    }
}

/// Whether an error strikes a statement for no fault of its own, a cancel or the end of its patience: the client's text would have
/// got it in the place of what was sent for it.
fn may_strike_any(sqlstate: &[u8]) -> bool {
    // query_canceled, lock_not_available, deadlock_detected.
    matches!(sqlstate, b"57014" | b"55P03" | b"40P01")
}
