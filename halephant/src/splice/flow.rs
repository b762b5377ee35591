//! [`Flow`]: one session's two sockets, and who moves the bytes of each direction.

mod leg;
mod reclaim;

use std::fmt;
use std::os::fd::BorrowedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use halephant_common::flow::{
    ASK_ARM, Attachment, Binding, CLIENT_TO_SERVER, Direction as Entry, Position, SERVER_TO_CLIENT,
    TARGET_ENROLLED, TARGET_OWN, Target, control_word, watched_bit,
};
use halephant_common::framing::Framing;

use tokio::time::Sleep;

use super::core::Core;
use super::error::{NotArmed, NotInserted};
use super::events::{SIGNAL_RECLAIM, Signals, signal_low};
use super::policy::Path;
use super::socket;
use leg::{End, Leg, Stretch};
pub use reclaim::{Reclaimed, Released};

/// How soon a receiver that had not read enough for more credit is looked at again.
const CREDIT_RETRY: Duration = Duration::from_millis(5);
/// First and longest pause before a target that was busy is looked at again.
const LOOK_FIRST: Duration = Duration::from_millis(1);
const LOOK_LAST: Duration = Duration::from_millis(200);

/// Messages of the server that the relay has to see: ErrorResponse, CopyInResponse, CopyBothResponse, ParameterStatus.
const WATCHED_FROM_SERVER: u64 =
    watched_bit(b'E') | watched_bit(b'G') | watched_bit(b'W') | watched_bit(b'S');

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    ClientToServer = CLIENT_TO_SERVER as isize,
    ServerToClient = SERVER_TO_CLIENT as isize,
}

impl Direction {
    pub const BOTH: [Self; 2] = [Self::ClientToServer, Self::ServerToClient];
}

/// Our two sockets of a session, as long as a call lasts.
#[derive(Clone, Copy)]
pub struct Sockets<'a> {
    pub client: BorrowedFd<'a>,
    pub server: BorrowedFd<'a>,
}

impl<'a> Sockets<'a> {
    fn source(&self, direction: Direction) -> BorrowedFd<'a> {
        match direction {
            Direction::ClientToServer => self.client,
            Direction::ServerToClient => self.server,
        }
    }

    fn target(&self, direction: Direction) -> BorrowedFd<'a> {
        match direction {
            Direction::ClientToServer => self.server,
            Direction::ServerToClient => self.client,
        }
    }
}

/// What [`Flow::tend`] asks of the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attention {
    /// Take both directions back: the kernel path is switched off.
    Reclaim,
    /// The target that was busy when the direction was to be armed has read by now: try again, if the relay still holds
    /// nothing of it.
    Arm(Direction),
}

/// Where a direction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// The policy or the self-test keep it in userspace.
    pub usable: bool,
    /// Armed and not reclaimed since.
    pub armed: bool,
    /// Bytes go through the kernel.
    pub spliced: bool,
    /// Bytes that went through the kernel, since the flow began.
    pub redirected: u64,
    pub messages: u64,
    /// Messages that ask for a ReadyForQuery, or are one.
    pub cycles: u64,
    pub untracked: bool,
    pub framing: Framing,
}

/// A session on the kernel path. Userspace owns both directions at the beginning.
///
/// For each direction, the one task that owns both sockets does this:
///
/// 1. It reads from the source's socket, at all times, and calls [`Flow::read`] with the number of bytes. End of stream
///    and errors arrive there, too, whoever owns the direction.
/// 2. When a read gives bytes or the end of the stream while [`Flow::is_armed`], it calls [`Flow::reclaim`] before it
///    writes anything to the target. The answer says where in the stream of messages the bytes just read begin.
/// 3. At a message boundary, when it holds no byte of the direction, it may call [`Flow::arm`]; best when the target has
///    just sent something, which shows that it has read. A refusal is an answer, not an error: go on in userspace.
/// 4. Beside its reads it polls [`Flow::poll_tend`] and does what that asks.
///
/// A flow ends with [`Flow::release`], which tells whether the server connection can be used again, or by being dropped
/// once both sockets are of no more use.
pub struct Flow {
    core: Arc<Core>,
    signals: Arc<Signals>,
    index: u32,
    generation: u32,
    path: Path,
    legs: [Leg; 2],
    /// Ends of ours that are under the verdict: slot and cookie, client's and server's.
    own: [Option<(u32, u64)>; 2],
    /// What the send buffers of ours were made for.
    credit_bytes_max: u64,
    /// Between two looks of [`Self::poll_tend`], and how long the next one will be.
    pause: Option<Pin<Box<Sleep>>>,
    look: Duration,
}

