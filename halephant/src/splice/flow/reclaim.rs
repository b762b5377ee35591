//! Taking a direction back, and ending a flow.

use std::time::Duration;

use halephant_common::flow::{ASK_PASS, Reason, control_word};
use halephant_common::framing::Framing;
use tokio::time::{Instant, sleep};

use super::leg::{End, Stretch};
use super::{Direction, Flow, Sockets};
use crate::splice::error::Fault;
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

/// What is left of a flow that ended in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Released {
    /// The server connection lost nothing and its messages were followed throughout, so far as the kernel is concerned.
    pub server_reusable: bool,
}

impl Flow {
    /// Takes the direction back. When it returns, the target has taken every redirected byte, and userspace may write.
    /// It waits for the target to do so; the caller sets the deadline. Cancel safe: call it again.
    ///
    /// On a fault both sockets have to be closed.
    pub async fn reclaim(&mut self, direction: Direction, sockets: Sockets<'_>) -> Result<Reclaimed, Fault> {
        let which = direction as usize;
        let Some(armed) = self.legs[which].armed else {
            return Ok(self.outcome(direction, None));
        };
        let entry = self.entry(direction);
        entry.control.store(control_word(0, ASK_PASS));
        // A program that gave the direction back itself, or can no longer take it because bytes have passed, is done.
        let passed = !entry.standing().spliced
            && (entry.arms.load() != armed.arms || self.legs[which].read > armed.read);
        if !passed {
            self.core.grace.period().await?;
        }
        match self.drain(direction, sockets, armed).await {
            Ok(()) => {
                let outcome = self.outcome(direction, Some(armed));
                self.legs[which].armed = None;
                Ok(outcome)
            }
            Err(fault) => {
                self.core.fault();
                tracing::error!(path = %self.path, %fault, "the kernel path failed and is off");
                Err(fault)
            }
        }
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

    /// Waits until the target has every redirected byte of the stretch.
    async fn drain(&self, direction: Direction, sockets: Sockets<'_>, armed: Stretch) -> Result<(), Fault> {
        let leg = &self.legs[direction as usize];
        let redirected = self.entry(direction).redirected.load() - armed.redirected;
        if redirected == 0 {
            return Ok(());
        }
        match (leg.source, leg.to) {
            (_, End::Own { .. }) => self.drain_own(direction, sockets, armed.written, redirected).await,
            // The sender's own call put the bytes into the receiver's queue.
            (End::Enrolled { .. }, End::Enrolled { .. }) => Ok(()),
            (End::Own { .. }, End::Enrolled { key, cookie }) => {
                let mut empty_since = None;
                loop {
                    let memory = self
                        .core
                        .diag
                        .memory(&key)
                        .map_err(|source| Fault::System("asking sock_diag", source))?;
                    match memory {
                        Some(memory) if memory.cookie == cookie && memory.unread > 0 => empty_since = None,
                        Some(memory) if memory.cookie == cookie => {
                            let since = *empty_since.get_or_insert_with(Instant::now);
                            if since.elapsed() >= SETTLE {
                                return Ok(());
                            }
                        }
                        // It is closed; what it did not read is nobody's.
                        _ => return Ok(()),
                    }
                    sleep(LOOK_LAST).await;
                }
            }
        }
    }

    async fn drain_own(
        &self,
        direction: Direction,
        sockets: Sockets<'_>,
        before: u64,
        redirected: u64,
    ) -> Result<(), Fault> {
        let target = sockets.target(direction);
        let system = |step| move |source| Fault::System(step, source);
        let (mut pause, mut last, mut moved) = (LOOK_FIRST, 0, Instant::now());
        loop {
            if !socket::flowed(target).map_err(system("reading TCP_INFO"))?.open {
                // Nobody will read what is missing.
                return Ok(());
            }
            let taken = socket::written(target).map_err(system("reading TCP_INFO"))?.saturating_sub(before);
            if taken == redirected {
                return Ok(());
            }
            let waiting = socket::unacked(target).map_err(system("reading SIOCOUTQ"))?;
            if taken != last || waiting > 0 {
                (last, moved) = (taken, Instant::now());
            }
            if taken > redirected || moved.elapsed() > STUCK_AFTER {
                return Err(Fault::Bytes { redirected, taken });
            }
            sleep(pause).await;
            pause = (pause * 2).min(LOOK_LAST);
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
