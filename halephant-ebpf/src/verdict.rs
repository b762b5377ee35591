//! [`decide`]: whether a chunk goes to the target or to userspace, and what becomes of the direction.

use halephant_common::flow::{
    ASK_ARM, CLIENT_TO_SERVER, Direction, MAY_LOSE_TRACK, Reason, Standing, control_arm_at, control_ask,
};
use halephant_common::framing::Framing;

use crate::walk::{Chunk, Tally, walk};

/// What a redirect changes, once the kernel has taken the redirect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    pub framing: Framing,
    pub tally: Tally,
    pub bytes: u32,
    /// The direction switches to the target with this chunk.
    pub arming: bool,
    pub untracked: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// To userspace, which owns the direction.
    Pass,
    /// To userspace, which owns the direction from this chunk on.
    Reclaim(Reason),
    Redirect(Taken),
}

/// `passed` counts the source's bytes that went to userspace so far; nothing is written here.
#[inline(always)]
pub fn decide<C: Chunk>(direction: &Direction, killed: bool, passed: u64, chunk: &mut C) -> Decision {
    let bytes = chunk.bytes();
    if bytes == 0 {
        // A FIN without data; redirecting it would break the target.
        return Decision::Pass;
    }
    let control = direction.control.load();
    let asked = control_ask(control) == ASK_ARM;
    let standing = direction.standing();
    let arming = !standing.spliced;
    if arming {
        if killed || !asked || control_arm_at(control) != passed {
            return Decision::Pass;
        }
    } else if killed {
        return Decision::Reclaim(Reason::Killed);
    } else if !asked {
        return Decision::Reclaim(Reason::Requested);
    }
    if direction.redirected.load() + bytes as u64 > direction.limit.load() {
        return if arming { Decision::Pass } else { Decision::Reclaim(Reason::Credit) };
    }
    let start = direction.framing();
    let start = if arming { Framing { status: start.status, ..Framing::default() } } else { start };
    let mut tally = Tally::default();
    if standing.untracked {
        return Decision::Redirect(Taken { framing: start, tally, bytes, arming, untracked: true });
    }
    match walk(start, direction.watched.load(), chunk, &mut tally) {
        Ok(framing) => Decision::Redirect(Taken { framing, tally, bytes, arming, untracked: false }),
        Err(Reason::Dense) if direction.flags.load() & MAY_LOSE_TRACK != 0 => {
            Decision::Redirect(Taken { framing: start, tally, bytes, arming, untracked: true })
        }
        Err(_) if arming => Decision::Pass,
        Err(reason) => Decision::Reclaim(reason),
    }
}

/// Writes down a redirect that the kernel has taken. Whether half the credit is used and userspace has not been told.
#[inline(always)]
pub fn commit(direction: &Direction, which: u32, taken: &Taken) -> bool {
    if taken.arming {
        direction.arms.store(direction.arms.load() + 1);
    }
    let before = direction.standing();
    let after = Standing { spliced: true, untracked: taken.untracked, ..before };
    if after != before {
        direction.set_standing(after);
    }
    direction.set_framing(&taken.framing);
    direction.messages.store(direction.messages.load() + taken.tally.messages as u64);
    let [idle, open, failed] = taken.tally.ready();
    let cycles = if which == CLIENT_TO_SERVER { taken.tally.asks } else { idle + open + failed };
    direction.cycles.store(direction.cycles.load() + cycles as u64);
    let redirected = direction.redirected.load() + taken.bytes as u64;
    direction.redirected.store(redirected);
    let low = direction.low.load();
    redirected >= low && direction.low_told.load() != low
}

/// Gives the direction back to userspace; its position stays where it was.
#[inline(always)]
pub fn reclaim(direction: &Direction, reason: Reason) {
    let before = direction.standing();
    direction.set_standing(Standing {
        spliced: false,
        terminated: before.terminated || matches!(reason, Reason::Terminate),
        reason: reason as u32,
        ..before
    });
}
