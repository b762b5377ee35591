//! How a node is asked what it is; whoever can open connections implements it.

use super::observation::Observation;
use crate::net::NodeAddress;
use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    #[error(transparent)]
    Failed(Box<dyn Error + Send + Sync>),
    #[error("no answer within topology.timeout ({})", humantime::format_duration(*after))]
    Timeout { after: Duration },
}

impl ProbeError {
    pub fn failed(error: impl Error + Send + Sync + 'static) -> Self {
        Self::Failed(Box::new(error))
    }
}

pub type Answer<'a> = Pin<Box<dyn Future<Output = Result<Observation, ProbeError>> + Send + 'a>>;

/// Asks one node, again and again.
pub trait Probe: Send {
    /// Dropping the answer must leave the probe usable.
    fn ask(&mut self) -> Answer<'_>;
}

/// Makes the probe of a node.
pub trait Prober: Send + Sync {
    fn probe(&self, node: &NodeAddress) -> Box<dyn Probe>;
}
