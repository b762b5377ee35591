//! The client's parameters in one round trip with its first statement.
//!
//! Ours go ahead as messages of the extended protocol without a Sync: BEGIN, what is to be set, COMMIT. If any of it fails, PostgreSQL skips
//! everything up to the next Sync, which is the client's, be it a Query: its first statement never runs without its
//! parameters. If all goes well, COMMIT has ended the transaction, and the client's statement begins its own: what it takes back is
//! its own, and it may be VACUUM or choose an isolation level. What the client sends behind its first Query or Sync would not be skipped, and
//! waits until ours is answered. A BEGIN that was answered without a server goes the same way, behind the parameters (`begin.rs`).

use super::begin::JoinedBegin;
use super::inspect::string;
use super::{Relay, RelayEnd};
use crate::server::apply::BEGIN_ANSWERS;
use crate::server::parameters::Difference;
use crate::sql::effect::{Effect, Sequence};
use crate::sql::{self, Dialect};
use halephant_protocol::backend::{self, ParameterStatus};
use halephant_protocol::frame::{HEADER_BYTES, Header, parse_frontend_header};
use halephant_protocol::frontend::tag;

/// What is sent with the client's first statement: its parameters, its BEGIN, or both.
#[derive(Debug, Default)]
pub(super) struct Joined {
    /// CommandComplete and CloseComplete messages of ours that are outstanding.
    left: u32,
    /// The client's BEGIN, and what became of it.
    pub(super) begin: Option<JoinedBegin>,
    /// The client's first Query or Sync is on its way.
    closed: bool,
    /// What is set, and what is reset, until the server has reported it.
    changed: Vec<(String, Option<String>)>,
}

impl Joined {
    pub(super) fn new(answers: u32, difference: &Difference<'_>) -> Self {
        let set = difference.set.iter().map(|&(name, value)| (name.to_owned(), Some(value.to_owned())));
        let reset = difference.reset.iter().map(|&name| (name.to_owned(), None));
        Self { left: answers, changed: set.chain(reset).collect(), ..Self::default() }
    }

    /// The client's BEGIN goes behind what there is.
    pub(super) fn add_begin(&mut self) {
        self.left += BEGIN_ANSWERS;
        self.begin = Some(JoinedBegin::Asked);
    }

    /// The BEGIN is what comes next to be answered.
    pub(super) fn is_at_begin(&self) -> bool {
        self.begin == Some(JoinedBegin::Asked) && self.left == BEGIN_ANSWERS
    }

    /// The server refused the BEGIN and skips what is behind it.
    pub(super) fn refuse_begin(&mut self, lacks_sync: bool) {
        self.left = 0;
        self.begin = Some(JoinedBegin::Refused { lacks_sync });
    }

    /// The server refused the BEGIN.
    pub(super) fn is_refused(&self) -> bool {
        matches!(self.begin, Some(JoinedBegin::Refused { .. }))
    }

    pub(super) fn is_underway(&self) -> bool {
        self.left > 0
    }

    /// The server skips the client's Query, and answers nothing before it gets a Sync of ours.
    pub(super) fn lacks_sync(&self) -> bool {
        self.begin == Some(JoinedBegin::Refused { lacks_sync: true })
    }

    pub(super) fn changes(&self, name: &str) -> bool {
        self.changed.iter().any(|(changed, _)| changed.eq_ignore_ascii_case(name))
    }

    /// Whether a reported value is what ours have set; `beginning`: what the connection began with.
    pub(super) fn explains(&self, name: &str, value: &str, beginning: Option<&str>) -> bool {
        self.changed.iter().any(|(changed, set)| {
            changed.eq_ignore_ascii_case(name) && set.as_deref().or(beginning) == Some(value)
        })
    }
}

