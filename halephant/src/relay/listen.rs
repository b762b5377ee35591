//! LISTEN in a pool that multiplexes: statements on their way to the server, their answers, and notifications on their
//! way to the client.
//!
//! The server connection carries LISTEN out like any other statement, so that the client sees what PostgreSQL makes of
//! it; what it brings as notifications is dropped, because the listener brings them, too.

use super::inspect::{INSPECTED_BYTES_MAX, string};
use super::pin::PinReason;
use super::refuse::Reason;
use super::{Client, Relay};
use crate::notify::{Listening, Origin, Script};
use crate::pool::OwnLogin;
use halephant_protocol::backend::{self, NotificationResponse, TransactionStatus};
use halephant_protocol::frame::{HEADER_BYTES, Header};
use halephant_protocol::frontend::tag;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// Longest name of a channel beyond ASCII that the server surely does not cut where it has another encoding: each byte
/// may become three.
const CONVERTED_NAME_BYTES_MAX: usize = 21;

impl Client {
    /// The encoding that the client reads.
    fn encoding(&self) -> Option<&str> {
        self.known.value("client_encoding")
    }

    /// Whether notifications wait that may be given to the client now, for what it does between transactions.
    pub fn poll_mail(&mut self, cx: &Context<'_>) -> bool {
        let Some(listening) = &mut self.listening else { return false };
        listening.register(cx.waker());
        if !listening.has_mail() {
            return false;
        }
        self.take_mail();
        true
    }

    /// Appends the notifications that wait, ahead of a ReadyForQuery that says idle.
    pub fn put_mail(&mut self) {
        if self.listening.as_mut().is_some_and(|listening| listening.has_mail()) {
            self.take_mail();
        }
    }

    /// Appends notifications to what is to be written: between messages, and outside of a transaction.
    fn take_mail(&mut self) {
        let Self { listening: Some(listening), known, out, .. } = self else { return };
        listening.take(known.value("client_encoding"), out);
    }
}

/// The listener that clients with this login and encoding share.
pub fn origin(login: OwnLogin, encoding: String) -> Origin {
    let OwnLogin { cluster, opener, database, role } = login;
    Origin { cluster, opener, database, role, encoding }
}

/// Whether messages of this type are looked into for LISTEN and UNLISTEN.
pub(super) fn is_read(tag: u8) -> bool {
    matches!(tag, tag::QUERY | tag::PARSE | tag::BIND | tag::EXECUTE)
}

/// Whether a message of this type may end a transaction.
fn may_commit(tag: u8) -> bool {
    matches!(tag, tag::QUERY | tag::SYNC | tag::EXECUTE | tag::FUNCTION_CALL)
}

