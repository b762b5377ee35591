//! A client's clock: since when it is idle, in a transaction without a query, or in a query, and whether that is too long.
//!
//! The time is read when the client changes what it does, and only where its pool has a limit for that. The timer is set
//! anew when it goes off too early, not with every query.

use super::{Relay, RelayEnd};
use crate::pool::settings::ClientTimeouts;
use crate::splice::Direction;
use halephant_protocol::SqlState;
use halephant_protocol::backend::{ErrorReport, Severity, TransactionStatus};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, Sleep};

/// Longest that a query may take to end once it was cancelled.
const CANCELLED_TIMEOUT: Duration = Duration::from_secs(10);
/// What only the kernel sees is looked at so many times within a limit, which makes it so much less exact.
const LOOKS_PER_TIMEOUT: u32 = 4;

/// What a client does, as far as its limits go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Between transactions.
    Idle,
    /// In a transaction, and it is its turn.
    IdleInTransaction,
    /// The server's turn, or a message is not complete.
    Query,
}

impl Phase {
    /// The key of the limit, which is also the label in metrics.
    pub fn key(self) -> &'static str {
        match self {
            Self::Idle => "client_idle_timeout",
            Self::IdleInTransaction => "idle_transaction_timeout",
            Self::Query => "query_timeout",
        }
    }
}

/// What the clock says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expired {
    /// Nothing has expired as far as is known: look at what the kernel did.
    Look,
    /// The query is to be cancelled.
    Cancel,
    /// The session is to end.
    End(Phase),
}

/// One client's; nothing where its pool has no limits.
#[derive(Debug, Default)]
pub struct Clock(Option<Box<Running>>);

#[derive(Debug)]
struct Running {
    limits: ClientTimeouts,
    phase: Phase,
    /// Which one of these phases: the number of ReadyForQuery before it.
    mark: u64,
    deadline: Option<Instant>,
    cancelled: bool,
    /// Something else than the client's limits holds for what it waits for.
    paused: bool,
    /// Goes off at the deadline or before it.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Clock {
    pub fn new(limits: ClientTimeouts) -> Self {
        let running = Running {
            limits,
            phase: Phase::Idle,
            mark: 0,
            deadline: None,
            cancelled: false,
            paused: false,
            timer: None,
        };
        Self((limits != ClientTimeouts::default()).then(|| Box::new(running)))
    }

    /// Whether there is anything to measure.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// How long a phase may last; zero is for ever.
    pub fn limit(&self, phase: Phase) -> Duration {
        self.0.as_ref().map_or(Duration::ZERO, |running| running.limit(phase))
    }

    /// The phase begins now.
    pub fn begin(&mut self, phase: Phase, mark: u64) {
        if let Some(running) = &mut self.0 {
            running.begin(phase, mark);
        }
    }

    /// What the client does; the phase began now if it was not in it the last time.
    pub fn tell(&mut self, phase: Phase, mark: u64) {
        if let Some(running) = &mut self.0
            && (running.paused || (running.phase, running.mark) != (phase, mark))
        {
            running.begin(phase, mark);
        }
    }

    /// The client waits for us, and that has a deadline of its own.
    pub fn pause(&mut self) {
        if let Some(running) = &mut self.0 {
            (running.paused, running.deadline) = (true, None);
        }
    }

    /// Ready when something is to be done. `unseen`: the kernel moves messages that nobody told this clock of.
    pub fn poll(&mut self, cx: &mut Context<'_>, unseen: bool) -> Poll<Expired> {
        match &mut self.0 {
            Some(running) => running.poll(cx, unseen),
            None => Poll::Pending,
        }
    }
}

impl Running {
    fn limit(&self, phase: Phase) -> Duration {
        match phase {
            Phase::Idle => self.limits.idle,
            Phase::IdleInTransaction => self.limits.idle_transaction,
            Phase::Query => self.limits.query,
        }
    }

    fn begin(&mut self, phase: Phase, mark: u64) {
        (self.phase, self.mark, self.cancelled, self.paused) = (phase, mark, false, false);
        let limit = self.limit(phase);
        self.deadline = (!limit.is_zero()).then(|| Instant::now() + limit);
    }

    /// How long what the kernel does may go unseen. A phase without a limit may have ended meanwhile.
    fn look_interval(&self) -> Duration {
        let limits = [self.limits.idle, self.limits.idle_transaction, self.limits.query];
        let all = limits.into_iter().filter(|limit| !limit.is_zero()).min();
        let own = Some(self.limit(self.phase)).filter(|limit| !limit.is_zero());
        own.or(all).unwrap_or_default() / LOOKS_PER_TIMEOUT
    }

