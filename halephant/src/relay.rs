//! Bytes both ways between one client and one server connection, with the protocol state tracked from headers.
//!
//! Whole runs of messages are written straight from the read buffer. A direction is read only when what it read before
//! has been written, so a slow reader holds back its sender and at most one read's worth of bytes is kept.

mod begin;
mod block;
pub mod clock;
mod deadline;
mod deny;
mod inspect;
mod join;
mod kernel;
mod listen;
mod observe;
mod output;
mod own_names;
pub mod pin;
mod prepare;
mod read_only;
mod refuse;
mod retry;
mod scan;
mod sequences;
mod settings;
mod suspect;
pub mod trace;
pub mod track;

use crate::cancel::{SessionHandle, Signal};
use crate::net::Role;
use crate::notify::Listening;
use crate::pool::Lease;
use crate::prepared::ClientStatements;
use crate::server::error::ServerError;
use crate::server::parameters::{ReportedParameters, SessionParameters};
use crate::splice::{Direction, NodeSet, Splice};
use crate::wire::{Stream, with_scratch};
pub use begin::Ahead;
pub use block::{begins_transaction, transaction_report};
use bytes::{Buf, BytesMut};
pub use clock::{Clock, Expired, Phase};
use halephant_protocol::frame::FrameError;
pub use inspect::text_of;
pub use listen::origin;
use observe::Observation;
use output::Output;
pub use pin::{PinReason, Pins};
pub use read_only::READ_ONLY_HINT;
pub use refuse::listen_report;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::Sleep;
pub use trace::{ClientTrace, TraceSubject};
pub use track::Tracker;

/// A client that closed its sending side may still read answers; after this long without one it counts as gone.
const HALF_CLOSED_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes that a client may send ahead while it waits, for a server connection or for answers that have to come first; it is not
/// read any further then.
pub const HELD_WHILE_WAITING_BYTES_MAX: usize = 64 * 1024;

/// The client's half: its stream and what is kept for it between reads and writes.
#[derive(Debug)]
pub struct Client {
    pub stream: Stream,
    /// Read and not yet forwarded.
    pub held: BytesMut,
    /// To be written.
    pub out: BytesMut,
    /// Bytes left of the message whose header was forwarded last.
    pub body_left: u32,
    /// What the client believes the parameters to be.
    pub known: ReportedParameters,
    /// What the client has set.
    pub wanted: SessionParameters,
    /// What it asked for in its startup packet: RESET leads back here.
    pub startup: SessionParameters,
    /// Its prepared statements, in transaction mode.
    pub statements: ClientStatements,
    /// The parameters under which they were read.
    pub read_under: SessionParameters,
    /// How long it has been doing what it does.
    pub clock: Clock,
    /// Its channels, in a pool that multiplexes LISTEN.
    pub listening: Option<Box<Listening>>,
    /// Its spans, where somebody wants to see them.
    pub trace: Option<Box<ClientTrace>>,
    /// Nodes for which it was counted as a session on the kernel path.
    pub spliced_nodes: NodeSet,
}

impl Client {
    /// Writes what is pending. Ready once nothing is.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        poll_write_out(&mut self.stream, &mut self.out, cx)
    }

    fn is_flushed(&self) -> bool {
        self.out.is_empty() && self.stream.is_flushed()
    }
}

/// How a relay ended.
#[derive(Debug)]
pub enum RelayEnd {
    /// The server connection may change hands.
    Complete,
    /// As `Complete`, but the server has ended the connection meanwhile.
    Retired,
    /// The client sent Terminate, and everything it was owed has been passed on.
    Terminated,
    /// The client's connection ended.
    ClientClosed,
    ClientViolation(FrameError),
    /// `told`: the server's own fatal error was passed on.
    ServerClosed {
        told: bool,
    },
    ServerViolation,
    /// The parameters of the client could not be applied.
    Rejected(ServerError),
    /// The session was told to end, and stands between transactions.
    Drained,
    /// The session was told to end now.
    Stopped,
    /// The node is no longer what it was, and the session stands between transactions.
    NodeLeft,
    /// The node does not answer any more and is given up.
    NodeLost,
    /// Bytes that the kernel has taken did not arrive in order, or not in time: both connections are of no more use.
    KernelFault,
    /// The server refused the client's BEGIN, which was sent ahead of its first message: the ErrorResponse. The message was not
    /// sent. `None`: it was sent with it and skipped, and the client has been told.
    BeginRefused(Option<Box<BytesMut>>),
    /// A transaction block that was not seen coming, in statement mode.
    Transaction,
    /// The client did one thing for longer than its pool allows.
    TimedOut(Phase),
    /// The server did not answer what is ours in time.
    Unanswered,
}

