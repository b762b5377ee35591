//! Statement mode: no transaction blocks, and one statement at a time.

use super::inspect::{INSPECTED_BYTES_MAX, text_of};
use super::refuse::Reason;
use super::{Relay, Release};
use crate::sql;
use crate::sql::effect::{Effect, Transaction};
use halephant_protocol::SqlState;
use halephant_protocol::backend::{ErrorReport, ReadyForQuery, TransactionStatus};
use halephant_protocol::frame::{HEADER_BYTES, Header};
use halephant_protocol::frontend::tag;

const HINT: &str = "This pool is in statement mode: each statement is a transaction. \
Set mode = \"transaction\" for the pool to use transaction blocks.";

impl Relay<'_> {
    /// Whether a message of the client may go on in statement mode. `false`: it waits for its turn, or for the rest of
    /// it, or is refused.
    pub(super) fn pass_statement(&mut self, header: Header, message: &[u8]) -> bool {
        if self.release != Release::AtStatementEnd {
            return true;
        }
        if self.awaits_turn(header.tag) {
            // Answers that the kernel moves are not seen: then the server's direction is waited for.
            if !self.client_waits() {
                self.state.statements.waiting = true;
            }
            return false;
        }
        if !matches!(header.tag, tag::QUERY | tag::PARSE) || header.frame_bytes() > INSPECTED_BYTES_MAX {
            return true;
        }
        let Some(body) = message.get(HEADER_BYTES..header.frame_bytes()) else { return false };
        let text = text_of(header.tag, body).unwrap_or_default();
        if !begins_transaction(text, self.lease.connection().dialect()) {
            return true;
        }
        self.refuse_next(header.frame_bytes(), Reason::Block);
        false
    }

    /// Whether a message has to wait until what was sent before it is answered. Data of a COPY belongs to what was sent;
    /// so may a Sync while the COPY is open.
    fn awaits_turn(&self, tag: u8) -> bool {
        let data = matches!(tag, tag::COPY_DATA | tag::COPY_DONE | tag::COPY_FAIL);
        let copying =
            self.state.tracker.copy_open() && !(self.state.tracker.copy_ends() && tag == tag::QUERY);
        self.state.tracker.owed() > 0 && !copying && !data
    }

    /// A text that is too long to be looked into may begin a transaction block.
    pub(super) fn is_block_in_statement_mode(&self, ready: ReadyForQuery) -> bool {
        self.release == Release::AtStatementEnd && ready.status != TransactionStatus::Idle
    }
}

pub fn transaction_report() -> ErrorReport {
    let message = "transaction blocks are not supported in statement mode";
    ErrorReport::error(SqlState::FEATURE_NOT_SUPPORTED, message).hint(HINT)
}

/// Whether a text has a BEGIN or START TRANSACTION in it.
pub fn begins_transaction(text: &[u8], dialect: sql::Dialect) -> bool {
    sql::may_have_effects(text, dialect)
        && sql::classify(text, dialect)
            .iter()
            .any(|effect| matches!(effect, Effect::Transaction(Transaction::Begin(_))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transaction_blocks_are_found_wherever_they_begin() {
        let begins = |text: &str| begins_transaction(text.as_bytes(), sql::Dialect::default());
        for text in ["begin", "BEGIN READ ONLY", "/* x */ start transaction;", "select 1; begin; commit"] {
            assert!(begins(text), "{text}");
        }
        for text in [
            "commit",
            "select 'begin'",
            "-- begin",
            "create function f() returns int begin atomic select 1; end",
        ] {
            assert!(!begins(text), "{text}");
        }
    }
}
