//! PAUSE and RECONNECT: a pool that gives up its server connections, for a while or for new ones.

use super::Pool;
use super::lease::Lease;
use super::shared::Shared;
use super::state::{State, Step};
use std::sync::Arc;
use std::time::Duration;

/// How often a paused pool is looked at until its last connection is gone.
const POLL: Duration = Duration::from_millis(20);

impl Pool {
    /// Lends nothing from now on: idle connections are closed, the others as they come back, and whoever asks for one
    /// waits. Returns whether it was not paused before.
    pub fn pause(&self) -> bool {
        self.shared.pause()
    }

    /// Waits until a paused pool has no connection left, or is resumed. Cancel safe.
    pub async fn paused(&self) {
        while self.is_paused() && self.connections() > 0 {
            tokio::time::sleep(POLL).await;
        }
    }

    /// Serves again, those first who have been waiting. Returns whether it was paused.
    pub fn resume(&self) -> bool {
        self.shared.resume()
    }

    pub fn is_paused(&self) -> bool {
        self.shared.lock().paused
    }

    /// Closes every connection that is open now, or being opened, as soon as nobody has it; others take their places.
    pub fn reconnect(&self) {
        self.shared.reconnect();
    }
}

impl Shared {
    fn pause(self: &Arc<Self>) -> bool {
        let mut was = false;
        self.decide(|state, _, steps| {
            was = std::mem::replace(&mut state.paused, true);
            state.retire_idle(steps);
        });
        !was
    }

    fn resume(self: &Arc<Self>) -> bool {
        let was = std::mem::replace(&mut self.lock().paused, false);
        if was {
            self.tend_now();
        }
        was
    }

    fn reconnect(self: &Arc<Self>) {
        self.decide(|state, _, steps| {
            state.epoch = state.epoch.wrapping_add(1);
            state.retire_idle(steps);
        });
        // What is kept open ahead is opened anew.
        self.tend_now();
    }
}

impl State {
    /// Ends every connection that nobody has.
    pub(super) fn retire_idle(&mut self, steps: &mut Vec<Step>) {
        let nodes = self.users.iter_mut().flat_map(|user| &mut user.nodes);
        let leases: Vec<Lease> = nodes.flat_map(|node| node.idle.drain(..)).collect();
        leases.into_iter().for_each(|lease| self.retire(lease, steps));
    }
}