    /// When to do something next; nothing where no limit can pass by itself.
    fn next(&self, unseen: bool) -> Option<Instant> {
        let look = unseen.then(|| Instant::now() + self.look_interval());
        self.deadline.into_iter().chain(look).min()
    }

    fn poll(&mut self, cx: &mut Context<'_>, unseen: bool) -> Poll<Expired> {
        let Some(next) = self.next(unseen) else { return Poll::Pending };
        let timer = match &mut self.timer {
            Some(timer) => timer,
            none => none.insert(Box::pin(tokio::time::sleep_until(next))),
        };
        if timer.deadline() > next {
            timer.as_mut().reset(next);
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            if self.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return Poll::Ready(self.expire(self.phase));
            }
            timer.as_mut().reset(next);
            if unseen {
                return Poll::Ready(Expired::Look);
            }
        }
    }

    /// A query gets a second chance to end: it is cancelled first.
    fn expire(&mut self, phase: Phase) -> Expired {
        if phase != Phase::Query || self.cancelled {
            self.deadline = None;
            return Expired::End(phase);
        }
        self.cancelled = true;
        self.deadline = Some(Instant::now() + CANCELLED_TIMEOUT);
        Expired::Cancel
    }
}

impl Relay<'_> {
    /// Everything else waits: looks at the client's limits.
    pub(super) fn poll_clock(&mut self, cx: &mut Context<'_>) -> Poll<RelayEnd> {
        if !self.client.clock.is_on() {
            return Poll::Pending;
        }
        let unseen = !self.is_in_userspace();
        loop {
            if unseen {
                self.absorb();
            }
            match self.phase() {
                Some(phase) => self.client.clock.tell(phase, self.state.tracker.cycles()),
                None => self.client.clock.pause(),
            }
            match ready!(self.client.clock.poll(cx, unseen)) {
                Expired::Look => {}
                Expired::Cancel => self.cancel_query(cx),
                Expired::End(phase) => {
                    self.lease.metrics().timeouts.add(phase.key(), 1);
                    return Poll::Ready(RelayEnd::TimedOut(phase));
                }
            }
        }
    }

    /// `None`: none of the limits is about what the client waits for.
    fn phase(&self) -> Option<Phase> {
        let tracker = &self.state.tracker;
        let ours = self.state.swallowing || self.state.own_names.underway;
        if ours || self.client.body_left > 0 || !tracker.awaits_client() {
            Some(Phase::Query)
        } else if self.is_cancelling() || self.is_reserving() {
            // Its next message may be there, and it is not the client that holds it back.
            None
        } else if tracker.status() == TransactionStatus::Idle && !tracker.needs_sync() {
            Some(Phase::Idle)
        } else {
            Some(Phase::IdleInTransaction)
        }
    }

    /// Has the server end the query, and tells the client why where that can be told now.
    fn cancel_query(&mut self, cx: &Context<'_>) {
        let process_id = self.handle.process_id();
        let limit = humantime::format_duration(self.client.clock.limit(Phase::Query));
        tracing::info!(process_id, "a query took longer than query_timeout and is cancelled");
        self.lease.metrics().timeouts.add(Phase::Query.key(), 1);
        if self.state.server_body_left == 0 && !self.is_in_kernel(Direction::ServerToClient) {
            let message = format!("canceling statement due to query_timeout ({limit})");
            ErrorReport::new(Severity::Warning, SqlState::QUERY_CANCELED, message)
                .encode_notice(&mut self.client.out);
        }
        self.state.cancelling = Cancelling::Due { cycles: self.state.tracker.cycles() };
        cx.waker().wake_by_ref();
    }

    /// What the client sends from now on waits, so that it is not struck in place of the query.
    pub(super) fn is_cancelling(&self) -> bool {
        !matches!(self.state.cancelling, Cancelling::No)
    }

    /// Sends the cancel that is due. The client's direction is the relay's by now: the kernel passes nothing on behind it.
    pub(super) fn send_cancel(&mut self) {
        let Cancelling::Due { cycles } = self.state.cancelling else { return };
        if cycles != self.state.tracker.cycles() || self.phase() != Some(Phase::Query) {
            // The query has ended meanwhile.
            self.state.cancelling = Cancelling::No;
            return;
        }
        let process_id = self.handle.process_id();
        let cancel = self.lease.connection().cancel.begin();
        self.state.cancelling = Cancelling::Underway(tokio::spawn(async move {
            if let Err(error) = cancel.send().await {
                tracing::warn!(process_id, %error, "a cancel request did not reach the server");
            }
        }));
    }

    /// Pending while a cancel of ours is on its way to the server.
    pub(super) fn poll_cancelled(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Cancelling::Underway(task) = &mut self.state.cancelling {
            let _ = ready!(Pin::new(task).poll(cx));
            self.state.cancelling = Cancelling::No;
        }
        Poll::Ready(())
    }
}