/// What keeps the relay going at a transaction boundary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    AtTransactionEnd,
    /// As `AtTransactionEnd`, and the client's next statement waits for its turn.
    AtStatementEnd,
    AtSessionEnd,
}

impl Release {
    /// Others get the server connection while this session lasts.
    pub fn is_shared(self) -> bool {
        self != Self::AtSessionEnd
    }
}

/// One client on one server connection.
#[derive(Debug)]
pub struct Relay<'a> {
    client: &'a mut Client,
    lease: &'a mut Lease,
    handle: &'a SessionHandle,
    release: Release,
    /// What would pin the client is refused.
    denies_pins: bool,
    splice: Option<&'a Splice>,
    pub(crate) state: RelayState,
}

/// What outlives the borrow of both halves: needed to leave the server connection in order.
#[derive(Debug, Default)]
pub struct RelayState {
    pub tracker: Tracker,
    pub pins: Pins,
    pending: inspect::Pending,
    /// The pins from before a text that pinned and is not answered yet.
    doubted: Option<pin::Pins>,
    statements: prepare::Statements,
    own_names: own_names::OwnNames,
    retry: retry::Retry,
    to_server: BytesMut,
    pub(crate) server_held: BytesMut,
    pub(crate) server_body_left: u32,
    /// The answers to our own SETs and BEGIN are being dropped, up to their ReadyForQuery.
    swallowing: bool,
    begin: begin::Begin,
    joined: Option<Box<join::Joined>>,
    settings: settings::Settings,
    /// What `nextval()` gave to another client is there to be asked for.
    has_others_sequences: bool,
    /// How the server reads statements may change with what it was sent.
    dialect_changes: bool,
    /// What the client had sent before the relay began was looked at.
    began: bool,
    forwarded: bool,
    server_told: bool,
    read_only: read_only::ReadOnly,
    refused: Option<Box<refuse::Refused>>,
    terminated: bool,
    half_closed: Option<Pin<Box<Sleep>>>,
    cancelling: clock::Cancelling,
    deadline: deadline::Deadline,
    /// A statement_timeout may strike our own SETs.
    pub(crate) is_hasty: bool,
    kernel: Option<Box<kernel::Kernel>>,
    prospect: kernel::Prospect,
    observation: Observation,
}

impl RelayState {
    /// Everything that was forwarded has reached the server, our own SETs are answered, and no Sync of ours is missing.
    pub fn can_continue(&self) -> bool {
        let joining = self.joined.as_ref().is_some_and(|joined| joined.is_underway() || joined.lacks_sync());
        self.to_server.is_empty() && !self.swallowing && !joining && !self.own_names.underway
    }

    /// The client has got a part of a message: nothing of ours may come before the rest of it.
    pub fn is_mid_answer(&self) -> bool {
        self.server_body_left > 0
    }

    /// A part of a message of the server has been read.
    pub fn is_mid_message(&self) -> bool {
        self.server_body_left > 0 || !self.server_held.is_empty()
    }

    /// Between messages in both directions, with nothing pending.
    pub fn at_boundary(&self) -> bool {
        self.server_body_left == 0 && self.server_held.is_empty() && self.can_continue()
    }
}

/// `Ready(None)`: something moved, look again.
type Turn = Poll<Option<RelayEnd>>;

impl<'a> Relay<'a> {
    /// Joins the two; what the client wants set is sent ahead of its first message.
    pub fn new(
        client: &'a mut Client,
        lease: &'a mut Lease,
        handle: &'a SessionHandle,
        release: Release,
        splice: Option<&'a Splice>,
    ) -> Self {
        let denies_pins = release.is_shared() && lease.denies_pins();
        let mut relay =
            Self { client, lease, handle, release, denies_pins, splice, state: RelayState::default() };
        relay.state.read_only.enforced = relay.lease.node_role() == Some(Role::Replica);
        relay.apply_parameters();
        relay
    }

