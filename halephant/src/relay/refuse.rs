//! Messages of the client that do not reach the server: they are refused in its place.
//!
//! The server has to see that something failed, or its transaction would go on while the client believes it aborted,
//! and a pipeline would get out of step. So the message is replaced by one that fails for sure, and the error that it
//! leads to is replaced by ours.

use super::inspect::string;
use super::output::Output;
use super::pin::PinReason;
use super::scan::is_fatal;
use super::{Relay, block, deny, read_only};
use crate::notify;
use bytes::BytesMut;
use halephant_protocol::SqlState;
use halephant_protocol::backend::{self, ErrorReport, Routine};
use halephant_protocol::frame::{HEADER_BYTES, Header};
use halephant_protocol::frontend::{Bind, Execute, Parse, Query, tag};
use halephant_protocol::list::ValuesBuf;

/// In every replaced message and in the error that it leads to: not an integer, and not what anybody sends.
const MARK: &str = "halephant: refused ";
/// No error of the mark's is longer.
const MARKED_BYTES_MAX: u32 = 8 * 1024;

/// Why a message is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    ReadOnly,
    /// A transaction block in statement mode.
    Block,
    Listen(notify::Refusal),
    /// It would keep its client on the server connection.
    Pin(PinReason),
    /// The rows would have other columns than the client was told.
    Columns,
    /// The client has a prepared statement of this name.
    Taken(Box<[u8]>),
    /// What was sent ahead of it, and for it, failed: the body of the server's ErrorResponse.
    Failed(Box<[u8]>),
}

impl Reason {
    fn encode_error(&self, out: &mut BytesMut) {
        let report = match self {
            Self::ReadOnly => read_only::report(),
            Self::Block => block::transaction_report(),
            Self::Listen(refusal) => listen_report(refusal),
            Self::Pin(reason) => deny::report(*reason),
            Self::Columns => {
                ErrorReport::error(SqlState::FEATURE_NOT_SUPPORTED, "cached plan must not change result type")
                    .routine(Routine::RevalidateCachedQuery)
            }
            Self::Taken(name) => ErrorReport::error(
                SqlState::DUPLICATE_PREPARED_STATEMENT,
                format!("prepared statement \"{}\" already exists", String::from_utf8_lossy(name)),
            ),
            Self::Failed(error) => {
                let header = Header { tag: backend::tag::ERROR_RESPONSE, body_bytes: error.len() as u32 };
                out.extend_from_slice(&header.encode());
                out.extend_from_slice(error);
                return;
            }
        };
        report.encode_error(out);
    }
}

/// For a LISTEN that is not sent.
pub fn listen_report(refusal: &notify::Refusal) -> ErrorReport {
    use notify::Refusal::{Listener, Timeout, TooMany};
    let (sqlstate, hint) = match refusal {
        TooMany => {
            (SqlState::PROGRAM_LIMIT_EXCEEDED, "Use one channel for more, and tell them apart by payload.")
        }
        Timeout | Listener(_) => (
            SqlState::CANNOT_CONNECT_NOW,
            "LISTEN works again as soon as the primary takes a connection for it.",
        ),
    };
    ErrorReport::error(sqlstate, refusal.to_string()).hint(hint)
}

#[derive(Debug, Default)]
pub(super) struct Refused {
    /// Size of the message that is next in the client's input and is to be replaced, and why.
    next: Option<(usize, Reason)>,
    /// The type of a message that is too long to be looked into and is dropped as it comes, and why.
    dropping: Option<(u8, Reason)>,
    /// Why messages were replaced; their errors name a reason by its place.
    reasons: Vec<Reason>,
    /// The next error has this reason, whatever it says: in a transaction that has failed, the server does not look at what it gets.
    answer: Option<usize>,
}

/// Different reasons that are remembered for one server connection; a further one is told in the words of the last.
const REASONS_MAX: usize = 16;

