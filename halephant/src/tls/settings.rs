//! `[server.tls]` and `[cluster.<name>.tls]`, with what was made of the files that they name.

use super::accept::Acceptor;
use super::connect::Connector;
use super::file::Fingerprint;
use super::identity::Identity;
use super::mode::{MinimumVersion, TlsMode};
use super::trust::Trust;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// A certificate file and the file of its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// A CA file and a file of revocation lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustFiles {
    pub ca: PathBuf,
    pub crl: Option<PathBuf>,
}

/// `[server.tls]`: with clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientLegSettings {
    pub mode: TlsMode,
    /// Set unless the mode is `disable`.
    pub identity: Option<IdentityFiles>,
    pub trust: Option<TrustFiles>,
    pub min_version: MinimumVersion,
    /// By the host name that a client asks for (SNI).
    pub sni: BTreeMap<String, IdentityFiles>,
}

/// `[cluster.<name>.tls]`: with the nodes of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerLegSettings {
    pub mode: TlsMode,
    pub identity: Option<IdentityFiles>,
    pub trust: Option<TrustFiles>,
    pub min_version: MinimumVersion,
    /// The name in the nodes' certificates, where it is not the host that `nodes` names.
    pub server_name: Option<String>,
    /// Whether nodes are told by what name they were reached.
    pub sni: bool,
    /// A login without channel binding is given up.
    pub requires_binding: bool,
}

/// A certificate for one host name.
#[derive(Clone, Debug)]
pub struct NamedIdentity {
    pub host: String,
    pub identity: Identity,
}

/// Settings, and what their files made. Two are equal where both the settings and the files' contents are.
#[derive(Debug)]
pub struct Loaded<S, T> {
    pub settings: S,
    made: Option<Arc<T>>,
    seen: [u8; 32],
}

pub type ClientLeg = Loaded<ClientLegSettings, Acceptor>;
pub type ServerLeg = Loaded<ServerLegSettings, Connector>;

impl<S, T> Loaded<S, T> {
    /// `None`: no TLS on this leg.
    pub fn made(&self) -> Option<&Arc<T>> {
        self.made.as_ref()
    }
}

impl<S: Clone, T> Clone for Loaded<S, T> {
    fn clone(&self) -> Self {
        Self { settings: self.settings.clone(), made: self.made.clone(), seen: self.seen }
    }
}

impl<S: PartialEq, T> PartialEq for Loaded<S, T> {
    fn eq(&self, other: &Self) -> bool {
        self.settings == other.settings && self.seen == other.seen
    }
}

impl<S: Eq, T> Eq for Loaded<S, T> {}

impl<S: Default, T> Default for Loaded<S, T> {
    fn default() -> Self {
        Self { settings: S::default(), made: None, seen: Fingerprint::default().finish() }
    }
}

impl ClientLeg {
    /// `identity` is what `settings.identity` names, and so on.
    pub fn new(
        settings: ClientLegSettings,
        identity: Identity,
        trust: Option<Trust>,
        names: Vec<NamedIdentity>,
    ) -> Result<Self, rustls::Error> {
        let mut seen = Fingerprint::default();
        seen.add_other(&identity.seen);
        trust.iter().for_each(|trust| seen.add_other(&trust.seen));
        names.iter().for_each(|named| seen.add_other(&named.identity.seen));
        let acceptor = Acceptor::new(&settings, identity, trust.as_ref(), names)?;
        Ok(Self { settings, made: Some(Arc::new(acceptor)), seen: seen.finish() })
    }
}

impl ServerLeg {
    pub fn new(
        settings: ServerLegSettings,
        identity: Option<Identity>,
        trust: Option<Trust>,
    ) -> Result<Self, rustls::Error> {
        let mut seen = Fingerprint::default();
        identity.iter().for_each(|identity| seen.add_other(&identity.seen));
        trust.iter().for_each(|trust| seen.add_other(&trust.seen));
        let connector = Connector::new(&settings, identity, trust.as_ref())?;
        Ok(Self { settings, made: Some(Arc::new(connector)), seen: seen.finish() })
    }
}
