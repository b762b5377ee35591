//! The walk over message headers, both ways.

use super::deny::Verdict;
use super::output::Output;
use super::prepare::DESCRIPTION_BYTES_MAX;
use super::prepare::Passage;
use super::track::ServerEvent;
use super::{Relay, RelayEnd};
use crate::server::error::ServerError;
use crate::splice::Direction;
use halephant_protocol::backend::{self, ErrorFields, ParameterStatus, ReadyForQuery, TransactionStatus};
use halephant_protocol::frame::{HEADER_BYTES, Header, parse_frontend_header, parse_header};
use halephant_protocol::frontend;

/// Largest ParameterStatus, and largest answer to one of our own statements, that is believed.
const OWN_BODY_BYTES_MAX: u32 = 64 * 1024;
/// Enough of an ErrorResponse to hold its severities.
const SEVERITY_BYTES: u32 = 64;
/// Enough of a CommandComplete to tell the commands that matter apart.
const COMMAND_TAG_BYTES: u32 = 24;

/// What of the server's input goes to the client.
pub(super) struct ServerScan {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) end: Option<RelayEnd>,
}

impl Relay<'_> {
    /// Walks the client's input, as far as it may be passed on. Returns why the relay ends, if it does.
    pub(super) fn scan_client(&mut self, output: &mut Output<'_>) -> Option<RelayEnd> {
        loop {
            let rest = output.rest().len();
            let taken = take_body(&mut self.client.body_left, rest);
            self.pass_body(taken, output);
            let rest = output.rest();
            let header = match parse_frontend_header(rest) {
                Ok(header) => header?,
                Err(error) => return Some(RelayEnd::ClientViolation(error)),
            };
            if header.tag == frontend::tag::TERMINATE && !self.state.tracker.copy_open() {
                self.state.terminated = true;
                return None;
            }
            if self.awaits_joined() {
                return None;
            }
            if !self.pass_statement(header, rest) {
                return None;
            }
            if self.state.read_only.enforced && !self.check_read_only(header, rest) {
                return None;
            }
            if self.awaits_dialect(header) {
                return None;
            }
            if self.denies_pins {
                match self.check_pins(header, rest) {
                    Verdict::Passes => {}
                    Verdict::Waits => return None,
                    Verdict::TooLong => {
                        self.deny_long(header, output);
                        continue;
                    }
                }
            }
            if self.listening().is_some()
                && self.state.tracker.copy_ends()
                && !self.state.tracker.has_lost_count()
                && super::listen::is_read(header.tag)
            {
                self.wait_for_copy(output);
                return None;
            }
            if !self.listen_client(header, rest) {
                return None;
            }
            if self.release.is_shared() {
                match self.prepare_client(header, output) {
                    Passage::AsIs => {}
                    Passage::More | Passage::Wait => return None,
                    Passage::Replaced(taken) => {
                        output.leave_out(taken);
                        self.client.body_left = (header.frame_bytes() - taken) as u32;
                        continue;
                    }
                }
            }
            if self.awaits_command() && self.client_waits() {
                return None;
            }
            self.trace_client(header, rest);
            self.track_client(header.tag);
            output.at += HEADER_BYTES;
            self.client.body_left = header.body_bytes;
        }
    }

    /// Walks the server's input: what of it the client gets, and whether the relay ends with it.
    pub(super) fn scan_server(&mut self, input: &[u8]) -> ServerScan {
        let mut scan = ServerScan { from: 0, to: 0, end: None };
        loop {
            scan.to += take_body(&mut self.state.server_body_left, input.len() - scan.to);
            self.pass_rows(input, &mut scan);
            let rest = &input[scan.to..];
            let header = match parse_header(rest) {
                Ok(Some(header)) => header,
                Ok(None) => break,
                Err(_) => {
                    scan.end = Some(RelayEnd::ServerViolation);
                    return scan;
                }
            };
            let mut swallowing = self.is_swallowing();
            let wanted = if swallowing { header.body_bytes } else { self.prefix_bytes(header) };
            let most = if header.tag == backend::tag::ROW_DESCRIPTION
                || header.tag == backend::tag::PARAMETER_DESCRIPTION
            {
                DESCRIPTION_BYTES_MAX
            } else {
                OWN_BODY_BYTES_MAX
            };
            if wanted > most {
                scan.end = Some(RelayEnd::ServerViolation);
                return scan;
            }
            let Some(body) = rest.get(HEADER_BYTES..HEADER_BYTES + wanted as usize) else { break };
            if header.tag == backend::tag::ERROR_RESPONSE
                && is_fatal(body)
                && self.may_release()
                && !self.has_unread()
            {
                // Said behind the end of the client's transaction: the connection ends, and the session goes on with another.
                self.settle_parameters();
                scan.end = Some(RelayEnd::Retired);
                return scan;
            }
            if swallowing && self.refuses_begin(header, body) {
                self.begin_is_refused();
                swallowing = false;
            }
            if self.ends_refused(header) {
                scan.end = Some(self.pass_refused(input, &mut scan, header, body));
                return scan;
            }
            if self.server_waits(header.tag) || (!swallowing && self.ready_waits(header, body)) {
                break;
            }
            let end = if let Some(refusal) = self.refusal(header, body) {
                let end = self.server_message(header, body);
                self.put_instead(input, &mut scan, header, &refusal);
                end
            } else if self.drops_report(header, body) {
                let end = self.server_message(header, body);
                self.put_instead(input, &mut scan, header, &[]);
                end
            } else if self.drops_notification(header, body) {
                self.put_instead(input, &mut scan, header, &[]);
                None
            } else if swallowing {
                let end = self.swallow(header, body);
                self.put_instead(input, &mut scan, header, &[]);
                end
            } else if self.is_own_description(header, body) {
                let end = self.server_message(header, body);
                self.put_instead(input, &mut scan, header, &[]);
                end
            } else {
                self.pass_answer(input, &mut scan, header, body)
            };
            if end.is_some() {
                scan.end = end;
                return scan;
            }
        }
        if scan.to == input.len() && self.may_release() {
            self.settle_parameters();
            if !self.reads_back() {
                scan.end = Some(RelayEnd::Complete);
            }
        }
        scan
    }

    /// Passes over rows and data of a COPY: nothing of them changes what is known of an answer that is under way.
    fn pass_rows(&mut self, input: &[u8], scan: &mut ServerScan) {
        if !self.state.tracker.is_answering() || self.is_swallowing() || self.state.retry.holds_description()
        {
            return;
        }
        while let Ok(Some(header)) = parse_header(&input[scan.to..])
            && matches!(header.tag, backend::tag::DATA_ROW | backend::tag::COPY_DATA)
        {
            self.state.retry.answered();
            scan.to += HEADER_BYTES;
            self.state.server_body_left = header.body_bytes;
            scan.to += take_body(&mut self.state.server_body_left, input.len() - scan.to);
        }
    }

    /// One message that is for the client, or for nobody.
    fn pass_answer(
        &mut self,
        input: &[u8],
        scan: &mut ServerScan,
        header: Header,
        body: &[u8],
    ) -> Option<RelayEnd> {
        let diverted = self.divert(header, body);
        if let Some(described) = self.take_described(header) {
            self.put_before(input, scan, &described);
        }
        if header.tag == backend::tag::READY_FOR_QUERY && self.state.joined.take().is_some() {
            // All that ours have changed is reported by now.
            self.put_before(input, scan, &[]);
            self.tell_parameters();
        }
        let end = self.server_message(header, body);
        if let Some(diverted) = diverted {
            self.put_instead(input, scan, header, &diverted);
            self.end_retry(header);
            return end;
        }
        if self.take_mail_before(header, body) {
            self.put_before(input, scan, &[]);
            self.put_mail();
        }
        if end.is_none() {
            scan.to += HEADER_BYTES;
            self.state.server_body_left = header.body_bytes;
        }
        end
    }

    /// Puts something into what the client gets, behind what of the input was passed over.
    pub(super) fn put_before(&mut self, input: &[u8], scan: &mut ServerScan, bytes: &[u8]) {
        let passed = self.not_ahead(Direction::ServerToClient, &input[scan.from..scan.to]);
        self.client.out.extend_from_slice(passed);
        self.client.out.extend_from_slice(bytes);
        scan.from = scan.to;
    }

    /// Puts `bytes` in the place of a message.
    fn put_instead(&mut self, input: &[u8], scan: &mut ServerScan, header: Header, bytes: &[u8]) {
        self.put_before(input, scan, bytes);
        scan.to += header.frame_bytes();
        scan.from = scan.to;
    }

    /// Bytes of a message's body that must be there before it is passed on.
    fn prefix_bytes(&self, header: Header) -> u32 {
        match header.tag {
            backend::tag::READY_FOR_QUERY | backend::tag::PARAMETER_STATUS => header.body_bytes,
            backend::tag::ERROR_RESPONSE => match self.refusal_bytes(header) {
                0 => self
                    .canonical_error_bytes(header)
                    .max(self.doubted_bytes(header))
                    .max(header.body_bytes.min(SEVERITY_BYTES)),
                whole => whole,
            },
            backend::tag::PARAMETER_DESCRIPTION => {
                self.described_bytes(header).max(self.description_bytes(header))
            }
            backend::tag::ROW_DESCRIPTION => self.description_bytes(header),
            backend::tag::NOTIFICATION_RESPONSE => self.notification_bytes(header),
            backend::tag::COMMAND_COMPLETE if self.awaits_command() || self.listens_for_command() => {
                header.body_bytes.min(COMMAND_TAG_BYTES)
            }
            _ => 0,
        }
    }

    fn may_release(&self) -> bool {
        self.state.forwarded
            && self.release.is_shared()
            && self.state.pins.is_empty()
            && self.state.server_body_left == 0
            && self.client.body_left == 0
            && self.state.to_server.is_empty()
            && !self.state.own_names.underway
            && !self.state.swallowing
            && !self.state.retry.is_underway()
            && self.state.tracker.is_complete()
    }

    /// `body` holds at least the prefix that [`prefix_bytes`] asks for.
    pub(super) fn server_message(&mut self, header: Header, body: &[u8]) -> Option<RelayEnd> {
        let event = match header.tag {
            backend::tag::READY_FOR_QUERY => match ReadyForQuery::parse(body) {
                Ok(ready) if self.is_block_in_statement_mode(ready) => return Some(RelayEnd::Transaction),
                Ok(ready) => self.ready_for_query(ready),
                Err(_) => ServerEvent::OutOfPlace,
            },
            backend::tag::PARAMETER_STATUS => {
                self.suspect_by_parameter(body);
                self.parameter_status(body)?;
                ServerEvent::Forward
            }
            tag => {
                self.settle_doubted(tag, body);
                self.listen_server(tag, body);
                match tag {
                    backend::tag::COMMAND_COMPLETE if self.awaits_command() => self.inspect_command(body),
                    backend::tag::ERROR_RESPONSE => {
                        self.state.server_told |= is_fatal(body);
                        self.suspect_by_error(body);
                        self.trace_error(body);
                    }
                    _ => {}
                }
                let answered = self.state.tracker.answered_position();
                let event = self.state.tracker.server_message(tag);
                let now = self.state.tracker.answered_position();
                if self.state.tracker.has_lost_count() && self.state.statements.pending.has_own() {
                    // An answer to what we put in could be taken for one to the client. An error is for the client in any case.
                    return (tag != backend::tag::ERROR_RESPONSE).then_some(RelayEnd::ServerViolation);
                }
                if now != answered {
                    let error = (tag == backend::tag::ERROR_RESPONSE).then_some(body);
                    self.settle_statements(answered, now, error);
                }
                event
            }
        };
        (event == ServerEvent::OutOfPlace).then_some(RelayEnd::ServerViolation)
    }

    fn ready_for_query(&mut self, ready: ReadyForQuery) -> ServerEvent {
        let event = self.state.tracker.ready_for_query(ready.status);
        self.listen_ready(ready.status);
        self.statements_ready();
        self.observe_ready(ready.status);
        self.kernel_answered();
        if event == ServerEvent::Complete {
            self.lease.connection().busy = false;
        }
        event
    }
}

