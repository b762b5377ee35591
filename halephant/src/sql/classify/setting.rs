//! SET and RESET: every form of the manual's page, and how a list of values becomes the parameter's text.

use super::modes;
use crate::sql::cursor::Cursor;
use crate::sql::effect::{Effect, Scope, Setting, Transaction, TransactionModes, Unknown, Value};
use crate::sql::keywords::quote_name;
use crate::sql::literal::Datum;
use std::borrow::Cow;

/// Parameters whose values are lists of names that the server quotes (GUC_LIST_QUOTE).
const QUOTED_LISTS: [&[u8]; 6] = [
    b"local_preload_libraries",
    b"search_path",
    b"session_preload_libraries",
    b"shared_preload_libraries",
    b"temp_tablespaces",
    b"unix_socket_directories",
];

/// SET, after that word.
pub(super) fn set<'a>(mut cursor: Cursor<'a>, out: &mut Vec<Effect<'a>>) {
    let mut scope = Scope::Session;
    if !is_named_value(&cursor) {
        if cursor.word("local") {
            scope = Scope::Local;
        } else if cursor.sees("session") && !starts_rest(&cursor) {
            cursor.bump();
        }
    }
    let before = out.len();
    if rest(cursor, scope, out).is_none() {
        out.truncate(before);
        out.push(Effect::Unknown(Unknown::Form));
    }
}

/// RESET, after that word.
pub(super) fn reset<'a>(mut cursor: Cursor<'a>, out: &mut Vec<Effect<'a>>) {
    let name = if cursor.words(&["time", "zone"]) {
        Some(Datum::borrowed(b"timezone"))
    } else if cursor.words(&["transaction", "isolation", "level"]) {
        Some(Datum::borrowed(b"transaction_isolation"))
    } else if cursor.words(&["session", "authorization"]) {
        Some(Datum::borrowed(b"session_authorization"))
    } else if cursor.word("all") {
        if cursor.at_end() {
            return out.push(Effect::ResetAll);
        }
        None
    } else {
        parameter(&mut cursor)
    };
    match name {
        Some(name) if cursor.at_end() => assign(name, Scope::Session, Value::Default, out),
        _ => out.push(Effect::Unknown(Unknown::Form)),
    }
}

/// Whether the next word is the name of a parameter, whatever else it may be: an assignment follows it.
fn is_named_value(cursor: &Cursor) -> bool {
    let mut ahead = cursor.clone();
    ahead.bump();
    ahead.sees_symbol(b'=') || ahead.sees_symbol(b'.') || ahead.sees_any(&["to", "from"])
}

/// Whether SESSION belongs to what is set, as in SET SESSION AUTHORIZATION.
fn starts_rest(cursor: &Cursor) -> bool {
    let mut ahead = cursor.clone();
    ahead.bump();
    if ahead.sees("characteristics") { !is_named_value(&ahead) } else { ahead.sees("authorization") }
}

/// What follows SET [SESSION | LOCAL]; `None` if it has no form of PostgreSQL's.
fn rest<'a>(mut cursor: Cursor<'a>, scope: Scope, out: &mut Vec<Effect<'a>>) -> Option<()> {
    if is_named_value(&cursor) {
        return assignment(cursor, scope, out);
    }
    if cursor.word("transaction") {
        if cursor.word("snapshot") {
            cursor.string()?;
            out.push(Effect::Transaction(Transaction::Snapshot));
        } else {
            out.push(Effect::Transaction(Transaction::Set(named_modes(&mut cursor)?)));
        }
    } else if cursor.words(&["session", "characteristics", "as", "transaction"]) {
        characteristics(named_modes(&mut cursor)?, scope, out);
    } else if cursor.words(&["session", "authorization"]) {
        let value = if cursor.word("default") { Value::Default } else { word_or_string(&mut cursor)?.into() };
        assign(Datum::borrowed(b"session_authorization"), scope, value, out);
    } else if cursor.words(&["time", "zone"]) {
        let value = time_zone(&mut cursor)?;
        assign(Datum::borrowed(b"timezone"), scope, value, out);
    } else if cursor.word("role") {
        let value = word_or_string(&mut cursor)?;
        assign(Datum::borrowed(b"role"), scope, value.into(), out);
    } else if cursor.word("names") {
        let value =
            if cursor.at_end() || cursor.word("default") { Value::Default } else { cursor.string()?.into() };
        assign(Datum::borrowed(b"client_encoding"), scope, value, out);
    } else if cursor.word("schema") {
        let Datum::Text(schema) = cursor.string()? else {
            assign(Datum::borrowed(b"search_path"), scope, Value::Unknown, out);
            return cursor.at_end().then_some(());
        };
        let mut path = Vec::new();
        quote_name(&schema, &mut path);
        assign(Datum::borrowed(b"search_path"), scope, Value::Text(Cow::Owned(path)), out);
    } else if cursor.words(&["xml", "option"]) {
        let value: &[u8] = if cursor.word("document") { b"DOCUMENT" } else { b"CONTENT" };
        if value == b"CONTENT" && !cursor.word("content") {
            return None;
        }
        assign(Datum::borrowed(b"xmloption"), scope, Value::Text(Cow::Borrowed(value)), out);
    } else if cursor.word("constraints") {
        // Of the current transaction alone, and of no session state.
        while cursor.bump().is_some() {}
    } else {
        return None;
    }
    cursor.at_end().then_some(())
}

fn named_modes(cursor: &mut Cursor) -> Option<TransactionModes> {
    modes::modes(cursor).filter(|modes| *modes != TransactionModes::default())
}

