//! The client's BEGIN, which was answered without a server, on its way ahead of the first message behind it.
//!
//! Mostly both go at once, the BEGIN as messages of the extended protocol without a Sync (`join.rs`): if it is refused, PostgreSQL
//! skips that message, and everything up to the next Sync. Where something of ours with a Sync of its own may have to go between the two, the
//! message is sent when the server has confirmed the BEGIN: it must not become a transaction of its own.

use super::inspect::text_of;
use super::scan::ServerScan;
use super::{Relay, RelayEnd};
use crate::server::apply::encode_begin;
use crate::sql;
use crate::sql::effect::Effect;
use bytes::BytesMut;
use halephant_protocol::backend::{self, ReadyForQuery, TransactionStatus};
use halephant_protocol::frame::{HEADER_BYTES, Header, parse_frontend_header};
use halephant_protocol::frontend::{Query, Sync, tag};

/// Fails in the block that it begins, as the client's has: the server is where the client believes it to be.
const FAILED: &[u8] =
    b"BEGIN; SELECT CAST('halephant: this transaction has failed before' AS pg_catalog.int4)";

/// A BEGIN that is confirmed before anything else is sent.
#[derive(Debug, Default)]
pub(super) struct Begin {
    underway: bool,
    /// It goes when the parameters are set.
    behind_sets: Option<Ahead>,
    /// The transaction is to have failed.
    fails: bool,
    /// The server's ErrorResponse.
    refused: Option<Box<BytesMut>>,
}

/// What a client without a server connection believes to be in.
#[derive(Clone, Debug)]
pub enum Ahead {
    /// A transaction block, and the text that began it. `has_portal`: in the unnamed portal, not by a Query.
    Begin { text: Box<[u8]>, has_portal: bool },
    /// One that has failed.
    Failed,
}

/// A BEGIN that goes with the client's first message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JoinedBegin {
    Asked,
    /// The server skips everything up to the next Sync. `lacks_sync`: that has to be one of ours.
    Refused {
        lacks_sync: bool,
    },
}

