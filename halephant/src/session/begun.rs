//! A transaction block that its client has begun and that no server knows of: BEGIN alone is answered here, and sent
//! ahead of the first statement that needs a server connection. What a client thinks about meanwhile costs nobody one.

use super::Session;
use super::control::{CONTROL_BYTES_MAX, Control, may_be_control, read_batch, text_of};
use crate::cancel::ClientState;
use crate::pool::settings::PoolMode;
use crate::relay::{Ahead, Phase};
use crate::sql;
use crate::sql::effect::{Effect, Transaction, Unknown};
use bytes::BytesMut;
use halephant_protocol::SqlState;
use halephant_protocol::backend::{self, CommandComplete, ErrorReport, ReadyForQuery, TransactionStatus};
use halephant_protocol::frame::{HEADER_BYTES, Header};
use halephant_protocol::frontend::tag;

/// Longest first statement of a block that is read before it is sent: the BEGIN goes with it then.
const FIRST_BYTES_MAX: usize = 64 * 1024;

/// What a client without a server connection believes to be in.
#[derive(Debug, Default)]
pub(super) enum Begun {
    #[default]
    Nothing,
    /// A transaction block; the text that began it, and whether in the unnamed portal.
    Open { text: Box<[u8]>, has_portal: bool },
    /// One that failed before a server knew of it: everything up to its end is refused, as PostgreSQL does.
    Failed,
}

impl Begun {
    pub(super) fn status(&self) -> TransactionStatus {
        match self {
            Self::Nothing => TransactionStatus::Idle,
            Self::Open { .. } => TransactionStatus::InTransaction,
            Self::Failed => TransactionStatus::Failed,
        }
    }

    pub(super) fn phase(&self) -> Phase {
        match self {
            Self::Nothing => Phase::Idle,
            Self::Open { .. } | Self::Failed => Phase::IdleInTransaction,
        }
    }

    pub(super) fn client_state(&self) -> ClientState {
        match self {
            Self::Nothing => ClientState::Idle,
            Self::Open { .. } | Self::Failed => ClientState::IdleInTransaction,
        }
    }

    pub(super) fn is_nothing(&self) -> bool {
        matches!(self, Self::Nothing)
    }

    pub(super) fn is_failed(&self) -> bool {
        matches!(self, Self::Failed)
    }

    /// What a server has to be told before it gets the next message.
    pub(super) fn ahead(&self) -> Option<Ahead> {
        match self {
            Self::Nothing => None,
            Self::Open { text, has_portal } => {
                Some(Ahead::Begin { text: text.clone(), has_portal: *has_portal })
            }
            Self::Failed => Some(Ahead::Failed),
        }
    }

    /// A message in it was answered with an error.
    pub(super) fn fail(&mut self) {
        if matches!(self, Self::Open { .. }) {
            *self = Self::Failed;
        }
    }
}

impl Session {
    fn defers_begin(&self) -> bool {
        let settings = self.pool.settings();
        settings.defer_begin && settings.mode == PoolMode::Transaction
    }

    /// Whether more of the message at the front has to be read before it is known whether it is answered here, or may go
    /// with the BEGIN ahead of it.
    pub(super) fn control_needs_more(&self, header: Header) -> bool {
        let size = header.frame_bytes();
        let read = match (header.tag, &self.begun) {
            (tag::QUERY, Begun::Nothing) => self.defers_begin() && size <= CONTROL_BYTES_MAX,
            (tag::QUERY | tag::PARSE, Begun::Open { .. } | Begun::Failed) => size <= FIRST_BYTES_MAX,
            _ => false,
        };
        read && self.client.held.len() < size
    }

    fn control(&self, header: Header) -> Option<Control> {
        if header.tag != tag::QUERY || header.frame_bytes() > CONTROL_BYTES_MAX {
            return None;
        }
        if self.begun.is_nothing() && !self.defers_begin() {
            return None;
        }
        let text = text_of(&self.client.held, header).filter(|text| may_be_control(text))?;
        Control::read(text, self.client.known.dialect())
    }

    /// Answers the Query at the front if it begins a transaction block, or ends one that no server knows of.
    pub(super) fn answer_control(&mut self, header: Header) -> bool {
        let Some(control) = self.control(header) else { return false };
        let command_tag = match (&mut self.begun, control) {
            (Begun::Nothing, begin @ Control::Begin { command_tag, .. }) => {
                if self.begins_elsewhere(&begin) {
                    return false;
                }
                let Some(text) = self.query_text(header) else { return false };
                self.begun = Begun::Open { text, has_portal: false };
                command_tag
            }
            (Begun::Open { .. }, Control::Commit { chain: false }) => {
                self.begun = Begun::Nothing;
                b"COMMIT"
            }
            (Begun::Open { .. } | Begun::Failed, Control::Rollback { chain: false })
            | (Begun::Failed, Control::Commit { chain: false }) => {
                self.begun = Begun::Nothing;
                b"ROLLBACK"
            }
            (Begun::Failed, Control::Commit { .. } | Control::Rollback { .. }) => {
                // The modes went with the transaction that failed.
                self.begun = Begun::Open { text: Box::from(&b"BEGIN"[..]), has_portal: false };
                b"ROLLBACK"
            }
            // A warning, an error, or a new block with the old one's modes: for the server to say.
            _ => return false,
        };
        // A Query takes the unnamed statement away.
        self.client.statements.drop_unnamed();
        self.end_answer(command_tag);
        true
    }

