//! An open, authenticated server connection and what is known about its session.

use super::cancel::CancelTarget;
use super::parameters::{ReportedParameters, SessionParameters};
use super::query::QueryError;
use crate::prepared::Copies;
use crate::sql::Dialect;
use crate::wire::{Stream, with_scratch};
use bytes::BytesMut;
use halephant_protocol::backend::{self, ParameterStatus};
use halephant_protocol::frame;
use halephant_protocol::frontend::Terminate;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

/// Longest that closing waits for PostgreSQL to let go of the backend.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub struct ServerConnection {
    pub stream: Stream,
    /// Set on this connection beyond what it started with.
    pub applied: SessionParameters,
    pub reported: ReportedParameters,
    /// What it reported at its beginning.
    pub beginning: ReportedParameters,
    /// How the server reads SQL, by what it reported.
    dialect: Dialect,
    /// The prepared statements that it has under our names.
    pub copies: Copies,
    pub cancel: Arc<CancelTarget>,
    /// The process ID of its last client, 0 if it had none: `currval()` gives what that one has drawn.
    pub client: u32,
    /// The session may hold state of its last client: it must be reset before anybody else gets it.
    pub dirty: bool,
    /// Its last client may have set parameters that are not among `applied`.
    pub unsettled: bool,
    /// It may listen on channels that its last client wanted.
    pub listening: bool,
    /// A query may still be running: closing cancels it.
    pub busy: bool,
    /// Its last client left something in the session that no reset takes away: nobody else gets it.
    pub lasting: bool,
    /// It is a walsender: nobody else's, and closed when its client has left.
    pub replicates: bool,
}

pub(super) fn dialect_of(reported: &ReportedParameters) -> Dialect {
    let value = |name| reported.value(name).unwrap_or_default().as_bytes();
    Dialect::reported(
        value("standard_conforming_strings"),
        value("client_encoding"),
        value("server_encoding"),
    )
}

impl ServerConnection {
    /// A connection that has just sent its first ReadyForQuery.
    pub fn new(stream: Stream, cancel: CancelTarget, reported: ReportedParameters) -> Self {
        Self {
            stream,
            applied: SessionParameters::default(),
            dialect: dialect_of(&reported),
            copies: Copies::default(),
            beginning: reported.clone(),
            reported,
            cancel: Arc::new(cancel),
            client: 0,
            dirty: false,
            unsettled: false,
            listening: false,
            busy: false,
            lasting: false,
            replicates: false,
        }
    }

    /// Takes in what arrived while nobody used the connection. `false`: it ended, or said something it should not.
    ///
    /// With `ask_kernel`, the kernel is asked even when the reactor has not reported anything yet.
    pub fn is_alive(&mut self, ask_kernel: bool) -> bool {
        if ask_kernel && !self.stream.holds_input() && !self.peek_finds_data().unwrap_or(true) {
            return true;
        }
        loop {
            let mut quiet = true;
            let read = with_scratch(|buffer| match self.stream.try_read(buffer) {
                Ok(None) => true,
                Ok(Some(0)) | Err(_) => false,
                Ok(Some(read)) => {
                    quiet = false;
                    self.take_in(&buffer[..read])
                }
            });
            if quiet || !read {
                return read;
            }
        }
    }

    /// Whether there is something to read, end of stream included.
    fn peek_finds_data(&self) -> io::Result<bool> {
        let fd = self.stream.as_fd()?.as_raw_fd();
        let mut byte = [0; 1];
        let flags = nix::sys::socket::MsgFlags::MSG_PEEK | nix::sys::socket::MsgFlags::MSG_DONTWAIT;
        match nix::sys::socket::recv(fd, &mut byte, flags) {
            Err(nix::errno::Errno::EAGAIN) => Ok(false),
            Err(error) => Err(error.into()),
            Ok(_) => Ok(true),
        }
    }

    /// Messages that PostgreSQL sends on its own accord; anything else, or a part of one, is not trusted.
    fn take_in(&mut self, bytes: &[u8]) -> bool {
        let mut frames = frame::split(bytes);
        let all_known = frames.by_ref().all(|frame| match frame {
            Ok(frame) => match frame.tag {
                backend::tag::NOTICE_RESPONSE | backend::tag::NOTIFICATION_RESPONSE => true,
                backend::tag::PARAMETER_STATUS => self.report(frame.body),
                _ => false,
            },
            Err(_) => false,
        });
        all_known && frames.rest().is_empty()
    }

    /// Stores the body of a ParameterStatus; `false` when it is none.
    pub fn report(&mut self, body: &[u8]) -> bool {
        match ParameterStatus::parse(body) {
            Ok(status) => self
                .set_reported(&String::from_utf8_lossy(status.name), &String::from_utf8_lossy(status.value)),
            Err(_) => false,
        }
    }

    /// Stores a ParameterStatus; `false`: the server reports absurdly many.
    pub fn set_reported(&mut self, name: &str, value: &str) -> bool {
        let stored = self.reported.set(name, value);
        if matches!(name, "standard_conforming_strings" | "client_encoding" | "server_encoding") {
            self.dialect = dialect_of(&self.reported);
        }
        stored
    }

    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Moves the stream to the calling thread's reactor.
    pub fn adopt(&mut self) -> io::Result<()> {
        self.stream.adopt()
    }

    /// Removes every trace of the last client from the session.
    pub async fn reset(&mut self) -> Result<(), QueryError> {
        // A statement_timeout that ends in the last moment of a statement may strike the next one: that one is to be ours.
        self.commands(&["SET statement_timeout TO 0", "DISCARD ALL"]).await?;
        self.applied = SessionParameters::default();
        self.copies.clear();
        self.dirty = false;
        self.unsettled = false;
        self.listening = false;
        Ok(())
    }

    /// Listens on nothing any more.
    pub async fn unlisten(&mut self) -> Result<(), QueryError> {
        self.command("UNLISTEN *").await?;
        self.listening = false;
        Ok(())
    }

    /// Says goodbye and waits until PostgreSQL has closed its side, so that the limits count true.
    pub async fn close(mut self) {
        self.end().await;
    }

    /// As [`close`](Self::close), of one whose place another connection takes.
    pub async fn end(&mut self) {
        if self.busy {
            // What runs is of no use to anybody any more.
            let _ = self.cancel.begin().send().await;
        }
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, async {
            let mut message = BytesMut::new();
            Terminate.encode(&mut message);
            self.stream.write_all(&message).await?;
            self.stream.shutdown().await?;
            let mut rest = vec![0; 16 * 1024];
            while self.stream.read(&mut rest).await? > 0 {}
            io::Result::Ok(())
        })
        .await;
    }
}
