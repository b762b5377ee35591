//! `[ebpf]`.

use super::policy::Policy;
use std::path::PathBuf;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpliceMode {
    /// Use the kernel path where its probes pass; warn once and go on in userspace otherwise.
    Auto,
    Off,
    /// Refuse to start without the kernel path.
    Require,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpliceSettings {
    pub mode: SpliceMode,
    /// Clients and PostgreSQL run on this host: enrol their own sockets too.
    pub colocated: bool,
    pub cgroup: PathBuf,
    pub policy: Policy,
    /// Bytes redirected and not yet consumed, per direction.
    pub credit_bytes: u64,
}
