//! Transaction control: BEGIN to PREPARE TRANSACTION, and the list of transaction modes.

use crate::sql::cursor::Cursor;
use crate::sql::effect::{Effect, Isolation, Transaction, TransactionModes, Unknown};
use crate::sql::literal::Datum;

/// `[mode [[,] mode ...]]`; `None` if it is no such list up to its end.
pub(super) fn modes(cursor: &mut Cursor) -> Option<TransactionModes> {
    let mut modes = TransactionModes::default();
    while !cursor.at_end() {
        if cursor.words(&["read", "only"]) {
            modes.read_only = Some(true);
        } else if cursor.words(&["read", "write"]) {
            modes.read_only = Some(false);
        } else if cursor.words(&["isolation", "level"]) {
            modes.isolation = Some(isolation(cursor)?);
        } else if cursor.word("deferrable") {
            modes.deferrable = Some(true);
        } else if cursor.words(&["not", "deferrable"]) {
            modes.deferrable = Some(false);
        } else {
            return None;
        }
        if cursor.symbol(b',') && cursor.at_end() {
            return None;
        }
    }
    Some(modes)
}

fn isolation(cursor: &mut Cursor) -> Option<Isolation> {
    let levels = [
        (&["serializable"][..], Isolation::Serializable),
        (&["repeatable", "read"], Isolation::RepeatableRead),
        (&["read", "committed"], Isolation::ReadCommitted),
        (&["read", "uncommitted"], Isolation::ReadUncommitted),
    ];
    levels.into_iter().find(|(words, _)| cursor.words(words)).map(|(_, level)| level)
}

/// BEGIN or START TRANSACTION, after those words.
pub(super) fn begin<'a>(mut cursor: Cursor<'a>, out: &mut Vec<Effect<'a>>) {
    out.push(match modes(&mut cursor) {
        Some(modes) => Effect::Transaction(Transaction::Begin(modes)),
        None => Effect::Unknown(Unknown::Form),
    });
}

/// COMMIT or END, after that word.
pub(super) fn commit<'a>(mut cursor: Cursor<'a>, out: &mut Vec<Effect<'a>>) {
    if cursor.word("prepared") {
        return named(cursor, Cursor::string, Transaction::CommitPrepared, out);
    }
    cursor.any_word(&["work", "transaction"]);
    finish(chain(&mut cursor).map(|chain| Transaction::Commit { chain }), &cursor, out);
}

/// ROLLBACK or ABORT, after that word.
pub(super) fn rollback<'a>(mut cursor: Cursor<'a>, out: &mut Vec<Effect<'a>>) {
    if cursor.word("prepared") {
        return named(cursor, Cursor::string, Transaction::RollbackPrepared, out);
    }
    cursor.any_word(&["work", "transaction"]);
    if cursor.word("to") {
        return savepoint(cursor, Transaction::RollbackTo, out);
    }
    finish(chain(&mut cursor).map(|chain| Transaction::Rollback { chain }), &cursor, out);
}

/// `[SAVEPOINT] name`; the word alone is a name.
pub(super) fn savepoint<'a>(
    mut cursor: Cursor<'a>,
    make: fn(Datum<'a>) -> Transaction<'a>,
    out: &mut Vec<Effect<'a>>,
) {
    let mut ahead = cursor.clone();
    if ahead.word("savepoint") && !ahead.at_end() {
        cursor = ahead;
    }
    named(cursor, Cursor::name, make, out);
}

/// PREPARE TRANSACTION, after these words.
pub(super) fn prepare<'a>(cursor: Cursor<'a>, out: &mut Vec<Effect<'a>>) {
    named(cursor, Cursor::string, Transaction::Prepare, out);
}

/// `SAVEPOINT name`, after that word.
pub(super) fn define_savepoint<'a>(cursor: Cursor<'a>, out: &mut Vec<Effect<'a>>) {
    named(cursor, Cursor::name, Transaction::Savepoint, out);
}

fn named<'a>(
    mut cursor: Cursor<'a>,
    read: fn(&mut Cursor<'a>) -> Option<Datum<'a>>,
    make: fn(Datum<'a>) -> Transaction<'a>,
    out: &mut Vec<Effect<'a>>,
) {
    let name = read(&mut cursor);
    finish(name.map(make), &cursor, out);
}

/// `[AND [NO] CHAIN]`
fn chain(cursor: &mut Cursor) -> Option<bool> {
    if cursor.at_end() || cursor.words(&["and", "no", "chain"]) {
        Some(false)
    } else if cursor.words(&["and", "chain"]) {
        Some(true)
    } else {
        None
    }
}

fn finish<'a>(transaction: Option<Transaction<'a>>, cursor: &Cursor<'a>, out: &mut Vec<Effect<'a>>) {
    out.push(match transaction {
        Some(transaction) if cursor.at_end() => Effect::Transaction(transaction),
        _ => Effect::Unknown(Unknown::Form),
    });
}
