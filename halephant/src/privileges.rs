//! What the process may do: the user that it becomes, the capabilities that it keeps, the system calls that it gives up.

pub mod seccomp;

use nix::errno::Errno;
use nix::sys::prctl::set_keepcaps;
use nix::unistd::{Gid, Group, Uid, User, getegid, geteuid, initgroups, setresgid, setresuid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};
use std::ffi::CString;

/// For `[server] user` and `group`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrivilegeSettings {
    /// Whom the process becomes when it has everything that needs root.
    pub user: Option<String>,
    /// `None`: the user's own.
    pub group: Option<String>,
    /// System calls that a pooler does not make are refused.
    pub seccomp: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    #[error("server.user: this host has no user \"{0}\"")]
    NoUser(String),
    #[error("server.group: this host has no group \"{0}\"")]
    NoGroup(String),
    #[error("server.user: \"{0}\" is root")]
    IsRoot(String),
    #[error("server.user: only root can become \"{0}\"")]
    NotRoot(String),
    #[error("server.group: only root can become a member of \"{0}\"")]
    NotRootForGroup(String),
    #[error("{attempt}: {source}")]
    System { attempt: &'static str, source: Errno },
    #[error("the system call filter is refused: {0}")]
    Seccomp(#[source] seccompiler::Error),
}

fn failed(attempt: &'static str) -> impl Fn(Errno) -> PrivilegeError {
    move |source| PrivilegeError::System { attempt, source }
}

fn refused(attempt: &'static str) -> impl Fn(rustix::io::Errno) -> PrivilegeError {
    move |error| PrivilegeError::System { attempt, source: Errno::from_raw(error.raw_os_error()) }
}

/// Gives up what was needed to start: call it when everything is bound and loaded, and before threads are started that
/// are to live with what is left. Other threads lose every capability, as the kernel has it when a process changes its
/// user. `kernel_path`: sessions may be put on it.
pub fn give_up(settings: &PrivilegeSettings, kernel_path: bool) -> Result<(), PrivilegeError> {
    let needed = match kernel_path {
        true => CapabilitySet::BPF | CapabilitySet::NET_ADMIN,
        false => CapabilitySet::empty(),
    };
    match &settings.user {
        Some(name) => become_user(name, settings.group.as_deref(), needed)?,
        None if geteuid().is_root() => {
            tracing::warn!("halephant runs as root; server.user names whom it is to become");
        }
        None => {}
    }
    if !geteuid().is_root() {
        keep(needed)?;
    }
    // Nothing that is started later gets more, by no file's bits.
    set_no_new_privs(true).map_err(refused("no_new_privs"))
}

fn become_user(name: &str, group: Option<&str>, needed: CapabilitySet) -> Result<(), PrivilegeError> {
    let user = User::from_name(name)
        .map_err(failed("looking up server.user"))?
        .ok_or_else(|| PrivilegeError::NoUser(name.to_owned()))?;
    if user.uid.is_root() {
        return Err(PrivilegeError::IsRoot(name.to_owned()));
    }
    let gid = match group {
        None => user.gid,
        Some(group) => {
            let found = Group::from_name(group).map_err(failed("looking up server.group"))?;
            found.ok_or_else(|| PrivilegeError::NoGroup(group.to_owned()))?.gid
        }
    };
    if !geteuid().is_root() {
        // A supervisor may have done it already.
        return match (geteuid() == user.uid, getegid() == gid, group) {
            (false, ..) => Err(PrivilegeError::NotRoot(name.to_owned())),
            (true, false, Some(group)) => Err(PrivilegeError::NotRootForGroup(group.to_owned())),
            _ => Ok(()),
        };
    }
    // While we still may.
    for capability in CapabilitySet::all().iter().filter(|capability| !needed.contains(*capability)) {
        match remove_capability_from_bounding_set(capability) {
            // The kernel is older than the capability.
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(error) => return Err(refused("dropping capabilities")(error)),
        }
    }
    let account = CString::new(user.name).map_err(|_| PrivilegeError::NoUser(name.to_owned()))?;
    set_keepcaps(true).map_err(failed("keeping capabilities"))?;
    change(&account, user.uid, gid)?;
    set_keepcaps(false).map_err(failed("keeping capabilities"))?;
    tracing::info!(user = name, uid = user.uid.as_raw(), gid = gid.as_raw(), "gave up root");
    Ok(())
}

/// In all threads: the C library sees to it.
fn change(account: &CString, uid: Uid, gid: Gid) -> Result<(), PrivilegeError> {
    initgroups(account, gid).map_err(failed("setting the groups"))?;
    setresgid(gid, gid, gid).map_err(failed("setting the group"))?;
    setresuid(uid, uid, uid).map_err(failed("setting the user"))
}

/// Of what the calling thread has, keeps `needed`.
fn keep(needed: CapabilitySet) -> Result<(), PrivilegeError> {
    let refused = refused("dropping capabilities");
    let kept = capabilities(None).map_err(&refused)?.permitted & needed;
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets).map_err(&refused)?;
    clear_ambient_capability_set().map_err(&refused)
}
