//! One server connection on loan, and the slot that it occupies in its pool's limits.

use super::registry::{Registered, ServerState, ServerStats};
use super::shared::Shared;
use super::state::UserIndex;
use crate::net::Role;
use crate::server::parameters::SessionParameters;
use crate::server::{Login, OpenError, Opener, Replication, ServerConnection};
use crate::telemetry::metrics::PoolMetrics;
use crate::telemetry::trace::Span;
use crate::topology::{Cluster, NodeIndex};
use crate::worker::{WorkerId, Workers};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Counts against the limits from the moment an opening begins until PostgreSQL has let go of the connection.
#[derive(Debug)]
pub struct Slot {
    pub(super) pool: Arc<Shared>,
    pub(super) user: UserIndex,
    pub(super) node: NodeIndex,
    /// The node's when the connection was opened.
    pub(super) tenure: u32,
    /// The pool's when the opening began.
    pub(super) epoch: u32,
    pub(super) closing: bool,
}

impl Slot {
    /// The node is still what it was when the connection was opened.
    pub(super) fn is_current(&self) -> bool {
        self.pool.cluster.node(self.node).tenure() == self.tenure
    }
}

impl Shared {
    pub(super) fn login(&self, user: UserIndex) -> OwnLogin {
        let bounds = self.bounds();
        let login = bounds.member(user).login();
        OwnLogin {
            cluster: Arc::clone(&self.cluster),
            opener: Arc::clone(self.opener()),
            database: login.database.to_owned(),
            role: login.role.to_owned(),
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.pool.release(self);
    }
}

/// How a connection is opened that is not one of a pool's.
pub struct OwnLogin {
    pub cluster: Arc<Cluster>,
    pub opener: Arc<dyn Opener>,
    pub database: String,
    pub role: String,
}

/// A server connection that belongs to whoever holds this. Give it back with [`Lease::checkin`]; one that is dropped is
/// closed.
#[derive(Debug)]
pub struct Lease(Option<Box<Leased>>);

#[derive(Debug)]
pub struct Leased {
    connection: ServerConnection,
    pub(super) slot: Slot,
    /// Whose reactor the stream is registered with.
    pub(super) worker: WorkerId,
    pub(super) expires: Instant,
    pub(super) idle_since: Instant,
    pub(super) server: Registered,
}

impl Lease {
    pub(super) fn new(connection: ServerConnection, slot: Slot, worker: WorkerId, expires: Instant) -> Self {
        let server = slot.pool.registry.register(slot.user, slot.node, connection.cancel.process_id());
        Self(Some(Box::new(Leased { connection, slot, worker, expires, idle_since: Instant::now(), server })))
    }

    /// Makes this a walsender of the same node and user, in place of the connection that it was. `wanted` goes into its
    /// startup packet: a walsender knows no statements that would set parameters.
    pub async fn become_walsender(
        &mut self,
        replication: Replication,
        wanted: &SessionParameters,
    ) -> Result<(), OpenError> {
        let pool = Arc::clone(&self.slot.pool);
        let bounds = pool.bounds();
        let login = bounds.member(self.slot.user).login();
        let mut parameters = login.parameters.clone();
        for (name, value) in wanted.iter() {
            match name {
                "application_name" => parameters.application_name = Some(value.to_owned()),
                name => drop(parameters.options.insert(name.to_owned(), value.to_owned())),
            }
        }
        let login = Login { parameters: &parameters, replication: Some(replication), ..login };
        // The slot is one connection's: the server never sees two.
        self.connection.end().await;
        let mut opened = pool.opener().open(&pool.cluster.node(self.slot.node).address, login).await?;
        opened.applied = wanted.clone();
        opened.replicates = true;
        let process_id = opened.cancel.process_id();
        self.connection = opened;
        self.server = pool.registry.register(self.slot.user, self.slot.node, process_id);
        Ok(())
    }

    /// Hands a connection in a known clean state back: to the longest waiter, to the idle ones, or to its end.
    pub fn checkin(self) {
        if self.connection.cancel.is_astray() {
            tracing::debug!("a cancel may still come to a server connection, which is closed");
            return;
        }
        if self.connection.lasting {
            tracing::debug!("a server connection holds what no reset takes away, and is closed");
            return;
        }
        let pool = Arc::clone(&self.slot.pool);
        pool.checkin(self);
    }

    /// The node this connection leads to.
    pub fn node(&self) -> NodeIndex {
        self.slot.node
    }

    /// The node as logs and counters name it: `cluster/host:port`.
    pub fn node_name(&self) -> String {
        let cluster = &self.slot.pool.cluster;
        format!("{}/{}", cluster.name, cluster.node(self.slot.node).address)
    }

    /// Whether the node is still what it was when the connection was opened.
    pub fn is_current(&self) -> bool {
        self.slot.is_current()
    }

    /// What its node is used as now.
    pub fn node_role(&self) -> Option<Role> {
        self.slot.pool.cluster.node(self.slot.node).role()
    }

    /// What a connection beside the pool's needs to be opened as the same user.
    pub fn login(&self) -> OwnLogin {
        self.slot.pool.login(self.slot.user)
    }

    /// How long its pool's clients wait for a connection.
    pub fn checkout_timeout(&self) -> Duration {
        self.slot.pool.bounds().checkout_timeout
    }

    /// What would keep a client on this connection is refused.
    pub fn denies_pins(&self) -> bool {
        self.slot.pool.bounds().denies_pins
    }

    /// Asks for a probe of the nodes now: this connection has shown that one may have changed.
    pub fn suspect_node(&self) {
        self.slot.pool.cluster.refresh();
    }

    pub(super) fn applied(&self) -> &SessionParameters {
        &self.connection.applied
    }

    /// Moves the stream to the calling worker's reactor, if it is registered with another one.
    pub(super) fn adopt(mut self) -> std::io::Result<Self> {
        let Some(here) = Workers::current() else { return Ok(self) };
        if self.worker != here {
            self.connection.adopt()?;
            self.worker = here;
        }
        Ok(self)
    }
}

impl Deref for Lease {
    type Target = Leased;

    fn deref(&self) -> &Leased {
        self.0.as_deref().expect("a lease is only emptied by its drop")
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut Leased {
        self.0.as_deref_mut().expect("a lease is only emptied by its drop")
    }
}

impl Leased {
    pub fn connection(&mut self) -> &mut ServerConnection {
        &mut self.connection
    }

    /// Whether a client of the pool has asked for what `nextval()` gave before.
    pub fn recalls_sequences(&self) -> bool {
        self.slot.pool.recalls_sequences.load(Ordering::Relaxed)
    }

    pub fn note_recall(&self) {
        self.slot.pool.recalls_sequences.store(true, Ordering::Relaxed);
    }

    /// The counters of its pool.
    pub fn metrics(&self) -> &PoolMetrics {
        &self.slot.pool.metrics
    }

    /// A span about its pool.
    pub fn span(&self, name: &'static str) -> Span {
        self.slot.pool.span(name, None)
    }

    /// What others see of it.
    pub fn server(&self) -> &ServerStats {
        &self.server
    }

    pub fn connection_ref(&self) -> &ServerConnection {
        &self.connection
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(leased) = self.0.take() else { return };
        let Leased { connection, mut slot, worker, server, .. } = *leased;
        let pool = Arc::clone(&slot.pool);
        pool.mark_closing(&mut slot);
        server.set_state(ServerState::Closing);
        pool.workers.spawn_on(worker, async move {
            connection.close().await;
            drop(server);
            drop(slot);
        });
    }
}