impl fmt::Debug for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flow")
            .field("index", &self.index)
            .field("path", &self.path)
            .field("client_to_server", &self.status(Direction::ClientToServer))
            .field("server_to_client", &self.status(Direction::ServerToClient))
            .finish()
    }
}

impl Flow {
    pub(super) fn insert(core: &Arc<Core>, sockets: Sockets<'_>, node: u32) -> Result<Self, NotInserted> {
        if core.is_killed() {
            return Err(NotInserted::Killed);
        }
        let system = |step| move |source| NotInserted::System(step, source);
        let cookies = [
            socket::cookie(sockets.client).map_err(system("reading a cookie"))?,
            socket::cookie(sockets.server).map_err(system("reading a cookie"))?,
        ];
        let peers = cookies.map(|cookie| core.peer(cookie));
        let path = Path::of(peers[0].is_some(), peers[1].is_some());
        let usable = core.directions(path);
        if !usable.client_to_server() && !usable.server_to_client() {
            return Err(NotInserted::Policy(path));
        }
        let (index, generation, signals) = core.claim()?;
        let mut flow = Self {
            core: Arc::clone(core),
            signals,
            index,
            generation,
            path,
            legs: leg::legs(core, peers, usable, index),
            own: [None, None],
            credit_bytes_max: core.credit_bytes(),
            pause: None,
            look: LOOK_FIRST,
        };
        flow.core.table.clear(index, node, [flow.legs[0].target(), flow.legs[1].target()]);
        flow.core.table.entry(index).directions[SERVER_TO_CLIENT as usize].watched.store(WATCHED_FROM_SERVER);
        // Before any socket is inserted, so that the entry's count is the program's from the first byte on.
        flow.core.table.entry(index).generation.store(u64::from(generation));
        for (side, socket) in [(0, sockets.client), (1, sockets.server)] {
            flow.adopt(side, socket, peers[side].is_none(), cookies[side])?;
        }
        for which in [0, 1] {
            if let End::Enrolled { key, .. } = flow.legs[which].source
                && flow.legs[which].usable
            {
                let binding = Binding { flow: index, generation, direction: which as u32, reserved: 0 };
                flow.core.bind(key, binding)?;
            }
        }
        Ok(flow)
    }

    /// Counts what was read so far of one of our sockets, and puts it under the verdict if the path needs that.
    fn adopt(&mut self, side: usize, fd: BorrowedFd<'_>, own: bool, cookie: u64) -> Result<(), NotInserted> {
        let system = |step| move |source| NotInserted::System(step, source);
        // Between the two figures more may arrive; it shows as unread below zero or in the next look.
        let (received, next) = loop {
            let before = socket::flowed(fd).map_err(system("reading TCP_INFO"))?.received;
            let unread = socket::unread(fd).map_err(system("reading FIONREAD"))?;
            let next = if own {
                Position::at(
                    socket::next_sequence(fd, socket::Queue::Receive)
                        .map_err(system("reading TCP_QUEUE_SEQ"))?,
                )
            } else {
                Position::UNKNOWN
            };
            if socket::flowed(fd).map_err(system("reading TCP_INFO"))?.received == before {
                if own && unread > 0 {
                    // A packet that was read in part would be seen again by the verdict.
                    return Err(NotInserted::Unread);
                }
                break (before.saturating_sub(unread), next);
            }
        };
        self.legs[side].read = received;
        let needed = own && (self.legs[side].usable || self.legs[1 - side].usable);
        if needed {
            socket::widen_send_buffer(fd, 2 * self.credit_bytes_max).map_err(system("SO_SNDBUFFORCE"))?;
            let slot = 2 * self.index + side as u32;
            let attachment = Attachment {
                flow: self.index,
                generation: self.generation,
                direction: side as u32,
                reserved: 0,
                passed: 0,
                next,
            };
            self.core.insert_own(slot, fd, cookie, attachment)?;
            self.own[side] = Some((slot, cookie));
        }
        Ok(())
    }

    fn credit_bytes(&self) -> u64 {
        let wanted = self.core.credit_bytes();
        if self.own.iter().any(Option::is_some) { wanted.min(self.credit_bytes_max) } else { wanted }
    }

    pub fn path(&self) -> Path {
        self.path
    }

