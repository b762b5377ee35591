//! The command that a statement is, by its first words.

use super::calls::{self, RUN};
use super::{definition, explain, modes, setting};
use crate::sql::cursor::Cursor;
use crate::sql::effect::{CopyDirection, Discard, Effect, Opaque, Transaction, Unknown};
use crate::sql::lexer::TokenKind;

/// The longest first word of a command.
const COMMAND_BYTES_MAX: usize = 10;

/// Appends what a statement does; the cursor is at its first word.
pub(super) fn read<'a>(mut cursor: Cursor<'a>, out: &mut Vec<Effect<'a>>) {
    let start = cursor.clone();
    let Some(first) = cursor.bump() else { return };
    let mut word = [0; COMMAND_BYTES_MAX];
    let word = match first.kind {
        TokenKind::Symbol(b'(') => "select",
        TokenKind::Word => lower_case(cursor.text(first), &mut word).unwrap_or_default(),
        _ => "",
    };
    match word {
        "begin" => {
            cursor.any_word(&["work", "transaction"]);
            modes::begin(cursor, out);
        }
        "start" if cursor.word("transaction") => modes::begin(cursor, out),
        "commit" | "end" => modes::commit(cursor, out),
        "rollback" | "abort" => modes::rollback(cursor, out),
        "savepoint" => modes::define_savepoint(cursor, out),
        "release" => modes::savepoint(cursor, Transaction::Release, out),
        "set" => setting::set(cursor, out),
        "reset" => setting::reset(cursor, out),
        "discard" => out.push(discard(cursor)),
        "listen" => out.push(listen(cursor)),
        "unlisten" => out.push(unlisten(cursor)),
        "notify" => out.push(notify(cursor)),
        "prepare" => definition::prepare(cursor, out),
        "execute" => definition::execute(cursor, out),
        "deallocate" => out.push(definition::deallocate(cursor)),
        "declare" => definition::declare(cursor, out),
        "close" => out.push(definition::close(cursor)),
        "load" => out.push(Effect::Load),
        "create" => definition::create(cursor, out),
        "copy" => copy(cursor, out),
        "explain" => explain::read(cursor, out),
        "do" => out.push(Effect::Opaque(Opaque::Do)),
        "call" => {
            out.push(Effect::Opaque(Opaque::Call));
            calls::read(&cursor, RUN, out);
        }
        "select" | "insert" | "update" | "delete" | "merge" | "values" | "table" | "with" => {
            calls::read(&start, RUN, out);
        }
        "alter" | "analyse" | "analyze" | "checkpoint" | "cluster" | "comment" | "drop" | "fetch"
        | "grant" | "import" | "lock" | "move" | "reassign" | "refresh" | "reindex" | "repack" | "revoke"
        | "security" | "show" | "truncate" | "vacuum" | "wait" => calls::read(&start, RUN, out),
        "start" => out.push(Effect::Unknown(Unknown::Form)),
        _ => out.push(Effect::Unknown(Unknown::Command)),
    }
}

fn lower_case<'b>(word: &[u8], buffer: &'b mut [u8; COMMAND_BYTES_MAX]) -> Option<&'b str> {
    let lower = buffer.get_mut(..word.len())?;
    lower.copy_from_slice(word);
    lower.make_ascii_lowercase();
    std::str::from_utf8(lower).ok()
}

fn at_end_or_unknown<'a>(effect: Option<Effect<'a>>, cursor: &Cursor<'a>) -> Effect<'a> {
    effect.filter(|_| cursor.at_end()).unwrap_or(Effect::Unknown(Unknown::Form))
}

fn discard<'a>(mut cursor: Cursor<'a>) -> Effect<'a> {
    let what = [
        ("all", Discard::All),
        ("plans", Discard::Plans),
        ("sequences", Discard::Sequences),
        ("temp", Discard::Temporary),
        ("temporary", Discard::Temporary),
    ];
    let found = what.into_iter().find(|(word, _)| cursor.word(word));
    at_end_or_unknown(found.map(|(_, discard)| Effect::Discard(discard)), &cursor)
}

fn listen<'a>(mut cursor: Cursor<'a>) -> Effect<'a> {
    let channel = cursor.name();
    at_end_or_unknown(channel.map(Effect::Listen), &cursor)
}

fn unlisten<'a>(mut cursor: Cursor<'a>) -> Effect<'a> {
    let channel = if cursor.symbol(b'*') { Some(None) } else { cursor.name().map(Some) };
    at_end_or_unknown(channel.map(Effect::Unlisten), &cursor)
}

fn notify<'a>(mut cursor: Cursor<'a>) -> Effect<'a> {
    let channel = cursor.name();
    let payload = !cursor.symbol(b',') || cursor.string().is_some();
    at_end_or_unknown(channel.filter(|_| payload).map(Effect::Notify), &cursor)
}

/// COPY, after that word. The target is a name or a query in parentheses, so the first FROM or TO outside of
/// parentheses is the direction: both are reserved words.
fn copy<'a>(mut cursor: Cursor<'a>, out: &mut Vec<Effect<'a>>) {
    calls::read(&cursor, RUN, out);
    let direction = loop {
        if cursor.word("from") {
            break Some(CopyDirection::In);
        } else if cursor.word("to") {
            break Some(CopyDirection::Out);
        } else if !cursor.parentheses() && cursor.bump().is_none() {
            break None;
        }
    };
    out.push(match direction {
        Some(direction) => Effect::Copy { direction, client: cursor.any_word(&["stdin", "stdout"]) },
        None => Effect::Unknown(Unknown::Form),
    });
}
