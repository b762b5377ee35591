//! The relay's half of the kernel path: when a direction is offered to the kernel, and what becomes of the relay's state
//! when it comes back.
//!
//! The kernel owns a direction, or the relay does. What the kernel moved is read from its counters: before the relay
//! looks at bytes of its own, the tracker is told of those that it has not seen.

use super::{Client, PinReason, Relay, RelayEnd, Release};
use crate::cancel::{KernelPath, Signal};
use crate::pool::Lease;
use crate::splice::{Attention, Direction, Flow, Framing, NotInserted, Reason, Reclaimed, Sockets, Status};
use bytes::BytesMut;
use halephant_protocol::backend::{self, TransactionStatus};
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// Answers that userspace forwards before a session is put on the kernel path: one that asks only once is not worth it.
const ANSWERS_BEFORE: u32 = 2;
/// Longest that the end of a relay waits for a peer to take what the kernel has for it.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);
/// A stretch of fewer messages did not pay; the next one has to wait for twice as many answers.
const SHORT_STRETCH_MESSAGES: u64 = 32;
const PATIENCE_MAX: u32 = 64;
const READY_FOR_QUERY_HEADER: &[u8] = b"Z\0\0\0\x05";

use Direction::{ClientToServer, ServerToClient};

/// A session on the kernel path.
#[derive(Debug)]
pub(super) struct Kernel {
    flow: Flow,
    halves: [Half; 2],
    /// The client's input waits until the server's direction is back.
    client_waits: bool,
    /// The server's input waits until the client's direction is back.
    server_waits: bool,
    /// What is held of the server's input is to be looked at without a read.
    server_resumes: bool,
}

/// What the relay keeps of one direction.
#[derive(Clone, Copy, Debug, Default)]
struct Half {
    /// The counters that the tracker was told of.
    told: Told,
    /// The direction is being taken back.
    taking: bool,
    /// It may be offered to the kernel at the next quiet moment.
    offered: bool,
    /// Bytes at the front of the held input that the kernel has forwarded already: a part of a header.
    ahead: usize,
    /// Answers to wait for before the next offer, and how many it was the last time.
    wait: u32,
    patience: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Told {
    bytes: u64,
    messages: u64,
    cycles: u64,
}

impl Half {
    /// What came since it was last asked: bytes, messages, requests or answers.
    fn since(&mut self, status: &Status) -> Told {
        let now = Told { bytes: status.redirected, messages: status.messages, cycles: status.cycles };
        let before = std::mem::replace(&mut self.told, now);
        Told {
            bytes: now.bytes - before.bytes,
            messages: now.messages - before.messages,
            cycles: now.cycles - before.cycles,
        }
    }

    fn came_back(&mut self, reclaimed: &Reclaimed) {
        self.taking = false;
        let short = reclaimed.messages < SHORT_STRETCH_MESSAGES && reclaimed.reason != Reason::Requested;
        self.patience = if short { (2 * self.patience + 1).min(PATIENCE_MAX) } else { 0 };
        self.wait = self.patience;
    }

    fn answered(&mut self) {
        self.offered = self.wait == 0;
        self.wait = self.wait.saturating_sub(1);
    }
}

/// Whether a session can be on the kernel path, and has been tried.
#[derive(Debug, Default)]
pub(super) struct Prospect {
    answers: u32,
    refused: bool,
}

fn sockets<'s>(client: &'s Client, lease: &'s Lease) -> Option<Sockets<'s>> {
    Some(Sockets {
        client: client.stream.as_plain_fd()?,
        server: lease.connection_ref().stream.as_plain_fd()?,
    })
}

impl Kernel {
    fn half(&mut self, direction: Direction) -> &mut Half {
        &mut self.halves[direction as usize]
    }

