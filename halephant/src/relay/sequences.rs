//! What `currval()` and `lastval()` say: a session's own last numbers, never those of whoever had the server connection before.
//!
//! A pool none of whose clients asks for them pays nothing. From the first one that does, the connection forgets what it knows ahead
//! of a client's first statement, if another one had it before.

use super::Relay;
use super::inspect::string;
use crate::server::apply::{encode_parameters, has_short_timeout};
use crate::sql;
use crate::sql::effect::{Effect, Sequence};

impl Relay<'_> {
    /// At the beginning: whether another client had the connection last.
    pub(super) fn meets_sequences(&mut self) -> bool {
        let client = self.handle.process_id();
        let last = std::mem::replace(&mut self.lease.connection().client, client);
        self.state.has_others_sequences = self.release.is_shared() && last != client && last != 0;
        self.state.has_others_sequences
    }

    /// Whether a text that asks for a sequence's last number has to wait until the connection has forgotten another client's.
    pub(super) fn awaits_discard(&mut self, text: &[u8]) -> bool {
        let began = self.state.forwarded || !self.state.tracker.is_complete() || self.is_joining();
        if !self.state.has_others_sequences || began {
            // The numbers may be its own by then.
            return false;
        }
        let dialect = self.lease.connection().dialect();
        if !sql::may_have_effects(text, dialect) {
            return false;
        }
        if !sql::classify(text, dialect).iter().any(recalls) {
            return false;
        }
        self.lease.note_recall();
        if encode_parameters(&[], &[], true, &mut self.state.to_server).is_err() {
            return false;
        }
        self.state.has_others_sequences = false;
        self.state.is_hasty = has_short_timeout(&self.lease.connection().applied);
        self.state.swallowing = true;
        self.state.began = false;
        self.lease.connection().busy = true;
        true
    }

    /// The same for the client's unnamed statement, which is about to be prepared here.
    pub(super) fn unnamed_awaits_discard(&mut self) -> bool {
        if !self.state.has_others_sequences {
            return false;
        }
        let Some(definition) = self.client.statements.unnamed() else { return false };
        let query = string(definition).to_vec();
        self.awaits_discard(&query)
    }
}

pub(super) fn recalls(effect: &Effect<'_>) -> bool {
    *effect == Effect::Sequence(Sequence::Recall)
}
