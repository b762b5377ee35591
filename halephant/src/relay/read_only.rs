//! What would make a session on a replica writable does not reach the server: it is refused in its place.
//!
//! The server has to see that something failed, or its transaction would go on while the client believes it aborted,
//! and a pipeline would get out of step. So the message is replaced by one that fails for sure, and the error that it
//! leads to is replaced by ours.

use super::Relay;
use crate::sql;
use crate::sql::effect::Effect;
use bytes::BytesMut;
use halephant_protocol::SqlState;
use halephant_protocol::backend::{self, ErrorReport};
use halephant_protocol::frame::{HEADER_BYTES, Header};
use halephant_protocol::frontend::{Parse, Query, tag};

pub const READ_ONLY_HINT: &str = "This session is routed to a replica, where nothing can be written. \
Begin the transaction READ WRITE, or connect as a user with connections to the primary.";

/// Not an integer, and not what anybody sends.
const MARK: &str = "halephant: read-write access on a replica";
/// Longest message that is looked into; a longer one is PostgreSQL's to refuse.
const CHECKED_BYTES_MAX: usize = 1 << 20;
/// No error of the mark's is longer.
const MARKED_BYTES_MAX: u32 = 8 * 1024;

#[derive(Debug, Default)]
pub(super) struct ReadOnly {
    /// The server connection leads to a replica.
    pub(super) enforced: bool,
    /// Size of the message that is next in the client's input and is to be replaced.
    refused: Option<usize>,
    /// Messages were replaced, so that errors are to be looked at.
    replaced: bool,
}

impl Relay<'_> {
    /// Looks into a message for a replica. `false`: more of it is needed first, or it is refused.
    pub(super) fn check_read_only(&mut self, header: Header, message: &[u8]) -> bool {
        if !matches!(header.tag, tag::QUERY | tag::PARSE) || header.frame_bytes() > CHECKED_BYTES_MAX {
            return true;
        }
        let Some(body) = message.get(HEADER_BYTES..header.frame_bytes()) else { return false };
        let mut strings = body.split(|&byte| byte == 0);
        if header.tag == tag::PARSE {
            strings.next();
        }
        let text = strings.next().unwrap_or_default();
        if !asks_for_writes(text, self.lease.connection().dialect()) {
            return true;
        }
        self.state.read_only.refused = Some(header.frame_bytes());
        false
    }

    /// The client's input begins with a message that [`replace_refused`](Self::replace_refused) is to replace.
    pub(super) fn has_refused(&self) -> bool {
        self.state.read_only.refused.is_some()
    }

    /// Sends what fails in place of a refused message at the front of `input`. Returns the size of the refused one.
    pub(super) fn replace_refused(&mut self, input: &[u8]) -> Option<usize> {
        let refused = self.state.read_only.refused.take()?;
        let header = input.first().copied()?;
        let name = input.get(HEADER_BYTES..refused)?.split(|&byte| byte == 0).next().unwrap_or_default();
        let query = format!("SELECT CAST('{MARK}' AS pg_catalog.int4)");
        let out = &mut self.state.to_server;
        let encoded = match header {
            tag::PARSE => {
                Parse { statement: name, query: query.as_bytes(), parameter_types: Default::default() }
                    .encode(out)
            }
            _ => Query { query: query.as_bytes() }.encode(out),
        };
        // Neither a name that the client could send nor our own text holds a NUL.
        encoded.ok()?;
        self.state.read_only.replaced = true;
        self.state.forwarded = true;
        self.state.tracker.client_message(header);
        self.lease.connection().busy = true;
        Some(refused)
    }

    /// Bytes of an ErrorResponse that must be there to know whether it is the answer to a replaced message.
    pub(super) fn refusal_bytes(&self, header: Header) -> u32 {
        let may_be = self.state.read_only.replaced && header.body_bytes <= MARKED_BYTES_MAX;
        if may_be { header.body_bytes } else { 0 }
    }

    /// `body`: as much as [`refusal_bytes`](Self::refusal_bytes) asks for.
    pub(super) fn is_refusal(&self, header: Header, body: &[u8]) -> bool {
        header.tag == backend::tag::ERROR_RESPONSE
            && !self.state.swallowing
            && self.refusal_bytes(header) > 0
            && memchr::memmem::find(body, MARK.as_bytes()).is_some()
    }
}

/// Whether a statement would make its transaction or session writable. Text that PostgreSQL would not understand either
/// is left to it.
fn asks_for_writes(text: &[u8], dialect: sql::Dialect) -> bool {
    sql::may_have_effects(text, dialect)
        && sql::classify(text, dialect).iter().any(|effect| {
            !matches!(effect, Effect::Unknown(_)) && effect.access().is_some_and(|change| change.may_write())
        })
}

pub(super) fn encode_refusal(out: &mut BytesMut) {
    ErrorReport::error(SqlState::READ_ONLY_SQL_TRANSACTION, "cannot make a session on a replica read-write")
        .hint(READ_ONLY_HINT)
        .encode_error(out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_makes_writable_is_refused() {
        let refused = |text: &str| asks_for_writes(text.as_bytes(), sql::Dialect::default());
        for text in [
            "begin read write",
            "BEGIN; set /* x */ transaction READ\nWRITE",
            "set session characteristics as transaction isolation level serializable, read write",
            "set default_transaction_read_only = off",
            "SET \"default_transaction_read_only\" TO 'f'",
            "select set_config('default_transaction_read_only', $1, false)",
            "select 1; set transaction_read_only = 0",
        ] {
            assert!(refused(text), "{text}");
        }
        for text in [
            "begin",
            "begin read only",
            "reset all",
            "select 'begin read write'",
            "-- begin read write",
            "select $$set default_transaction_read_only = off$$",
            "set default_transaction_read_only = on",
            "set search_path = x",
            "nonsense read write",
            "",
        ] {
            assert!(!refused(text), "{text}");
        }
    }
}
