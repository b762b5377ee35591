//! What is counted for the process as a whole.

use super::{Counter, LabelledCounters};

#[derive(Debug)]
pub struct ProcessMetrics {
    /// Attempts to reload the configuration: `success`, `restart_required` or `parse_failed`.
    pub reloads: LabelledCounters,
    /// Connections that were accepted, whatever came of them.
    pub accepted: Counter,
    /// Connections that were refused because there were too many, by the key of the limit.
    pub refused: LabelledCounters,
}

impl Default for ProcessMetrics {
    fn default() -> Self {
        Self {
            reloads: LabelledCounters::with_labels(&["success", "restart_required", "parse_failed"]),
            accepted: Counter::default(),
            refused: LabelledCounters::with_labels(&["logins", "total", "address", "pool", "user"]),
        }
    }
}
