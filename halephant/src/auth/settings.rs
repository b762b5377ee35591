//! `[cluster.<name>.auth]`.

use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthSettings {
    /// One parameter, the user's name; columns: name, verifier and, if there is a third, the time until it is valid.
    pub query: String,
    pub cache_ttl: Duration,
}
