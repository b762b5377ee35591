//! Answers about copies of prepared statements that a client shall not see as they are: those to what was put in, errors
//! that speak of canonical names, and errors about a copy that is outdated, after which the batch is sent again.
//!
//! A copy may be older than a change of a table that its client knows of. PostgreSQL says then that a cached plan must
//! not change its result type; to a client that has just prepared the statement, that is no error of its own. A batch
//! is sent again only if it began outside of a transaction block, nothing of it was answered, and the client is told in
//! it which columns there are: one that relies on what it was told before gets the error, as it would from PostgreSQL.

use super::Relay;
use super::prepare::{Mentioned, Shape};
use crate::prepared::StatementId;
use bytes::{BufMut, BytesMut};
use halephant_protocol::backend::{self, ErrorFields, TransactionStatus, field};
use halephant_protocol::frame::{HEADER_BYTES, Header};
use halephant_protocol::frontend::{Sync, tag};
use std::sync::atomic::Ordering;

/// Longest batch that is kept to be sent again.
const BATCH_BYTES_MAX: usize = 16 * 1024;
/// Longest error that is looked into; none about a statement's name or plan is longer.
const ERROR_BYTES_MAX: u32 = 8 * 1024;

#[derive(Debug, Default)]
pub(super) struct Retry {
    /// What the client sent, as long as nothing of it was answered.
    batch: Option<Box<[u8]>>,
    /// It failed for an outdated copy, and its ReadyForQuery is yet to come.
    underway: bool,
    /// The batch is being sent for the second time.
    second: bool,
    /// A ParameterDescription: the RowDescription that follows it shows whether the copy is outdated.
    described: BytesMut,
}

impl Retry {
    pub(super) fn is_underway(&self) -> bool {
        self.underway || self.second
    }

    /// What was sent last failed and goes again, once its ReadyForQuery has come: nothing may go before that.
    pub(super) fn is_failing(&self) -> bool {
        self.underway
    }

    /// A ParameterDescription is held back.
    pub(super) fn holds_description(&self) -> bool {
        !self.described.is_empty()
    }

    /// The client has had a part of its answer: what it sent is not sent again.
    pub(super) fn answered(&mut self) {
        self.batch = None;
    }
}

