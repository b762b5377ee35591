//! `[cluster.<name>.auth]`, and what `[server]` says about clients.

use super::hba::Hba;
use super::ident::IdentMaps;
use super::throttle::ThrottleSettings;
use super::verifiers::Stored;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// `query`, where the configuration has none.
pub const DEFAULT_QUERY: &str = "SELECT usename, passwd FROM pg_shadow WHERE usename = $1";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthSettings {
    /// One parameter, the user's name; columns: name, verifier and, if there is a third, the time until it is valid.
    pub query: String,
    pub cache_ttl: Duration,
    /// By role: what would otherwise be asked for.
    pub verifiers: BTreeMap<String, Stored>,
    /// Servers may be logged in to with the password that a client has sent in cleartext.
    pub password_passthrough: bool,
}

/// Who may log in to us, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientAuthSettings {
    /// `server.hba`
    pub hba_file: Option<PathBuf>,
    /// `server.ident`
    pub ident_file: Option<PathBuf>,
    /// What the files say; both are read again by a reload.
    pub rules: Arc<Hba>,
    pub maps: Arc<IdentMaps>,
    pub throttle: ThrottleSettings,
}
