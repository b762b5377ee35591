//! What a client does to its session: what pins it to its server connection, and what is applied to the next one.

use super::{PinReason, Relay, Release};
use bytes::BytesMut;
use halephant_protocol::EncodeError;
use halephant_protocol::backend::ParameterStatus;
use halephant_protocol::frame::{HEADER_BYTES, Header};
use halephant_protocol::frontend::{self, Bind, Execute, Parse, Sync};
use halephant_protocol::list::ValuesBuf;

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
            self.lease.connection().dirty = true;
        }
    }

    /// DISCARD ALL takes back everything that pins, and the parameters with it.
    fn unpin(&mut self) {
        self.state.pin = None;
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

/// Appends the extended-protocol messages that set and reset parameters, closed by one Sync.
///
/// Values travel as parameters, so that no quoting rule, encoding or setting of the server can change what they mean.
pub fn encode_parameters(set: &[(&str, &str)], reset: &[&str], out: &mut BytesMut) -> Result<(), EncodeError> {
    if !set.is_empty() {
        let mut values = ValuesBuf::new();
        let mut calls = Vec::with_capacity(set.len());
        for (at, (name, value)) in set.iter().enumerate() {
            values.push(Some(name.as_bytes()))?;
            values.push(Some(value.as_bytes()))?;
            calls.push(format!("pg_catalog.set_config(${}, ${}, false)", 2 * at + 1, 2 * at + 2));
        }
        encode_statement(&format!("SELECT {}", calls.join(", ")), &values, out)?;
    }
    for name in reset {
        // Parameter names are checked to need no quoting beyond this; dots part the words of an extension's parameter.
        let quoted = name.split('.').map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(".");
        encode_statement(&format!("RESET {quoted}"), &ValuesBuf::new(), out)?;
    }
    Sync.encode(out);
    Ok(())
}

fn encode_statement(sql: &str, values: &ValuesBuf, out: &mut BytesMut) -> Result<(), EncodeError> {
    let unnamed = &b""[..];
    Parse { statement: unnamed, query: sql.as_bytes(), parameter_types: Default::default() }.encode(out)?;
    Bind {
        portal: unnamed,
        statement: unnamed,
        parameter_formats: Default::default(),
        parameters: values.as_values(),
        result_formats: Default::default(),
    }
    .encode(out)?;
    Execute { portal: unnamed, rows_max: 0 }.encode(out)
}