impl Relay<'_> {
    /// Before a walk over the client's input: what it sends now might be sent again.
    #[inline]
    pub(super) fn may_be_retried(&mut self) -> bool {
        self.state.retry.batch = None;
        self.state.statements.shape = Shape::default();
        !std::mem::take(&mut self.state.retry.second)
            && self.client.body_left == 0
            && self.state.tracker.status() == TransactionStatus::Idle
            && self.state.tracker.is_complete()
    }

    /// After it: keeps what was one whole batch about one statement.
    #[inline]
    pub(super) fn keep_for_retry(&mut self, input: &[u8], to: usize) {
        let shape = self.state.statements.shape;
        let whole = to == input.len() && self.client.body_left == 0 && to <= BATCH_BYTES_MAX;
        let one = shape.binds <= 1 && shape.describes && !shape.once;
        let tracker = &self.state.tracker;
        let synced = tracker.owed() == 1 && !tracker.needs_sync();
        // Nothing of it has run, should it fail for a copy: a Sync of ours may end it.
        let flushed = tracker.owed() == 0 && tracker.commits_at_sync() && shape.flushed;
        if whole && one && (synced || flushed) && !self.state.statements.mentioned.is_empty() {
            self.state.retry.batch = input.get(shape.answered_bytes..).map(Box::from);
        }
    }

    /// Bytes of an ErrorResponse that must be there to know whether it is about a copy.
    pub(super) fn canonical_error_bytes(&self, header: Header) -> u32 {
        let about = !self.state.statements.mentioned.is_empty() && header.body_bytes <= ERROR_BYTES_MAX;
        if about { header.body_bytes } else { 0 }
    }

    /// Bytes of a ParameterDescription that must be there to hold it back.
    pub(super) fn described_bytes(&self, header: Header) -> u32 {
        let held = self.state.retry.batch.is_some() && header.body_bytes <= ERROR_BYTES_MAX;
        if held { header.body_bytes } else { 0 }
    }

    /// What was held back and comes before the message that `diverted` tells about.
    #[inline]
    pub(super) fn take_described(&mut self, header: Header) -> Option<BytesMut> {
        let described = &mut self.state.retry.described;
        if described.is_empty()
            || is_asynchronous(header)
            || header.tag == backend::tag::PARAMETER_DESCRIPTION
        {
            return None;
        }
        let described = std::mem::take(described);
        (!self.state.retry.underway).then_some(described)
    }

    /// What the client gets in place of a message: nothing, or another one. `None`: the message itself.
    #[inline]
    pub(super) fn divert(&mut self, header: Header, body: &[u8]) -> Option<BytesMut> {
        match header.tag {
            backend::tag::PARSE_COMPLETE | backend::tag::CLOSE_COMPLETE => {
                let position = self.state.tracker.answered_position();
                let own = self.state.statements.pending.is_own(position) && header.body_bytes == 0;
                if !own {
                    self.state.retry.answered();
                }
                own.then(BytesMut::new)
            }
            backend::tag::ERROR_RESPONSE => self.divert_error(header, body),
            backend::tag::READY_FOR_QUERY => self.state.retry.underway.then(BytesMut::new),
            backend::tag::PARAMETER_DESCRIPTION if self.described_bytes(header) > 0 => {
                let described = &mut self.state.retry.described;
                described.extend_from_slice(&header.encode());
                described.extend_from_slice(body);
                Some(BytesMut::new())
            }
            _ if is_asynchronous(header) => None,
            _ => {
                self.state.retry.answered();
                None
            }
        }
    }

    fn divert_error(&mut self, header: Header, body: &[u8]) -> Option<BytesMut> {
        let batch = self.state.retry.batch.take();
        if self.canonical_error_bytes(header) == 0 {
            return None;
        }
        let fields = ErrorFields::parse(body).ok()?;
        if is_outdated(&fields) {
            self.distrust_mentioned();
            if let Some(batch) = batch {
                self.state.retry.batch = Some(batch);
                self.state.retry.underway = true;
                return Some(BytesMut::new());
            }
        }
        self.with_own_names(&fields)
    }

    /// The copy that an error is about; where that is not known, all of the connection's.
    fn distrust_mentioned(&mut self) {
        let failed = self.failed_mention().map(|failed| failed.id);
        let named = self.failed_mention().and_then(|failed| self.client.statements.find(failed.name()));
        if let Some(named) = named.filter(|named| Some(named.held.id) == failed) {
            named.held.changed();
        }
        let copies = &mut self.lease.connection().copies;
        match failed {
            Some(id) => copies.distrust(id),
            None => copies.distrust_all(),
        }
    }

    /// The message that an error answers, if it had a client's name in it.
    fn failed_mention(&self) -> Option<&Mentioned> {
        let position = self.state.tracker.answered_position();
        self.state.statements.mentioned.iter().find(|mentioned| mentioned.position == position)
    }

    /// A diverted message was tracked: when it ended the failed batch, that is sent again.
    pub(super) fn end_retry(&mut self, header: Header) {
        if header.tag == backend::tag::ERROR_RESPONSE && self.state.retry.underway {
            self.sync_failed();
        }
        if header.tag != backend::tag::READY_FOR_QUERY {
            return;
        }
        self.state.retry.underway = false;
        if let Some(batch) = self.state.retry.batch.take() {
            let held = std::mem::take(&mut self.client.held);
            self.client.held = BytesMut::from(&batch[..]);
            self.client.held.extend_from_slice(&held);
            self.state.retry.second = true;
            self.state.began = false;
            self.client.statements.store().counts().retried.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The failed batch has no Sync, and the client, who wants answers first, sends none.
    fn sync_failed(&mut self) {
        if self.state.tracker.is_skipping() {
            Sync.encode(&mut self.state.to_server);
            self.state.statements.pending.end_batch();
            self.track_client(tag::SYNC);
        }
    }

    /// The error with the client's own names in it, if it speaks of canonical ones.
    fn with_own_names(&self, fields: &ErrorFields<'_>) -> Option<BytesMut> {
        let text = fields.field(field::MESSAGE)?;
        let start = memchr::memmem::find(text, b"\"hp_")? + 1;
        let end = start + memchr::memchr(b'"', &text[start..])?;
        let id = StatementId::of_name(&text[start..end])?;
        let mut mentioned = self.state.statements.mentioned.iter().rev();
        let failed = self.failed_mention().filter(|failed| failed.id == id);
        // Without the count, the last one that it may be about.
        let name = failed.or_else(|| mentioned.find(|other| other.id == id))?.name();
        let mut amended = BytesMut::new();
        for (code, value) in fields.iter() {
            amended.put_u8(code);
            if code == field::MESSAGE {
                amended.extend_from_slice(&text[..start]);
                amended.extend_from_slice(name);
                amended.extend_from_slice(&text[end..]);
            } else {
                amended.extend_from_slice(value);
            }
            amended.put_u8(0);
        }
        amended.put_u8(0);
        let header = Header { tag: backend::tag::ERROR_RESPONSE, body_bytes: amended.len() as u32 };
        let mut out = BytesMut::with_capacity(HEADER_BYTES + amended.len());
        out.extend_from_slice(&header.encode());
        out.extend_from_slice(&amended);
        Some(out)
    }
}

/// Messages that may come at any time.
fn is_asynchronous(header: Header) -> bool {
    matches!(
        header.tag,
        backend::tag::NOTICE_RESPONSE | backend::tag::PARAMETER_STATUS | backend::tag::NOTIFICATION_RESPONSE
    )
}

/// Whether the server says that a copy is of no use: its plan would have another result, or it is not there.
fn is_outdated(fields: &ErrorFields<'_>) -> bool {
    match fields.field(field::SQLSTATE) {
        Some(b"0A000") => fields.field(field::ROUTINE) == Some(b"RevalidateCachedQuery"),
        Some(b"26000") => {
            fields.field(field::MESSAGE).is_some_and(|text| memchr::memmem::find(text, b"\"hp_").is_some())
        }
        _ => false,
    }
}
