//! The arguments of `set_config(name, value, is_local)`, where they are literals.

use super::setting;
use crate::sql::boolean;
use crate::sql::cursor::Cursor;
use crate::sql::effect::{Effect, Scope, Setting, Value};
use crate::sql::lexer::TokenKind;
use crate::sql::literal::Datum;

/// An argument of more tokens is not read to its end, which keeps nested calls linear.
const ARGUMENT_TOKENS_MAX: usize = 64;

/// A call whose opening parenthesis is next.
pub(super) fn read<'a>(mut cursor: Cursor<'a>, certain: bool, out: &mut Vec<Effect<'a>>) {
    cursor.bump();
    let call = arguments(&mut cursor);
    let (name, value, scope) = call.unwrap_or((Datum::Unknown, Value::Unknown, Scope::Unknown));
    setting::push(Setting { name: setting::canonical(name), scope, value, certain }, out);
}

fn arguments<'a>(cursor: &mut Cursor<'a>) -> Option<(Datum<'a>, Value<'a>, Scope)> {
    let name = argument(cursor, TEXT)?;
    let value = cursor.symbol(b',').then(|| argument(cursor, TEXT))??;
    let local = cursor.symbol(b',').then(|| argument(cursor, BOOLEAN))??;
    let scope = match &local {
        Datum::Null => Scope::Session,
        Datum::Text(text) => match boolean(text) {
            Some(true) => Scope::Local,
            Some(false) => Scope::Session,
            None => Scope::Unknown,
        },
        Datum::Parameter(_) | Datum::Unknown => Scope::Unknown,
    };
    cursor.sees_symbol(b')').then(|| (name, value.into(), scope))
}

/// The first argument of a call whose opening parenthesis is next.
pub(super) fn first_argument<'a>(mut cursor: Cursor<'a>) -> Datum<'a> {
    cursor.bump();
    argument(&mut cursor, TEXT).unwrap_or(Datum::Unknown)
}

const TEXT: &[&str] = &["text", "varchar"];
const BOOLEAN: &[&str] = &["bool", "boolean"];

/// One argument: a literal, perhaps cast to a type that leaves it what it is, or something unknown. `None` if its end was
/// not found, or if it is given by name.
fn argument<'a>(cursor: &mut Cursor<'a>, types: &[&str]) -> Option<Datum<'a>> {
    let mut ahead = cursor.clone();
    if let Some(literal) = literal(&mut ahead)
        && (!ahead.operator(b"::") || cast(&mut ahead, types))
        && ends(&ahead)
    {
        *cursor = ahead;
        return Some(literal);
    }
    let mut depth = 0usize;
    for _ in 0..ARGUMENT_TOKENS_MAX {
        if depth == 0 && ends(cursor) {
            return Some(Datum::Unknown);
        }
        let token = cursor.bump()?;
        match token.kind {
            TokenKind::Symbol(b'(' | b'[') => depth += 1,
            TokenKind::Symbol(b')' | b']') => depth = depth.checked_sub(1)?,
            TokenKind::Operator if depth == 0 && matches!(cursor.text(token), b"=>" | b":=") => return None,
            _ => {}
        }
    }
    None
}

fn ends(cursor: &Cursor) -> bool {
    cursor.sees_symbol(b',') || cursor.sees_symbol(b')')
}

fn literal<'a>(cursor: &mut Cursor<'a>) -> Option<Datum<'a>> {
    if let Some(string) = cursor.string() {
        return Some(string);
    }
    let token = cursor.bump()?;
    match token.kind {
        TokenKind::Parameter if token.flaw.is_none() => {
            let digits = std::str::from_utf8(cursor.text(token).get(1..)?).ok()?;
            Some(digits.parse().map_or(Datum::Unknown, Datum::Parameter))
        }
        TokenKind::Word if cursor.is(token, "null") => Some(Datum::Null),
        TokenKind::Word if cursor.is(token, "true") => Some(Datum::borrowed(b"true")),
        TokenKind::Word if cursor.is(token, "false") => Some(Datum::borrowed(b"false")),
        _ => None,
    }
}

/// A type's name after `::`, if it is one of these.
fn cast(cursor: &mut Cursor, types: &[&str]) -> bool {
    if cursor.word("pg_catalog") && !cursor.symbol(b'.') {
        return false;
    }
    cursor.any_word(types)
}

/// Whether a statement is `SELECT set_config(...) [, ...]` and nothing else, so that each call surely runs once.
pub(super) fn is_plain_list(mut cursor: Cursor) -> bool {
    if !cursor.word("select") {
        return false;
    }
    loop {
        if cursor.word("pg_catalog") && !cursor.symbol(b'.') {
            return false;
        }
        if !cursor.word("set_config") || !cursor.parentheses() {
            return false;
        }
        let named = cursor.word("as");
        if cursor.name().is_none() && named {
            return false;
        }
        if !cursor.symbol(b',') {
            return cursor.at_end();
        }
    }
}
