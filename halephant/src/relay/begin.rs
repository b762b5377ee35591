//! The client's BEGIN, which was answered without a server, on its way ahead of the first message behind it.
//!
//! That message is sent when the server has confirmed the BEGIN: were both sent at once and the BEGIN refused, the
//! statement would be a transaction of its own.

use super::{Relay, RelayEnd};
use bytes::BytesMut;
use halephant_protocol::backend::{self, ReadyForQuery, TransactionStatus};
use halephant_protocol::frame::Header;
use halephant_protocol::frontend::Query;

#[derive(Debug, Default)]
pub(super) struct Begin {
    underway: bool,
    /// The server's ErrorResponse.
    refused: Option<Box<BytesMut>>,
}

impl Relay<'_> {
    /// Sends the text that begins the client's transaction block, behind our own SETs.
    pub fn begin(&mut self, text: &[u8]) {
        let behind_sets = self.state.swallowing;
        // It came in a Query: there is no NUL in it.
        if (Query { query: text }).encode(&mut self.state.to_server).is_ok() {
            self.state.begin.underway = true;
            self.state.setting = behind_sets;
            self.state.swallowing = true;
            self.lease.connection().busy = true;
        }
    }

    /// Whether what is swallowed now answers the BEGIN.
    pub(super) fn is_beginning(&self) -> bool {
        self.state.begin.underway && !self.state.setting
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
                self.state.begin.underway = false;
                let refused = std::mem::take(&mut self.state.begin.refused);
                let status = ReadyForQuery::parse(body).map(|ready| ready.status);
                match (status, refused) {
                    (Ok(TransactionStatus::InTransaction), None) => {
                        if self.state.joined.take().is_some() {
                            self.tell_parameters();
                        }
                        self.state.tracker.ready_unasked(TransactionStatus::InTransaction);
                        None
                    }
                    (Ok(TransactionStatus::Idle), Some(refused)) => Some(RelayEnd::BeginRefused(refused)),
                    _ => Some(RelayEnd::ServerViolation),
                }
            }
            _ => self.swallow_answer(header, body),
        }
    }
}
