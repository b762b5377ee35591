//! A short name for what a text does, for `db.query.summary`: its operations and the names of their targets, in order.

mod target;

use super::Dialect;
use super::cursor::Cursor;
use super::lexer::TokenKind;
use target::Targets;

/// The length that OpenTelemetry's conventions set.
pub const SUMMARY_BYTES_MAX: usize = 255;

/// Commands that say enough by their name.
const COMMANDS: &[&str] = &[
    "ABORT",
    "ANALYSE",
    "ANALYZE",
    "BEGIN",
    "CHECKPOINT",
    "CLOSE",
    "CLUSTER",
    "COMMENT",
    "COMMIT",
    "DEALLOCATE",
    "DECLARE",
    "DISCARD",
    "DO",
    "END",
    "EXPLAIN",
    "FETCH",
    "GRANT",
    "IMPORT",
    "LISTEN",
    "LOAD",
    "MOVE",
    "NOTIFY",
    "PREPARE",
    "REASSIGN",
    "REINDEX",
    "RELEASE",
    "RESET",
    "REVOKE",
    "ROLLBACK",
    "SAVEPOINT",
    "SECURITY",
    "SET",
    "SHOW",
    "START",
    "UNLISTEN",
    "VACUUM",
    "VALUES",
    "WITH",
];

/// Commands that name what they work on next.
const TARGETED: &[&str] = &["CALL", "COPY", "EXECUTE", "LOCK", "REFRESH", "TABLE", "TRUNCATE"];

/// Commands on objects of a kind that they name.
const DEFINING: &[&str] = &["ALTER", "CREATE", "DROP"];

/// Commands that may also be a part of another one.
const NESTED: &[&str] = &["DELETE", "INSERT", "MERGE", "SELECT", "UPDATE"];

/// Kinds of objects; a command's own words may come before them.
const KINDS: &[&str] = &[
    "AGGREGATE",
    "CAST",
    "COLLATION",
    "CONVERSION",
    "DATABASE",
    "DOMAIN",
    "EXTENSION",
    "FUNCTION",
    "GROUP",
    "INDEX",
    "LANGUAGE",
    "OPERATOR",
    "POLICY",
    "PROCEDURE",
    "PUBLICATION",
    "ROLE",
    "ROUTINE",
    "RULE",
    "SCHEMA",
    "SEQUENCE",
    "SERVER",
    "STATISTICS",
    "SUBSCRIPTION",
    "TABLE",
    "TABLESPACE",
    "TRIGGER",
    "TYPE",
    "USER",
    "VIEW",
];

/// Words between a defining command and the kind.
const KIND_MODIFIERS: &[&str] = &[
    "or",
    "replace",
    "temp",
    "temporary",
    "local",
    "global",
    "unlogged",
    "unique",
    "recursive",
    "materialized",
    "foreign",
    "constraint",
    "event",
    "default",
    "trusted",
    "procedural",
];

/// The summary of a text, of at most [`SUMMARY_BYTES_MAX`] bytes and whole words; it holds no literal and no comment.
#[must_use]
pub fn summary(text: &[u8], dialect: Dialect) -> String {
    let mut summary = Summary { out: String::new(), full: false };
    if dialect.can_lex(text) {
        summary.read(Cursor::new(text, dialect));
    }
    summary.out
}

struct Summary {
    out: String,
    full: bool,
}

impl Summary {
    fn read(&mut self, mut cursor: Cursor) {
        let mut targets = Targets::default();
        let mut starts = true;
        let mut nested = true;
        while let Some(token) = cursor.peek().filter(|_| !self.full) {
            if token.kind == TokenKind::Symbol(b';') {
                cursor.bump();
                targets = Targets::default();
                (starts, nested) = (true, true);
                continue;
            }
            let command = starts && self.command(&mut cursor, &mut targets);
            starts = false;
            let read = command
                || nested && self.nested(&mut cursor, &mut targets)
                || targets.step(&mut cursor, self);
            if !read {
                cursor.bump();
            }
            nested = allows_nested(&cursor, token);
        }
    }

    /// The command that begins a statement.
    fn command(&mut self, cursor: &mut Cursor, targets: &mut Targets) -> bool {
        if let Some(command) = take(cursor, COMMANDS) {
            self.push(command);
        } else if let Some(command) = take(cursor, TARGETED) {
            self.push(command);
            targets.expect_list();
        } else if let Some(command) = take(cursor, DEFINING) {
            self.push(command);
            while cursor.any_word(KIND_MODIFIERS) {}
            if let Some(kind) = take(cursor, KINDS) {
                self.push(kind);
                targets.expect();
            }
        } else {
            return false;
        }
        true
    }

    /// A command that may be inside another one.
    fn nested(&mut self, cursor: &mut Cursor, targets: &mut Targets) -> bool {
        let Some(command) = take(cursor, NESTED) else { return false };
        self.push(command);
        targets.begin_query();
        if command == "UPDATE" {
            targets.expect();
        }
        true
    }

    /// Appends a word, if it fits; nothing comes after one that does not.
    fn push(&mut self, word: &str) {
        let separator = usize::from(!self.out.is_empty());
        if self.full || self.out.len() + separator + word.len() > SUMMARY_BYTES_MAX {
            self.full = true;
            return;
        }
        if separator > 0 {
            self.out.push(' ');
        }
        self.out.push_str(word);
    }
}

fn take(cursor: &mut Cursor, words: &'static [&'static str]) -> Option<&'static str> {
    words.iter().find(|word| cursor.word(word)).copied()
}

/// Whether a command may follow this token, which the cursor has just stepped over, at least.
fn allows_nested(cursor: &Cursor, token: super::lexer::Token) -> bool {
    match token.kind {
        TokenKind::Symbol(byte) => matches!(byte, b'(' | b')'),
        TokenKind::Word => {
            // SELECT is reserved, so it is a command wherever it is.
            cursor.sees("select")
                || ["as", "explain", "analyze", "analyse", "verbose"]
                    .iter()
                    .any(|word| cursor.is(token, word))
        }
        _ => cursor.sees("select"),
    }
}
