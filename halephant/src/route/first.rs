//! What the text that begins a transaction asks for.

use crate::sql::effect::{Effect, Effects, Statement, Transaction};
use crate::sql::{self, Dialect};

pub use crate::sql::access::AccessMode;

/// Whether the transaction that begins with `text` says that it is read-only (or that it is not); `None`: it does not
/// say, and the session's default holds.
pub fn first_statement(text: &[u8], dialect: Dialect) -> Option<AccessMode> {
    if !sql::may_have_effects(text, dialect) {
        return None;
    }
    let effects = sql::classify(text, dialect);
    if effects.access().any(|change| change.mode == AccessMode::ReadWrite) {
        // Also where it comes later in the text: a replica would refuse it.
        return Some(AccessMode::ReadWrite);
    }
    begins_read_only(&effects).then_some(AccessMode::ReadOnly)
}

/// Whether the text begins one transaction, says at once that it is read-only, and does nothing behind its end.
fn begins_read_only(effects: &Effects<'_>) -> bool {
    let mut statements = effects.statements.iter();
    let Some(Effect::Transaction(Transaction::Begin(modes))) = only(statements.next()) else { return false };
    let read_only = match modes.read_only {
        Some(read_only) => read_only,
        // `BEGIN; SET TRANSACTION READ ONLY` in one text is the same.
        None => match only(statements.next()) {
            Some(Effect::Transaction(Transaction::Set(modes))) => modes.read_only == Some(true),
            _ => false,
        },
    };
    let mut ended = false;
    let goes_on = statements.any(|statement| {
        let behind_the_end = ended;
        ended |= statement.effects.iter().any(ends_transaction);
        behind_the_end
    });
    read_only && !goes_on
}

fn only<'a, 'e>(statement: Option<&'e Statement<'a>>) -> Option<&'e Effect<'a>> {
    match statement?.effects.as_slice() {
        [effect] => Some(effect),
        _ => None,
    }
}

fn ends_transaction(effect: &Effect<'_>) -> bool {
    matches!(
        effect,
        Effect::Transaction(
            Transaction::Commit { .. } | Transaction::Rollback { .. } | Transaction::Prepare(_)
        )
    )
}
