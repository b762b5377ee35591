//! What the kernel path needs of the kernel and of our privileges.

use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use super::error::SpliceError;

/// Capabilities by bit, as in `capabilities(7)`.
const NEEDED: [(u32, &str); 3] = [(12, "CAP_NET_ADMIN"), (38, "CAP_PERFMON"), (39, "CAP_BPF")];
/// Stands for CAP_BPF and CAP_PERFMON, too.
const CAP_SYS_ADMIN: u32 = 21;
const OLDEST: (u32, u32) = (5, 10);
const CGROUP2_MAGIC: i64 = 0x6367_7270;

/// Checks kernel and capabilities before anything is loaded, so that the reason is a clear one.
pub fn check() -> Result<(), SpliceError> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")
        .map_err(|source| SpliceError::System("reading the kernel's release", source))?;
    let release = release.trim();
    if version(release).is_none_or(|version| version < OLDEST) {
        return Err(SpliceError::Kernel(release.to_owned()));
    }
    let status = fs::read_to_string("/proc/self/status")
        .map_err(|source| SpliceError::System("reading our capabilities", source))?;
    match missing(effective(&status)) {
        Some(name) => Err(SpliceError::Capability(name)),
        None => Ok(()),
    }
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse().ok());
    Some((numbers.next()?, numbers.next()?))
}

fn effective(status: &str) -> u64 {
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok())
        .unwrap_or(0)
}

fn missing(bits: u64) -> Option<&'static str> {
    let has = |bit: u32| bits >> bit & 1 == 1;
    NEEDED.iter().find(|(bit, _)| !(has(*bit) || *bit >= 38 && has(CAP_SYS_ADMIN))).map(|(_, name)| *name)
}

/// Opens the cgroup2 hierarchy at `path`, or the one that a mixed set-up has under it as `unified`.
pub fn open_cgroup(path: &Path) -> Result<OwnedFd, SpliceError> {
    let refused = |source| SpliceError::Cgroup { path: path.display().to_string(), source };
    for candidate in [PathBuf::from(path), path.join("unified")] {
        let Ok(folder) = fs::File::open(&candidate) else { continue };
        let kind = nix::sys::statfs::fstatfs(folder.as_fd())
            .map_err(|error| refused(Some(error.into())))?
            .filesystem_type();
        #[allow(clippy::unnecessary_cast, reason = "the type differs by architecture")]
        if kind.0 as i64 == CGROUP2_MAGIC {
            return Ok(folder.into());
        }
    }
    Err(refused(None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read() {
        for (release, expected) in [
            ("6.18.44-fc-v657", Some((6, 18))),
            ("5.10.0-32-cloud-amd64", Some((5, 10))),
            ("5.4-rc1", Some((5, 4))),
            ("nonsense", None),
        ] {
            assert_eq!(version(release), expected, "{release}");
        }
    }

    #[test]
    fn the_missing_capability_is_named() {
        assert_eq!(missing(u64::MAX), None);
        assert_eq!(missing(1 << 12 | 1 << CAP_SYS_ADMIN), None);
        assert_eq!(missing(1 << 38 | 1 << 39), Some("CAP_NET_ADMIN"));
        assert_eq!(missing(1 << 12 | 1 << 38), Some("CAP_BPF"));
        assert_eq!(missing(0), Some("CAP_NET_ADMIN"));
        assert_eq!(effective("Name:\tx\nCapEff:\t0000000000001000\n"), 1 << 12);
    }
}
