//! Taking a direction back, and ending a flow.

use std::os::fd::BorrowedFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use halephant_common::flow::{ASK_PASS, Reason, control_word};
use halephant_common::framing::Framing;
use tokio::time::{Instant, Sleep, sleep};

use super::leg::{End, Stretch};
use super::{Direction, Flow, Sockets};
use crate::splice::error::Fault;
use crate::splice::grace::Grant;
use crate::splice::socket;

/// First and longest pause between two looks at a target that has not taken all bytes.
const LOOK_FIRST: Duration = Duration::from_micros(200);
const LOOK_LAST: Duration = Duration::from_millis(20);
/// A target that takes nothing for so long, with nothing in its own queue either, lost bytes.
const STUCK_AFTER: Duration = Duration::from_secs(5);
/// An enrolled receiver has no backlog when it is empty at two looks so far apart: the kernel retries every jiffy.
const SETTLE: Duration = Duration::from_millis(25);

/// A stretch in the kernel, and where it ended. Userspace owns the direction from the next byte it reads on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reclaimed {
    pub reason: Reason,
    /// Bytes, message headers and ReadyForQuery cycles (messages that ask for one, or are one) of this stretch.
    pub redirected: u64,
    pub messages: u64,
    pub cycles: u64,
    /// Where the next byte stands: bytes left of the message in flight, its type byte, the bytes of a partial header, and
    /// the transaction status of the last ReadyForQuery. Of no use where `untracked`.
    pub framing: Framing,
    pub untracked: bool,
}

/// How far taking a direction back has come.
pub(super) enum Taking {
    /// Runs of programs that began before are waited for.
    Grace(Grant),
    /// The target is looked at until it has every byte.
    Drain(Drain),
}

pub(super) struct Drain {
    pause: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
    /// Of the last look that saw something move: bytes that the target had taken, and when.
    taken: u64,
    moved: Instant,
    empty_since: Option<Instant>,
}

impl Taking {
    fn drain() -> Self {
        Self::Drain(Drain {
            pause: LOOK_FIRST,
            sleep: None,
            taken: 0,
            moved: Instant::now(),
            empty_since: None,
        })
    }

    fn poll(
        &mut self,
        flow: &Flow,
        cx: &mut Context<'_>,
        direction: Direction,
        sockets: Sockets<'_>,
        armed: Stretch,
    ) -> Poll<Result<(), Fault>> {
        loop {
            match self {
                Self::Grace(grant) => {
                    ready!(grant.poll(cx))?;
                    *self = Self::drain();
                }
                Self::Drain(drain) => {
                    if let Some(sleep) = &mut drain.sleep {
                        ready!(sleep.as_mut().poll(cx));
                        drain.sleep = None;
                    }
                    match flow.look_at_target(direction, sockets, armed, drain) {
                        Ok(None) => return Poll::Ready(Ok(())),
                        Ok(Some(pause)) => drain.sleep = Some(Box::pin(sleep(pause))),
                        Err(fault) => return Poll::Ready(Err(fault)),
                    }
                }
            }
        }
    }
}

impl Drain {
    fn look_at_own(
        &mut self,
        target: BorrowedFd<'_>,
        before: u64,
        redirected: u64,
    ) -> Result<Option<Duration>, Fault> {
        let system = |step| move |source| Fault::System(step, source);
        if !socket::flowed(target).map_err(system("reading TCP_INFO"))?.open {
            // Nobody will read what is missing.
            return Ok(None);
        }
        let taken = socket::written(target).map_err(system("reading TCP_INFO"))?.saturating_sub(before);
        if taken == redirected {
            return Ok(None);
        }
        let waiting = socket::unacked(target).map_err(system("reading SIOCOUTQ"))?;
        if taken != self.taken || waiting > 0 {
            (self.taken, self.moved) = (taken, Instant::now());
        }
        if taken > redirected || self.moved.elapsed() > STUCK_AFTER {
            return Err(Fault::Bytes { redirected, taken });
        }
        let pause = self.pause;
        self.pause = (pause * 2).min(LOOK_LAST);
        Ok(Some(pause))
    }

    /// `unread`: bytes that the receiver has not read; `None` once it is closed.
    fn look_at_enrolled(&mut self, unread: Option<u64>) -> Option<Duration> {
        match unread? {
            0 => {
                let since = *self.empty_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= SETTLE {
                    return None;
                }
            }
            _ => self.empty_since = None,
        }
        Some(LOOK_LAST)
    }
}

/// Puts `taking` back where it has not ended.
fn ready_or_keep<T>(result: Poll<T>, taking: Taking, slot: &mut Option<Taking>) -> Poll<T> {
    if result.is_pending() {
        *slot = Some(taking);
    }
    result
}

/// What is left of a flow that ended in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Released {
    /// The server connection lost nothing and its messages were followed throughout, so far as the kernel is concerned.
    pub server_reusable: bool,
}

