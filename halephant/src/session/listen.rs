//! A LISTEN that begins a transaction waits for the listener before it waits for a server connection, which others may use meanwhile.

use super::control::text_of;
use super::place::gives_up;
use super::{NoServer, Session};
use crate::notify::Script;
use crate::relay;
use halephant_protocol::frame::parse_frontend_header;
use halephant_protocol::frontend::tag;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

impl Session {
    /// Waits until the listener listens on what the message at the front will listen on. What cannot be told yet is left to
    /// the relay.
    pub(super) async fn reserve_channels(&mut self) -> Result<(), NoServer> {
        let Some(script) = self.first_script() else { return Ok(()) };
        let wait = self.pool.settings().checkout_timeout;
        loop {
            let Self { client, pool, user, .. } = &mut *self;
            let encoding = client.known.value("client_encoding").unwrap_or_default().to_owned();
            let Some(listening) = client.listening.as_deref_mut() else { return Ok(()) };
            let origin = || relay::origin(pool.login(*user), encoding);
            match listening.reserve(Arc::clone(&script), wait, origin) {
                Ok(true) => {
                    // The relay looks at the message again.
                    listening.look();
                    return Ok(());
                }
                Ok(false) => self.await_listener().await?,
                Err(refusal) => return Err(NoServer::Listener(refusal)),
            }
        }
    }

    /// What a LISTEN at the front does, where it can be read before it is known which connection it goes to.
    fn first_script(&self) -> Option<Arc<Script>> {
        self.client.listening.as_ref()?;
        if self.access.is_read_only() {
            // A replica refuses it in its own words.
            return None;
        }
        let held = &self.client.held;
        let header = parse_frontend_header(held).ok()??;
        if header.tag != tag::QUERY {
            return None;
        }
        let script = Script::read(text_of(held, header)?, self.client.known.dialect())?;
        let listens = script.channels().next().is_some();
        let is_plain = !script.unread && script.channels().all(|channel| channel.name().is_ascii());
        (listens && is_plain).then(|| Arc::new(script))
    }

    async fn await_listener(&mut self) -> Result<(), NoServer> {
        self.registration.set_waiting();
        let Self { client, registration, begun, .. } = &mut *self;
        let waited = poll_fn(|cx| {
            if let Some(reason) = gives_up(client, registration, begun, cx) {
                return Poll::Ready(Err(reason));
            }
            match client.listening.as_deref_mut() {
                Some(listening) => listening.poll_reserved(cx).map(Ok),
                None => Poll::Ready(Ok(())),
            }
        })
        .await;
        registration.set_idle();
        if waited.is_err()
            && let Some(listening) = client.listening.as_deref_mut()
        {
            listening.abandon();
        }
        waited
    }
}