    fn take_back(&mut self, direction: Direction) {
        if self.flow.is_armed(direction) {
            self.half(direction).taking = true;
        }
    }
}

impl Relay<'_> {
    pub(super) fn is_in_kernel(&self, direction: Direction) -> bool {
        self.state.kernel.as_ref().is_some_and(|kernel| kernel.flow.is_armed(direction))
    }

    /// Whether everything goes through userspace at the moment.
    pub(super) fn is_in_userspace(&self) -> bool {
        !self.is_in_kernel(ClientToServer) && !self.is_in_kernel(ServerToClient)
    }

    /// Notes a read from a direction's source. `true`: the bytes are to be held until the direction has been taken back.
    pub(super) fn kernel_read(&mut self, direction: Direction, bytes: usize) -> bool {
        let Some(kernel) = self.state.kernel.as_deref_mut() else { return false };
        kernel.flow.read(direction, bytes);
        if kernel.flow.is_armed(direction) {
            kernel.take_back(direction);
            if self.client.trace.is_some() {
                // Spans need both sides of a statement.
                kernel.take_back(ServerToClient);
            }
            return true;
        }
        self.absorb();
        false
    }

    /// What has to be back in userspace is being taken back.
    pub(super) fn recall(&mut self) {
        if self.state.kernel.is_none() {
            return;
        }
        let ending = self.state.terminated || self.state.half_closed.is_some();
        if ending || self.handle.has(Signal::Drain) || self.handle.has(Signal::Leave) {
            self.take_back_all();
        }
        if self.is_cancelling()
            && let Some(kernel) = self.state.kernel.as_deref_mut()
        {
            kernel.take_back(ClientToServer);
        }
    }

    fn take_back_all(&mut self) {
        if let Some(kernel) = self.state.kernel.as_deref_mut() {
            kernel.take_back(ClientToServer);
            kernel.take_back(ServerToClient);
        }
    }

    /// Pending while the direction's input is not the relay's to look at; `true` when that has just ended, for which the
    /// other direction may have waited.
    pub(super) fn poll_taken(
        &mut self,
        cx: &mut Context<'_>,
        direction: Direction,
    ) -> Poll<Result<bool, RelayEnd>> {
        let Some(kernel) = self.state.kernel.as_deref_mut() else { return Poll::Ready(Ok(false)) };
        if kernel.half(direction).taking {
            let Some(sockets) = sockets(self.client, self.lease) else {
                return Poll::Ready(Err(RelayEnd::KernelFault));
            };
            match ready!(kernel.flow.poll_reclaim(cx, direction, sockets)) {
                Ok(reclaimed) => {
                    self.came_back(direction, &reclaimed);
                    return Poll::Ready(Ok(true));
                }
                Err(_) => return Poll::Ready(Err(RelayEnd::KernelFault)),
            }
        }
        let (waits, other) = match direction {
            ClientToServer => (&mut kernel.client_waits, ServerToClient),
            ServerToClient => (&mut kernel.server_waits, ClientToServer),
        };
        if *waits {
            if kernel.flow.is_armed(other) {
                return Poll::Pending;
            }
            *waits = false;
            match direction {
                ClientToServer => self.state.began = false,
                ServerToClient => kernel.server_resumes = true,
            }
        }
        Poll::Ready(Ok(false))
    }