    /// Refused where the replica is: in its own words.
    fn begins_elsewhere(&self, control: &Control) -> bool {
        matches!(control, Control::Begin { modes, .. } if modes.read_only == Some(false))
            && self.access.is_read_only()
    }

    fn end_answer(&mut self, command_tag: &[u8]) {
        let _ = CommandComplete { command_tag }.encode(&mut self.client.out);
        if self.begun.is_nothing() {
            self.client.put_mail();
        }
        ReadyForQuery { status: self.begun.status() }.encode(&mut self.client.out);
        self.registration.client().set_state(self.begun.client_state());
    }

    fn query_text(&self, header: Header) -> Option<Box<[u8]>> {
        let body = self.client.held.get(HEADER_BYTES..header.frame_bytes())?;
        body.strip_suffix(b"\0").filter(|text| !text.contains(&0)).map(Box::from)
    }

    /// Answers the messages at the front if they run a BEGIN as one batch of the unnamed statement. Returns their size.
    pub(super) fn answer_batch(&mut self, header: Header) -> Option<usize> {
        if header.tag != tag::PARSE || !self.begun.is_nothing() || !self.defers_begin() {
            return None;
        }
        if !text_of(&self.client.held, header).is_some_and(may_be_control) {
            return None;
        }
        let batch = read_batch(&self.client.held)?;
        let control = Control::read(batch.query, self.client.known.dialect())?;
        let Control::Begin { command_tag, .. } = control else { return None };
        if self.begins_elsewhere(&control) {
            return None;
        }
        let (bytes, described) = (batch.bytes, batch.described);
        self.begun = Begun::Open { text: batch.query.into(), has_portal: true };
        self.client.statements.set_unnamed(batch.definition);
        if let Some(listening) = self.client.listening.as_deref_mut() {
            listening.parsed(b"", None, false);
        }
        let mut answers = vec![backend::tag::PARSE_COMPLETE, backend::tag::BIND_COMPLETE];
        answers.extend(described.then_some(backend::tag::NO_DATA));
        for tag in answers {
            self.client.out.extend_from_slice(&Header { tag, body_bytes: 0 }.encode());
        }
        self.end_answer(command_tag);
        Some(bytes)
    }

    /// In a block that failed here: refuses the message at the front, if that is for certain what PostgreSQL would do. `false`:
    /// a server with such a transaction is asked.
    pub(super) fn refuse_in_failed(&mut self, header: Header) -> bool {
        if !self.is_refused_in_failed(header) {
            return false;
        }
        self.refuse_message(&ErrorReport::error(
            SqlState::IN_FAILED_SQL_TRANSACTION,
            "current transaction is aborted, commands ignored until end of transaction block",
        ));
        true
    }

    fn is_refused_in_failed(&self, header: Header) -> bool {
        let statements = &self.client.statements;
        let text = match header.tag {
            tag::FUNCTION_CALL => return true,
            tag::QUERY | tag::PARSE => text_of(&self.client.held, header),
            tag::BIND => {
                let body = self.client.held.get(HEADER_BYTES..).unwrap_or_default();
                let mut strings = body.split(|&byte| byte == 0);
                match (strings.nth(1), strings.next()) {
                    (Some(b""), Some(_)) => {
                        statements.unnamed().and_then(|it| it.split(|&byte| byte == 0).next())
                    }
                    (Some(name), Some(_)) => {
                        statements.find(name).map(|named| named.held.statement().query())
                    }
                    _ => None,
                }
            }
            _ => None,
        };
        // What it does not know, a server says.
        text.is_some_and(|text| {
            let effects = sql::classify(text, self.client.known.dialect());
            effects.statements.first().is_some_and(|first| {
                !first.effects.iter().any(|effect| {
                    let ends = matches!(
                        effect,
                        Effect::Transaction(
                            Transaction::Commit { .. }
                                | Transaction::Rollback { .. }
                                | Transaction::RollbackTo(_)
                                | Transaction::Prepare(_)
                        )
                    );
                    ends || matches!(effect, Effect::Unknown(Unknown::Command | Unknown::Form))
                })
            })
        })
    }

    /// The server refused the BEGIN that was answered here: its error is the answer to the statement behind it, which
    /// the client has unless it is given here.
    pub(super) fn begin_refused(&mut self, begun: Begun, error: Option<&BytesMut>) {
        self.begun = begun;
        self.begun.fail();
        if let Some(error) = error {
            self.refuse_encoded(error);
        }
    }
}
