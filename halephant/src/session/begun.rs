//! A transaction block that its client has begun and that no server knows of: BEGIN alone is answered here, and sent
//! ahead of the first statement that needs a server connection. What a client thinks about meanwhile costs nobody one.

use super::Session;
use crate::cancel::ClientState;
use crate::pool::settings::PoolMode;
use crate::relay::Phase;
use crate::sql::effect::{Effect, Transaction, TransactionModes};
use crate::sql::{self, Dialect};
use bytes::BytesMut;
use halephant_protocol::SqlState;
use halephant_protocol::backend::{CommandComplete, ErrorReport, ReadyForQuery, TransactionStatus};
use halephant_protocol::frame::{HEADER_BYTES, Header};
use halephant_protocol::frontend::tag;

/// Longest Query that is looked into; a BEGIN with all of its modes is shorter.
const CONTROL_BYTES_MAX: usize = 1024;

/// What a client without a server connection believes to be in.
#[derive(Debug, Default)]
pub(super) enum Begun {
    #[default]
    Nothing,
    /// A transaction block; the text that began it.
    Open(Box<[u8]>),
    /// One that failed before a server knew of it: everything up to its end is refused, as PostgreSQL does.
    Failed(Box<[u8]>),
}

impl Begun {
    pub(super) fn status(&self) -> TransactionStatus {
        match self {
            Self::Nothing => TransactionStatus::Idle,
            Self::Open(_) => TransactionStatus::InTransaction,
            Self::Failed(_) => TransactionStatus::Failed,
        }
    }

    pub(super) fn phase(&self) -> Phase {
        match self {
            Self::Nothing => Phase::Idle,
            Self::Open(_) | Self::Failed(_) => Phase::IdleInTransaction,
        }
    }

    pub(super) fn is_failed(&self) -> bool {
        matches!(self, Self::Failed(_))
    }

    /// A message in it was answered with an error.
    pub(super) fn fail(&mut self) {
        if let Self::Open(text) = self {
            *self = Self::Failed(std::mem::take(text));
        }
    }
}

/// A text that is nothing but transaction control.
#[derive(Debug, PartialEq, Eq)]
enum Control {
    Begin { modes: TransactionModes, command_tag: &'static [u8] },
    Commit { chain: bool },
    Rollback { chain: bool },
}

impl Control {
    fn read(text: &[u8], dialect: Dialect) -> Option<Self> {
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

impl Session {
    fn defers_begin(&self) -> bool {
        let settings = self.pool.settings();
        // Who listens has its transactions followed from their beginning.
        settings.defer_begin && settings.mode == PoolMode::Transaction && self.client.listening.is_none()
    }

    /// Whether more of the message at the front has to be read before it is known whether it is answered here.
    pub(super) fn control_needs_more(&self, header: Header) -> bool {
        let size = header.frame_bytes();
        self.may_be_control(header) && self.client.held.len() < size
    }

    fn may_be_control(&self, header: Header) -> bool {
        let text = header.tag == tag::QUERY || (header.tag == tag::PARSE && self.begun.is_failed());
        text && self.defers_begin() && header.frame_bytes() <= CONTROL_BYTES_MAX
    }

    fn control(&self, header: Header) -> Option<Control> {
        if !self.may_be_control(header) {
            return None;
        }
        let body = self.client.held.get(HEADER_BYTES..header.frame_bytes())?;
        let mut strings = body.split(|&byte| byte == 0);
        if header.tag == tag::PARSE {
            strings.next();
        }
        Control::read(strings.next()?, self.client.known.dialect())
    }

    /// Answers the Query at the front if it begins a transaction block, or ends one that no server knows of.
    pub(super) fn answer_control(&mut self, header: Header) -> bool {
        if header.tag != tag::QUERY {
            return false;
        }
        let Some(control) = self.control(header) else { return false };
        let command_tag = match (&mut self.begun, control) {
            (Begun::Nothing, Control::Begin { modes, command_tag }) => {
                // Refused where the replica is: in its own words.
                if modes.read_only == Some(false) && self.access.is_read_only() {
                    return false;
                }
                let Some(text) = self.query_text(header) else { return false };
                self.begun = Begun::Open(text);
                command_tag
            }
            (Begun::Open(_), Control::Commit { chain: false }) => {
                self.begun = Begun::Nothing;
                b"COMMIT"
            }
            (Begun::Open(_) | Begun::Failed(_), Control::Rollback { chain: false })
            | (Begun::Failed(_), Control::Commit { chain: false }) => {
                self.begun = Begun::Nothing;
                b"ROLLBACK"
            }
            (Begun::Failed(text), Control::Commit { .. } | Control::Rollback { .. }) => {
                self.begun = Begun::Open(std::mem::take(text));
                b"ROLLBACK"
            }
            // A warning, an error, or a new block with the old one's modes: for the server to say.
            _ => return false,
        };
        // A Query takes the unnamed statement away.
        self.client.statements.drop_unnamed();
        let _ = CommandComplete { command_tag }.encode(&mut self.client.out);
        let status = self.begun.status();
        ReadyForQuery { status }.encode(&mut self.client.out);
        self.registration.client().set_state(match status {
            TransactionStatus::Idle => ClientState::Idle,
            _ => ClientState::IdleInTransaction,
        });
        true
    }

    fn query_text(&self, header: Header) -> Option<Box<[u8]>> {
        let body = self.client.held.get(HEADER_BYTES..header.frame_bytes())?;
        body.strip_suffix(b"\0").filter(|text| !text.contains(&0)).map(Box::from)
    }

    /// In a block that failed here: refuses the message at the front. `false`: a ROLLBACK by the extended protocol, which a
    /// server carries out, to the same end.
    pub(super) fn refuse_in_failed(&mut self, header: Header) -> bool {
        if header.tag == tag::PARSE
            && let Some(Control::Rollback { chain: false }) = self.control(header)
        {
            self.begun = Begun::Nothing;
            return false;
        }
        self.refuse_message(&ErrorReport::error(
            SqlState::IN_FAILED_SQL_TRANSACTION,
            "current transaction is aborted, commands ignored until end of transaction block",
        ));
        true
    }

    /// The server refused the BEGIN that was answered here: its error is the answer to the statement behind it.
    pub(super) fn begin_refused(&mut self, begun: Begun, error: &BytesMut) {
        self.begun = begun;
        self.begun.fail();
        self.refuse_encoded(error);
    }
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
    }
}