    /// The direction is the relay's from the first byte that it holds on.
    fn came_back(&mut self, direction: Direction, reclaimed: &Reclaimed) {
        self.absorb();
        if reclaimed.untracked {
            self.state.tracker.lose_track();
        }
        let Some(kernel) = self.state.kernel.as_deref_mut() else { return };
        let half = kernel.half(direction);
        half.came_back(reclaimed);
        let mut body_left = reclaimed.framing.left;
        let header = reclaimed.framing.header_bytes();
        let mut header = header.get(..usize::from(reclaimed.framing.header_len)).unwrap_or_default();
        if reclaimed.framing.tag == backend::tag::READY_FOR_QUERY && body_left > 0 {
            // It counts with its status, which is the relay's to see: as if of its header, too, the last byte were to come.
            (header, body_left) = (READY_FOR_QUERY_HEADER, 0);
        }
        half.ahead = header.len();
        let (held, left) = match direction {
            ClientToServer => {
                self.state.began = false;
                (&mut self.client.held, &mut self.client.body_left)
            }
            ServerToClient => {
                kernel.server_resumes = true;
                (&mut self.state.server_held, &mut self.state.server_body_left)
            }
        };
        *left = body_left;
        if !header.is_empty() {
            let mut whole = BytesMut::from(header);
            whole.extend_from_slice(held);
            *held = whole;
        }
        tracing::debug!(
            process_id = self.handle.process_id(),
            ?direction,
            reason = reclaimed.reason.name(),
            bytes = reclaimed.redirected,
            "a direction is back in userspace"
        );
    }

