//! The initial file system of a virtual machine: busybox, the test program with its libraries, two kernel modules.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use halephant_harness::command::succeed;

use super::kernel::Kernel;

const LIMIT: Duration = Duration::from_secs(60);
const BUSYBOX: [&str; 2] = ["/bin/busybox", "/usr/bin/busybox"];

/// Runs as the machine's first process.
const INIT: &str = "#!/bin/busybox sh
/bin/busybox mount -t proc none /proc
/bin/busybox mount -t sysfs none /sys
/bin/busybox mount -t cgroup2 none /sys/fs/cgroup
/bin/busybox mount -t devtmpfs none /dev
/bin/busybox ip link set lo up
for module in /modules/*; do /bin/busybox insmod $module; done
/bin/program
/bin/busybox poweroff -f
";

/// Writes the image for `kernel` to `folder`, and gives its path. `program` runs in it.
pub fn write(folder: &Path, kernel: &Kernel, program: &Path) -> Result<PathBuf> {
    let root = folder.join("root");
    let _ = std::fs::remove_dir_all(&root);
    for directory in ["bin", "dev", "modules", "proc", "sys", "tmp"] {
        std::fs::create_dir_all(root.join(directory))?;
    }
    let busybox = BUSYBOX.iter().find(|path| Path::new(path).exists());
    let busybox = busybox.context("busybox is missing: apt-get install busybox-static")?;
    std::fs::copy(busybox, root.join("bin/busybox"))?;
    let mut strip = Command::new("strip");
    succeed(strip.arg("-o").arg(root.join("bin/program")).arg(program), LIMIT)
        .context("stripping the test program: apt-get install binutils")?;
    for library in libraries(program)? {
        let target = root.join(library.strip_prefix("/").unwrap_or(&library));
        std::fs::create_dir_all(target.parent().context("a library has a folder")?)?;
        std::fs::copy(&library, target)?;
    }
    for (number, module) in kernel.modules.iter().enumerate() {
        let name = module.file_name().context("a module has a name")?.to_string_lossy();
        // In the order in which they have to be loaded.
        std::fs::copy(module, root.join("modules").join(format!("{number}-{name}")))?;
    }
    let init = root.join("init");
    std::fs::write(&init, INIT)?;
    std::fs::set_permissions(&init, std::fs::Permissions::from_mode(0o755))?;
    let archive = folder.join("initrd");
    pack(&root, &archive)?;
    Ok(archive)
}

/// The shared libraries of a program, the loader with them.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let listed = succeed(Command::new("ldd").arg(program), LIMIT)?;
    if let Some(missing) = listed.lines().find(|line| line.contains("not found")) {
        bail!("{}: {}", program.display(), missing.trim());
    }
    Ok(listed.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect())
}

fn pack(root: &Path, archive: &Path) -> Result<()> {
    let mut names = String::new();
    list(root, root, &mut names)?;
    let mut cpio = Command::new("cpio")
        .args(["--create", "--quiet", "--format=newc"])
        .current_dir(root)
        .stdin(Stdio::piped())
        .stdout(std::fs::File::create(archive)?)
        .spawn()
        .context("cpio does not start: apt-get install cpio")?;
    std::io::Write::write_all(&mut cpio.stdin.take().context("cpio has an input")?, names.as_bytes())?;
    let status = cpio.wait()?;
    ensure!(status.success(), "cpio: {status}");
    Ok(())
}

/// Names relative to `root`, folders before what is in them.
fn list(root: &Path, folder: &Path, names: &mut String) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        names.push_str(&path.strip_prefix(root)?.to_string_lossy());
        names.push('\n');
        if entry.file_type()?.is_dir() {
            list(root, &path, names)?;
        }
    }
    Ok(())
}
