//! How long the server may take to answer what is ours: a client's parameters and its BEGIN ahead of a statement, the question
//! behind one. Whoever waits for a server connection waits as long (`checkout_timeout`): it is of no use before that.
//!
//! What goes in one write with the client's statement has no deadline of its own, because PostgreSQL does not answer it by itself. Nor
//! have the client's names: to read a statement, PostgreSQL may have to wait for a lock, as long as the client would have.

use super::{Relay, RelayEnd, RelayState};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::time::Sleep;

/// Of the answers that are outstanding.
#[derive(Debug, Default)]
pub(super) struct Deadline(Option<Pin<Box<Sleep>>>);

impl RelayState {
    /// Nothing of the client's has been sent on, and nothing of it was taken from what is held.
    pub fn has_sent_nothing(&self) -> bool {
        !self.forwarded && !self.own_names.underway
    }
}

impl Relay<'_> {
    /// Ready when the server has taken too long to answer us.
    pub(super) fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<RelayEnd> {
        if !self.state.swallowing {
            self.state.deadline = Deadline::default();
            return Poll::Pending;
        }
        let limit = self.lease.checkout_timeout();
        let timer = self.state.deadline.0.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(RelayEnd::Unanswered)
    }
}