impl Relay<'_> {
    /// Has the server begin what the client believes to be in, behind our own SETs.
    pub fn begin(&mut self, ahead: Ahead) {
        if self.state.swallowing {
            self.state.begin.behind_sets = Some(ahead);
            return;
        }
        match ahead {
            Ahead::Begin { text, has_portal } if self.may_join_begin() => {
                self.begin_joined(&text, has_portal)
            }
            Ahead::Begin { text, .. } => self.begin_first(&text, false),
            Ahead::Failed => self.begin_first(FAILED, true),
        }
    }

    /// Our own SETs are answered.
    pub(super) fn begin_behind_sets(&mut self) {
        if let Some(ahead) = self.state.begin.behind_sets.take() {
            self.begin(ahead);
        }
    }

    /// With the first message.
    fn begin_joined(&mut self, text: &[u8], has_portal: bool) {
        // It came as a string: there is no NUL in it.
        if encode_begin(text, has_portal, &mut self.state.to_server).is_ok() {
            self.state.joined.get_or_insert_default().add_begin();
            self.state.tracker.ready_unasked(TransactionStatus::InTransaction);
            self.lease.connection().busy = true;
        }
    }

    /// Before it.
    fn begin_first(&mut self, text: &[u8], fails: bool) {
        if (Query { query: text }).encode(&mut self.state.to_server).is_ok() {
            self.state.begin.underway = true;
            self.state.begin.fails = fails;
            self.state.swallowing = true;
            self.lease.connection().busy = true;
        }
    }

    /// Whether nothing with a Sync of ours may have to go ahead of the client's first message.
    fn may_join_begin(&self) -> bool {
        let Ok(Some(header)) = parse_frontend_header(&self.client.held) else { return false };
        match header.tag {
            tag::QUERY | tag::PARSE => self
                .client
                .held
                .get(HEADER_BYTES..header.frame_bytes())
                .and_then(|body| text_of(header.tag, body))
                .is_some_and(|text| !self.may_mention_names(text)),
            tag::BIND | tag::DESCRIBE | tag::EXECUTE | tag::CLOSE | tag::FUNCTION_CALL => true,
            _ => false,
        }
    }

    /// Whether a text may speak of the client's prepared statements, which are put on the server before it then.
    fn may_mention_names(&self, text: &[u8]) -> bool {
        let dialect = self.lease.connection_ref().dialect();
        !self.client.statements.is_empty()
            && sql::may_have_effects(text, dialect)
            && sql::classify(text, dialect).iter().any(|effect| {
                matches!(effect, Effect::Prepare { .. } | Effect::Execute(_) | Effect::Deallocate(_))
            })
    }

    /// Whether what there is for the server goes with the client's first message, which has not been passed on yet.
    pub(super) fn awaits_first_message(&self) -> bool {
        !self.state.forwarded
            && !self.state.swallowing
            && self.state.joined.as_ref().is_some_and(|joined| joined.begin.is_some())
    }

    /// The answers to ours have come: those behind them are for the client, who is in a transaction.
    pub(super) fn refuses_begin(&self, header: Header, body: &[u8]) -> bool {
        header.tag == backend::tag::ERROR_RESPONSE
            && !self.state.swallowing
            && !super::scan::is_fatal(body)
            && self.state.joined.as_ref().is_some_and(|joined| joined.is_at_begin())
    }

    /// The server refused a BEGIN that went with the client's first message: its error, which comes to be tracked now, is
    /// the answer to that.
    pub(super) fn begin_is_refused(&mut self) {
        let tracker = &mut self.state.tracker;
        let lacks_sync = tracker.is_at_simple();
        tracker.skip_all();
        if let Some(joined) = self.state.joined.as_deref_mut() {
            joined.refuse_begin(lacks_sync);
        }
    }

    /// Sends the Sync without which the server would not answer the Query that it skipped.
    pub(super) fn sync_refused(&mut self) {
        let begin = self.state.joined.as_deref_mut().and_then(|joined| joined.begin.as_mut());
        if let Some(JoinedBegin::Refused { lacks_sync }) = begin
            && self.client.body_left == 0
            && std::mem::take(lacks_sync)
        {
            Sync.encode(&mut self.state.to_server);
        }
    }

    /// Whether a ReadyForQuery ends what was skipped for a refused BEGIN.
    pub(super) fn ends_refused(&self, header: Header) -> bool {
        header.tag == backend::tag::READY_FOR_QUERY
            && self.state.joined.as_ref().is_some_and(|joined| joined.is_refused())
    }

    /// The ReadyForQuery of a transaction whose BEGIN was refused: the server knows of none, and the client's has failed.
    pub(super) fn pass_refused(
        &mut self,
        input: &[u8],
        scan: &mut ServerScan,
        header: Header,
        body: &[u8],
    ) -> RelayEnd {
        let idle = ReadyForQuery::parse(body).is_ok_and(|ready| ready.status == TransactionStatus::Idle);
        if let Some(end) = self.server_message(header, body) {
            return end;
        }
        if !idle {
            return RelayEnd::ServerViolation;
        }
        self.state.joined = None;
        self.put_before(input, scan, &[]);
        self.tell_parameters();
        ReadyForQuery { status: TransactionStatus::Failed }.encode(&mut self.client.out);
        scan.to += header.frame_bytes();
        scan.from = scan.to;
        RelayEnd::BeginRefused(None)
    }

    /// Whether what is swallowed now answers the BEGIN.
    pub(super) fn is_beginning(&self) -> bool {
        self.state.begin.underway
    }

    /// One answer to the BEGIN.
    pub(super) fn swallow_begin(&mut self, header: Header, body: &[u8]) -> Option<RelayEnd> {
        match header.tag {
            backend::tag::ERROR_RESPONSE => {
                let refused = self.state.begin.refused.get_or_insert_default();
                refused.extend_from_slice(&header.encode());
                refused.extend_from_slice(body);
                None
            }
            backend::tag::READY_FOR_QUERY => {
                self.state.swallowing = false;
                let begin = std::mem::take(&mut self.state.begin);
                let status = ReadyForQuery::parse(body).map(|ready| ready.status);
                match (status, begin.refused) {
                    (Ok(TransactionStatus::InTransaction), None) if !begin.fails => {
                        self.has_begun(TransactionStatus::InTransaction)
                    }
                    (Ok(TransactionStatus::Failed), Some(_)) if begin.fails => {
                        self.has_begun(TransactionStatus::Failed)
                    }
                    (Ok(TransactionStatus::Idle), Some(refused)) if !begin.fails => {
                        return Some(RelayEnd::BeginRefused(Some(refused)));
                    }
                    _ => return Some(RelayEnd::ServerViolation),
                }
                None
            }
            _ => self.swallow_answer(header, body),
        }
    }

    fn has_begun(&mut self, status: TransactionStatus) {
        if self.state.joined.take().is_some() {
            self.tell_parameters();
        }
        self.state.tracker.ready_unasked(status);
    }
}
