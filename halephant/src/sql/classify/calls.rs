//! Finds what matters anywhere inside a statement: calls of functions that touch the session, and temporary names.

use super::set_config;
use crate::sql::cursor::Cursor;
use crate::sql::effect::{Effect, Scope, Sequence, SessionObject, Setting, Value};
use crate::sql::keywords::can_name_table;
use crate::sql::lexer::{Token, TokenKind};
use crate::sql::literal::Datum;

/// What to look for in a statement beside names in `pg_temp`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    /// Calls: not where the statement defines what runs later or never.
    pub(super) calls: bool,
    /// What is named in `pg_temp` may be what the statement makes.
    pub(super) creation: bool,
}

/// A statement that runs its expressions and makes nothing.
pub(super) const RUN: Look = Look { calls: true, creation: false };

/// Reads from `start` to the end of the statement.
pub(super) fn read<'a>(start: &Cursor<'a>, look: Look, out: &mut Vec<Effect<'a>>) {
    let mut scan = Scan { look, depth: 0, plain: None, writes: false, into: false };
    let mut cursor = start.clone();
    while let Some(token) = cursor.bump() {
        match token.kind {
            TokenKind::Word => {
                scan.key_word(token, &cursor, out);
                // Most words are neither called nor qualified, and this loop reads them all.
                if scan.writes || cursor.sees_symbol(b'(') || cursor.sees_symbol(b'.') {
                    scan.name(token, start, &mut cursor, out);
                }
            }
            TokenKind::QuotedName | TokenKind::UnicodeName => scan.name(token, start, &mut cursor, out),
            kind => scan.sign(kind),
        }
    }
}

struct Scan {
    look: Look,
    depth: usize,
    /// Whether the statement is a list of `set_config()` alone, once that was asked.
    plain: Option<bool>,
    /// Whether UPDATE or MERGE was read.
    writes: bool,
    /// After INTO, or the LOCAL or GLOBAL that may follow it.
    into: bool,
}

impl Scan {
    fn sign(&mut self, kind: TokenKind) {
        self.into = false;
        match kind {
            TokenKind::Symbol(b'(') => self.depth += 1,
            TokenKind::Symbol(b')') => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
    }

    /// A word that may be a key word; the cursor is after it.
    fn key_word<'a>(&mut self, token: Token, cursor: &Cursor<'a>, out: &mut Vec<Effect<'a>>) {
        let into = std::mem::take(&mut self.into);
        let is = |keyword| cursor.is(token, keyword);
        match cursor.text(token).first().map(u8::to_ascii_lowercase) {
            Some(b'u') if is("update") => self.writes = true,
            Some(b'm') if is("merge") => self.writes = true,
            Some(b'i') if is("into") => self.into = true,
            Some(b'l' | b'g') if into && (is("local") || is("global")) => self.into = true,
            Some(b't') if into && (is("temp") || is("temporary")) && makes_table(cursor.clone()) => {
                out.push(Effect::CreateTemporary { on_commit_drop: false });
            }
            _ => {}
        }
    }

    /// A name with the ones that its points join to it; the cursor is after its first one.
    fn name<'a>(
        &mut self,
        token: Token,
        start: &Cursor<'a>,
        cursor: &mut Cursor<'a>,
        out: &mut Vec<Effect<'a>>,
    ) {
        let mut schema = None;
        let mut name = Some(cursor.name_of(token));
        while cursor.symbol(b'.') {
            if name.as_ref().and_then(Datum::text).is_some_and(is_temporary_schema) {
                out.push(match self.look.creation {
                    true => Effect::CreateTemporary { on_commit_drop: false },
                    false => Effect::UseTemporary,
                });
            }
            schema = name;
            name = cursor.name();
        }
        let Some(name) = name.as_ref().and_then(Datum::text) else { return };
        if self.writes && name == b"pg_settings" {
            // The view's rule calls set_config() for each row.
            out.push(setting(Datum::Unknown));
        }
        if self.look.calls && cursor.sees_symbol(b'(') {
            let builtin = schema.is_none_or(|schema| schema.text() == Some(b"pg_catalog"));
            self.call(name, builtin, start, cursor, out);
        }
    }

    fn call<'a>(
        &mut self,
        name: &[u8],
        builtin: bool,
        start: &Cursor<'a>,
        cursor: &Cursor<'a>,
        out: &mut Vec<Effect<'a>>,
    ) {
        match name {
            b"set_config" if builtin => {
                let plain = *self.plain.get_or_insert_with(|| set_config::is_plain_list(start.clone()));
                set_config::read(cursor.clone(), plain && self.depth == 0, out);
            }
            b"pg_notify" if builtin => out.push(Effect::Notify(set_config::first_argument(cursor.clone()))),
            _ => out.extend(function(name, builtin)),
        }
    }
}

