//! Where a client's next transaction goes: the role of node, read off its first message, and the wait for a connection
//! to such a node.

use super::begun::Begun;
use super::control::text_of;
use super::{NoServer, Session};
use crate::cancel::{Registration, Signal};
use crate::net::Role;
use crate::pool::Lease;
use crate::pool::settings::PoolMode;
use crate::relay::{Client, HELD_WHILE_WAITING_BYTES_MAX, begins_transaction};
use crate::route::{AccessMode, first_statement};
use halephant_protocol::frame::{Header, parse_frontend_header};
use halephant_protocol::frontend::tag;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::time::Instant;

/// Longest first message that is read for where it goes; with a longer one the session's default holds.
const ROUTED_BYTES_MAX: usize = HELD_WHILE_WAITING_BYTES_MAX;

impl Session {
    /// Whether more of the message at the front has to be read before its place is known.
    pub(super) fn place_needs_more(&self, header: Header) -> bool {
        let size = header.frame_bytes();
        self.is_placed_by_text(header) && size <= ROUTED_BYTES_MAX && self.client.held.len() < size
    }

    /// In statement mode, whether the message at the front begins a transaction block.
    pub(super) fn is_refused_block(&self, header: Header) -> bool {
        self.pool.settings().mode == PoolMode::Statement
            && matches!(header.tag, tag::QUERY | tag::PARSE)
            && text_of(&self.client.held, header)
                .is_some_and(|text| begins_transaction(text, self.client.known.dialect()))
    }

    fn is_placed_by_text(&self, header: Header) -> bool {
        (self.access.has_choice() || self.pool.settings().mode == PoolMode::Statement)
            && self.pool.settings().mode != PoolMode::Session
            && matches!(header.tag, tag::QUERY | tag::PARSE)
    }

    /// What the transaction that the client is about to begin asks for. In session mode the login has decided.
    fn asked(&self) -> Option<AccessMode> {
        if let Begun::Open { text, .. } = &self.begun {
            let choice = self.access.has_choice();
            return choice.then(|| first_statement(text, self.client.known.dialect())).flatten();
        }
        let header = parse_frontend_header(&self.client.held).ok()??;
        if !self.is_placed_by_text(header) {
            return None;
        }
        first_statement(text_of(&self.client.held, header)?, self.client.known.dialect())
    }

    /// Waits for a server connection; a client that leaves or cancels meanwhile leaves the queue.
    pub(super) async fn find_server(&mut self) -> Result<Lease, NoServer> {
        self.reserve_channels().await?;
        let (pool, user, access, asked) = (Arc::clone(&self.pool), self.user, self.access, self.asked());
        let wanted = self.client.wanted.clone();
        let place = || access.role(&wanted, asked, || pool.cluster().has(Role::Replica));
        if let Some(lease) = pool.try_checkout(user, place(), &wanted) {
            return Ok(lease);
        }
        self.registration.set_waiting();
        let deadline = Instant::now() + pool.settings().checkout_timeout;
        let result = loop {
            let role = place();
            let left = deadline.saturating_duration_since(Instant::now());
            let mut checkout = pin!(pool.checkout_within(user, role, &wanted, left));
            let mut changes = pool.cluster().changes();
            // When nodes change their roles, its place may be in another queue.
            let mut misplaced = pin!(async { while place() == role && changes.changed().await.is_ok() {} });
            let Self { client, registration, begun, .. } = &mut *self;
            let ended = std::future::poll_fn(|cx| {
                if let Poll::Ready(result) = checkout.as_mut().poll(cx) {
                    return Poll::Ready(Some(result.map_err(NoServer::Error)));
                }
                if let Some(reason) = gives_up(client, registration, begun, cx) {
                    return Poll::Ready(Some(Err(reason)));
                }
                misplaced.as_mut().poll(cx).map(|()| None)
            })
            .await;
            if let Some(result) = ended {
                break result;
            }
        };
        let registration = &self.registration;
        let Ok(mut lease) = result else {
            registration.set_idle();
            return result;
        };
        // From here a cancel goes to the server; one that still met the wait must not be lost.
        registration.set_running(&lease.connection().cancel);
        if registration.has(Signal::Cancel) {
            registration.set_idle();
            super::recover::give_back(lease);
            return Err(NoServer::Cancelled);
        }
        Ok(lease)
    }
}

/// Why a client does not want to wait any longer.
pub(super) fn gives_up(
    client: &mut Client,
    registration: &Registration,
    begun: &Begun,
    cx: &mut Context<'_>,
) -> Option<NoServer> {
    registration.register(cx.waker());
    if registration.has(Signal::Cancel) {
        return Some(NoServer::Cancelled);
    }
    if registration.has(Signal::Stop) || (registration.has(Signal::Drain) && begun.is_nothing()) {
        return Some(NoServer::Shutdown);
    }
    client.poll_gone(cx, HELD_WHILE_WAITING_BYTES_MAX).is_ready().then_some(NoServer::ClientClosed)
}
