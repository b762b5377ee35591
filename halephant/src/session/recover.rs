//! A server connection whose client is done with it: back to the pool in a clean state, or closed when in doubt.

use crate::pool::Lease;
use crate::relay::RelayState;
use crate::server::ServerConnection;
use crate::server::query::QueryError;
use crate::wire::with_scratch;
use bytes::BytesMut;
use halephant_protocol::backend::{self, ReadyForQuery, TransactionStatus};
use halephant_protocol::frame::{HEADER_BYTES, parse_header};
use halephant_protocol::frontend::{Sync, tag};
use std::io;
use std::task::ready;
use std::time::Duration;

/// Longest that a cancelled statement may take to end before its connection is closed.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest that ROLLBACK and DISCARD ALL may take.
const RESET_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest ParameterStatus that is believed.
const PARAMETER_STATUS_BYTES_MAX: u32 = 64 * 1024;

/// Hands a clean connection back; one that a cancel is on its way to stays until the cancel has landed.
pub(super) fn give_back(mut lease: Lease) {
    let connection = lease.connection();
    if connection.replicates {
        return;
    }
    if !connection.dirty
        && !connection.unsettled
        && !connection.listening
        && !connection.cancel.is_in_flight()
    {
        lease.checkin();
        return;
    }
    tokio::spawn(async move {
        let cancel = lease.connection().cancel.clone();
        cancel.settled().await;
        reset_and_checkin(lease, TransactionStatus::Idle).await;
    });
}

/// Ends what a client left behind, in the background. `cut`: its last message was not complete.
pub(super) fn recover(mut lease: Lease, state: RelayState, cut: bool) {
    let tracker = &state.tracker;
    // A client that left without Sync left a transaction that must not be committed, and closing rolls it back.
    let closes = tracker.in_doubt()
        || tracker.copy_open()
        || tracker.commits_at_sync()
        || lease.connection().replicates;
    if cut || closes || !state.can_continue() {
        // Dropping it closes it, and cancels what still runs.
        lease.connection().busy |= tracker.owed() > 0;
        return;
    }
    // What the abandoned statements do to the session is told to nobody.
    lease.connection().dirty |= tracker.owed() > 0 || tracker.needs_sync();
    tokio::spawn(async move {
        let mut state = state;
        match tokio::time::timeout(DRAIN_TIMEOUT, drain(lease.connection(), &mut state)).await {
            Ok(Ok(())) => {
                let cancel = lease.connection().cancel.clone();
                cancel.settled().await;
                reset_and_checkin(lease, state.tracker.status()).await;
            }
            Ok(Err(error)) => tracing::debug!(%error, "an abandoned server connection is closed"),
            Err(_) => {
                tracing::warn!("an abandoned statement did not end in time; its server connection is closed")
            }
        }
    });
}

/// Cancels what runs and reads up to the last ReadyForQuery that is owed.
async fn drain(connection: &mut ServerConnection, state: &mut RelayState) -> io::Result<()> {
    if state.tracker.needs_sync() {
        let mut sync = BytesMut::new();
        Sync.encode(&mut sync);
        state.tracker.client_message(tag::SYNC);
        connection.stream.write_all(&sync).await?;
    }
    if state.tracker.owed() > 0 {
        let cancel = connection.cancel.begin();
        // The cancel may come before the statement that it is for; what is owed is read in any case.
        let (sent, drained) = tokio::join!(cancel.send(), read_owed(connection, state));
        sent.and(drained)?;
    }
    connection.busy = false;
    Ok(())
}

async fn read_owed(connection: &mut ServerConnection, state: &mut RelayState) -> io::Result<()> {
    // What was read before and not judged may be all that is owed: then nothing more comes.
    state.drop_answers(connection, &[])?;
    while state.tracker.owed() > 0 || state.is_mid_message() {
        std::future::poll_fn(|cx| {
            with_scratch(|buffer| match ready!(connection.stream.poll_read(cx, buffer)) {
                Ok(0) => std::task::Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Ok(read) => std::task::Poll::Ready(state.drop_answers(connection, &buffer[..read])),
                Err(error) => std::task::Poll::Ready(Err(error)),
            })
        })
        .await?;
    }
    if state.tracker.in_doubt() { Err(io::ErrorKind::InvalidData.into()) } else { Ok(()) }
}

async fn reset_and_checkin(mut lease: Lease, status: TransactionStatus) {
    let mut span = lease.span("pool.reset");
    let reset = tokio::time::timeout(RESET_TIMEOUT, reset(lease.connection(), status)).await;
    match &reset {
        Ok(Ok(())) => {}
        Ok(Err(_)) => span.fail("reset"),
        Err(_) => span.fail("timeout"),
    }
    drop(span);
    match reset {
        Ok(Ok(())) => lease.checkin(),
        Ok(Err(error)) => tracing::debug!(%error, "a server connection could not be reset and is closed"),
        Err(_) => tracing::warn!("a server connection was not reset in time and is closed"),
    }
}

async fn reset(connection: &mut ServerConnection, status: TransactionStatus) -> Result<(), QueryError> {
    if status != TransactionStatus::Idle {
        connection.command("ROLLBACK").await?;
    }
    if connection.dirty || connection.unsettled {
        connection.reset().await?;
    } else if connection.listening {
        connection.unlisten().await?;
    }
    Ok(())
}

impl RelayState {
    /// Tracks answers that nobody gets any more.
    fn drop_answers(&mut self, connection: &mut ServerConnection, input: &[u8]) -> io::Result<()> {
        let mut held = std::mem::take(&mut self.server_held);
        held.extend_from_slice(input);
        let mut at = 0;
        loop {
            let rest = &held[at..];
            let taken = (self.server_body_left as usize).min(rest.len());
            self.server_body_left -= taken as u32;
            at += taken;
            let rest = &held[at..];
            let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
            let Some(header) = parse_header(rest).map_err(invalid)? else { break };
            if header.tag == backend::tag::READY_FOR_QUERY {
                let Some(body) = rest.get(HEADER_BYTES..header.frame_bytes()) else { break };
                let ready = ReadyForQuery::parse(body).map_err(|_| io::ErrorKind::InvalidData)?;
                self.tracker.ready_for_query(ready.status);
            } else if header.tag == backend::tag::PARAMETER_STATUS {
                if header.body_bytes > PARAMETER_STATUS_BYTES_MAX {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                let Some(body) = rest.get(HEADER_BYTES..header.frame_bytes()) else { break };
                if !connection.report(body) {
                    return Err(io::ErrorKind::InvalidData.into());
                }
            } else {
                self.tracker.server_message(header.tag);
            }
            at += HEADER_BYTES;
            self.server_body_left = header.body_bytes;
        }
        self.server_held = BytesMut::from(&held[at..]);
        Ok(())
    }
}