    /// Userspace read `bytes` from the direction's source.
    pub fn read(&mut self, direction: Direction, bytes: usize) {
        self.legs[direction as usize].read += bytes as u64;
        self.legs[direction as usize].wanted = false;
    }

    /// Whether the direction was armed and not reclaimed since; cheap.
    pub fn is_armed(&self, direction: Direction) -> bool {
        self.legs[direction as usize].armed.is_some()
    }

    pub fn status(&self, direction: Direction) -> Status {
        let (leg, entry) = (&self.legs[direction as usize], self.entry(direction));
        let standing = entry.standing();
        Status {
            usable: leg.usable,
            armed: leg.armed.is_some(),
            spliced: leg.armed.is_some() && standing.spliced,
            redirected: entry.redirected.load(),
            messages: entry.messages.load(),
            cycles: entry.cycles.load(),
            untracked: standing.untracked,
            framing: entry.framing(),
        }
    }

    fn entry(&self, direction: Direction) -> &Entry {
        &self.core.table.entry(self.index).directions[direction as usize]
    }

    /// Offers the direction to the kernel. The caller is at a message boundary, has written everything it has read to
    /// the target's socket, and writes nothing to it until it has reclaimed the direction. The kernel takes it with the
    /// next bytes of the source, unless some were already on their way; those come to userspace, as before.
    pub fn arm(&mut self, direction: Direction, sockets: Sockets<'_>) -> Result<(), NotArmed> {
        let armed = self.try_arm(direction, sockets);
        self.legs[direction as usize].wanted = matches!(armed, Err(NotArmed::TargetBusy));
        armed
    }

    fn try_arm(&mut self, direction: Direction, sockets: Sockets<'_>) -> Result<(), NotArmed> {
        if self.core.is_killed() {
            return Err(NotArmed::Killed);
        }
        let which = direction as usize;
        if !self.legs[which].usable {
            return Err(NotArmed::Policy);
        }
        if self.legs[which].armed.is_some() {
            return Ok(());
        }
        let entry = self.entry(direction);
        if entry.standing().untracked {
            return Err(NotArmed::Untracked);
        }
        let arm_at = self.quiet_source(direction, sockets)?;
        let entry = self.entry(direction);
        let written = self.quiet_target(direction, sockets)?;
        let redirected = entry.redirected.load();
        let stretch = Stretch {
            written,
            redirected,
            read: self.legs[which].read,
            arms: entry.arms.load(),
            messages: entry.messages.load(),
            cycles: entry.cycles.load(),
        };
        let credit = self.credit_bytes();
        entry.limit.store(redirected + credit);
        entry.low.store(redirected + credit / 2);
        entry.control.store(control_word(arm_at, ASK_ARM));
        self.signals.clear(signal_low(which));
        self.legs[which].armed = Some(stretch);
        self.look = LOOK_FIRST;
        Ok(())
    }

    /// The program's count at which userspace holds nothing.
    fn quiet_source(&mut self, direction: Direction, sockets: Sockets<'_>) -> Result<u64, NotArmed> {
        let which = direction as usize;
        let before = self.entry(direction).passed.load();
        let received = socket::flowed(sockets.source(direction))
            .map_err(|source| NotArmed::System("reading TCP_INFO", source))?
            .received;
        let read = self.legs[which].read;
        match self.legs[which].source {
            // What an enrolled socket redirects does not come through ours, and its program has counted from birth.
            End::Enrolled { .. } if read == received => Ok(read),
            End::Own { .. } if read + self.entry(direction).redirected.load() == received => {
                if self.entry(direction).passed.load() != before {
                    return Err(NotArmed::SourceBusy);
                }
                let offset = *self.legs[which].offset.get_or_insert(read.wrapping_sub(before));
                if read.wrapping_sub(offset) == before { Ok(before) } else { Err(NotArmed::SourceBusy) }
            }
            _ => Err(NotArmed::SourceBusy),
        }
    }