    /// What of `bytes`, which begin with what was held, the kernel has not forwarded.
    pub(super) fn not_ahead<'b>(&mut self, direction: Direction, bytes: &'b [u8]) -> &'b [u8] {
        let Some(kernel) = self.state.kernel.as_deref_mut() else { return bytes };
        let ahead = &mut kernel.half(direction).ahead;
        let skipped = (*ahead).min(bytes.len());
        *ahead -= skipped;
        &bytes[skipped..]
    }

    /// Whether the server's held input is to be looked at now, once.
    pub(super) fn server_resumes(&mut self) -> bool {
        let Some(kernel) = self.state.kernel.as_deref_mut() else { return false };
        std::mem::take(&mut kernel.server_resumes) && !self.state.server_held.is_empty()
    }

    /// Whether a message of the server has to wait until the client's direction is back: what the client sends for a COPY
    /// is followed by the relay.
    pub(super) fn server_waits(&mut self, tag: u8) -> bool {
        if !matches!(tag, backend::tag::COPY_IN_RESPONSE | backend::tag::COPY_BOTH_RESPONSE) {
            return false;
        }
        let Some(kernel) = self.state.kernel.as_deref_mut() else { return false };
        kernel.take_back(ClientToServer);
        kernel.server_waits = kernel.flow.is_armed(ClientToServer);
        kernel.server_waits
    }

    /// Whether a message of the client has to wait until the server's direction is back: its answer is to be seen.
    pub(super) fn client_waits(&mut self) -> bool {
        let Some(kernel) = self.state.kernel.as_deref_mut() else { return false };
        kernel.take_back(ServerToClient);
        kernel.client_waits = kernel.flow.is_armed(ServerToClient);
        kernel.client_waits
    }

    /// Tells the tracker what went through the kernel since it was last told. The answers are read first: their requests
    /// are counted by then.
    pub(super) fn absorb(&mut self) {
        let Some(kernel) = self.state.kernel.as_deref_mut() else { return };
        let answers = kernel.flow.status(ServerToClient);
        let requests = kernel.flow.status(ClientToServer);
        let client = kernel.half(ClientToServer).since(&requests);
        let server = kernel.half(ServerToClient).since(&answers);
        let count = |cycles: u64| u32::try_from(cycles).unwrap_or(u32::MAX);
        // The counters of a message may come at two looks.
        if client.messages > 0 || client.cycles > 0 {
            self.state.tracker.unseen_requests(count(client.cycles), requests.framing.tag);
        }
        if server.messages > 0 || server.cycles > 0 {
            // Among them were the answers to texts that pinned.
            self.state.doubted = None;
            let status = TransactionStatus::parse(answers.framing.status).ok();
            // A ReadyForQuery counts with its status; until then an answer is under way.
            let last = match answers.framing {
                Framing { tag: backend::tag::READY_FOR_QUERY, left: 1.., .. } => {
                    backend::tag::COMMAND_COMPLETE
                }
                Framing { tag, .. } => tag,
            };
            self.state.tracker.unseen_answers(count(server.cycles), status, last);
        }
        if client.bytes + server.bytes > 0 {
            self.handle.client().add_traffic(0, client.bytes, server.bytes);
        }
    }

    /// An answer went through userspace to its end: a good moment to offer the directions.
    pub(super) fn kernel_answered(&mut self) {
        match self.state.kernel.as_deref_mut() {
            Some(kernel) => kernel.halves.iter_mut().for_each(Half::answered),
            None => self.state.prospect.answers = self.state.prospect.answers.saturating_add(1),
        }
    }

    /// Whether the session may be on the kernel path at all at the moment.
    fn wants_kernel(&self) -> bool {
        // Answers to what was put in for prepared statements are the relay's to see.
        let pinned = self.state.pins.contains(PinReason::Listen)
            && self.client.trace.is_none()
            // Notifications are put between the server's messages here.
            && self.client.listening.is_none()
            && self.client.statements.is_empty()
            && self.state.statements.pending.is_empty();
        let ending = self.state.terminated || self.state.half_closed.is_some();
        (self.release == Release::AtSessionEnd || pinned)
            && !ending
            && !self.is_swallowing()
            && !self.is_cancelling()
            // Its answers are the relay's to see.
            && !self.state.statements.waiting
            && !self.state.tracker.in_doubt()
            && !self.state.tracker.copy_open()
            && !self.handle.has(Signal::Drain)
            && !self.handle.has(Signal::Leave)
    }

    /// What a client sends is looked at where it may unpin it, or where it goes to a replica.
    fn may_offer_client(&self) -> bool {
        let quiet = self.client.trace.is_none() || self.state.tracker.owed() == 0;
        self.release == Release::AtSessionEnd
            && !self.state.read_only.enforced
            && quiet
            && !self.state.tracker.needs_sync()
            && self.client.body_left == 0
            && self.client.held.is_empty()
            && self.state.to_server.is_empty()
    }

    fn may_offer_server(&self) -> bool {
        let other = self.client.trace.is_none() || self.is_in_kernel(ClientToServer);
        other && !self.awaits_command() && self.is_server_quiet()
    }

    /// Nothing of an answer is under way, or held.
    fn is_server_quiet(&self) -> bool {
        self.state.tracker.is_between_answers()
            && self.state.server_body_left == 0
            && self.state.server_held.is_empty()
            && self.client.out.is_empty()
    }

    /// Nothing moves: offers what may be offered, and does what the kernel path asks for. `Ready`: look again.
    pub(super) fn poll_kernel(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.state.kernel.is_none() {
            self.join_kernel();
        }
        if self.state.kernel.is_none() {
            return Poll::Pending;
        }
        for direction in Direction::BOTH {
            self.offer(direction);
        }
        let (Some(kernel), Some(sockets)) =
            (self.state.kernel.as_deref_mut(), sockets(self.client, self.lease))
        else {
            return Poll::Pending;
        };
        match ready!(kernel.flow.poll_tend(cx, sockets)) {
            Attention::Reclaim => self.take_back_all(),
            Attention::Arm(direction) => kernel.half(direction).offered = true,
        }
        Poll::Ready(())
    }

    fn offer(&mut self, direction: Direction) {
        let may = match direction {
            ClientToServer => self.may_offer_client(),
            ServerToClient => self.may_offer_server(),
        };
        let wanted = may && self.wants_kernel();
        let Some(kernel) = self.state.kernel.as_deref_mut() else { return };
        // A client's requests are seen one by one while its answers are not.
        let other = direction == ClientToServer
            && kernel.flow.is_armed(ServerToClient)
            && kernel.half(direction).wait == 0;
        let offered = std::mem::take(&mut kernel.half(direction).offered) || other;
        if !wanted || !offered || kernel.flow.is_armed(direction) {
            return;
        }
        if let Some(sockets) = sockets(self.client, self.lease) {
            // A refusal is no error: the relay goes on with it.
            let _ = kernel.flow.arm(direction, sockets);
        }
    }

    /// Puts the session on the kernel path, once it has shown that it stays.
    fn join_kernel(&mut self) {
        let Some(splice) = self.splice else { return };
        let prospect = &self.state.prospect;
        if prospect.refused || prospect.answers < ANSWERS_BEFORE || splice.is_killed() {
            return;
        }
        let quiet = (self.may_offer_client() || self.release.is_shared())
            && self.is_server_quiet()
            && self.wants_kernel();
        if !quiet {
            return;
        }
        let Some(sockets) = sockets(self.client, self.lease) else {
            self.refuse_kernel(KernelPath::Transport);
            return;
        };
        let node = splice.node(&self.lease.node_name());
        match splice.insert(sockets, node) {
            Ok(flow) => {
                splice.count_session(node, &mut self.client.spliced_nodes);
                self.handle.client().set_kernel_path(KernelPath::On(flow.path().name()));
                let offered = Half { offered: true, ..Half::default() };
                self.state.kernel = Some(Box::new(Kernel {
                    flow,
                    halves: [offered; 2],
                    client_waits: false,
                    server_waits: false,
                    server_resumes: false,
                }));
            }
            // At the next quiet moment.
            Err(NotInserted::Unread | NotInserted::Killed) => self.state.prospect.answers -= 1,
            Err(error) => {
                tracing::debug!(process_id = self.handle.process_id(), %error, "a session stays in userspace");
                self.refuse_kernel(match error {
                    NotInserted::Policy(_) => KernelPath::Policy,
                    NotInserted::Full(_) => KernelPath::Full,
                    _ => KernelPath::Failed,
                });
            }
        }
    }

    fn refuse_kernel(&mut self, why: KernelPath) {
        self.state.prospect.refused = true;
        self.handle.client().set_kernel_path(why);
    }

    /// Takes both directions back and the sockets out of the kernel's hands, as the relay ends.
    pub(super) async fn leave_kernel(&mut self, end: RelayEnd) -> RelayEnd {
        if self.state.kernel.is_none() {
            return end;
        }
        self.take_back_all();
        let taken =
            tokio::time::timeout(LEAVE_TIMEOUT, std::future::poll_fn(|cx| self.poll_all_taken(cx))).await;
        self.absorb();
        let kernel = self.state.kernel.take();
        if let Some(kernel) = &kernel {
            let [client, server] = kernel.halves.map(|half| half.told.bytes);
            tracing::debug!(
                process_id = self.handle.process_id(),
                path = %kernel.flow.path(),
                received_bytes = client,
                sent_bytes = server,
                "a session leaves the kernel path"
            );
        }
        let reusable = match (kernel, sockets(self.client, self.lease)) {
            (Some(kernel), Some(sockets)) => kernel.flow.release(sockets).server_reusable,
            _ => false,
        };
        self.handle.client().set_kernel_path(KernelPath::Off);
        match taken {
            Ok(Ok(())) if reusable => return end,
            Ok(Ok(())) => {}
            Ok(Err(fault)) => {
                self.state.tracker.lose_track();
                return fault;
            }
            Err(_) => tracing::debug!(
                process_id = self.handle.process_id(),
                "a peer did not take its last bytes in time; its session is closed"
            ),
        }
        self.state.tracker.lose_track();
        match (&taken, &end) {
            // Bytes of the kernel's are still to come: nothing may be said before them.
            (Err(_), _) | (_, RelayEnd::Complete) => RelayEnd::KernelFault,
            _ => end,
        }
    }

    fn poll_all_taken(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), RelayEnd>> {
        let mut pending = false;
        for direction in Direction::BOTH {
            match self.poll_taken(cx, direction) {
                Poll::Ready(Err(fault)) => return Poll::Ready(Err(fault)),
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => pending = true,
            }
        }
        if pending { Poll::Pending } else { Poll::Ready(Ok(())) }
    }
}
