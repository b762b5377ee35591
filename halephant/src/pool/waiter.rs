//! A checkout that waits its turn.

use super::CheckoutError;
use super::lease::Lease;
use super::shared::Shared;
use super::state::UserIndex;
use crate::net::Role;
use crate::server::OpenError;
use crate::worker::WorkerId;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How much later somebody may have come who is served first, because the connection is with its worker already: to
/// move one between reactors costs three system calls and wakes another thread.
const AHEAD_MAX: Duration = Duration::from_millis(1);
/// Waiters looked at for one of the same worker.
const SCAN_MAX: usize = 32;

/// A number in the order of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct WaiterId(pub(super) u64);

/// What a waiter is told: a connection, or the error that no waiting would mend.
pub(super) type Grant = Result<Lease, Arc<OpenError>>;

/// The queue's end of a waiting checkout.
pub(super) struct Waiter {
    pub(super) id: WaiterId,
    pub(super) since: Instant,
    pub(super) worker: Option<WorkerId>,
    pub(super) grant: oneshot::Sender<Grant>,
}

/// Takes the waiter that a connection of `worker` goes to: the first one, or the first one of that worker if it came
/// hardly later.
pub(super) fn take_next(waiting: &mut VecDeque<Waiter>, worker: WorkerId) -> Option<Waiter> {
    let latest = waiting.front()?.since + AHEAD_MAX;
    let mut near = waiting.iter().take(SCAN_MAX).take_while(|waiter| waiter.since <= latest);
    let at = near.position(|waiter| waiter.worker == Some(worker)).unwrap_or(0);
    waiting.remove(at)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The order in which waiters are served by connections of worker 0, by the position in which they came.
    fn served(waiters: &[(usize, Duration)]) -> Vec<u64> {
        let began = Instant::now();
        let mut waiting: VecDeque<Waiter> = waiters
            .iter()
            .zip(0..)
            .map(|(&(worker, after), id)| Waiter {
                id: WaiterId(id),
                since: began + after,
                worker: Some(WorkerId(worker)),
                grant: oneshot::channel().0,
            })
            .collect();
        std::iter::from_fn(|| take_next(&mut waiting, WorkerId(0)).map(|waiter| waiter.id.0)).collect()
    }

    #[test]
    fn a_connection_stays_with_its_worker_while_nobody_waits_much_longer() {
        let soon = AHEAD_MAX / 2;
        let late = AHEAD_MAX * 2;
        assert_eq!(served(&[(0, Duration::ZERO), (0, soon)]), [0, 1]);
        assert_eq!(served(&[(1, Duration::ZERO), (0, soon), (1, soon), (0, late)]), [1, 0, 2, 3]);
        assert_eq!(served(&[(1, Duration::ZERO), (0, late)]), [0, 1]);
        assert_eq!(served(&[(1, Duration::ZERO), (1, soon)]), [0, 1]);
        let far: Vec<_> = (0..=SCAN_MAX).map(|at| (usize::from(at < SCAN_MAX), Duration::ZERO)).collect();
        assert_eq!(served(&far)[0], 0, "not all of a long queue is looked at");
    }
}