impl Flow {
    /// Takes the direction back. Once it is ready, the target has taken every redirected byte, and userspace may write.
    /// It waits for the target to do so; the caller sets the deadline.
    ///
    /// On a fault both sockets have to be closed.
    pub fn poll_reclaim(
        &mut self,
        cx: &mut Context<'_>,
        direction: Direction,
        sockets: Sockets<'_>,
    ) -> Poll<Result<Reclaimed, Fault>> {
        let which = direction as usize;
        let Some(armed) = self.legs[which].armed else {
            return Poll::Ready(Ok(self.outcome(direction, None)));
        };
        let mut taking =
            self.legs[which].taking.take().unwrap_or_else(|| self.begin_reclaim(direction, armed));
        let result = taking.poll(self, cx, direction, sockets, armed);
        match ready_or_keep(result, taking, &mut self.legs[which].taking) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(())) => {
                let outcome = self.outcome(direction, Some(armed));
                self.legs[which].armed = None;
                Poll::Ready(Ok(outcome))
            }
            Poll::Ready(Err(fault)) => {
                self.core.fault();
                tracing::error!(path = %self.path, %fault, "the kernel path failed and is off");
                Poll::Ready(Err(fault))
            }
        }
    }

    /// [`Self::poll_reclaim`] to its end. Cancel safe: call it again.
    pub async fn reclaim(&mut self, direction: Direction, sockets: Sockets<'_>) -> Result<Reclaimed, Fault> {
        std::future::poll_fn(|cx| self.poll_reclaim(cx, direction, sockets)).await
    }

    fn begin_reclaim(&self, direction: Direction, armed: Stretch) -> Taking {
        let entry = self.entry(direction);
        entry.control.store(control_word(0, ASK_PASS));
        // Bytes have passed since: the program gave the direction back itself or can no longer take it. Its words alone do
        // not show that; one that has just taken the direction writes them one after the other.
        let passed = !entry.standing().spliced && self.legs[direction as usize].read > armed.read;
        if passed { Taking::drain() } else { Taking::Grace(self.core.grace.period()) }
    }

    fn outcome(&self, direction: Direction, armed: Option<Stretch>) -> Reclaimed {
        let entry = self.entry(direction);
        let standing = entry.standing();
        let itself = armed.is_some_and(|armed| entry.arms.load() != armed.arms) && !standing.spliced;
        let since = |now: u64, then: fn(&Stretch) -> u64| armed.map_or(0, |armed| now - then(&armed));
        let redirected = since(entry.redirected.load(), |armed| armed.redirected);
        let framing = entry.framing();
        Reclaimed {
            reason: Reason::from_word(standing.reason).filter(|_| itself).unwrap_or(Reason::Requested),
            redirected,
            messages: since(entry.messages.load(), |armed| armed.messages),
            cycles: since(entry.cycles.load(), |armed| armed.cycles),
            framing: if redirected > 0 {
                framing
            } else {
                Framing { status: framing.status, ..Framing::default() }
            },
            untracked: standing.untracked,
        }
    }

    /// Whether the target has every redirected byte of the stretch; otherwise how long to wait for the next look.
    fn look_at_target(
        &self,
        direction: Direction,
        sockets: Sockets<'_>,
        armed: Stretch,
        drain: &mut Drain,
    ) -> Result<Option<Duration>, Fault> {
        let leg = &self.legs[direction as usize];
        let redirected = self.entry(direction).redirected.load() - armed.redirected;
        if redirected == 0 {
            return Ok(None);
        }
        match (leg.source, leg.to) {
            (_, End::Own { .. }) => drain.look_at_own(sockets.target(direction), armed.written, redirected),
            // The sender's own call put the bytes into the receiver's queue.
            (End::Enrolled { .. }, End::Enrolled { .. }) => Ok(None),
            (End::Own { .. }, End::Enrolled { key, cookie }) => {
                let memory = self
                    .core
                    .diag
                    .memory(&key)
                    .map_err(|source| Fault::System("asking sock_diag", source))?;
                // A receiver that is closed is of no interest: what it did not read is nobody's.
                let unread = memory.filter(|memory| memory.cookie == cookie).map(|memory| memory.unread);
                Ok(drain.look_at_enrolled(unread))
            }
        }
    }

    /// Ends the flow and takes our sockets out of the kernel's hands. Both directions have to be reclaimed and nothing
    /// may be owed to either side; a direction that is still armed makes the server connection unfit for use.
    pub fn release(mut self, sockets: Sockets<'_>) -> Released {
        let armed = self.legs.iter().any(|leg| leg.armed.is_some());
        let untracked = Direction::BOTH.iter().any(|direction| self.entry(*direction).standing().untracked);
        if let Some((slot, cookie)) = self.own[1].take() {
            self.core.remove_own(slot, cookie);
        }
        // What the server sent meanwhile and the socket's removal threw away shows as received and never read.
        let whole = self.nothing_lost(sockets).unwrap_or(false);
        Released { server_reusable: !armed && !untracked && whole }
    }

    fn nothing_lost(&self, sockets: Sockets<'_>) -> std::io::Result<bool> {
        let leg = &self.legs[1];
        let here = match leg.source {
            End::Own { .. } => self.entry(Direction::ServerToClient).redirected.load(),
            End::Enrolled { .. } => 0,
        };
        let unread = socket::unread(sockets.server)?;
        let received = socket::flowed(sockets.server)?.received;
        Ok(leg.read + here + unread == received)
    }
}
