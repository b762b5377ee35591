//! A client without a server connection: what it sends is answered here where PostgreSQL would need no transaction for
//! it, and otherwise asks for a server connection.

use super::{Session, SessionEnd};
use crate::cancel::Signal;
use crate::relay::{self, Client, Expired, Phase};
use crate::wire::with_scratch;
use bytes::{Buf, BytesMut};
use halephant_protocol::backend::{ErrorReport, ReadyForQuery, TransactionStatus};
use halephant_protocol::frame::{FrameError, HEADER_BYTES, Header, parse_frontend_header};
use halephant_protocol::frontend::tag;
use std::task::{Context, Poll, ready};

pub(super) enum Detached {
    NeedsServer,
    Ended(SessionEnd),
    Violation(FrameError),
}

impl Session {
    /// Waits until the client needs a server connection or leaves. Cancel safe.
    pub(super) async fn detached(&mut self) -> Detached {
        self.client.clock.begin(self.begun.phase(), 0);
        if !self.begun.is_nothing() {
            self.registration.client().set_state(self.begun.client_state());
        }
        std::future::poll_fn(|cx| self.poll_detached(cx)).await
    }

    fn poll_detached(&mut self, cx: &mut Context<'_>) -> Poll<Detached> {
        self.registration.register(cx.waker());
        loop {
            if let Some(detached) = self.take_messages() {
                return Poll::Ready(detached);
            }
            // A transaction may end, here as on a server.
            let drained = self.registration.has(Signal::Drain) && self.begun.is_nothing();
            if self.registration.has(Signal::Stop) || drained {
                super::ending::shutdown_report().encode_error(&mut self.client.out);
                return Poll::Ready(Detached::Ended(SessionEnd::Shutdown));
            }
            self.client.clock.tell(self.begun.phase(), 0);
            let idle = self.poll_idle(cx);
            if idle.is_ready() {
                return idle;
            }
            let Poll::Ready(open) = self.poll_more(cx) else { return Poll::Pending };
            if !open {
                return Poll::Ready(Detached::Ended(SessionEnd::ClientClosed));
            }
            // From the client's last word on, whatever it was.
            self.client.clock.begin(Phase::Idle, 0);
        }
    }

    /// Ready when the client has been idle for too long.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<Detached> {
        let Expired::End(phase) = ready!(self.client.clock.poll(cx, false)) else { return Poll::Pending };
        self.pool.metrics().timeouts.add(phase.key(), 1);
        let (end, report) = super::ending::timed_out(phase, self.client.clock.limit(phase));
        report.into_iter().for_each(|report| report.encode_error(&mut self.client.out));
        Poll::Ready(Detached::Ended(end))
    }

    /// Writes what is pending and the notifications that have come, and reads. `false`: the client is gone.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        loop {
            if ready!(self.client.poll_flush(cx)).is_err() {
                return Poll::Ready(false);
            }
            // In a transaction nothing is delivered.
            let closed = self.begun.status() != TransactionStatus::Idle;
            if closed || !self.client.poll_mail(cx) || self.client.out.is_empty() {
                return self.client.poll_fill(cx);
            }
        }
    }

    /// Works through what is held. `None`: more has to be read.
    fn take_messages(&mut self) -> Option<Detached> {
        loop {
            self.drop_discarded();
            let header = match parse_frontend_header(&self.client.held) {
                Ok(Some(header)) if self.discard == 0 => header,
                Ok(_) => break,
                Err(error) => return Some(Detached::Violation(error)),
            };
            match header.tag {
                tag::TERMINATE => return Some(Detached::Ended(SessionEnd::Terminated)),
                tag::SYNC => {
                    self.skipping = false;
                    ReadyForQuery { status: self.begun.status() }.encode(&mut self.client.out);
                }
                // Nothing is outstanding that a Flush could flush; COPY data outside of a COPY is ignored.
                tag::FLUSH | tag::COPY_DATA | tag::COPY_DONE | tag::COPY_FAIL => {}
                _ if self.skipping => {}
                _ if self.control_needs_more(header) || self.place_needs_more(header) => break,
                _ if self.answer_control(header) => {}
                _ if let Some(bytes) = self.answer_batch(header) => {
                    self.client.held.advance(bytes);
                    continue;
                }
                _ if self.begun.is_failed() && self.refuse_in_failed(header) => continue,
                _ if self.is_refused_block(header) => {
                    self.refuse_message(&relay::transaction_report());
                    continue;
                }
                _ => return Some(Detached::NeedsServer),
            }
            self.discard_message(header);
        }
        if self.client.held.is_empty() {
            // An idle client owns no buffer.
            self.client.held = BytesMut::new();
        }
        None
    }

    fn discard_message(&mut self, header: Header) {
        self.discard = HEADER_BYTES + header.body_bytes as usize;
        self.drop_discarded();
    }

    fn drop_discarded(&mut self) {
        let dropped = self.discard.min(self.client.held.len());
        self.client.held.advance(dropped);
        self.discard -= dropped;
    }

    /// Answers the message at the front with an error, as PostgreSQL would answer it. A transaction block fails by it.
    pub(super) fn refuse_message(&mut self, report: &ErrorReport) {
        self.begun.fail();
        let mut error = BytesMut::new();
        report.encode_error(&mut error);
        self.refuse_encoded(&error);
    }

    /// As [`refuse_message`](Self::refuse_message), with an ErrorResponse that is encoded.
    pub(super) fn refuse_encoded(&mut self, error: &[u8]) {
        self.client.out.extend_from_slice(error);
        let Ok(Some(header)) = parse_frontend_header(&self.client.held) else { return };
        match header.tag {
            tag::QUERY | tag::FUNCTION_CALL => {
                ReadyForQuery { status: self.begun.status() }.encode(&mut self.client.out);
            }
            _ => self.skipping = true,
        }
        self.discard_message(header);
    }
}

impl Client {
    /// Reads once into `held`. `false`: the client is gone.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        with_scratch(|buffer| match ready!(self.stream.poll_read(cx, buffer)) {
            Ok(0) | Err(_) => Poll::Ready(false),
            Ok(read) => {
                self.held.extend_from_slice(&buffer[..read]);
                Poll::Ready(true)
            }
        })
    }

    /// Ready when the client is gone; what it sends meanwhile is held, up to `held_bytes_max`.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>, held_bytes_max: usize) -> Poll<()> {
        while self.held.len() < held_bytes_max {
            if !ready!(self.poll_fill(cx)) {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }
}
