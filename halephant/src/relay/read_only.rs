//! What would make a session on a replica writable does not reach the server.

use super::Relay;
use super::inspect::{INSPECTED_BYTES_MAX, text_of};
use super::refuse::Reason;
use crate::sql;
use crate::sql::effect::Effect;
use halephant_protocol::SqlState;
use halephant_protocol::backend::ErrorReport;
use halephant_protocol::frame::{HEADER_BYTES, Header};
use halephant_protocol::frontend::tag;

pub const READ_ONLY_HINT: &str = "This session is routed to a replica, where nothing can be written. \
Begin the transaction READ WRITE, or connect as a user with connections to the primary.";

#[derive(Debug, Default)]
pub(super) struct ReadOnly {
    /// The server connection leads to a replica.
    pub(super) enforced: bool,
}

impl Relay<'_> {
    /// Looks into a message for a replica. `false`: more of it is needed first, or it is refused.
    pub(super) fn check_read_only(&mut self, header: Header, message: &[u8]) -> bool {
        if !matches!(header.tag, tag::QUERY | tag::PARSE) || header.frame_bytes() > INSPECTED_BYTES_MAX {
            // A longer one is PostgreSQL's to refuse.
            return true;
        }
        let Some(body) = message.get(HEADER_BYTES..header.frame_bytes()) else { return false };
        let text = text_of(header.tag, body).unwrap_or_default();
        if !asks_for_writes(text, self.lease.connection().dialect()) {
            return true;
        }
        self.refuse_next(header.frame_bytes(), Reason::ReadOnly);
        false
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

pub(super) fn report() -> ErrorReport {
    ErrorReport::error(SqlState::READ_ONLY_SQL_TRANSACTION, "cannot make a session on a replica read-write")
        .hint(READ_ONLY_HINT)
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