    /// Runs until one side ends or the server connection may change hands; leaves the state behind in `self`.
    pub async fn run(&mut self) -> RelayEnd {
        let end = std::future::poll_fn(|cx| self.poll(cx)).await;
        let end = self.leave_kernel(end).await;
        self.observe_end();
        end
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<RelayEnd> {
        self.handle.register(cx.waker());
        loop {
            self.recall();
            let client = self.poll_client(cx);
            if let Poll::Ready(Some(end)) = client {
                return Poll::Ready(end);
            }
            let server = self.poll_server(cx);
            if let Poll::Ready(Some(end)) = server {
                return Poll::Ready(end);
            }
            if client.is_pending() && server.is_pending() && self.poll_kernel(cx).is_pending() {
                if let Poll::Ready(end) = self.poll_deadline(cx) {
                    return Poll::Ready(end);
                }
                if let Poll::Ready(end) = self.poll_clock(cx) {
                    return Poll::Ready(end);
                }
                return self.poll_signals(cx);
            }
        }
    }

    fn poll_signals(&mut self, cx: &mut Context<'_>) -> Poll<RelayEnd> {
        if let Some(timeout) = &mut self.state.half_closed
            && timeout.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(RelayEnd::ClientClosed);
        }
        if !self.handle.is_signalled() {
            return Poll::Pending;
        }
        if self.handle.has(Signal::Stop) {
            return Poll::Ready(RelayEnd::Stopped);
        }
        if self.handle.has(Signal::Abandon) {
            return Poll::Ready(RelayEnd::NodeLost);
        }
        if self.handle.has(Signal::Drain) && self.is_between_transactions() {
            return Poll::Ready(RelayEnd::Drained);
        }
        if self.handle.has(Signal::Leave) && self.is_between_transactions() {
            return Poll::Ready(RelayEnd::NodeLeft);
        }
        Poll::Pending
    }

    fn is_between_transactions(&self) -> bool {
        self.state.tracker.is_complete()
            && self.client.body_left == 0
            && self.client.held.is_empty()
            && self.state.at_boundary()
            && self.is_in_userspace()
    }

    /// Client to server.
    fn poll_client(&mut self, cx: &mut Context<'_>) -> Turn {
        match ready!(self.poll_taken(cx, Direction::ClientToServer)) {
            Ok(false) => {}
            Ok(true) => return Poll::Ready(None),
            Err(end) => return Poll::Ready(Some(end)),
        }
        self.send_cancel();
        self.sync_refused();
        let unwritten = !self.state.to_server.is_empty() || !self.lease.connection().stream.is_flushed();
        if unwritten && !self.awaits_first_message() {
            let server = self.lease.connection();
            if ready!(poll_write_out(&mut server.stream, &mut self.state.to_server, cx)).is_err() {
                // What the server said before it closed is still to be read.
                self.state.to_server = BytesMut::new();
            }
        }
        if std::mem::take(&mut self.state.statements.full) {
            return self.forward_held(&[], cx);
        }
        if self.state.terminated && self.state.tracker.copy_open() {
            // PostgreSQL does not take Terminate for an end within a COPY: its error is for the client to see.
            self.state.terminated = false;
            return self.forward_held(&[], cx);
        }
        if self.state.terminated {
            return if self.state.tracker.owed() == 0 {
                Poll::Ready(Some(RelayEnd::Terminated))
            } else {
                self.poll_terminated(cx)
            };
        }
        if self.state.tracker.is_saturated() {
            return Poll::Pending;
        }
        ready!(self.poll_cancelled(cx));
        ready!(self.poll_reserved(cx));
        let waits =
            self.state.own_names.underway || self.state.statements.waiting || self.state.retry.is_failing();
        if self.state.swallowing || waits {
            // What the client sends is meant for its own parameters and statements: it waits until the server has
            // taken them.
            return self.poll_ahead(cx);
        }
        if !std::mem::replace(&mut self.state.began, true) && !self.client.held.is_empty() {
            return self.forward_held(&[], cx);
        }
        if self.state.half_closed.is_some() {
            return if self.expects_nothing() {
                Poll::Ready(Some(RelayEnd::ClientClosed))
            } else {
                Poll::Pending
            };
        }
        with_scratch(|buffer| match ready!(self.client.stream.poll_read(cx, buffer)) {
            Ok(0) if self.kernel_read(Direction::ClientToServer, 0) => Poll::Ready(None),
            Ok(0) => self.client_closed(),
            Ok(read) if self.kernel_read(Direction::ClientToServer, read) => {
                self.client.held.extend_from_slice(&buffer[..read]);
                Poll::Ready(None)
            }
            Ok(read) if self.client.held.is_empty() => {
                let input = &buffer[..read];
                let (forward, end) = self.forward_input(input, cx);
                self.client.held.extend_from_slice(&input[forward..]);
                if self.has_refused() {
                    return self.forward_held(&[], cx);
                }
                Poll::Ready(end)
            }
            Ok(read) => self.forward_held(&buffer[..read], cx),
            Err(_) => Poll::Ready(Some(RelayEnd::ClientClosed)),
        })
    }