/// Passes over what is left of a body. Returns how many of the `available` bytes belong to it.
fn take_body(body_left: &mut u32, available: usize) -> usize {
    let taken = (*body_left).min(u32::try_from(available).unwrap_or(u32::MAX));
    *body_left -= taken;
    taken as usize
}

/// Whether the beginning of an ErrorResponse says that the session is over.
pub(super) fn is_fatal(prefix: &[u8]) -> bool {
    // The fields up to the cut: `S` (localized) and `V` come first.
    prefix.split(|&byte| byte == 0).any(
        |field| matches!(field, [b'V' | b'S', severity @ ..] if severity == b"FATAL" || severity == b"PANIC"),
    )
}

impl Relay<'_> {
    /// What comes answers us, not the client.
    pub(super) fn is_swallowing(&self) -> bool {
        self.state.swallowing || self.is_joining() || self.state.own_names.underway
    }

    /// One answer to our own SETs, or to statements that were put on the server under the client's own names.
    fn swallow(&mut self, header: Header, body: &[u8]) -> Option<RelayEnd> {
        match header.tag {
            backend::tag::READY_FOR_QUERY if self.state.own_names.underway => {
                self.state.began = false;
                return self.names_are_put(body);
            }
            backend::tag::ERROR_RESPONSE if self.state.own_names.underway && !is_fatal(body) => {
                self.names_are_refused(body);
            }
            _ if self.is_joining() => return self.swallow_joined(header, body),
            _ if self.is_reading_back() => return self.swallow_read_back(header, body),
            _ if self.is_beginning() && !is_fatal(body) => return self.swallow_begin(header, body),
            backend::tag::READY_FOR_QUERY => {
                self.state.swallowing = false;
                match ReadyForQuery::parse(body) {
                    Ok(ready) if ready.status == TransactionStatus::Idle => {
                        self.tell_parameters();
                        self.begin_behind_sets();
                    }
                    _ => return Some(RelayEnd::ServerViolation),
                }
            }
            _ => return self.swallow_answer(header, body),
        }
        None
    }

    /// What may come among the answers to anything of ours: an error, which ends the relay, and parameters.
    pub(super) fn swallow_answer(&mut self, header: Header, body: &[u8]) -> Option<RelayEnd> {
        match header.tag {
            backend::tag::ERROR_RESPONSE => Some(match ErrorFields::parse(body) {
                Ok(fields) => RelayEnd::Rejected(ServerError::from_fields(&fields)),
                Err(_) => RelayEnd::ServerViolation,
            }),
            backend::tag::PARAMETER_STATUS if !self.lease.connection().report(body) => {
                Some(RelayEnd::ServerViolation)
            }
            _ => None,
        }
    }

    /// A ParameterStatus on its way to the client: the client's own SET, or a change on the server.
    fn parameter_status(&mut self, body: &[u8]) -> Option<()> {
        let status = ParameterStatus::parse(body).ok()?;
        let (name, value) = (String::from_utf8_lossy(status.name), String::from_utf8_lossy(status.value));
        let server = self.lease.connection();
        let known = server.set_reported(&name, &value) && self.client.known.set(&name, &value);
        let joined = self.state.joined.as_ref();
        if joined.is_some_and(|joined| joined.explains(&name, &value, server.beginning.value(&name))) {
            return Some(());
        }
        if known && crate::server::parameters::is_settable(&name) {
            server.applied.set(&name, &value);
            self.client.wanted.set(&name, &value);
        }
        Some(())
    }
}
