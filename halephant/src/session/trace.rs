//! Where a session's life and its spans meet.

use super::{NoServer, Session};
use crate::pool::Lease;
use crate::telemetry::trace::Span;

impl NoServer {
    /// The `error.type` of a checkout's span.
    fn kind(&self) -> &'static str {
        match self {
            Self::Error(error) => error.kind().unwrap_or("open"),
            Self::Cancelled => "cancelled",
            Self::ClientClosed => "client_closed",
            Self::Shutdown => "shutdown",
            Self::Listener(_) => "listener",
        }
    }
}

impl Session {
    /// A checkout, within the span of the transaction that it is for.
    pub(super) async fn checkout(&mut self) -> Result<Lease, NoServer> {
        let mut span = match &mut self.client.trace {
            Some(trace) => {
                trace.begin_transaction(&self.client.held);
                trace.checkout()
            }
            None => Span::default(),
        };
        let result = self.find_server().await;
        if let (Err(reason), Some(trace)) = (&result, &mut self.client.trace) {
            span.fail(reason.kind());
            trace.refused(reason.kind());
        }
        result
    }

    pub(super) fn trace_node(&mut self, lease: &Lease) {
        if let Some(trace) = &mut self.client.trace {
            trace.on_node(&self.pool.cluster().node(lease.node()).address);
        }
    }

    pub(super) fn trace_detached(&mut self) {
        if let Some(trace) = &mut self.client.trace {
            trace.detach();
        }
    }
}
