//! A directory and the processes that live in it, both gone when its owner is, however the owner ends.

use anyhow::{Context, Result};
use nix::sys::statvfs::statvfs;
use std::env;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::process;

/// Runs beside us until the pipe from us is closed, be it by drop, exit, panic, a signal or SIGKILL: then it ends the
/// processes of the last line it was given and removes the directory. A parent-death signal would not do: the kernel
/// ties it to the thread that started the process, and forgets it when the process changes its user.
const GUARD: &str = r#"
trap '' INT TERM HUP QUIT
directory=$1
pids=
while read -r line; do pids=$line; done
for pid in $pids; do kill -CONT "$pid"; kill -QUIT "$pid"; done
turns=50
for pid in $pids; do
  while kill -0 "$pid" && [ "$turns" -gt 0 ]; do turns=$((turns - 1)); sleep 0.1; done
  kill -KILL "$pid"
done
rm -rf "$directory"
"#;

/// Below this much room, `/dev/shm` is left to the shared memory of others.
const MEMORY_ROOM_BYTES: u64 = 4 << 30;

/// How long the guard may take to end processes and remove files.
const GUARD_LIMIT: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    guard: Mutex<Guard>,
}

#[derive(Debug)]
struct Guard {
    child: Child,
    orders: Option<ChildStdin>,
    pids: Vec<u32>,
}

impl Scratch {
    /// Makes a directory that any user may pass through, in memory if there is room.
    pub fn new(purpose: &str) -> Result<Self> {
        let path = tempfile::Builder::new()
            .prefix(&format!("halephant-{purpose}-"))
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .tempdir_in(parent())
            .context("cannot make a scratch directory")?
            .keep();
        let mut child = Command::new("sh")
            .args(["-c", GUARD, "halephant-guard"])
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Signals for our process group, such as the terminal's, are not for the guard.
            .process_group(0)
            .spawn()
            .context("cannot start sh")?;
        let orders = child.stdin.take();
        Ok(Self { path, guard: Mutex::new(Guard { child, orders, pids: Vec::new() }) })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// From now on `pid` does not outlive us.
    pub fn adopt(&self, pid: u32) {
        self.change(|pids| pids.push(pid));
    }

    /// `pid` has ended and may become another process's.
    pub fn release(&self, pid: u32) {
        self.change(|pids| pids.retain(|known| *known != pid));
    }

    fn change(&self, edit: impl FnOnce(&mut Vec<u32>)) {
        let mut guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner);
        edit(&mut guard.pids);
        let line = guard.pids.iter().map(u32::to_string).collect::<Vec<_>>().join(" ") + "\n";
        if let Some(orders) = &mut guard.orders {
            // A guard that is gone cannot be told; the directory is then removed by drop alone.
            let _ = orders.write_all(line.as_bytes());
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let guard = self.guard.get_mut().unwrap_or_else(PoisonError::into_inner);
        drop(guard.orders.take());
        let ended = process::wait(&mut guard.child, "the guard to clean up", GUARD_LIMIT);
        if ended.is_err() || self.path.exists() {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// `/dev/shm` if there is room, else what TMPDIR says.
fn parent() -> PathBuf {
    let memory = Path::new("/dev/shm");
    let free = statvfs(memory).map(|stat| stat.blocks_available() * stat.fragment_size());
    let writable = tempfile::tempfile_in(memory).is_ok();
    if writable && free.is_ok_and(|free| free >= MEMORY_ROOM_BYTES) { memory.into() } else { env::temp_dir() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait_for;
    use nix::sys::signal::Signal;
    use std::io::BufRead;

    #[test]
    fn removes_directory_and_process_on_drop() {
        let scratch = Scratch::new("test").expect("there is room");
        let path = scratch.path().to_path_buf();
        std::fs::write(path.join("file"), "x").expect("it is ours");
        let mut child = Command::new("sleep").arg("600").spawn().expect("sleep starts");
        scratch.adopt(child.id());
        let status = std::thread::spawn(move || child.wait());
        drop(scratch);
        assert!(!path.exists());
        let status = status.join().expect("it does not panic").expect("it is a child");
        assert!(!status.success());
    }

    /// Not a test of its own: the program that the next test starts and kills.
    #[test]
    #[ignore = "the program that the next test runs"]
    fn owner() {
        let scratch = Scratch::new("test").expect("there is room");
        let mut child = Command::new("sleep").arg("600").spawn().expect("sleep starts");
        scratch.adopt(child.id());
        println!("\nowned {} {}", child.id(), scratch.path().display());
        let _ = child.wait();
    }

    #[test]
    fn cleans_up_after_an_owner_that_was_killed() {
        let mut owner = Command::new(env::current_exe().expect("we are a program"))
            .args(["--exact", "scratch::tests::owner", "--ignored", "--nocapture"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program starts again");
        let output = std::io::BufReader::new(owner.stdout.take().expect("it is piped"));
        let line =
            output.lines().map_while(Result::ok).find(|line| line.starts_with("owned ")).expect("it says");
        let mut words = line.split(' ').skip(1);
        let pid: u32 = words.next().and_then(|word| word.parse().ok()).expect("a process ID");
        let path = PathBuf::from(words.next().expect("a path"));
        assert!(path.exists() && process::is_running(pid));

        process::signal(owner.id(), Signal::SIGKILL).expect("it is ours");
        process::wait(&mut owner, "the owner to end", Duration::from_secs(10)).expect("it was killed");
        wait_for("the guard to clean up", GUARD_LIMIT, || Ok((!path.exists()).then_some(())))
            .expect("it does");
        assert!(!process::is_running(pid));
    }
}
