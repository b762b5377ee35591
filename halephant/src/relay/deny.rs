//! Pools that deny pins: what would keep a client on its server connection does not reach the server.

use super::inspect::{INSPECTED_BYTES_MAX, text_of};
use super::output::Output;
use super::pin::{Consequence, PinReason};
use super::refuse::Reason;
use super::{Relay, inspect};
use crate::sql;
use halephant_protocol::SqlState;
use halephant_protocol::backend::ErrorReport;
use halephant_protocol::frame::{HEADER_BYTES, Header};
use halephant_protocol::frontend::tag;
use std::sync::Arc;

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Passes,
    /// More of it is needed first, or it is refused.
    Waits,
    /// It is refused, and cannot be held until it is complete.
    TooLong,
}

impl Relay<'_> {
    /// Looks into a message of a client that must not be pinned.
    pub(super) fn check_pins(&mut self, header: Header, message: &[u8]) -> Verdict {
        let text = match header.tag {
            tag::QUERY | tag::PARSE if header.frame_bytes() > INSPECTED_BYTES_MAX => return Verdict::TooLong,
            tag::QUERY | tag::PARSE => {
                let Some(body) = message.get(HEADER_BYTES..header.frame_bytes()) else {
                    return Verdict::Waits;
                };
                text_of(header.tag, body).unwrap_or_default()
            }
            tag::BIND => return self.check_bound(header, message),
            _ => return Verdict::Passes,
        };
        match self.would_pin(text, header.tag == tag::QUERY) {
            Some(reason) => self.deny(header, reason),
            None => Verdict::Passes,
        }
    }

    /// A statement may have been prepared when pins were allowed.
    fn check_bound(&mut self, header: Header, message: &[u8]) -> Verdict {
        let name = message.get(HEADER_BYTES..).and_then(|body| body.split(|&byte| byte == 0).nth(1));
        let named = name.and_then(|name| self.client.statements.find(name));
        let Some(statement) =
            named.filter(|named| named.has_effects).map(|it| Arc::clone(it.held.statement()))
        else {
            return Verdict::Passes;
        };
        match self.would_pin(statement.query(), false) {
            Some(_) if message.len() < header.frame_bytes() && header.frame_bytes() > INSPECTED_BYTES_MAX => {
                Verdict::TooLong
            }
            Some(_) if message.len() < header.frame_bytes() => Verdict::Waits,
            Some(reason) => self.deny(header, reason),
            None => Verdict::Passes,
        }
    }

    fn would_pin(&self, text: &[u8], by_query: bool) -> Option<PinReason> {
        let dialect = self.lease.connection_ref().dialect();
        if !sql::may_have_effects(text, dialect) {
            return None;
        }
        let effects = sql::classify(text, dialect);
        effects.iter().find_map(|effect| match self.consequence_of(effect) {
            _ if !by_query && inspect::changes_dialect(effect) => Some(PinReason::Parameter),
            Consequence::Pin(reason) => Some(reason),
            _ => None,
        })
    }

    /// Refuses the message at the front of the input.
    pub(super) fn deny(&mut self, header: Header, reason: PinReason) -> Verdict {
        self.count_denied(reason);
        self.refuse_next(header.frame_bytes(), Reason::Pin(reason));
        Verdict::Waits
    }

    pub(super) fn deny_long(&mut self, header: Header, output: &mut Output<'_>) {
        self.count_denied(PinReason::Unknown);
        self.refuse_long(header, Reason::Pin(PinReason::Unknown), output);
    }

    fn count_denied(&self, reason: PinReason) {
        self.lease.metrics().denied.add(reason.as_str(), 1);
        tracing::debug!(
            process_id = self.handle.process_id(),
            reason = reason.as_str(),
            "a statement that would pin its client is refused"
        );
    }
}

pub(super) fn report(reason: PinReason) -> ErrorReport {
    let (what, hint) = words(reason);
    ErrorReport::error(SqlState::FEATURE_NOT_SUPPORTED, format!("{what} in this pool"))
        .detail(format!(
            "It would keep the client on its server connection (pin \"{}\"), which the pool denies.",
            reason.as_str()
        ))
        .hint(hint)
}

/// What is refused, and what to do instead.
fn words(reason: PinReason) -> (&'static str, &'static str) {
    match reason {
        PinReason::PreparedStatement => (
            "this prepared statement is not supported",
            "Prepare statements by the protocol, as drivers do, under names of at most 63 bytes.",
        ),
        PinReason::Parameter => (
            "this change of a parameter is not supported",
            "Use SET LOCAL in a transaction, or name the parameter in plain text.",
        ),
        PinReason::Role => (
            "SET ROLE and SET SESSION AUTHORIZATION are not supported",
            "Use SET LOCAL ROLE in a transaction, or log in as the role.",
        ),
        PinReason::Listen => ("LISTEN is not supported", "Set listen_mode = \"multiplex\" for the pool."),
        PinReason::Cursor => {
            ("cursors WITH HOLD are not supported", "Read the cursor in the transaction that declares it.")
        }
        PinReason::Load => (
            "LOAD is not supported",
            "Load the library by session_preload_libraries of the role or database.",
        ),
        PinReason::Temporary => (
            "temporary objects that outlive their transaction are not supported",
            "Create temporary tables in a transaction, with ON COMMIT DROP.",
        ),
        PinReason::AdvisoryLock => (
            "session-level advisory locks are not supported",
            "Use pg_advisory_xact_lock(), which the end of the transaction releases.",
        ),
        PinReason::SessionObject => (
            "objects of a session are not supported",
            "Use a pool in session mode, or set pin = \"allow\" for the pool.",
        ),
        PinReason::Unknown => (
            "a statement that cannot be read, or is longer than 1 MiB, is not supported",
            "Check its syntax, send long values as parameters, or set pin = \"allow\" for the pool.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_named_with_a_way_out() {
        for reason in PinReason::ALL {
            let report = report(reason);
            assert_eq!(report.sqlstate, SqlState::FEATURE_NOT_SUPPORTED);
            assert!(report.message.ends_with(" in this pool"), "{}", report.message);
            let detail = report.detail.expect("there is one");
            assert!(detail.contains(&format!("\"{}\"", reason.as_str())), "{detail}");
            assert!(report.hint.is_some_and(|hint| hint.ends_with('.')));
        }
    }
}