    /// Looks whether the client is still there while what it sends waits.
    fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Turn {
        if self.state.half_closed.is_some() || self.client.held.len() >= HELD_WHILE_WAITING_BYTES_MAX {
            return Poll::Pending;
        }
        with_scratch(|buffer| match ready!(self.client.stream.poll_read(cx, buffer)) {
            // What waits may still be answered.
            Ok(0) => self.half_close(),
            Ok(read) => {
                self.kernel_read(Direction::ClientToServer, read);
                self.client.held.extend_from_slice(&buffer[..read]);
                self.state.began = false;
                Poll::Ready(None)
            }
            Err(_) => Poll::Ready(Some(RelayEnd::ClientClosed)),
        })
    }

    /// Answers are still owed to a client that has said Terminate: only the end of its stream counts. An enrolled socket that
    /// is closed with unread bytes sends no reset, which would have told (docs/kernel-path.md).
    fn poll_terminated(&mut self, cx: &mut Context<'_>) -> Turn {
        if self.state.half_closed.is_some() {
            return Poll::Pending;
        }
        with_scratch(|buffer| match ready!(self.client.stream.poll_read(cx, buffer)) {
            Ok(0) => self.client_closed(),
            Ok(read) => {
                self.kernel_read(Direction::ClientToServer, read);
                Poll::Ready(None)
            }
            Err(_) => Poll::Ready(Some(RelayEnd::ClientClosed)),
        })
    }

    fn client_closed(&mut self) -> Turn {
        if self.expects_nothing() || self.client.body_left > 0 {
            return Poll::Ready(Some(RelayEnd::ClientClosed));
        }
        self.half_close()
    }

    fn half_close(&mut self) -> Turn {
        self.state.half_closed = Some(Box::pin(tokio::time::sleep(HALF_CLOSED_TIMEOUT)));
        Poll::Ready(None)
    }

    /// No answer comes to a client that sends nothing more; a COPY waits for its data.
    fn expects_nothing(&self) -> bool {
        self.state.tracker.owed() == 0 || self.state.tracker.copy_open()
    }

    /// Looks at what is held with `more` behind it. A message that is looked into may take many reads to be complete:
    /// what was held before is not copied again.
    fn forward_held(&mut self, more: &[u8], cx: &mut Context<'_>) -> Turn {
        let mut held = std::mem::take(&mut self.client.held);
        held.extend_from_slice(more);
        loop {
            if let Some(replaced) = self.replace_refused(&held) {
                held.advance(replaced);
            }
            let (forward, end) = self.forward_input(&held, cx);
            held.advance(forward);
            if !self.has_refused() {
                if !held.is_empty() {
                    self.client.held = held;
                }
                return Poll::Ready(end);
            }
        }
    }

    /// Passes on what may be of the client's input. Returns how much of it is done with, and why the relay ends, if it does.
    fn forward_input(&mut self, input: &[u8], cx: &mut Context<'_>) -> (usize, Option<RelayEnd>) {
        Output::with(input, |mut output| {
            let fresh = self.may_be_retried();
            let end = self.scan_client(&mut output);
            if fresh {
                self.keep_for_retry(input, output.at);
            }
            self.forward_to_server(output.finish(), cx);
            (output.at, end)
        })
    }