impl Relay<'_> {
    pub(super) fn is_joining(&self) -> bool {
        self.state.joined.as_ref().is_some_and(|joined| joined.is_underway())
    }

    /// Whether what the client has sent so far begins with what may go with its parameters.
    pub(super) fn may_join(&self, difference: &Difference<'_>) -> bool {
        let statements = &self.client.statements;
        let has_effects = |name: &[u8]| match name {
            b"" => {
                statements.unnamed().is_none_or(|definition| !is_plain(string(definition), self.dialect()))
            }
            name => statements.find(name).is_some_and(|named| named.has_effects),
        };
        let reads_anew = ["client_encoding", "standard_conforming_strings"];
        self.release.is_shared()
            && self.client.listening.is_none()
            && !difference.set.iter().any(|(name, _)| reads_anew.contains(name))
            && !difference.reset.iter().any(|name| reads_anew.contains(name))
            && begins_plain(&self.client.held, self.dialect(), has_effects)
    }

    fn dialect(&self) -> Dialect {
        self.lease.connection_ref().dialect()
    }

    /// Whether a message waits until ours is answered.
    pub(super) fn awaits_joined(&mut self) -> bool {
        let Some(joined) = self.state.joined.as_deref() else { return false };
        // Of what the server skips, only a Sync is answered.
        let owed = if joined.is_refused() { self.state.tracker.owed() > 0 } else { joined.closed };
        let waits = owed && (joined.is_underway() || joined.is_refused());
        self.state.statements.waiting |= waits;
        waits
    }

    /// A message is on its way to the server.
    pub(super) fn close_joined(&mut self, tag: u8) {
        if let Some(joined) = self.state.joined.as_deref_mut() {
            joined.closed |= matches!(tag, tag::QUERY | tag::SYNC | tag::FUNCTION_CALL);
        }
    }

    /// Whether a ParameterStatus tells of what ours have set, and the client knows.
    pub(super) fn drops_report(&self, header: Header, body: &[u8]) -> bool {
        let Some(joined) = self.state.joined.as_ref().filter(|joined| !joined.is_underway()) else {
            return false;
        };
        if header.tag != backend::tag::PARAMETER_STATUS {
            return false;
        }
        let Ok(status) = ParameterStatus::parse(body) else { return false };
        let (name, value) = (String::from_utf8_lossy(status.name), String::from_utf8_lossy(status.value));
        joined.changes(&name) && self.client.known.value(&name) == Some(&*value)
    }

    /// One answer to ours.
    pub(super) fn swallow_joined(&mut self, header: Header, body: &[u8]) -> Option<RelayEnd> {
        match header.tag {
            backend::tag::COMMAND_COMPLETE | backend::tag::CLOSE_COMPLETE => {
                if let Some(joined) = self.state.joined.as_deref_mut() {
                    joined.left = joined.left.saturating_sub(1);
                }
            }
            backend::tag::READY_FOR_QUERY => return Some(RelayEnd::ServerViolation),
            _ => return self.swallow_answer(header, body),
        }
        None
    }
}

/// Whether nothing in a text sets a parameter, as far as it shows: what the server reports then is what ours have set.
fn is_plain(text: &[u8], dialect: Dialect) -> bool {
    !sql::may_have_effects(text, dialect)
        || sql::classify(text, dialect).iter().all(|effect| {
            matches!(
                effect,
                Effect::Transaction(_)
                    | Effect::Sequence(Sequence::Advance)
                    | Effect::Notify(_)
                    | Effect::Copy { .. }
            )
        })
}

