//! EXPLAIN: whether it runs what it explains.

use super::{command, definition};
use crate::sql::cursor::Cursor;
use crate::sql::effect::{Effect, Unknown};

/// EXPLAIN, after that word.
pub(super) fn read<'a>(mut cursor: Cursor<'a>, out: &mut Vec<Effect<'a>>) {
    let analyze = if has_options(&cursor) {
        cursor.bump();
        options(&mut cursor)
    } else {
        let analyze = cursor.any_word(&["analyze", "analyse"]);
        cursor.word("verbose");
        Some(analyze)
    };
    match analyze {
        _ if cursor.sees("explain") => out.push(Effect::Unknown(Unknown::Form)),
        Some(true) => command::read(cursor, out),
        Some(false) => definition::planned(cursor, out),
        None => out.push(Effect::Unknown(Unknown::Form)),
    }
}

/// Whether a parenthesis opens a list of options and not a query.
fn has_options(cursor: &Cursor) -> bool {
    let mut ahead = cursor.clone();
    if !ahead.symbol(b'(') || ahead.sees_symbol(b'(') || ahead.sees_any(&["select", "with", "table"]) {
        return false;
    }
    // VALUES may name an option, as far as the grammar goes.
    !(ahead.word("values") && ahead.sees_symbol(b'('))
}

/// The options after their parenthesis, and whether ANALYZE is on at the end of them: the last one counts.
fn options(cursor: &mut Cursor) -> Option<bool> {
    let mut analyze = false;
    loop {
        let this = cursor.sees_any(&["analyze", "analyse"]);
        cursor.name()?;
        let on = if ends(cursor) { true } else { value(cursor)? };
        if this {
            analyze = on;
        }
        if cursor.symbol(b')') {
            return Some(analyze);
        }
        if !cursor.symbol(b',') {
            return None;
        }
    }
}

fn ends(cursor: &Cursor) -> bool {
    cursor.sees_symbol(b',') || cursor.sees_symbol(b')')
}

/// Whether an option is on; what the server will refuse counts as on.
fn value(cursor: &mut Cursor) -> Option<bool> {
    let number = cursor.number();
    let value = number.or_else(|| cursor.string()).or_else(|| cursor.name())?;
    let off = value
        .text()
        .is_some_and(|value| [&b"0"[..], b"off", b"false"].iter().any(|off| value.eq_ignore_ascii_case(off)));
    ends(cursor).then_some(!off)
}