    /// Writes what may go to the server, and keeps what it does not take yet.
    fn forward_to_server(&mut self, mut rest: &[u8], cx: &mut Context<'_>) {
        rest = self.not_ahead(Direction::ClientToServer, rest);
        if rest.is_empty() {
            return;
        }
        self.state.forwarded = true;
        self.observe_received(rest.len());
        self.lease.connection().busy = true;
        if self.state.to_server.is_empty() {
            match self.lease.connection().stream.poll_write(cx, rest) {
                Poll::Ready(Ok(written)) => rest = &rest[written..],
                // The reason will be read from the server's side.
                Poll::Ready(Err(_)) => rest = &[],
                Poll::Pending => {}
            }
        }
        self.state.to_server.extend_from_slice(rest);
    }

    /// Server to client.
    fn poll_server(&mut self, cx: &mut Context<'_>) -> Turn {
        if !self.client.is_flushed() && ready!(self.client.poll_flush(cx)).is_err() {
            return Poll::Ready(Some(RelayEnd::ClientClosed));
        }
        match ready!(self.poll_taken(cx, Direction::ServerToClient)) {
            Ok(false) => {}
            Ok(true) => return Poll::Ready(None),
            Err(end) => return Poll::Ready(Some(end)),
        }
        let resumes = ready!(self.poll_ready_waits(cx));
        if self.poll_idle_mail(cx) {
            return Poll::Ready(None);
        }
        if resumes || self.server_resumes() {
            let held = std::mem::take(&mut self.state.server_held);
            return self.forward_to_client(&held, cx);
        }
        with_scratch(|buffer| match ready!(self.lease.connection().stream.poll_read(cx, buffer)) {
            Ok(0) if self.kernel_read(Direction::ServerToClient, 0) => Poll::Ready(None),
            Ok(read) if self.kernel_read(Direction::ServerToClient, read) => {
                self.state.server_held.extend_from_slice(&buffer[..read]);
                Poll::Ready(None)
            }
            Ok(0) | Err(_) => Poll::Ready(Some(RelayEnd::ServerClosed { told: self.state.server_told })),
            Ok(read) if self.state.server_held.is_empty() => self.forward_to_client(&buffer[..read], cx),
            Ok(read) => {
                let mut held = std::mem::take(&mut self.state.server_held);
                held.extend_from_slice(&buffer[..read]);
                self.forward_to_client(&held, cx)
            }
        })
    }

    fn forward_to_client(&mut self, input: &[u8], cx: &mut Context<'_>) -> Turn {
        if std::mem::take(&mut self.state.statements.waiting) {
            // What was held back for answers is looked at again.
            self.state.began = false;
        }
        let scan = self.scan_server(input);
        self.state.server_held.extend_from_slice(&input[scan.to..]);
        if let Some(timeout) = &mut self.state.half_closed {
            timeout.as_mut().reset(tokio::time::Instant::now() + HALF_CLOSED_TIMEOUT);
        }
        self.observe_sent(scan.to - scan.from);
        let mut rest = self.not_ahead(Direction::ServerToClient, &input[scan.from..scan.to]);
        if self.client.out.is_empty() && !rest.is_empty() {
            match self.client.stream.poll_write(cx, rest) {
                Poll::Ready(Ok(written)) => rest = &rest[written..],
                Poll::Ready(Err(_)) if scan.end.is_none() => {
                    return Poll::Ready(Some(RelayEnd::ClientClosed));
                }
                Poll::Ready(Err(_)) => rest = &[],
                Poll::Pending => {}
            }
        }
        self.client.out.extend_from_slice(rest);
        Poll::Ready(scan.end)
    }
}

/// Writes `out` until it is empty; its memory is given back then.
fn poll_write_out(stream: &mut Stream, out: &mut BytesMut, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    while !out.is_empty() {
        let written = ready!(stream.poll_write(cx, out))?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        out.advance(written);
    }
    if out.capacity() > 0 {
        *out = BytesMut::new();
    }
    stream.poll_flush(cx)
}
