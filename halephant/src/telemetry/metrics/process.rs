//! What is counted for the process as a whole.

use super::{Counter, LabelledCounters};

/// What can be wrong with a login.
const LOGIN_FAILURES: [&str; 10] = [
    "password",
    "certificate",
    "peer",
    "external",
    "unavailable",
    "no_entry",
    "rejected",
    "no_role",
    "throttled",
    "protocol",
];

#[derive(Debug)]
pub struct ProcessMetrics {
    /// Attempts to reload the configuration: `success`, `restart_required` or `parse_failed`.
    pub reloads: LabelledCounters,
    /// Connections that were accepted, whatever came of them.
    pub accepted: Counter,
    /// Connections that were refused because there were too many, by the key of the limit.
    pub refused: LabelledCounters,
    /// Clients that were not let in, by what was wrong.
    pub login_failures: LabelledCounters,
    /// Clients that have proved who they are.
    pub logins: Counter,
}

impl Default for ProcessMetrics {
    fn default() -> Self {
        Self {
            reloads: LabelledCounters::with_labels(&["success", "restart_required", "parse_failed"]),
            accepted: Counter::default(),
            refused: LabelledCounters::with_labels(&["logins", "total", "address", "pool", "user"]),
            login_failures: LabelledCounters::with_labels(&LOGIN_FAILURES),
            logins: Counter::default(),
        }
    }
}
