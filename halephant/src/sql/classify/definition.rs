//! Commands that name something the session or its temporary schema keeps: prepared statements, cursors, temporary tables.

use super::calls::{self, Look, RUN};
use crate::sql::cursor::Cursor;
use crate::sql::effect::{Effect, Unknown};
use crate::sql::lexer::TokenKind;
use crate::sql::literal::Datum;

/// PREPARE, after that word: of a statement, or of a transaction, which a string follows.
pub(super) fn prepare<'a>(mut cursor: Cursor<'a>, out: &mut Vec<Effect<'a>>) {
    let mut ahead = cursor.clone();
    if ahead.word("transaction") && ahead.peek().is_some_and(|token| token.is_string()) {
        return super::modes::prepare(ahead, out);
    }
    let name = cursor.name();
    cursor.parentheses();
    let mut body = Vec::new();
    match name {
        Some(name) if cursor.word("as") && is_query(&cursor) => {
            calls::read(&cursor, RUN, &mut body);
            out.push(Effect::Prepare { name, body });
        }
        _ => out.push(Effect::Unknown(Unknown::Form)),
    }
}

fn is_query(cursor: &Cursor) -> bool {
    cursor.sees_symbol(b'(')
        || cursor.sees_any(&["select", "insert", "update", "delete", "merge", "values", "table", "with"])
}

/// EXECUTE, after that word; its arguments are expressions.
pub(super) fn execute<'a>(mut cursor: Cursor<'a>, out: &mut Vec<Effect<'a>>) {
    match cursor.name() {
        Some(name) => {
            out.push(Effect::Execute(name));
            calls::read(&cursor, RUN, out);
        }
        None => out.push(Effect::Unknown(Unknown::Form)),
    }
}

/// DEALLOCATE, after that word.
pub(super) fn deallocate<'a>(mut cursor: Cursor<'a>) -> Effect<'a> {
    let mut ahead = cursor.clone();
    if ahead.word("prepare") && !ahead.at_end() {
        cursor = ahead;
    }
    one_or_all(cursor).map_or(Effect::Unknown(Unknown::Form), Effect::Deallocate)
}

/// CLOSE, after that word.
pub(super) fn close<'a>(cursor: Cursor<'a>) -> Effect<'a> {
    one_or_all(cursor).map_or(Effect::Unknown(Unknown::Form), Effect::CloseCursor)
}

fn one_or_all<'a>(mut cursor: Cursor<'a>) -> Option<Option<Datum<'a>>> {
    let name = if cursor.word("all") { None } else { Some(cursor.name()?) };
    cursor.at_end().then_some(name)
}

/// DECLARE, after that word. The query runs when rows are fetched.
pub(super) fn declare<'a>(mut cursor: Cursor<'a>, out: &mut Vec<Effect<'a>>) {
    let name = cursor.name();
    while cursor.any_word(&["binary", "insensitive", "asensitive", "no", "scroll"]) {}
    let cursor_follows = cursor.word("cursor");
    let hold = cursor.words(&["with", "hold"]);
    if !hold {
        cursor.words(&["without", "hold"]);
    }
    match name {
        Some(name) if cursor_follows && cursor.word("for") => {
            out.push(Effect::DeclareCursor { name, hold });
            calls::read(&cursor, RUN, out);
            for effect in out {
                if let Effect::Setting(setting) = effect {
                    setting.certain = false;
                }
            }
        }
        _ => out.push(Effect::Unknown(Unknown::Form)),
    }
}

/// CREATE, after that word.
pub(super) fn create<'a>(mut cursor: Cursor<'a>, out: &mut Vec<Effect<'a>>) {
    cursor.words(&["or", "replace"]);
    cursor.any_word(&["local", "global"]);
    if cursor.any_word(&["temp", "temporary"]) {
        out.push(Effect::CreateTemporary { on_commit_drop: drops_on_commit(cursor.clone()) });
    }
    let calls = !defines_code(cursor.clone());
    if calls {
        out.extend(executed(cursor.clone()));
    }
    calls::read(&cursor, Look { calls, creation: true }, out);
}

/// Whether what is created holds expressions that do not run now.
fn defines_code(mut cursor: Cursor) -> bool {
    cursor.any_word(&["recursive", "constraint", "event"]);
    cursor.sees_any(&["function", "procedure", "view", "rule", "trigger", "policy"])
}

/// `ON COMMIT DROP`, outside of parentheses.
fn drops_on_commit(mut cursor: Cursor) -> bool {
    while !cursor.at_end() {
        if cursor.words(&["on", "commit", "drop"]) {
            return true;
        }
        if !cursor.parentheses() {
            cursor.bump();
        }
    }
    false
}

/// The statement that CREATE TABLE AS EXECUTE runs.
pub(super) fn executed<'a>(mut cursor: Cursor<'a>) -> Option<Effect<'a>> {
    while !cursor.at_end() {
        if cursor.words(&["as", "execute"]) {
            return cursor.name().map(Effect::Execute);
        }
        if !cursor.parentheses() {
            cursor.bump();
        }
    }
    None
}

/// A statement that is planned and not run: it needs what it names.
pub(super) fn planned<'a>(mut cursor: Cursor<'a>, out: &mut Vec<Effect<'a>>) {
    if cursor.word("execute") {
        out.push(cursor.name().map_or(Effect::Unknown(Unknown::Form), Effect::Execute));
    } else if cursor.sees("create") {
        out.extend(executed(cursor.clone()));
    } else if cursor
        .peek()
        .is_none_or(|token| !matches!(token.kind, TokenKind::Word | TokenKind::Symbol(b'(')))
    {
        out.push(Effect::Unknown(Unknown::Form));
    }
    calls::read(&cursor, Look { calls: false, creation: false }, out);
}
