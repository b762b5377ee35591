//! [`Leg`]: userspace's half of one direction.

use std::os::fd::BorrowedFd;

use halephant_common::address::{FlowKey, Peer};
use halephant_common::flow::Direction as Entry;

use super::reclaim::Taking;
use crate::splice::core::Core;
use crate::splice::policy::Directions;
use crate::splice::socket;

/// Unread bytes of an enrolled receiver below which nothing waits outside its receive buffer.
pub(super) const SETTLED_BYTES_MAX: u64 = 32 * 1024;

/// One end of a direction as the programs know it.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    /// Our socket.
    Own { slot: u32 },
    /// The other process's socket.
    Enrolled { key: FlowKey, cookie: u64 },
}

/// What held when the direction was armed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stretch {
    /// The target's position in its outgoing stream.
    pub written: u64,
    pub redirected: u64,
    /// Bytes that userspace had read of the source.
    pub read: u64,
    pub arms: u64,
    pub messages: u64,
    pub cycles: u64,
}

pub(super) struct Leg {
    pub usable: bool,
    pub source: End,
    pub to: End,
    /// Bytes that userspace has read of the source's socket, since the connection began.
    pub read: u64,
    /// `read` minus the program's `passed` for a source of ours, known from the first arming on.
    pub offset: Option<u64>,
    pub armed: Option<Stretch>,
    /// The direction is being taken back.
    pub taking: Option<Taking>,
    /// The target was busy when the direction was to be armed, and nothing was read since.
    pub wanted: bool,
}

/// Both legs of a flow whose enrolled ends are `peers`.
pub(super) fn legs(core: &Core, peers: [Option<Peer>; 2], usable: Directions, index: u32) -> [Leg; 2] {
    let end = |side: usize| match peers[side] {
        Some(Peer { key, cookie }) => End::Enrolled { key, cookie },
        None => End::Own { slot: 2 * index + side as u32 },
    };
    // A receiver that cannot be looked at could be overtaken, or hold any number of bytes.
    let seen = |end: &End| match end {
        End::Own { .. } => true,
        End::Enrolled { key, cookie } => {
            core.diag.memory(key).ok().flatten().is_some_and(|memory| memory.cookie == *cookie)
        }
    };
    [0, 1].map(|side| Leg {
        usable: usable.0[side] && seen(&end(1 - side)),
        source: end(side),
        to: end(1 - side),
        read: 0,
        offset: None,
        armed: None,
        taking: None,
        wanted: false,
    })
}

impl Leg {
    /// Redirected bytes that the receiver has read; too few rather than too many. `None` where it is not known.
    pub(super) fn consumed(&self, core: &Core, entry: &Entry, target: BorrowedFd<'_>) -> Option<u64> {
        let armed = self.armed.as_ref()?;
        match self.to {
            End::Own { .. } => {
                let acked = socket::flowed(target).ok()?.acked;
                Some(armed.redirected + acked.saturating_sub(armed.written))
            }
            End::Enrolled { key, cookie } => {
                let redirected = entry.redirected.load();
                let memory = core.diag.memory(&key).ok().flatten()?;
                let settled =
                    matches!(self.source, End::Enrolled { .. }) || memory.unread < SETTLED_BYTES_MAX;
                (memory.cookie == cookie && settled).then(|| redirected.saturating_sub(memory.unread))
            }
        }
    }
}
