//! `[cluster.<name>.topology]`.

use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopologySettings {
    pub interval: Duration,
    pub timeout: Duration,
}
