//! Messages that are nothing but transaction control: what a client without a server connection may be answered here.

use crate::relay;
use crate::sql::effect::{Effect, Transaction, TransactionModes};
use crate::sql::{self, Dialect};
use halephant_protocol::frame::{HEADER_BYTES, Header, parse_frontend_header};
use halephant_protocol::frontend::{Bind, Describe, Execute, Parse, Target, tag};

/// Longest message that is looked into; a BEGIN with all of its modes is shorter.
pub(super) const CONTROL_BYTES_MAX: usize = 1024;

/// A text that is nothing but transaction control.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Control {
    Begin { modes: TransactionModes, command_tag: &'static [u8] },
    Commit { chain: bool },
    Rollback { chain: bool },
}

impl Control {
    pub(super) fn read(text: &[u8], dialect: Dialect) -> Option<Self> {
        if !sql::may_have_effects(text, dialect) {
            return None;
        }
        let effects = sql::classify(text, dialect);
        let [statement] = effects.statements.as_slice() else { return None };
        match statement.effects.as_slice() {
            [Effect::Transaction(Transaction::Begin(modes))] => {
                let starts =
                    text.get(statement.span.start).is_some_and(|first| first.eq_ignore_ascii_case(&b's'));
                let command_tag: &[u8] = if starts { b"START TRANSACTION" } else { b"BEGIN" };
                Some(Self::Begin { modes: *modes, command_tag })
            }
            [Effect::Transaction(Transaction::Commit { chain })] => Some(Self::Commit { chain: *chain }),
            [Effect::Transaction(Transaction::Rollback { chain })] => Some(Self::Rollback { chain: *chain }),
            _ => None,
        }
    }
}

/// Whether a text may begin like one of them, by its first letters: each Query is asked.
pub(super) fn may_be_control(text: &[u8]) -> bool {
    let text = text.trim_ascii_start();
    match text {
        [first, second, ..] if first.is_ascii_alphabetic() => {
            let word = [first.to_ascii_lowercase(), second.to_ascii_lowercase()];
            [b"be", b"st", b"co", b"en", b"ro", b"ab"].contains(&&word)
        }
        // A comment, or nothing that this knows.
        _ => true,
    }
}

/// The text of a whole Query or Parse message at the front of `held`.
pub(super) fn text_of(held: &[u8], header: Header) -> Option<&[u8]> {
    relay::text_of(header.tag, held.get(HEADER_BYTES..header.frame_bytes())?)
}

/// One statement by the extended protocol, run to its end under no name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Batch<'a> {
    pub(super) query: &'a [u8],
    /// The Parse message from its query on.
    pub(super) definition: &'a [u8],
    /// The client asked what the portal returns.
    pub(super) described: bool,
    pub(super) bytes: usize,
}

/// Reads Parse, Bind, Execute and Sync, with a Describe of the portal among them or not, if all of them are there and short.
pub(super) fn read_batch(held: &[u8]) -> Option<Batch<'_>> {
    let mut rest = held.get(..held.len().min(CONTROL_BYTES_MAX))?;
    let mut next = |wanted: u8| -> Option<&[u8]> {
        let header = parse_frontend_header(rest).ok()??;
        let body = rest.get(HEADER_BYTES..header.frame_bytes()).filter(|_| header.tag == wanted)?;
        rest = rest.get(header.frame_bytes()..)?;
        Some(body)
    };
    let parsed = next(tag::PARSE)?;
    let parse = Parse::parse(parsed).ok()?;
    let bind = Bind::parse(next(tag::BIND)?).ok()?;
    let describe = next(tag::DESCRIBE).map(Describe::parse);
    let execute = Execute::parse(next(tag::EXECUTE)?).ok()?;
    next(tag::SYNC)?;
    let describes_portal = match &describe {
        None => true,
        Some(Ok(describe)) => describe.target == Target::Portal && describe.name.is_empty(),
        Some(Err(_)) => false,
    };
    let unnamed = parse.statement.is_empty() && bind.statement.is_empty() && bind.portal.is_empty();
    let plain =
        parse.parameter_types.is_empty() && bind.parameters.is_empty() && bind.parameter_formats.len() <= 1;
    (unnamed && plain && describes_portal && execute.portal.is_empty()).then(|| Batch {
        query: parse.query,
        definition: &parsed[1..],
        described: describe.is_some(),
        bytes: held.len().min(CONTROL_BYTES_MAX) - rest.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Control> {
        Control::read(text.as_bytes(), Dialect::default())
    }

    #[test]
    fn control_alone_is_told_from_everything_else() {
        let modes = TransactionModes::default();
        assert_eq!(read("BEGIN"), Some(Control::Begin { modes, command_tag: b"BEGIN" }));
        assert_eq!(read(" /* s */ begin work;"), Some(Control::Begin { modes, command_tag: b"BEGIN" }));
        assert!(matches!(
            read("-- b\nstart transaction isolation level serializable, read only"),
            Some(Control::Begin { command_tag: b"START TRANSACTION", .. })
        ));
        assert_eq!(read("END"), Some(Control::Commit { chain: false }));
        assert_eq!(read("commit and chain"), Some(Control::Commit { chain: true }));
        assert_eq!(read("abort transaction"), Some(Control::Rollback { chain: false }));
        for text in [
            "begin; select 1",
            "begin;;select 1",
            "begin isolation level",
            "rollback to a",
            "select 1",
            "",
            "commit prepared 'x'",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
        for text in
            ["BEGIN", "\n start transaction", "/**/begin", "--\nend", "\x0bCommit", "rollback", "ABORT"]
        {
            assert!(may_be_control(text.as_bytes()) && read(text).is_some(), "{text}");
        }
        assert!(!may_be_control(b"select 1") && !may_be_control(b" UPDATE t SET a = 1"));
    }
}
