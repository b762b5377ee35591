//! What a relay tells the counters: when statements and transactions began and ended, and how many bytes went by.
//!
//! The clock is read at the begin and end of a statement, never for a message; bytes are added up here and passed on
//! at the end of a statement.

use super::{PinReason, Relay};
use crate::cancel::ClientState;
use halephant_protocol::SqlState;
use halephant_protocol::backend::{TransactionStatus, field as field_code};
use halephant_protocol::frame::Header;
use std::time::Instant;

/// Bytes that are passed on before the statement ends, so that a long COPY shows.
const UNREPORTED_BYTES_MAX: u64 = 1 << 20;

#[derive(Debug, Default)]
pub(super) struct Observation {
    statement: Option<Instant>,
    transaction: Option<Instant>,
    received_bytes: u64,
    sent_bytes: u64,
}

impl Relay<'_> {
    /// Bytes of the client go to the server.
    pub(super) fn observe_received(&mut self, bytes: usize) {
        let observation = &mut self.state.observation;
        observation.received_bytes += bytes as u64;
        if observation.statement.is_none() {
            let now = Instant::now();
            observation.statement = Some(now);
            if observation.transaction.is_none() {
                observation.transaction = Some(now);
                self.handle.client().enter(ClientState::Active, now);
            } else {
                self.handle.client().set_state(ClientState::Active);
            }
        }
        if observation.received_bytes > UNREPORTED_BYTES_MAX {
            self.report_traffic(0);
        }
    }

    /// Bytes of the server go to the client.
    pub(super) fn observe_sent(&mut self, bytes: usize) {
        self.state.observation.sent_bytes += bytes as u64;
        if self.state.observation.sent_bytes > UNREPORTED_BYTES_MAX {
            self.report_traffic(0);
        }
    }

    /// A message of the client goes to the server; `input` begins with it.
    pub(super) fn trace_client(&mut self, header: Header, input: &[u8]) {
        if let Some(trace) = &mut self.client.trace {
            trace.client_message(header.tag, header.body_bytes, input, self.client.known.dialect());
        }
    }

    /// The beginning of an ErrorResponse: the fields up to the cut.
    pub(super) fn trace_error(&mut self, prefix: &[u8]) {
        let Some(trace) = &mut self.client.trace else { return };
        let mut fields = prefix.split(|&byte| byte == 0);
        let code = fields.find_map(|field| field.strip_prefix(&[field_code::SQLSTATE]));
        if let Some(code) = code.and_then(SqlState::parse) {
            trace.error(code.as_str());
        }
    }

    /// A ReadyForQuery, after the tracker took note of it.
    pub(super) fn observe_ready(&mut self, status: TransactionStatus) {
        if let Some(trace) = &mut self.client.trace {
            trace.ready(status);
        }
        let now = Instant::now();
        let more = self.state.tracker.owed() > 0;
        let metrics = self.lease.metrics();
        let observation = &mut self.state.observation;
        if let Some(began) = observation.statement.take() {
            metrics.statements.record(now.duration_since(began));
        }
        let ended = match status {
            TransactionStatus::Idle => observation.transaction.take(),
            _ => None,
        };
        if let Some(began) = ended {
            metrics.transactions.record(now.duration_since(began));
        }
        // The next statement was sent ahead: it begins as this one ends.
        if more {
            observation.statement = Some(now);
            observation.transaction.get_or_insert(now);
        } else {
            self.handle.client().set_state(match status {
                TransactionStatus::Idle => ClientState::Idle,
                _ => ClientState::IdleInTransaction,
            });
        }
        self.report_traffic(u64::from(ended.is_some()));
    }

    pub(super) fn observe_pin(&self, reason: PinReason) {
        self.handle.client().set_pin(Some(reason.as_str()));
        self.lease.metrics().pins.add(reason.as_str(), 1);
    }

    pub(super) fn observe_unpin(&self) {
        self.handle.client().set_pin(None);
    }

    /// The relay is over; what was not reported yet is.
    pub(super) fn observe_end(&mut self) {
        self.report_traffic(0);
        if !self.state.pins.is_empty() {
            self.observe_unpin();
        }
    }

    fn report_traffic(&mut self, transactions: u64) {
        let received = std::mem::take(&mut self.state.observation.received_bytes);
        let sent = std::mem::take(&mut self.state.observation.sent_bytes);
        self.handle.client().add_traffic(transactions, received, sent);
        let metrics = self.lease.metrics();
        metrics.received.add(received);
        metrics.sent.add(sent);
    }
}