impl Relay<'_> {
    pub(super) fn listening(&mut self) -> Option<&mut Listening> {
        self.client.listening.as_deref_mut()
    }

    /// Looks at a message of the client before anything else does. `false`: it goes later, or never.
    #[inline]
    pub(super) fn listen_client(&mut self, header: Header, message: &[u8]) -> bool {
        match self.listening() {
            Some(listening) => listening.look(),
            None => return true,
        }
        if self.state.tracker.is_skipping() || self.state.tracker.copy_open() {
            return true;
        }
        let whole = message.get(HEADER_BYTES..header.frame_bytes());
        let goes = match header.tag {
            tag::QUERY => whole.is_none_or(|body| self.listen_query(header, body)),
            tag::PARSE => {
                if let Some(body) = whole {
                    self.listen_parse(body);
                }
                true
            }
            tag::BIND => {
                self.listen_bind(message);
                true
            }
            tag::EXECUTE => self.listen_execute(header, whole),
            _ => true,
        };
        goes && (!may_commit(header.tag) || self.listening().is_none_or(Listening::fence))
    }

    fn listen_query(&mut self, header: Header, body: &[u8]) -> bool {
        if header.frame_bytes() > INSPECTED_BYTES_MAX {
            return true;
        }
        let text = string(body);
        match Script::read(text, self.lease.connection().dialect()) {
            Some(script) => self.reserve(header, Arc::new(script)),
            None => true,
        }
    }

    fn listen_parse(&mut self, body: &[u8]) {
        let mut strings = body.split(|&byte| byte == 0);
        let (name, text) = (strings.next().unwrap_or_default(), strings.next().unwrap_or_default());
        let script = Script::read(text, self.lease.connection().dialect());
        // A name that is shared is looked up where it is kept, because this Parse may fail.
        let own = self.state.pins.contains(PinReason::PreparedStatement);
        if self.listening().is_some_and(|listening| !listening.parsed(name, script, own)) {
            self.pin(PinReason::Unknown);
        }
    }

    /// Only the two names are needed, which whoever renames the statement needs, too.
    fn listen_bind(&mut self, message: &[u8]) {
        let mut strings = message.get(HEADER_BYTES..).unwrap_or_default().split(|&byte| byte == 0);
        let (Some(portal), Some(name)) = (strings.next(), strings.next()) else { return };
        if strings.next().is_none() {
            return;
        }
        let shared = match name {
            b"" => None,
            name => self.client.statements.find(name).map(|named| {
                let text = named.has_effects.then(|| Arc::clone(named.held.statement()));
                text.and_then(|statement| Script::read(statement.query(), self.lease.connection().dialect()))
            }),
        };
        let Some(listening) = self.client.listening.as_deref_mut() else { return };
        let script = match shared {
            Some(script) => script.map(Arc::new),
            None => listening.statement(name),
        };
        if !listening.bound(portal, script) {
            self.pin(PinReason::Unknown);
        }
    }

    fn listen_execute(&mut self, header: Header, whole: Option<&[u8]>) -> bool {
        let Some(listening) = self.listening().filter(|listening| listening.has_portals()) else {
            return true;
        };
        let Some(body) = whole else {
            // PostgreSQL would say what is wrong with a longer one.
            return header.frame_bytes() > INSPECTED_BYTES_MAX;
        };
        let portal = string(body);
        match listening.portal(portal) {
            Some(script) => self.reserve(header, script),
            None => true,
        }
    }

    /// Sees to it that the listener listens on what the message will listen on.
    fn reserve(&mut self, header: Header, script: Arc<Script>) -> bool {
        let unread = script.unread || script.channels().any(|channel| !self.is_readable(channel.name()));
        if unread && self.denies_pins {
            self.deny(header, PinReason::Listen);
            return false;
        }
        if unread {
            // A name that is another one to the listener: the client's own connection listens.
            self.pin(PinReason::Listen);
        }
        // PostgreSQL refuses to listen on a replica.
        if (unread || self.state.read_only.enforced)
            && let Some(listening) = self.listening()
        {
            listening.pass(script);
            return true;
        }
        self.reserve_on(header, script)
    }

    fn reserve_on(&mut self, header: Header, script: Arc<Script>) -> bool {
        let Self { client, lease, .. } = self;
        let encoding = client.encoding().unwrap_or_default().to_owned();
        let Some(listening) = client.listening.as_deref_mut() else { return true };
        let wait = lease.checkout_timeout();
        let reserved = listening.reserve(script, wait, || origin(lease.login(), encoding));
        match reserved {
            Ok(at_once) => at_once,
            Err(refusal) => {
                self.refuse_next(header.frame_bytes(), Reason::Listen(refusal));
                false
            }
        }
    }

    /// Whether the name of a channel is the same to the client, the listener and the server.
    fn is_readable(&self, name: &[u8]) -> bool {
        if name.is_ascii() {
            return true;
        }
        let own = self.client.encoding();
        let settled = self.client.listening.as_ref().and_then(|listening| listening.encoding());
        let same = own == self.client.known.value("server_encoding");
        settled.is_none_or(|settled| own == Some(settled)) && (same || name.len() <= CONVERTED_NAME_BYTES_MAX)
    }

    /// A message of the client's waits for the listener.
    pub(super) fn is_reserving(&self) -> bool {
        self.client.listening.as_ref().is_some_and(|listening| listening.is_reserving())
    }

    /// Pending while a message of the client's waits for the listener.
    #[inline]
    pub(super) fn poll_reserved(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(listening) = self.client.listening.as_deref_mut() else { return Poll::Ready(()) };
        if listening.subscriptions.is_saturated() {
            return Poll::Pending;
        }
        if listening.is_reserving() {
            ready!(listening.poll_reserved(cx));
            // The message is looked at again.
            self.state.began = false;
        }
        Poll::Ready(())
    }

    /// A message goes to the server: the tracker takes note of it, and so does who listens.
    #[inline]
    pub(super) fn track_client(&mut self, tag: u8) {
        let owed = self.state.tracker.owed();
        self.close_joined(tag);
        self.state.tracker.client_message(tag);
        if let Some(listening) = self.client.listening.as_deref_mut() {
            // Before anybody else gets the connection, it must not listen on anything.
            self.lease.connection().listening |=
                listening.sent(may_commit(tag), self.state.tracker.owed() > owed);
        }
    }

    /// Whether the tag of the next CommandComplete matters to who listens.
    pub(super) fn listens_for_command(&self) -> bool {
        self.client.listening.as_ref().is_some_and(|listening| listening.subscriptions.is_open())
    }

    /// Takes note of a message of the server.
    #[inline]
    pub(super) fn listen_server(&mut self, tag: u8, body: &[u8]) {
        let Some(listening) = self.listening() else { return };
        match tag {
            backend::tag::COMMAND_COMPLETE if listening.subscriptions.is_open() => {
                let tag = string(body);
                listening.completed(tag);
            }
            backend::tag::ERROR_RESPONSE => listening.subscriptions.failed(),
            _ => {}
        }
    }

    /// ReadyForQuery came, and the tracker took note of it.
    #[inline]
    pub(super) fn listen_ready(&mut self, status: TransactionStatus) {
        let (owed, unsynced) = (self.state.tracker.owed(), self.state.tracker.needs_sync());
        if let Some(listening) = self.listening() {
            listening.ready(status, owed, owed == 0 && !unsynced);
        }
    }

    /// Whether a ReadyForQuery has to wait until the listener has brought what its transaction notified.
    #[inline]
    pub(super) fn ready_waits(&mut self, header: Header, body: &[u8]) -> bool {
        header.tag == backend::tag::READY_FOR_QUERY
            && body == b"I"
            && self.listening().is_some_and(|listening| listening.needs_barrier())
    }

    /// Pending while a ReadyForQuery waits; `true` when what is held of the server's input is to be looked at.
    #[inline]
    pub(super) fn poll_ready_waits(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let Some(listening) = self.listening() else { return Poll::Ready(false) };
        if !listening.awaits_barrier() {
            return Poll::Ready(false);
        }
        listening.poll_barrier(cx).map(|()| true)
    }

    /// Before a ReadyForQuery that says idle goes to the client: PostgreSQL gives out notifications here.
    pub(super) fn take_mail_before(&mut self, header: Header, body: &[u8]) -> bool {
        let idle = header.tag == backend::tag::READY_FOR_QUERY && body == b"I";
        idle && self.listening().is_some_and(|listening| listening.has_mail())
    }

    /// Appends the notifications.
    pub(super) fn put_mail(&mut self) {
        self.client.take_mail();
    }

    /// Gives notifications to a client that keeps its server connection and does nothing at the moment. `true`: there
    /// are some to write.
    #[inline]
    pub(super) fn poll_idle_mail(&mut self, cx: &Context<'_>) -> bool {
        if self.client.listening.is_none() {
            return false;
        }
        let tracker = &self.state.tracker;
        let idle = tracker.is_quiet()
            && tracker.status() == TransactionStatus::Idle
            && !tracker.needs_sync()
            && !self.state.is_mid_message()
            && self.client.out.is_empty();
        if !idle {
            return false;
        }
        self.client.poll_mail(cx) && !self.client.out.is_empty()
    }

    /// Bytes of a NotificationResponse that must be there to know whether it is passed on.
    pub(super) fn notification_bytes(&self, header: Header) -> u32 {
        if self.client.listening.is_some() { header.body_bytes } else { 0 }
    }

    /// Whether a notification of the server connection is dropped: all that the listener brings, and those that an earlier
    /// client may be to blame for.
    pub(super) fn drops_notification(&self, header: Header, body: &[u8]) -> bool {
        let Some(listening) = &self.client.listening else { return false };
        if header.tag != backend::tag::NOTIFICATION_RESPONSE {
            return false;
        }
        // What cannot be read may be a LISTEN.
        let pins = self.state.pins;
        let own = (pins.contains(PinReason::Listen) || pins.contains(PinReason::Unknown))
            && NotificationResponse::parse(body).is_ok_and(|it| !listening.is_reserved(it.channel));
        !own
    }
}
