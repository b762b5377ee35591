//! Reads each statement of a text for what it does to the session.

mod calls;
mod command;
mod definition;
mod explain;
mod modes;
mod set_config;
mod setting;
#[cfg(test)]
mod tests;

use super::Dialect;
use super::cursor::Cursor;
use super::effect::{Effect, Effects, Statement, Unknown};
use super::statements::Statements;

/// What the statements of a text do to the session. The server reads all of a text before it runs any of it, so one dialect
/// holds for all.
///
/// Time is linear in the text, and so is memory: each statement and effect of a few bytes of text takes over a hundred. The
/// caller bounds the text.
#[must_use]
pub fn classify(text: &[u8], dialect: Dialect) -> Effects<'_> {
    if !dialect.can_lex(text) {
        let effects = vec![Effect::Unknown(Unknown::Encoding)];
        return Effects { statements: vec![Statement { span: 0..text.len(), effects }] };
    }
    let statements = Statements::new(text, dialect).map(|span| {
        let mut effects = Vec::new();
        if let Some(statement) = text.get(span.clone()) {
            command::read(Cursor::new(statement, dialect), &mut effects);
        }
        Statement { span, effects }
    });
    Effects { statements: statements.collect() }
}
