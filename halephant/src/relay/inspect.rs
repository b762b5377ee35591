//! What a client does to its session: what pins it to its server connection, and what is applied to the next one.

use super::{PinReason, Relay, Release};
use crate::server::apply::encode_parameters;
use bytes::BytesMut;
use halephant_protocol::backend::ParameterStatus;
use halephant_protocol::frame::{HEADER_BYTES, Header};
use halephant_protocol::frontend;

impl Relay<'_> {
    /// Looks into a message of the client in transaction mode. `false`: more of it is needed first.
    pub(super) fn inspect_client(&mut self, header: Header, message: &[u8]) -> bool {
        if header.tag != frontend::tag::PARSE || header.body_bytes == 0 {
            return true;
        }
        // The name comes first; an unnamed statement outlives nothing.
        match message.get(HEADER_BYTES) {
            None => false,
            Some(0) => true,
            Some(_) => {
                self.pin(PinReason::PreparedStatement);
                true
            }
        }
    }

    /// Looks at the tag of a CommandComplete.
    pub(super) fn inspect_command(&mut self, tag: &[u8]) {
        if self.release == Release::AtSessionEnd {
            return;
        }
        let tag = tag.split(|&byte| byte == 0).next().unwrap_or_default();
        match tag {
            b"SET" | b"RESET" => self.pin(PinReason::Parameter),
            b"LISTEN" => self.pin(PinReason::Listen),
            b"PREPARE" => self.pin(PinReason::PreparedStatement),
            b"LOAD" => self.pin(PinReason::Load),
            b"DISCARD ALL" => self.unpin(),
            _ => {}
        }
    }

    fn pin(&mut self, reason: PinReason) {
        if self.state.pin.is_none() {
            tracing::debug!(
                process_id = self.handle.process_id(),
                reason = reason.as_str(),
                "a client is pinned to its server connection"
            );
            self.state.pin = Some(reason);
            self.observe_pin(reason);
            self.lease.connection().dirty = true;
        }
    }

    /// DISCARD ALL takes back everything that pins, and the parameters with it.
    fn unpin(&mut self) {
        self.state.pin = None;
        self.observe_unpin();
        let server = self.lease.connection();
        server.dirty = false;
        server.applied = Default::default();
        self.client.wanted = Default::default();
    }

    /// Sends what turns the connection's parameters into the client's, in front of the client's first message.
    pub(super) fn apply_parameters(&mut self) {
        let server = self.lease.connection();
        if server.applied == self.client.wanted {
            self.tell_parameters();
            return;
        }
        let difference = server.applied.difference(&self.client.wanted);
        let mut out = BytesMut::new();
        match encode_parameters(&difference.set, &difference.reset, &mut out) {
            Ok(()) => {
                server.applied = self.client.wanted.clone();
                server.busy = true;
                self.state.to_server = out;
                self.state.swallowing = true;
            }
            // Parameters are checked when they enter `wanted`: they hold no NUL and are short.
            Err(error) => tracing::error!(%error, "session parameters could not be encoded"),
        }
    }

    /// Tells the client where this connection's parameters differ from what it knows.
    pub(super) fn tell_parameters(&mut self) {
        let server = self.lease.connection();
        if server.reported == self.client.known {
            // Share one copy, so that the next comparison is one of pointers.
            server.reported = self.client.known.clone();
            return;
        }
        for (name, value) in server.reported.differing(&self.client.known) {
            let status = ParameterStatus { name: name.as_bytes(), value: value.as_bytes() };
            // What a server reported can be reported again.
            let _ = status.encode(&mut self.client.out);
        }
        self.client.known = server.reported.clone();
    }
}
