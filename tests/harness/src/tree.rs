//! Directory trees: copying one.

use anyhow::{Context, Result};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// Copies `from` to `to`, which must not exist: files, modes and symbolic links, not owners.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    let mut left: Vec<(PathBuf, PathBuf)> = vec![(from.to_path_buf(), to.to_path_buf())];
    while let Some((from, to)) = left.pop() {
        copy_one(&from, &to, &mut left)
            .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    }
    Ok(())
}

fn copy_one(from: &Path, to: &Path, left: &mut Vec<(PathBuf, PathBuf)>) -> Result<()> {
    let metadata = from.symlink_metadata()?;
    if metadata.is_symlink() {
        symlink(fs::read_link(from)?, to)?;
    } else if metadata.is_dir() {
        fs::create_dir(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            left.push((entry.path(), to.join(entry.file_name())));
        }
        fs::set_permissions(to, metadata.permissions())?;
    } else {
        fs::copy(from, to)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn copies_files_modes_and_links() {
        let room = tempfile::tempdir().expect("there is room");
        let from = room.path().join("from");
        fs::create_dir_all(from.join("below")).expect("it is ours");
        fs::write(from.join("below/program"), "text").expect("it is ours");
        fs::set_permissions(from.join("below/program"), PermissionsExt::from_mode(0o750))
            .expect("it is ours");
        symlink("below/program", from.join("link")).expect("it is ours");
        let to = room.path().join("to");
        copy(&from, &to).expect("there is room");
        assert_eq!(fs::read_link(to.join("link")).ok(), Some("below/program".into()));
        assert_eq!(fs::read_to_string(to.join("link")).ok().as_deref(), Some("text"));
        let mode = to.join("below/program").metadata().map(|metadata| metadata.permissions().mode() & 0o777);
        assert_eq!(mode.ok(), Some(0o750));
    }
}