/// The effect of calling one of the functions that touch the session. Those of extensions may be in any schema.
fn function(name: &[u8], builtin: bool) -> Option<Effect<'static>> {
    match name {
        b"dblink_connect" | b"dblink_connect_u" => {
            Some(Effect::SessionObject(SessionObject::RemoteConnection))
        }
        b"set_limit" => Some(setting(Datum::borrowed(b"pg_trgm.similarity_threshold"))),
        _ if !builtin => None,
        b"pg_advisory_lock"
        | b"pg_advisory_lock_shared"
        | b"pg_try_advisory_lock"
        | b"pg_try_advisory_lock_shared" => Some(Effect::AdvisoryLock),
        b"pg_advisory_unlock" | b"pg_advisory_unlock_shared" => Some(Effect::AdvisoryUnlock { all: false }),
        b"pg_advisory_unlock_all" => Some(Effect::AdvisoryUnlock { all: true }),
        b"nextval" | b"setval" => Some(Effect::Sequence(Sequence::Advance)),
        b"currval" | b"lastval" => Some(Effect::Sequence(Sequence::Recall)),
        b"setseed" => Some(setting(Datum::borrowed(b"seed"))),
        b"pg_create_physical_replication_slot"
        | b"pg_create_logical_replication_slot"
        | b"pg_copy_physical_replication_slot"
        | b"pg_copy_logical_replication_slot" => Some(Effect::SessionObject(SessionObject::ReplicationSlot)),
        b"pg_replication_origin_session_setup" => {
            Some(Effect::SessionObject(SessionObject::ReplicationOrigin))
        }
        b"pg_backup_start" | b"pg_start_backup" => Some(Effect::SessionObject(SessionObject::Backup)),
        _ => None,
    }
}

/// A parameter of the session that is changed to what only the server computes, if at all.
fn setting(name: Datum<'_>) -> Effect<'_> {
    Effect::Setting(Setting { name, scope: Scope::Session, value: Value::Unknown, certain: false })
}

/// `pg_temp`, or what it stands for in this session: `pg_temp_3`.
fn is_temporary_schema(name: &[u8]) -> bool {
    name.starts_with(b"pg_temp") || name.starts_with(b"pg_toast_temp")
}

/// Whether INTO TEMP is that of a SELECT, which makes a table. As a table's own name, TEMP is followed by no other name
/// but in the three forms here; `INSERT INTO temp TABLE t` is taken for one that makes a table.
fn makes_table(mut cursor: Cursor) -> bool {
    if cursor.word("table") {
        return true;
    }
    if cursor.word("values") {
        return !cursor.sees_symbol(b'(');
    }
    if cursor.word("overriding") {
        return !cursor.sees_any(&["system", "user"]);
    }
    let names_table = match cursor.peek() {
        Some(token) if token.kind == TokenKind::Word => {
            can_name_table(&cursor.text(token).to_ascii_lowercase())
        }
        token => token.is_some_and(|token| token.is_name()),
    };
    cursor.name();
    // MERGE INTO temp t USING ...
    names_table && !cursor.sees("using")
}
