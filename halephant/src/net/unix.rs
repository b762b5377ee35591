//! Unix sockets under the names that libpq gives them, and the files that stand for them.

use nix::fcntl::{Flock, FlockArg};
use socket2::{Domain, SockAddr, Socket, Type};
use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use super::listen::BACKLOG;

/// `sun_path`, without the NUL behind it.
pub const SOCKET_PATH_BYTES_MAX: usize = 107;
/// What a lock file that somebody removed under us is tried again for.
const LOCK_ATTEMPTS: usize = 8;

/// The socket of a port in a directory, by libpq's rule.
pub fn socket_path(directory: &str, port: u16) -> PathBuf {
    PathBuf::from(format!("{}/.s.PGSQL.{port}", directory.trim_end_matches('/')))
}

/// A listening socket's file and its lock; both are removed on drop.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and inode: what somebody else has put in our place stays.
    identity: (u64, u64),
    _lock: LockFile,
}

/// PostgreSQL's own lock beside the socket: it holds our process ID, so that a server does not take the place of a
/// pooler that runs. Among ourselves the lock on the file counts, which ends with the process.
#[derive(Debug)]
struct LockFile {
    path: PathBuf,
    file: Flock<File>,
}

/// Listens at `path`. A socket that nobody listens on is replaced; one that is in use, and a file that is no socket,
/// are errors.
pub fn bind_unix(path: &Path, mode: u32) -> io::Result<(UnixListener, SocketFile)> {
    let mut lock = LockFile::take(path)?;
    remove_stale(path)?;
    lock.write_process_id()?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let metadata = fs::symlink_metadata(path)?;
    let file = SocketFile { path: path.to_owned(), identity: identity(&metadata), _lock: lock };
    // Before it listens: until then nobody can connect.
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    socket.listen(BACKLOG)?;
    Ok((socket.into(), file))
}

fn identity(metadata: &fs::Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// A process that was killed leaves its socket behind; connecting to it is refused.
fn remove_stale(path: &Path) -> io::Result<()> {
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        metadata => metadata?,
    };
    if !metadata.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file that is no socket"));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        // A full queue, or a socket that we may not connect to, is somebody's.
        Ok(_) | Err(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "somebody listens there")),
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_ours = fs::symlink_metadata(&self.path).is_ok_and(|found| identity(&found) == self.identity);
        if is_ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "a socket could not be removed");
        }
    }
}

impl LockFile {
    fn take(socket: &Path) -> io::Result<Self> {
        let mut path = socket.as_os_str().to_owned();
        path.push(".lock");
        let path = PathBuf::from(path);
        for _ in 0..LOCK_ATTEMPTS {
            let file = File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(nix::libc::O_NOFOLLOW)
                .open(&path)?;
            let file = Flock::lock(file, FlockArg::LockExclusiveNonblock)
                .map_err(|_| io::Error::new(io::ErrorKind::AddrInUse, "another halephant listens there"))?;
            // Its last owner may have removed it between our open and our lock.
            let own = file.metadata()?;
            if fs::symlink_metadata(&path).is_ok_and(|found| identity(&found) == identity(&own)) {
                return Ok(Self { path, file });
            }
        }
        Err(io::Error::new(io::ErrorKind::AddrInUse, "the lock file is removed again and again"))
    }

    fn write_process_id(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        writeln!(self.file, "{}", std::process::id())
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        // While it is still locked: who opened it meanwhile finds that it is not the one at the path any more.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn place() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().expect("there is room");
        let path = socket_path(directory.path().to_str().expect("it is text"), 6432);
        (directory, path)
    }

    fn entries(directory: &Path) -> usize {
        fs::read_dir(directory).expect("it is there").count()
    }

    #[test]
    fn the_path_is_libpqs() {
        assert_eq!(socket_path("/run/halephant", 6432), Path::new("/run/halephant/.s.PGSQL.6432"));
        assert_eq!(socket_path("/run/halephant/", 1), Path::new("/run/halephant/.s.PGSQL.1"));
        assert_eq!(socket_path("/", 1), Path::new("/.s.PGSQL.1"));
    }

    #[test]
    fn the_files_come_with_their_mode_and_go_with_the_listener() {
        let (directory, path) = place();
        let (listener, file) = bind_unix(&path, 0o660).expect("the place is free");
        let mode = fs::metadata(&path).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o7777, 0o660);
        UnixStream::connect(&path).expect("somebody listens");
        let lock = fs::read_to_string(directory.path().join(".s.PGSQL.6432.lock")).expect("it is there");
        assert_eq!(lock.trim(), std::process::id().to_string());
        drop((listener, file));
        assert_eq!(entries(directory.path()), 0);
    }

    #[test]
    fn a_socket_in_use_is_left_alone_and_a_stale_one_is_replaced() {
        let (directory, path) = place();
        let ours = bind_unix(&path, 0o777).expect("the place is free");
        assert_eq!(bind_unix(&path, 0o777).expect_err("it is taken").kind(), io::ErrorKind::AddrInUse);
        UnixStream::connect(&path).expect("the first still listens");
        drop(ours);
        // A program that knows nothing of the lock, first alive and then gone.
        let foreign = UnixListener::bind(&path).expect("the place is free");
        assert_eq!(bind_unix(&path, 0o777).expect_err("it is taken").kind(), io::ErrorKind::AddrInUse);
        drop(foreign);
        assert!(path.exists(), "the listener leaves its file");
        let ours = bind_unix(&path, 0o777).expect("nobody listens any more");
        drop(ours);
        assert_eq!(entries(directory.path()), 0);
    }

    #[test]
    fn what_is_no_socket_and_what_is_not_ours_stays() {
        let (_directory, path) = place();
        fs::write(&path, "precious").expect("there is room");
        assert_eq!(bind_unix(&path, 0o777).expect_err("a file").kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).expect("it is there"), "precious");
        fs::remove_file(&path).expect("it is ours");
        let ours = bind_unix(&path, 0o777).expect("the place is free");
        fs::remove_file(&path).expect("it is ours");
        let foreign = UnixListener::bind(&path).expect("the name is free");
        drop(ours);
        UnixStream::connect(&path).expect("the other's file is still there");
        drop(foreign);
    }
}