impl Relay<'_> {
    /// The message at the front of the input, of so many bytes, is to be refused.
    pub(super) fn refuse_next(&mut self, message_bytes: usize, reason: Reason) {
        self.state.refused.get_or_insert_default().next = Some((message_bytes, reason));
    }

    /// The client's input begins with a message that [`replace_refused`](Self::replace_refused) is to replace.
    pub(super) fn has_refused(&self) -> bool {
        self.state.refused.as_ref().is_some_and(|refused| refused.next.is_some())
    }

    /// Sends what fails in place of a refused message at the front of `input`. Returns the size of the refused one.
    pub(super) fn replace_refused(&mut self, input: &[u8]) -> Option<usize> {
        let state = self.state.refused.as_deref_mut()?;
        let (refused, reason) = state.next.take()?;
        let header = input.first().copied()?;
        let name = string(input.get(HEADER_BYTES..refused)?);
        let told_before = matches!(reason, Reason::Failed(_));
        let number = state.number(reason);
        state.answer = told_before.then_some(number);
        encode_failing(header, name, &mark(number), &mut self.state.to_server)?;
        self.state.forwarded = true;
        self.sent_failing(header, name);
        self.lease.connection().busy = true;
        Some(refused)
    }

    /// The message whose header the output is at is refused, however long it is.
    pub(super) fn refuse_long(&mut self, header: Header, reason: Reason, output: &mut Output<'_>) {
        self.drop_refused(header.tag, reason);
        self.client.body_left = header.body_bytes;
        output.leave_out(HEADER_BYTES);
    }

    /// The body of a refused message of this type is about to come, and is dropped.
    pub(super) fn drop_refused(&mut self, tag: u8, reason: Reason) {
        self.state.refused.get_or_insert_default().dropping = Some((tag, reason));
    }

    /// Takes the next bytes of a message's body: on to the server, or away if it is refused. What stands for a refused one goes
    /// when all of it has come.
    pub(super) fn pass_body(&mut self, bytes: usize, output: &mut Output<'_>) {
        let Some(state) = self.state.refused.as_deref_mut().filter(|state| state.dropping.is_some()) else {
            output.at += bytes;
            return;
        };
        output.leave_out(bytes);
        if self.client.body_left == 0
            && let Some((tag, reason)) = state.dropping.take()
        {
            let mark = mark(state.number(reason));
            if encode_failing(tag, b"", &mark, output.put_in()).is_some() {
                self.sent_failing(tag, b"");
            }
        }
    }

    /// A message that fails is on its way to the server.
    fn sent_failing(&mut self, tag: u8, name: &[u8]) {
        self.track_client(tag);
        self.state.statements.shape.once = true;
        if tag == tag::QUERY || (tag == tag::PARSE && name.is_empty()) {
            self.client.statements.drop_unnamed();
        }
    }

    /// Bytes of an ErrorResponse that must be there to know whether it is the answer to a replaced message.
    pub(super) fn refusal_bytes(&self, header: Header) -> u32 {
        let may_be = self.state.refused.is_some() && header.body_bytes <= MARKED_BYTES_MAX;
        if may_be { header.body_bytes } else { 0 }
    }

    /// The error that the client gets in place of the server's, if that answers a replaced message. `body`: as much as
    /// [`refusal_bytes`](Self::refusal_bytes) asks for.
    pub(super) fn refusal(&mut self, header: Header, body: &[u8]) -> Option<BytesMut> {
        if header.tag != backend::tag::ERROR_RESPONSE
            || self.refusal_bytes(header) == 0
            || self.is_swallowing()
            || is_fatal(body)
        {
            return None;
        }
        let refused = self.state.refused.as_deref_mut()?;
        let number = refused.answer.take().or_else(|| marked(body))?;
        let mut out = BytesMut::new();
        refused.reasons.get(number)?.encode_error(&mut out);
        Some(out)
    }
}

fn mark(number: usize) -> String {
    format!("{MARK}{number}")
}

/// The number in the mark that an error tells.
fn marked(body: &[u8]) -> Option<usize> {
    let number = memchr::memmem::find(body, MARK.as_bytes())? + MARK.len();
    let digits = body[number..].split(|byte| !byte.is_ascii_digit()).next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Appends a message of the same type that fails with `mark` in its error.
fn encode_failing(tag: u8, name: &[u8], mark: &str, out: &mut BytesMut) -> Option<()> {
    let query = format!("SELECT CAST('{mark}' AS pg_catalog.int4)");
    let none = &b""[..];
    let encoded = match tag {
        tag::PARSE => Parse { statement: name, query: query.as_bytes(), parameter_types: Default::default() }
            .encode(out),
        // There is no statement of that name.
        tag::BIND => Bind {
            portal: none,
            statement: mark.as_bytes(),
            parameter_formats: Default::default(),
            parameters: ValuesBuf::new().as_values(),
            result_formats: Default::default(),
        }
        .encode(out),
        // There is no portal of that name.
        tag::EXECUTE => Execute { portal: mark.as_bytes(), rows_max: 0 }.encode(out),
        _ => Query { query: query.as_bytes() }.encode(out),
    };
    // Neither a name that the client could send nor our own text holds a NUL.
    encoded.ok()
}

impl Refused {
    fn number(&mut self, reason: Reason) -> usize {
        let known = self.reasons.iter().position(|known| *known == reason);
        known.unwrap_or_else(|| {
            self.reasons.truncate(REASONS_MAX - 1);
            self.reasons.push(reason);
            self.reasons.len() - 1
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_have_numbers() {
        let mut refused = Refused::default();
        let listen =
            |text: &str| Reason::Listen(notify::Refusal::Listener(notify::ListenError::Refused(text.into())));
        assert_eq!(refused.number(Reason::ReadOnly), 0);
        assert_eq!(refused.number(listen("a")), 1);
        assert_eq!(refused.number(Reason::ReadOnly), 0);
        for number in 0..2 * REASONS_MAX {
            let expected = (number + 2).min(REASONS_MAX - 1);
            assert_eq!(refused.number(listen(&number.to_string())), expected);
        }
        assert_eq!(refused.reasons.len(), REASONS_MAX);
        assert_eq!(marked(format!("SERROR\0M\"{}\"\0", mark(12)).as_bytes()), Some(12));
        assert_eq!(marked(b"SERROR\0Msomething else\0"), None);
    }
}
