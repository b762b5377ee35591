//! A checkout that waits its turn.

use super::CheckoutError;
use super::lease::Lease;
use super::shared::Shared;
use super::state::UserIndex;
use crate::net::Role;
use crate::server::OpenError;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;
use tokio::sync::oneshot;

/// A number in the order of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct WaiterId(pub(super) u64);

/// What a waiter is told: a connection, or the error that no waiting would mend.
pub(super) type Grant = Result<Lease, Arc<OpenError>>;

/// The queue's end of a waiting checkout.
pub(super) struct Waiter {
    pub(super) id: WaiterId,
    pub(super) since: Instant,
    pub(super) grant: oneshot::Sender<Grant>,
}

/// The client's end of a waiting checkout. Dropping it leaves the queue; a connection granted meanwhile goes back.
pub(super) struct Waiting {
    pub(super) pool: Arc<Shared>,
    pub(super) user: UserIndex,
    pub(super) role: Role,
    pub(super) id: WaiterId,
    pub(super) granted: oneshot::Receiver<Grant>,
    pub(super) done: bool,
}

impl Future for Waiting {
    type Output = Result<Lease, CheckoutError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let result = std::task::ready!(Pin::new(&mut self.granted).poll(cx));
        self.done = true;
        Poll::Ready(match result {
            Ok(Ok(lease)) => Ok(lease),
            Ok(Err(error)) => Err(CheckoutError::Open(error)),
            Err(_) => Err(CheckoutError::Closed),
        })
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        self.granted.close();
        if self.pool.give_up(self.user, self.role, self.id) {
            return;
        }
        if let Ok(Ok(lease)) = self.granted.try_recv() {
            lease.checkin();
        }
    }
}