    /// The target's position in its outgoing stream, with nothing of it that redirected bytes could overtake.
    fn quiet_target(&self, direction: Direction, sockets: Sockets<'_>) -> Result<u64, NotArmed> {
        let system = |step| move |source| NotArmed::System(step, source);
        let target = sockets.target(direction);
        if let End::Enrolled { key, cookie } = self.legs[direction as usize].to {
            // All that userspace wrote has come to the queue that redirected bytes go to, and nothing waits outside it
            // for room.
            let written = socket::position(target).map_err(system("reading TCP_INFO"))?;
            let payload = written.saturating_sub(handshake_bytes(direction));
            let memory = self.core.diag.memory(&key).map_err(system("asking sock_diag"))?;
            let there = memory
                .is_some_and(|memory| memory.cookie == cookie && memory.unread < leg::SETTLED_BYTES_MAX)
                && self.core.arrived(cookie) == Some(payload);
            return if there { Ok(written) } else { Err(NotArmed::TargetBusy) };
        }
        // Too small a figure here would end a reclaim before the last bytes are there.
        socket::position(target).map_err(system("reading TCP_INFO"))
    }

    /// Runs beside the relay: extends credit when the receivers have read, and is ready when the relay has to do
    /// something.
    pub fn poll_tend(&mut self, cx: &mut Context<'_>, sockets: Sockets<'_>) -> Poll<Attention> {
        self.signals.register(cx.waker());
        loop {
            let raised = self.signals.raised();
            if raised & SIGNAL_RECLAIM != 0 {
                self.signals.clear(SIGNAL_RECLAIM);
                return Poll::Ready(Attention::Reclaim);
            }
            let waiting = self.extend_raised(raised, sockets);
            let wanted = Direction::BOTH.into_iter().find(|direction| self.legs[*direction as usize].wanted);
            let pause = match (waiting, wanted) {
                (true, _) => CREDIT_RETRY,
                (false, Some(_)) => self.look,
                (false, None) => {
                    self.pause = None;
                    return Poll::Pending;
                }
            };
            let sleep = self.pause.get_or_insert_with(|| Box::pin(tokio::time::sleep(pause)));
            ready!(sleep.as_mut().poll(cx));
            self.pause = None;
            if let (false, Some(direction)) = (waiting, wanted) {
                self.look = (self.look * 2).min(LOOK_LAST);
                if self.quiet_target(direction, sockets).is_ok() {
                    return Poll::Ready(Attention::Arm(direction));
                }
            }
        }
    }

    /// [`Self::poll_tend`] for those who have nothing else to poll. Cancel safe.
    pub async fn tend(&mut self, sockets: Sockets<'_>) -> Attention {
        std::future::poll_fn(|cx| self.poll_tend(cx, sockets)).await
    }

    /// Extends the credit of the directions that asked for it. Whether one has to be looked at again soon.
    fn extend_raised(&self, raised: u32, sockets: Sockets<'_>) -> bool {
        let mut waiting = false;
        for direction in Direction::BOTH {
            let bit = signal_low(direction as usize);
            if raised & bit != 0 {
                // Cleared first: a newer event is not to be lost.
                self.signals.clear(bit);
                if self.is_armed(direction) && !self.extend(direction, sockets) {
                    self.signals.keep(bit);
                    waiting = true;
                }
            }
        }
        waiting
    }

    /// Whether the receiver had read enough for at least a quarter of the credit.
    fn extend(&self, direction: Direction, sockets: Sockets<'_>) -> bool {
        let (leg, entry, credit) =
            (&self.legs[direction as usize], self.entry(direction), self.credit_bytes());
        if !entry.standing().spliced {
            return true;
        }
        let Some(consumed) = leg.consumed(&self.core, entry, sockets.target(direction)) else { return false };
        let limit = entry.limit.load();
        if consumed + credit < limit + credit / 4 {
            return false;
        }
        entry.limit.store(consumed + credit);
        entry.low.store(consumed + credit / 2);
        true
    }
}

/// What the kernel's count of acknowledged bytes has too many: the end that connected counts its SYN.
const fn handshake_bytes(direction: Direction) -> u64 {
    match direction {
        // Our socket towards the server.
        Direction::ClientToServer => 1,
        Direction::ServerToClient => 0,
    }
}

/// A leg's target as the programs read it.
impl Leg {
    fn target(&self) -> Target {
        match self.to {
            End::Own { slot } => {
                Target { kind: TARGET_OWN, slot, key: halephant_common::address::FlowKey::EMPTY }
            }
            End::Enrolled { key, .. } => Target { kind: TARGET_ENROLLED, slot: 0, key },
        }
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.core.table.entry(self.index).generation.store(0);
        for leg in &self.legs {
            if let End::Enrolled { key, .. } = &leg.source {
                self.core.unbind(key);
            }
        }
        for (slot, cookie) in self.own.iter_mut().filter_map(Option::take) {
            self.core.remove_own(slot, cookie);
        }
        self.core.free(self.index);
    }
}
