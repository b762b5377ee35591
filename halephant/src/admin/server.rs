//! The API's life: bind, serve until told to stop.

use super::listener::Bounded;
use super::settings::AdminSettings;
use super::{document, pages};
use crate::net::bind;
use crate::overview::Source;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;

/// What the handlers see.
#[derive(Clone)]
pub(super) struct View(pub(super) Arc<dyn Source>);

#[derive(Debug, thiserror::Error)]
#[error("the admin API could not listen on {address}: {source}")]
pub struct AdminError {
    address: SocketAddr,
    source: io::Error,
}

/// The API, bound and not served yet.
#[derive(Debug)]
pub struct Admin(TcpListener);

impl Admin {
    /// `None`: the configuration wants none. Needs a runtime.
    pub fn bind(settings: &AdminSettings) -> Result<Option<Self>, AdminError> {
        let Some(address) = settings.listen else { return Ok(None) };
        let failed = |source| AdminError { address, source };
        let listener = bind(address, 1, false)
            .map_err(failed)?
            .pop()
            .ok_or_else(|| failed(io::ErrorKind::Other.into()))?;
        if !address.ip().to_canonical().is_loopback() {
            tracing::warn!(%address, "the admin API asks for no password, and others than this host may reach it");
        }
        Ok(Some(Self(TcpListener::from_std(listener).map_err(failed)?)))
    }

    pub fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Serves until the future is dropped.
    pub async fn serve(self, source: Arc<dyn Source>) {
        let router = document::router().merge(pages::router()).with_state(View(source));
        if let Err(error) = axum::serve(Bounded::new(self.0), router).await {
            tracing::error!(%error, "the admin API ended");
        }
    }
}