/// Whether messages begin with a whole Query, or with a batch of the extended protocol up to its Sync, that sets nothing.
/// `has_effects`: whether the prepared statement of that name may.
fn begins_plain(messages: &[u8], dialect: Dialect, has_effects: impl Fn(&[u8]) -> bool) -> bool {
    let mut rest = messages;
    let mut parsed = false;
    while let Ok(Some(header)) = parse_frontend_header(rest) {
        let Some(body) = rest.get(HEADER_BYTES..header.frame_bytes()) else { return false };
        let mut strings = body.split(|&byte| byte == 0);
        match header.tag {
            tag::QUERY => return is_plain(strings.next().unwrap_or_default(), dialect),
            tag::SYNC => return true,
            tag::PARSE => {
                let name = strings.next().unwrap_or_default();
                parsed |= name.is_empty();
                if !is_plain(strings.next().unwrap_or_default(), dialect) {
                    return false;
                }
            }
            tag::BIND => {
                let name = strings.nth(1).unwrap_or_default();
                if !(name.is_empty() && parsed) && has_effects(name) {
                    return false;
                }
            }
            tag::DESCRIBE | tag::EXECUTE | tag::CLOSE | tag::FLUSH => {}
            _ => return false,
        }
        rest = &rest[header.frame_bytes()..];
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::RelayState;
    use bytes::BytesMut;
    use halephant_protocol::frontend::{Execute, Parse, Query, Sync, Terminate};

    fn query(sql: &str) -> BytesMut {
        let mut out = BytesMut::new();
        Query { query: sql.as_bytes() }.encode(&mut out).expect("it is short");
        out
    }

    fn parse(sql: &str) -> BytesMut {
        let mut out = BytesMut::new();
        Parse { statement: b"", query: sql.as_bytes(), parameter_types: Default::default() }
            .encode(&mut out)
            .expect("it is short");
        out
    }

    fn begins(messages: &[u8]) -> bool {
        begins_plain(messages, Dialect::default(), |_| true)
    }

    #[test]
    fn a_first_statement_that_sets_nothing_goes_at_once() {
        for text in [
            "SELECT 1",
            "BEGIN",
            "BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT 1",
            "VACUUM",
            "COPY t FROM STDIN",
        ] {
            assert!(begins(&query(text)), "{text}");
        }
        for text in [
            "SET a = 1",
            "SELECT 1; RESET ALL",
            "DISCARD ALL",
            "DO $$ $$",
            "CALL f()",
            "SELEKT",
            "PREPARE a AS SELECT 1",
        ] {
            assert!(!begins(&query(text)), "{text}");
            assert!(!begins(&parse(text)), "{text}");
        }
        let mut two = query("SELECT 1");
        two.extend_from_slice(&query("SET a = 1"));
        assert!(begins(&two), "the second one waits");
    }

    #[test]
    fn a_batch_goes_when_it_is_there_up_to_its_sync() {
        let mut batch = parse("SELECT 1");
        Execute { portal: b"", rows_max: 0 }.encode(&mut batch).expect("it is short");
        assert!(!begins(&batch));
        let cut = batch.len() - 1;
        Sync.encode(&mut batch);
        assert!(begins(&batch));
        assert!(!begins(&batch[..cut]));
        let mut end = parse("SELECT 1");
        Terminate.encode(&mut end);
        assert!(!begins(&end));
        assert!(!begins(b""));
    }

    /// Nobody waits for answers that do not come before a Sync.
    #[test]
    fn a_connection_that_lacks_a_sync_is_not_drained() {
        let mut joined = Joined::default();
        joined.add_begin();
        let mut state = RelayState { joined: Some(Box::new(joined)), ..RelayState::default() };
        assert!(!state.can_continue(), "it is not answered");
        for lacks_sync in [true, false] {
            state.joined.as_deref_mut().expect("it is there").refuse_begin(lacks_sync);
            assert_eq!(state.can_continue(), !lacks_sync);
        }
    }

    #[test]
    fn a_report_is_ours_if_it_says_what_we_set() {
        let difference = Difference { set: vec![("timezone", "UTC")], reset: vec!["datestyle"] };
        let joined = Joined::new(4, &difference);
        assert!(joined.is_underway() && joined.changes("TimeZone") && !joined.changes("x"));
        assert!(joined.explains("TimeZone", "UTC", Some("GMT")));
        assert!(!joined.explains("TimeZone", "GMT", Some("GMT")));
        assert!(joined.explains("DateStyle", "ISO, MDY", Some("ISO, MDY")));
        assert!(!joined.explains("DateStyle", "German", Some("ISO, MDY")));
        assert!(!joined.explains("x", "UTC", Some("UTC")));
    }
}