/// The cancel of a query that took too long.
#[derive(Debug, Default)]
pub(super) enum Cancelling {
    #[default]
    No,
    /// It is to be sent, if the query still runs: no more ReadyForQuery came than these.
    Due {
        cycles: u64,
    },
    Underway(JoinHandle<()>),
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    const SECOND: Duration = Duration::from_secs(1);

    fn clock() -> Clock {
        Clock::new(ClientTimeouts { idle: 4 * SECOND, idle_transaction: SECOND, query: 2 * SECOND })
    }

    async fn expired(clock: &mut Clock) -> (Expired, Duration) {
        let began = Instant::now();
        (poll_fn(|cx| clock.poll(cx, false)).await, began.elapsed())
    }

    /// The timer is exact to a millisecond.
    #[track_caller]
    fn after(found: (Expired, Duration), expected: Expired, time: Duration) {
        let late = found.1.checked_sub(time);
        assert!(found.0 == expected && late.is_some_and(|late| late < SECOND / 10), "{found:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_phase_lasts_as_long_as_its_limit() {
        let mut clock = clock();
        clock.begin(Phase::Idle, 0);
        after(expired(&mut clock).await, Expired::End(Phase::Idle), 4 * SECOND);
        clock.tell(Phase::IdleInTransaction, 1);
        after(expired(&mut clock).await, Expired::End(Phase::IdleInTransaction), SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn another_one_of_the_same_phase_begins_anew() {
        let mut clock = clock();
        for mark in 1..6 {
            clock.tell(Phase::Idle, mark);
            tokio::time::sleep(3 * SECOND).await;
            clock.tell(Phase::Idle, mark);
            assert!(poll_fn(|cx| Poll::Ready(clock.poll(cx, false))).await.is_pending());
        }
        after(expired(&mut clock).await, Expired::End(Phase::Idle), SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_query_is_cancelled_before_its_session_ends() {
        let mut clock = clock();
        clock.tell(Phase::Query, 0);
        after(expired(&mut clock).await, Expired::Cancel, 2 * SECOND);
        clock.tell(Phase::Query, 0);
        after(expired(&mut clock).await, Expired::End(Phase::Query), CANCELLED_TIMEOUT);
        clock.tell(Phase::Query, 1);
        after(expired(&mut clock).await, Expired::Cancel, 2 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_kernel_does_is_looked_at_several_times() {
        let mut clock = clock();
        clock.begin(Phase::Idle, 0);
        let mut looks = 0;
        let began = Instant::now();
        while poll_fn(|cx| clock.poll(cx, true)).await == Expired::Look {
            looks += 1;
        }
        assert_eq!(looks, LOOKS_PER_TIMEOUT - 1);
        after((Expired::Look, began.elapsed()), Expired::Look, 4 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_kernel_does_is_looked_at_in_a_phase_without_a_limit() {
        let limits = ClientTimeouts { query: 2 * SECOND, ..ClientTimeouts::default() };
        let mut clock = Clock::new(limits);
        clock.begin(Phase::Idle, 0);
        let began = Instant::now();
        let found = poll_fn(|cx| clock.poll(cx, true)).await;
        after((found, began.elapsed()), Expired::Look, SECOND / 2);
        // The kernel has moved a query meanwhile, and it goes on.
        clock.tell(Phase::Query, 0);
        let looks = async { while poll_fn(|cx| clock.poll(cx, true)).await == Expired::Look {} };
        let began = Instant::now();
        looks.await;
        after((Expired::Cancel, began.elapsed()), Expired::Cancel, 2 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn without_limits_nothing_expires() {
        let mut clock = Clock::default();
        clock.tell(Phase::Idle, 0);
        assert!(!clock.is_on());
        assert!(poll_fn(|cx| Poll::Ready(clock.poll(cx, false))).await.is_pending());
    }
}
