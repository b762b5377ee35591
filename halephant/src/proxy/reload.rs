//! A reload: other settings for the running process, or a reason to keep the ones it has.

use super::live::Live;
use super::service;
use super::settings::Config;
use std::sync::Arc;

/// Reads the configuration again.
pub trait Reread: Send + 'static {
    /// The settings to go on with, which from then on are those that the next ones are compared with.
    fn reread(&mut self) -> Result<Config, ReloadError>;
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReloadError {
    #[error("these need a restart: {}", keys.join(", "))]
    RestartRequired { keys: Vec<&'static str> },
    #[error("{errors}")]
    ParseFailed { errors: String },
}

impl ReloadError {
    /// The attribute `outcome` in metrics.
    pub fn outcome(&self) -> &'static str {
        match self {
            Self::RestartRequired { .. } => "restart_required",
            Self::ParseFailed { .. } => "parse_failed",
        }
    }
}

/// One attempt. On an error everything stays as it is.
pub(super) async fn reload<R: Reread>(live: Arc<Live>, mut reread: R) -> R {
    service::reloading();
    // A file may take its time; the control runtime has other things to do.
    let read = tokio::task::spawn_blocking(move || {
        let settings = reread.reread();
        (reread, settings)
    });
    let (reread, settings) = match read.await {
        Ok(read) => read,
        Err(ended) => std::panic::resume_unwind(ended.into_panic()),
    };
    let outcome = match settings {
        Ok(settings) => {
            live.replace(settings).await;
            tracing::info!("the configuration was reloaded");
            "success"
        }
        Err(error) => {
            tracing::error!(outcome = error.outcome(), %error, "the reload was rejected; nothing changed");
            error.outcome()
        }
    };
    live.state().shared.metrics.reloads.add(outcome, 1);
    service::ready();
    reread
}