/// SET SESSION CHARACTERISTICS sets the defaults of later transactions.
fn characteristics(modes: TransactionModes, scope: Scope, out: &mut Vec<Effect<'_>>) {
    let switch = |on: bool| if on { &b"on"[..] } else { b"off" };
    let values = [
        (&b"default_transaction_isolation"[..], modes.isolation.map(|level| level.value().as_bytes())),
        (b"default_transaction_read_only", modes.read_only.map(switch)),
        (b"default_transaction_deferrable", modes.deferrable.map(switch)),
    ];
    for (name, value) in values {
        if let Some(value) = value {
            assign(Datum::borrowed(name), scope, Value::Text(Cow::Borrowed(value)), out);
        }
    }
}

/// `name { TO | = } { value [, ...] | DEFAULT }` or `name FROM CURRENT`
fn assignment<'a>(mut cursor: Cursor<'a>, scope: Scope, out: &mut Vec<Effect<'a>>) -> Option<()> {
    let name = parameter(&mut cursor)?;
    if cursor.words(&["from", "current"]) {
        assign(name, scope, Value::Unknown, out);
        return cursor.at_end().then_some(());
    }
    if !cursor.word("to") && !cursor.symbol(b'=') {
        return None;
    }
    let value = if cursor.word("default") { Value::Default } else { values(&mut cursor, &name)? };
    assign(name, scope, value, out);
    cursor.at_end().then_some(())
}

/// A parameter's name: compared without regard to case, quoted or not.
fn parameter<'a>(cursor: &mut Cursor<'a>) -> Option<Datum<'a>> {
    let mut name = cursor.name()?;
    while cursor.symbol(b'.') {
        name = match (name, cursor.name()?) {
            (Datum::Text(name), Datum::Text(part)) => {
                let mut joined = name.into_owned();
                joined.push(b'.');
                joined.extend_from_slice(&part);
                Datum::Text(Cow::Owned(joined))
            }
            _ => Datum::Unknown,
        };
    }
    Some(canonical(name))
}

/// The name that a parameter goes by, whatever its case; two have older names.
pub(super) fn canonical(name: Datum<'_>) -> Datum<'_> {
    let Datum::Text(name) = name else { return Datum::Unknown };
    let name =
        if name.iter().any(u8::is_ascii_uppercase) { Cow::Owned(name.to_ascii_lowercase()) } else { name };
    match name.as_ref() {
        b"sort_mem" => Datum::borrowed(b"work_mem"),
        b"vacuum_mem" => Datum::borrowed(b"maintenance_work_mem"),
        _ => Datum::Text(name),
    }
}

/// A list of values as one text. Lists of names are quoted by the server, so their elements are here.
fn values<'a>(cursor: &mut Cursor<'a>, name: &Datum<'a>) -> Option<Value<'a>> {
    let quoted = name.text().is_some_and(|name| QUOTED_LISTS.contains(&name));
    let first = value(cursor, quoted)?;
    if !cursor.sees_symbol(b',') {
        return Some(first.into());
    }
    let mut list = Vec::new();
    let mut known = append(first, &mut list);
    while cursor.symbol(b',') {
        list.extend_from_slice(b", ");
        known &= append(value(cursor, quoted)?, &mut list);
    }
    Some(if known { Value::Text(Cow::Owned(list)) } else { Value::Unknown })
}

fn append(element: Datum, list: &mut Vec<u8>) -> bool {
    let text = element.text();
    list.extend_from_slice(text.unwrap_or_default());
    text.is_some()
}

/// One value; words and strings are quoted if the parameter is a list of names.
fn value<'a>(cursor: &mut Cursor<'a>, quoted: bool) -> Option<Datum<'a>> {
    if let Some(number) = cursor.number() {
        return Some(number);
    }
    match word_or_string(cursor)? {
        Datum::Text(text) if quoted => {
            let mut name = Vec::with_capacity(text.len());
            quote_name(&text, &mut name);
            Some(Datum::Text(Cow::Owned(name)))
        }
        other => Some(other),
    }
}

fn word_or_string<'a>(cursor: &mut Cursor<'a>) -> Option<Datum<'a>> {
    match cursor.string() {
        Some(string) => Some(string),
        None => cursor.name(),
    }
}

/// What follows TIME ZONE. An interval becomes a text that only the server computes.
fn time_zone<'a>(cursor: &mut Cursor<'a>) -> Option<Value<'a>> {
    if cursor.any_word(&["default", "local"]) {
        return Some(Value::Default);
    }
    if cursor.sees("interval") {
        while cursor.bump().is_some() {}
        return Some(Value::Unknown);
    }
    value(cursor, false).map(Value::from)
}

fn assign<'a>(name: Datum<'a>, scope: Scope, value: Value<'a>, out: &mut Vec<Effect<'a>>) {
    // Whether the values are quoted depends on the name.
    let value = if name == Datum::Unknown && value != Value::Default { Value::Unknown } else { value };
    push(Setting { name, scope, value, certain: true }, out);
}

/// Appends a setting, and what it means for temporary names.
pub(super) fn push<'a>(setting: Setting<'a>, out: &mut Vec<Effect<'a>>) {
    let temporary = match &setting.value {
        Value::Text(path) => setting.name.text() == Some(b"search_path") && names_temporary(path),
        _ => false,
    };
    out.push(Effect::Setting(setting));
    if temporary {
        out.push(Effect::UseTemporary);
    }
}

/// Whether a search path names the session's temporary schema.
fn names_temporary(path: &[u8]) -> bool {
    path.windows(b"pg_temp".len()).any(|part| part.eq_ignore_ascii_case(b"pg_temp"))
}
